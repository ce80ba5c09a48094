/** Baselines of the same kind as Carrier: a tunnel over stock circuit-relay-v2, and hypertele on a private network. */
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { findFreePort } from '../support/bootstrap.ts'
import { ROOT } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { waitListening, withService } from './subject.ts'
import type { RunningSubject } from './subject.ts'

const HYPERTELE_ATTEMPTS = 5
const ECHO_DEADLINE_MS = 5000

/** Streams of stock libp2p over a stock relay whose limits are raised. */
export async function startCircuitTunnel (): Promise<RunningSubject | string> {
  return withService(async (servicePort, own) => {
    const script = (name: string, path: string, args: readonly string[]): Program => {
      const program = startProgram(process.execPath, ['--conditions=carrier-source', path, ...args], { name })
      own(program.stop)
      return program
    }
    const relay = script('stock relay', join(ROOT, 'test', 'support', 'stock-relay-main.ts'), ['0', randomBytes(32).toString('hex')])
    const { address } = await answer<{ address: string }>(relay)
    const main = join(import.meta.dirname, 'circuit-tunnel-main.ts')
    const server = script('stock tunnel server', main, ['serve', address, String(servicePort)])
    const { peerId } = await answer<{ peerId: string }>(server)
    const client = script('stock tunnel client', main, ['forward', address, peerId])
    const { port } = await answer<{ port: number }>(client)
    return { port, processes: { server: [server.pid], relay: [relay.pid], client: [client.pid] } }
  })
}

/** hypertele as its commands run it; found in node_modules, or in the directory that CARRIER_BENCH_HYPERTELE names. */
export async function startHypertele (): Promise<RunningSubject | string> {
  const directory = findHypertele()
  if (directory === undefined) return 'install hypertele: npm i --no-save hypertele@1.1.4 (or name a directory that has it in CARRIER_BENCH_HYPERTELE)'
  return withService(async (servicePort, own) => {
    const script = (name: string, path: string, args: readonly string[]): Program => {
      const program = startProgram(process.execPath, [path, ...args], { name })
      own(program.stop)
      return program
    }
    const network = script('hyperdht network', join(import.meta.dirname, 'hyperdht-network-main.ts'), [directory])
    const { port: bootstrapPort } = await answer<{ port: number }>(network)
    const common = ['--bootstrap', String(bootstrapPort)]
    for (let attempt = 1; ; attempt++) {
      const server = script('hypertele server', join(directory, 'server.js'), ['-l', String(servicePort), '--seed', randomBytes(32).toString('hex'), ...common])
      const key = /^hypertele: ([0-9a-f]{64})$/.exec(await server.line(0))?.[1]
      if (key === undefined) throw new Error(`hypertele-server did not tell its key: ${server.stdout()}`)
      const port = await findFreePort()
      const client = script('hypertele client', join(directory, 'client.js'), ['-p', String(port), '-s', key, ...common])
      await waitListening(port, client)
      if (await echoes(port)) return { port, processes: { server: [server.pid], client: [client.pid] } }
      await Promise.all([client.stop(), server.stop()])
      // seen now and then: the client does not find the server, and finds another one at once
      if (attempt === HYPERTELE_ATTEMPTS) return `its client did not reach its server in ${attempt} attempts`
    }
  })
}

/** True when a connection through the port brings an echo back in time. */
async function echoes (port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port }, () => { socket.write('E!') })
    const finish = (isEcho: boolean): void => {
      socket.removeAllListeners()
      socket.on('error', () => { /* the answer is in */ })
      socket.destroy()
      resolve(isEcho)
    }
    socket.setTimeout(ECHO_DEADLINE_MS, () => { finish(false) })
    socket.once('error', () => { finish(false) })
    socket.once('close', () => { finish(false) })
    socket.once('data', () => { finish(true) })
  })
}

function findHypertele (): string | undefined {
  const from = process.env['CARRIER_BENCH_HYPERTELE'] ?? ROOT
  try {
    return dirname(createRequire(join(from, 'package.json')).resolve('hypertele/package.json'))
  } catch {
    // not installed: the row says how to get it
    return undefined
  }
}

async function answer<T> (program: Program): Promise<T> {
  return JSON.parse(await program.line(0)) as T
}
