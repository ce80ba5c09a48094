/** Relays under test: real processes of bin/carrier-bootstrap.js that keep their identity and port over restarts. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { carrierFreeEnvironment, ROOT } from './daemon.ts'
import { freePort } from './free-port.ts'
import { HOST, startProgram } from './program.ts'
import type { Place, Program } from './program.ts'

export { freePort as findFreePort } from './free-port.ts'

/** The first line that carrier-bootstrap prints. */
export interface BootstrapReport { peerId: string, addresses: string[], health: string }

/** A relay that can be started, killed and started again. */
export interface Relay {
  readonly place: Place
  readonly dataDirectory: string
  readonly port: number
  program: () => Program
  isRunning: () => boolean
  /** Starts it and gives what it reports. */
  start: () => Promise<BootstrapReport>
  stop: () => Promise<void>
  kill: () => Promise<void>
  /** The multiaddr that nodes are given; known after the first start. */
  address: () => string
  report: () => BootstrapReport
}

/** Describes a relay on a fixed TCP port of `place`; it runs from `start` on. */
export async function createRelay (init: { place?: Place, dataDirectory: string, port?: number, nodeArguments?: readonly string[], peers?: readonly string[] }): Promise<Relay> {
  const place = init.place ?? HOST
  // the lab's places have all ports to themselves
  const port = init.port ?? (place === HOST ? await freePort() : 4001)
  let running: Program | undefined
  let last: BootstrapReport | undefined
  mkdirSync(init.dataDirectory, { recursive: true, mode: 0o700 })
  // other bootstrap nodes are named in a file only
  const config = join(init.dataDirectory, 'relay.toml')
  if (init.peers !== undefined) writeFileSync(config, `peers = ${JSON.stringify(init.peers)}\n`)
  const configFlags = init.peers === undefined ? [] : ['--config', config]
  const known = (): BootstrapReport => {
    if (last === undefined) throw new Error('this relay was never started')
    return last
  }
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = running
    running = undefined
    await ending?.stop({ signal })
  }
  return {
    place,
    dataDirectory: init.dataDirectory,
    port,
    program: () => {
      if (running === undefined) throw new Error('this relay is not running')
      return running
    },
    isRunning: () => running !== undefined,
    start: async () => {
      const args = [...init.nodeArguments ?? [], '--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--data-dir', init.dataDirectory, '--listen', `/ip4/${place.address}/tcp/${port}`, '--health', '127.0.0.1:0', ...configFlags]
      running = startProgram(process.execPath, args, { place, env: carrierFreeEnvironment(), name: `relay at ${place.address}` })
      last = JSON.parse(await running.line(0)) as BootstrapReport
      return last
    },
    stop: async () => { await end('SIGTERM') },
    kill: async () => { await end('SIGKILL') },
    address: () => `/ip4/${place.address}/tcp/${port}/p2p/${known().peerId}`,
    report: known
  }
}
