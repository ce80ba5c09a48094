/** Baselines of the same kind as Carrier: a tunnel over stock circuit-relay-v2, and hypertele on a private network. */
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { findFreePort } from '../support/bootstrap.ts'
import { ROOT } from '../support/daemon.ts'
import type { TestNetwork } from '../support/network.ts'
import { startProgram } from '../support/program.ts'
import type { Place, Program } from '../support/program.ts'
import { startLoadGenerator } from '../support/tcp-load.ts'
import { within } from '../support/wait.ts'
import { waitListening, withService } from './subject.ts'
import type { RunningSubject } from './subject.ts'

const HYPERTELE_ATTEMPTS = 5
const ECHO_DEADLINE_MS = 5000

/** Streams of stock libp2p over a stock relay whose limits are raised. */
export async function startCircuitTunnel (network: TestNetwork): Promise<RunningSubject | string> {
  return withService(network, async (servicePort, own) => {
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
export async function startHypertele (network: TestNetwork): Promise<RunningSubject | string> {
  const directory = findHypertele()
  if (directory === undefined) return 'install hypertele: npm i --no-save hypertele@1.1.4 (or name a directory that has it in CARRIER_BENCH_HYPERTELE)'
  return withService(network, async (servicePort, own) => {
    const script = (name: string, place: Place, path: string, args: readonly string[]): Program => {
      const program = startProgram(process.execPath, [path, ...args], { place, name })
      own(program.stop)
      return program
    }
    const { office, laptop } = network
    const nodes = async (place: Place, args: readonly string[]): Promise<string> => {
      const { port } = await answer<{ port: number }>(script('hyperdht network', place, join(import.meta.dirname, 'hyperdht-network-main.ts'), [directory, place.address, ...args]))
      return String(port)
    }
    // hypertele asks for its network on its own machine only
    const officePort = await nodes(office, ['10'])
    const laptopPort = office === laptop ? officePort : await nodes(laptop, ['1', `${office.address}:${officePort}`])
    for (let attempt = 1; ; attempt++) {
      const server = script('hypertele server', office, join(directory, 'server.js'), ['-l', String(servicePort), '--seed', randomBytes(32).toString('hex'), '--bootstrap', officePort])
      const key = /^hypertele: ([0-9a-f]{64})$/.exec(await server.line(0))?.[1]
      if (key === undefined) throw new Error(`hypertele-server did not tell its key: ${server.stdout()}`)
      const port = await findFreePort()
      const client = script('hypertele client', laptop, join(directory, 'client.js'), ['-p', String(port), '-s', key, '--bootstrap', laptopPort])
      await waitListening(port, client)
      if (await echoes(laptop, port)) return { port, processes: { server: [server.pid], client: [client.pid] } }
      await Promise.all([client.stop(), server.stop()])
      // seen now and then: the client does not find the server, and finds another one at once
      if (attempt === HYPERTELE_ATTEMPTS) return `its client did not reach its server in ${attempt} attempts`
    }
  })
}

/** True when a connection through the port brings an echo back in time. */
async function echoes (place: Place, port: number): Promise<boolean> {
  const load = startLoadGenerator({ place })
  try {
    await within('an echo', ECHO_DEADLINE_MS, load.connectRate({ host: '127.0.0.1', port }, 1, 1))
    return true
  } catch {
    // the caller tries another pair
    return false
  } finally {
    await load.stop()
  }
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
