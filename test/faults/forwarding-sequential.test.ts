/** 10,000 connections through one forward, one after the other: the long form of the loopback test. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { it } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { startForwardingPair } from '../support/forwarding-pair.ts'
import { connectTo, readAll, startEcho } from '../support/target-server.ts'
import { waitFor } from '../support/wait.ts'

const CONNECTION_COUNT = 10_000

it('10,000 connections one after the other leave no socket, no channel and no memory behind', async (t) => {
  const pair = await startForwardingPair({ sessionKind: 'real' })
  const echo = await startEcho()
  pair.office.forwarding.serve('echo', echo.target, { allow: ['laptop'] })
  const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
  let filesBefore = 0
  let memoryBefore = 0
  for (let index = 0; index < CONNECTION_COUNT; index++) {
    const socket = await connectTo(listen)
    socket.end(`hello ${index}`)
    assert.equal((await readAll(socket)).toString(), `hello ${index}`)
    if (index % 1000 === 0) {
      // what the test itself collects is not what it looks for
      pair.office.audit.entries.length = 0
      pair.sessions.alice.received.length = 0
    }
    if (index === CONNECTION_COUNT / 10) {
      filesBefore = fileCount()
      memoryBefore = heapBytes()
    }
  }
  await waitFor('all connections to be gone', () => pair.office.forwarding.services()[0]?.connectionCount === 0 && echo.sockets.size === 0, { deadlineMs: 10_000 })
  const grownBytes = heapBytes() - memoryBefore
  t.diagnostic(`the heap grew by ${Math.round(grownBytes / 1024)} KiB over ${CONNECTION_COUNT * 0.9} connections`)
  assert.ok(fileCount() <= filesBefore + 5, `${fileCount()} open files, ${filesBefore} before`)
  assert.ok(grownBytes < 4 * 1024 * 1024, `the heap grew by ${grownBytes} bytes`)
  assert.equal(pair.sessions.alice.openChannelCount() + pair.sessions.bob.openChannelCount(), 0)
  await pair.stop()
  await echo.close()
})

/** Open files of this process (Linux; elsewhere 0). */
function fileCount (): number {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return 0 // no /proc: memory and channels are still compared
  }
}

/** What is really in use, after a full collection. */
function heapBytes (): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  return process.memoryUsage().heapUsed
}
