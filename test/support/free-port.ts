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
/** Two ports each: a relay takes splices one above the port that it is given. */
const PAIR_COUNT = 5_000
/** Of so many draws one is free, unless next to no port is. */
const MOST_DRAWS = 10 * PAIR_COUNT

/**
 * A port of 127.0.0.1 that nobody listens on, and the one above neither. No other test takes them before this process ends, also
 * between two listeners of ours; never the same one twice. @throws Error when there is none
 */
export async function freePort (): Promise<number> {
  for (let draw = 0; draw < MOST_DRAWS; draw++) {
    const port = FIRST_PORT + 2 * randomInt(PAIR_COUNT)
    if (!claim(port)) continue
    try {
      for (const one of [port, port + 1]) {
        const server = createServer().listen(one, '127.0.0.1')
        await once(server, 'listening')
        server.close()
        await once(server, 'close')
      }
      return port
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw err
    }
  }
  throw new Error(`no port from ${FIRST_PORT} to ${FIRST_PORT + 2 * PAIR_COUNT - 1} is free: when no test runs, remove ${markOf('*')}, which killed ones left`)
}

function markOf (port: number | '*'): string {
  return join(tmpdir(), `carrier-test-port-${port}`)
}

/** Test files run beside each other: a directory says that the port is given, and the one above. One that a killed process left costs these two. */
function claim (port: number): boolean {
  const mark = markOf(port)
  try {
    mkdirSync(mark)
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw err
  }
  onTestExit(() => { rmSync(mark, { recursive: true, force: true }) })
  return true
}
