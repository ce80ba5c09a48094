/** A relay of its own process that is used in every way, and all that it leaves behind: files, log, metrics. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { PeerId } from '@libp2p/interface'
import { carrierFreeEnvironment, ROOT } from './daemon.ts'
import { befriend, makeNode, reserved } from './node-pair.ts'
import type { TestNode } from './node-pair.ts'
import { runProgram, startProgram } from './program.ts'
import type { Program } from './program.ts'
import { askStatus, openHop } from './raw-hop.ts'
import { dialOverRelay, openStream, startStockPeer, stopStockPeers } from './stock-peer.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from './wait.ts'

/** What was found. */
export interface Footprint {
  /** Names of files while it ran, after it was killed, and after it ended by itself. */
  files: string[]
  /** Bytes of all of them, at each of these times. */
  contents: Buffer
  log: Array<Record<string, unknown>>
  /** Everything on standard output and error. */
  output: Buffer
  metrics: string
  /** What the command `status --json` says. */
  status: string
  /** Who came, as texts and as bytes by which they could be known again; the address is the one that all came from. */
  visitors: Array<{ names: string[], bytes: Uint8Array[] }>
  visitorAddress: string
}

/** The relay's side has another address than those who come, so that theirs can be searched for. */
const RELAY_ADDRESS = '127.0.0.9'
const VISITOR_ADDRESS = '127.0.0.1'
const ECHO = '/carrier/test-echo/1.0.0'

interface Running { program: Program, address: string, health: string, splice: number }

/** Runs a relay through reservations, circuits, splices, refusals, reloads, a kill, a restart and an end. */
export async function useRelay (): Promise<Footprint> {
  const dataDirectory = makeTempDirectory('relay-data')
  const config = join(makeTempDirectory('relay-config'), 'relay.toml')
  const visitors: Footprint['visitors'] = []
  const programs: Program[] = []
  const found = { files: new Set<string>(), contents: [] as Buffer[] }
  const look = (): void => {
    for (const name of readdirSync(dataDirectory)) {
      found.files.add(name)
      // a socket has no bytes
      if (!name.endsWith('.sock')) found.contents.push(readFileSync(join(dataDirectory, name)))
    }
  }
  const start = async (): Promise<Running> => {
    const program = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--config', config], { env: carrierFreeEnvironment(), name: 'used relay' })
    programs.push(program)
    const { addresses, health, splice } = JSON.parse(await program.line(0)) as { addresses: string[], health: string, splice: number }
    return { program, address: addresses[0] ?? '', health, splice }
  }
  try {
    writeFileSync(config, configText(dataDirectory))
    const first = await start()
    visitors.push(...await visit(first))
    await reload(first, config, dataDirectory)
    const status = await runProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), 'status', '--json', '--config', config], { env: carrierFreeEnvironment(), deadlineMs: PATIENCE_MS })
    const metrics = await (await fetch(`http://${first.health}/metrics`)).text()
    look()
    await first.program.stop({ signal: 'SIGKILL' })
    look()
    const second = await start()
    visitors.push(...await visit(second))
    await second.program.stop()
    look()
    const output = Buffer.concat(programs.map((program) => program.output()))
    const log = programs.flatMap((program) => program.stderr().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>))
    return { files: [...found.files].sort(), contents: Buffer.concat(found.contents), log, output, metrics, status: status.stdout, visitors, visitorAddress: VISITOR_ADDRESS }
  } finally {
    await stopStockPeers()
    for (const program of programs) await program.stop({ signal: 'SIGKILL' })
  }
}

function configText (dataDirectory: string): string {
  return `data_dir = "${dataDirectory}"\nlisten = ["/ip4/${RELAY_ADDRESS}/tcp/0"]\nhealth = "${RELAY_ADDRESS}:0"\ndrain_seconds = 2\n[quotas.stranger]\nreservations = 4\nbytes_per_day = 1000000000\n`
}

