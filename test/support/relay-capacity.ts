/** What a relay carries on this machine: idle reservations and splices by memory, bytes by processor time. */
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { memoryAfterCollection } from '../bench/process-memory.ts'
import { carrierFreeEnvironment, ROOT } from './daemon.ts'
import { befriend, makeNode, reserved } from './node-pair.ts'
import type { TestNode } from './node-pair.ts'
import { cpuSeconds, residentMegabytes } from './proc.ts'
import { startProgram } from './program.ts'
import type { Program } from './program.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { GiveUpError, pause, PATIENCE_MS, PATIENT, waitFor, within } from './wait.ts'

/** How much is measured. */
export interface CapacityInit { peers: number, holdSeconds: number, splices: number, megabytes: number, report: (line: string) => void }

/** What came out. MB are 10^6 bytes, GiB 2^30. */
export interface Capacity {
  peers: number
  /** Peers whose connection was still open after they were held. */
  peersLeft: number
  emptyResidentMegabytes: number
  kilobytesPerReservation: number
  reservationsPerGib: number
  /** Growth between a collection of garbage before they were held and one after. */
  heapGrowthMegabytes: number
  /** How much more the process took at most in the second half of that time than in the first: between collections memory goes up and down. */
  residentGrowthMegabytes: number
  /** Of one processor, while they were held. */
  idleLoadPercent: number
  kilobytesPerSplice: number
  spliceSecondsPerGigabyte: number
  circuitSecondsPerGigabyte: number
}

const ECHO = '/carrier/test-sink/1.0.0'
/** One process cannot make all handshakes fast enough. */
const PEERS_PER_PROCESS = 500
const RESERVE_DEADLINE_MS = 600_000
const GIB = 2 ** 30
const LOOK_SECONDS = 5

interface MeasuredRelay { program: Program, address: string }

/** Starts a relay of its own for each part and measures. */
export async function measureCapacity (init: CapacityInit): Promise<Capacity> {
  const idle = await withRelay(async (relay) => holdPeers(relay, init))
  const moved = await withRelay(async (relay) => moveBytes(relay, init))
  return { ...idle, ...moved }
}

async function withRelay<Result> (work: (relay: MeasuredRelay) => Promise<Result>): Promise<Result> {
  const directory = makeTempDirectory('capacity')
  const config = join(directory, 'relay.toml')
  // one machine plays all peers: bounds that count by source are out of the way
  writeFileSync(config, `data_dir = "${join(directory, 'data')}"\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nhealth = "127.0.0.1:0"\ndrain_seconds = 0\n[relay]\nmax_reservations = 100000\nmax_circuits_per_caller = 100000\nmax_circuits_per_called = 100000\n[connections]\nper_source_per_second = 100000\nhandshakes_per_second = 100000\n[quotas.stranger]\nreservations = 100000\ncircuits = 100000\n`)
  const program = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--config', config], { env: carrierFreeEnvironment(), name: 'measured relay' })
  try {
    const { addresses } = JSON.parse(await program.line(0)) as { addresses: string[] }
    return await work({ program, address: addresses[0] ?? '' })
  } finally {
    await program.stop({ signal: 'SIGKILL' })
  }
}

async function holdPeers ({ program, address }: MeasuredRelay, { peers, holdSeconds, report }: CapacityInit): Promise<Omit<Capacity, 'kilobytesPerSplice' | 'spliceSecondsPerGigabyte' | 'circuitSecondsPerGigabyte'>> {
  const empty = await memoryAfterCollection(program)
  const groups: Program[] = []
  try {
    for (let left = peers; left > 0; left -= PEERS_PER_PROCESS) {
      const group = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'test', 'support', 'relay-capacity-peers-main.ts'), address, String(Math.min(left, PEERS_PER_PROCESS))], { env: carrierFreeEnvironment(), name: 'idle peers' })
      groups.push(group)
      await group.line(0, RESERVE_DEADLINE_MS)
    }
    report(`${peers} peers have reserved; they are held for ${holdSeconds} s`)
    const first = await memoryAfterCollection(program)
    const cpuBefore = cpuSeconds(program.pid)
    const startedAtMs = performance.now()
    const resident: number[] = []
    for (let second = 0; second < holdSeconds; second += LOOK_SECONDS) {
      await pause(Math.min(LOOK_SECONDS, holdSeconds - second) * 1000)
      const { now } = residentMegabytes(program.pid)
      resident.push(now)
      report(`  after ${Math.round((performance.now() - startedAtMs) / 1000)} s: ${now.toFixed(1)} MB resident`)
    }
    const idleLoadPercent = (cpuSeconds(program.pid) - cpuBefore) / (performance.now() - startedAtMs) * 100_000
    const last = await memoryAfterCollection(program)
    let peersLeft = 0
    for (const group of groups) {
      group.stdin.write('\n')
      peersLeft += (JSON.parse(await group.line(1)) as { connected: number }).connected
    }
    // what the process takes from the machine at most, with what waits to be collected
    const half = Math.ceil(resident.length / 2)
    const kilobytesPerReservation = (Math.max(...resident) * 1000 - empty.residentKilobytes) / peers
    return {
      peers,
      peersLeft,
      emptyResidentMegabytes: empty.residentKilobytes / 1000,
      kilobytesPerReservation,
      reservationsPerGib: Math.floor(GIB / 1000 / kilobytesPerReservation),
      heapGrowthMegabytes: (last.heapKilobytes + last.externalKilobytes - first.heapKilobytes - first.externalKilobytes) / 1000,
      residentGrowthMegabytes: resident.length < 2 ? 0 : Math.max(...resident.slice(half)) - Math.max(...resident.slice(0, half)),
      idleLoadPercent
    }
  } finally {
    for (const group of groups) await group.stop({ signal: 'SIGKILL' })
  }
}

