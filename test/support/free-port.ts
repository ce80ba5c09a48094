/** TCP ports of this machine for tests that listen, stop and listen again on the same one. */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestExit } from './program.ts'

/**
 * Below the ports that a node punches from (20000 and up) and those that the kernel gives out by itself (Linux: 32768 and up): no
 * `listen(0)` or `connect` of another program takes one of these meanwhile.
 */
const FIRST_PORT = 10_000
const PORT_COUNT = 10_000

/**
 * A port of 127.0.0.1 that nobody listens on, and that no other test takes before this process ends, also between two listeners of
 * ours; never the same one twice.
 */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + randomInt(PORT_COUNT)
    if (!claim(port)) continue
    try {
      const server = createServer().listen(port, '127.0.0.1')
      await once(server, 'listening')
      server.close()
      await once(server, 'close')
      return port
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw err
    }
  }
}

/** Test files run beside each other: a directory says that the port is given. One that a killed process left costs one port. */
function claim (port: number): boolean {
  const mark = join(tmpdir(), `carrier-test-port-${port}`)
  try {
    mkdirSync(mark)
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw err
  }
  onTestExit(() => { rmSync(mark, { recursive: true, force: true }) })
  return true
}