/** Two friends, a stock peer, and guests who behave badly. */
async function visit ({ address, splice }: Running): Promise<Footprint['visitors']> {
  const nodes = await Promise.all([0, 1].map(async () => makeNode({ relays: [address] })))
  const [office, laptop] = nodes
  if (office === undefined || laptop === undefined) throw new Error('two nodes were made')
  befriend(office, laptop)
  const relayId = address.split('/').at(-1) ?? ''
  office.node.handle(ECHO, async (stream) => { for await (const chunk of stream.source) void chunk }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  office.node.handleSplices({ admits: () => true, onSocket: (socket) => { socket.on('error', () => { /* 'close' follows */ }).resume() } })
  try {
    await Promise.all(nodes.map(async ({ node }) => { await node.start() }))
    await Promise.all(nodes.map(async (node) => reserved(node, PATIENCE_MS)))
    await send(laptop, office)
    await waitFor('the splice port to be known', () => nodes.every(({ node }) => node.canSplice(relayId)), PATIENT)
    const socket = await within('a splice', PATIENCE_MS, laptop.node.openSplice(office.did, relayId))
    socket.on('error', () => { /* 'close' follows */ }).end(Buffer.alloc(100_000))
    await within('the end of the splice', PATIENCE_MS, new Promise((resolve) => { socket.once('close', resolve).resume() }))
    const called = await startStockPeer({ relays: [address] })
    const guest = await startStockPeer()
    await called.handle('/test/hold/1.0.0', () => { /* held */ }, { runOnLimitedConnection: true })
    await openStream(await dialOverRelay(guest, address, called), '/test/hold/1.0.0')
    await misbehave(guest, address, splice)
    await Promise.all([called, guest].map(async (peer) => { await peer.stop() }))
    return [...nodes.map(visitorOf), ...[called, guest].map(({ peerId }) => ({ names: namesOf(peerId), bytes: bytesOf(peerId) }))]
  } finally {
    for (const { node } of nodes) await node.stop()
  }
}

async function send (from: TestNode, to: TestNode): Promise<void> {
  const { stream } = await within('a stream', PATIENCE_MS, from.node.openStream(to.did, ECHO))
  await within('the sending', PATIENCE_MS, stream.sink((async function * () { for (let count = 0; count < 10; count++) yield new Uint8Array(10_000) })()))
}

/** A request that is none, a stranger who is called in vain, and a socket without a ticket. */
async function misbehave (guest: Awaited<ReturnType<typeof startStockPeer>>, address: string, splice: number): Promise<void> {
  const { stream } = await openHop(guest, address)
  await askStatus(stream, Uint8Array.from([0x08, 0x01])).catch(() => { /* reset: that is its answer */ })
  const socket = connect({ host: RELAY_ADDRESS, port: splice })
  await within('the door to close', PATIENCE_MS, new Promise((resolve) => { socket.on('error', () => { /* 'close' follows */ }).once('close', resolve).resume().end('GET / HTTP/1.1\r\n\r\n') }))
}

/** One configuration that is fine, and one that is not. */
async function reload ({ program }: Running, config: string, dataDirectory: string): Promise<void> {
  for (const [text, message] of [[configText(dataDirectory).replace('= 4', '= 5'), 'configuration read again'], ['listen = 1', 'the new configuration is refused'], [configText(dataDirectory), '']] as const) {
    writeFileSync(config, text)
    if (message === '') return
    process.kill(program.pid, 'SIGHUP')
    await waitFor(`"${message}" in the log`, () => program.stderr().includes(message), PATIENT)
  }
}

function visitorOf ({ did, identity: { peerId } }: TestNode): Footprint['visitors'][number] {
  return { names: [did, ...namesOf(peerId)], bytes: bytesOf(peerId) }
}

function namesOf (peerId: PeerId): string[] {
  return [peerId.toString(), peerId.toCID().toString()]
}

function bytesOf (peerId: PeerId): Uint8Array[] {
  return peerId.publicKey === undefined ? [] : [peerId.publicKey.raw]
}