async function moveBytes ({ program, address }: MeasuredRelay, { splices, megabytes, report }: CapacityInit): Promise<Pick<Capacity, 'kilobytesPerSplice' | 'spliceSecondsPerGigabyte' | 'circuitSecondsPerGigabyte'>> {
  const nodes = await Promise.all([0, 1].map(async () => makeNode({ relays: [address] })))
  const [office, laptop] = nodes
  if (office === undefined || laptop === undefined) throw new Error('two nodes were made')
  befriend(office, laptop)
  let receivedBytes = 0
  const take = (chunk: Uint8Array): void => { receivedBytes += chunk.byteLength }
  office.node.handle(ECHO, async (stream) => { for await (const chunk of stream.source) take(chunk) }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  office.node.handleSplices({ admits: () => true, onSocket: (socket) => { quiet(socket).on('data', take).resume() } })
  const relayId = address.split('/').at(-1) ?? ''
  const sockets: Socket[] = []
  try {
    for (const { node } of nodes) await node.start()
    await Promise.all(nodes.map(async (node) => reserved(node, PATIENCE_MS)))
    await waitFor('the splice port to be known', () => nodes.every(({ node }) => node.canSplice(relayId)), PATIENT)
    const open = async (): Promise<Socket> => {
      const socket = quiet(await within('a splice', PATIENCE_MS, laptop.node.openSplice(office.did, relayId)))
      sockets.push(socket)
      return socket.resume()
    }
    const first = await open()
    const before = await memoryAfterCollection(program)
    while (sockets.length <= splices) await open()
    const after = await memoryAfterCollection(program)
    report(`${splices} splices are open`)
    const totalBytes = megabytes * 1e6
    const perGigabyte = async (send: () => Promise<void>): Promise<number> => {
      const [cpu, bytes] = [cpuSeconds(program.pid), receivedBytes]
      await send()
      await waitFor('all bytes', () => receivedBytes - bytes >= totalBytes || (program.hasExited() ? giveUp() : undefined), { deadlineMs: 10 * PATIENCE_MS, intervalMs: 5 })
      return (cpuSeconds(program.pid) - cpu) / (totalBytes / 1e9)
    }
    const spliceSecondsPerGigabyte = await perGigabyte(async () => write(first, totalBytes))
    const circuitSecondsPerGigabyte = await perGigabyte(async () => stream(laptop, office, totalBytes))
    return { kilobytesPerSplice: (after.residentKilobytes - before.residentKilobytes) / splices, spliceSecondsPerGigabyte, circuitSecondsPerGigabyte }
  } finally {
    for (const socket of sockets) socket.destroy()
    for (const { node } of nodes) await node.stop()
  }
}

function giveUp (): never {
  throw new GiveUpError('the relay ended')
}

function quiet (socket: Socket): Socket {
  return socket.on('error', () => { /* 'close' follows */ })
}

async function write (socket: Socket, byteCount: number): Promise<void> {
  const block = Buffer.alloc(256 * 1024)
  for (let left = byteCount; left > 0; left -= block.length) {
    if (!socket.write(block.subarray(0, Math.min(left, block.length)))) await new Promise((resolve) => { socket.once('drain', resolve) })
  }
}

async function stream (from: TestNode, to: TestNode, byteCount: number): Promise<void> {
  const { stream: { sink } } = await within('a stream', PATIENCE_MS, from.node.openStream(to.did, ECHO))
  const block = new Uint8Array(64 * 1024)
  await sink((async function * () { for (let left = byteCount; left > 0; left -= block.length) yield block.subarray(0, Math.min(left, block.length)) })())
}
