/** Memory of what does nothing: sessions of friends, and channels of a forward. Stated, not judged. */
import { join } from 'node:path'
import { createControlClient } from '../../src/control/client/index.ts'
import { startPair } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import { openLoopback } from '../support/network.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { startLoadGenerator } from '../support/tcp-load.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { GiveUpError, waitFor, within } from '../support/wait.ts'
import { memoryAfterCollection } from './process-memory.ts'
import type { ProcessMemory } from './process-memory.ts'
import { startService } from './subject.ts'
import { openForward } from './subject-ours.ts'

/** How many of each are opened. */
export interface MemoryInit { sessions: number, channels: number }

/** Growth divided by the count, in kB. */
interface PerItem { process: string, item: string, count: number, perItem: ProcessMemory }

const ONLINE_DEADLINE_MS = 150_000
const OPEN_DEADLINE_MS = 20_000

/** Runs and prints the figures; gives everything for the JSON. */
export async function runMemory (init: MemoryInit): Promise<unknown> {
  const stops: Array<() => Promise<unknown>> = []
  try {
    const pair = await startPair(openLoopback())
    stops.push(pair.stop)
    await pair.befriend()
    const rows = [...await channels(pair, init.channels, stops), ...await sessions(pair, init.sessions, stops)]
    console.log('\n| idle | in | opened | JS heap kB each | outside the heap kB each | resident kB each |\n| --- | --- | --- | --- | --- | --- |')
    for (const { process: role, item, count, perItem } of rows) console.log(`| ${item} | ${role} | ${count} | ${perItem.heapKilobytes.toFixed(1)} | ${perItem.externalKilobytes.toFixed(1)} | ${perItem.residentKilobytes.toFixed(1)} |`)
    console.log('\nheap and outside: after garbage collection; resident: with what the allocators keep')
    return rows
  } finally {
    for (const stop of stops.toReversed()) await stop().catch((err: unknown) => { console.error(`bench: ${err instanceof Error ? err.message : String(err)}`) })
  }
}

/** Connections through one forward that were used once and now stand. */
async function channels (pair: Pair, count: number, stops: Array<() => Promise<unknown>>): Promise<PerItem[]> {
  const service = await startService()
  const load = startLoadGenerator()
  stops.push(service.stop, load.stop)
  const target = { host: '127.0.0.1', port: await openForward(pair, service.port) }
  // what the first use allocates once is not charged to the channels
  await load.connectRate(target, 8, 1000)
  const programs = { office: pair.office.program(), laptop: pair.laptop.program() }
  const before = await readAll(programs)
  for (let opened = 0; opened < count; opened++) await within('a connection through the forward', OPEN_DEADLINE_MS, load.hold(target))
  const rows = perItem('channel of a forward, with its TCP connection', count, before, await readAll(programs))
  await load.stop()
  return rows
}

/** Sessions of friends that stand and carry nothing. */
async function sessions (pair: Pair, count: number, stops: Array<() => Promise<unknown>>): Promise<PerItem[]> {
  const { address } = await pair.office.json<{ address: string }>('id')
  const client = createControlClient({ dataDirectory: pair.office.dataDirectory })
  const relay = pair.relays[0]
  if (relay === undefined) throw new Error('the pair has no relay')
  const programs = { office: pair.office.program(), relay: relay.program() }
  const before = await readAll(programs)
  const peers = startProgram(process.execPath, ['--conditions=carrier-source', join(import.meta.dirname, 'memory-peers-main.ts'), relay.address(), address, String(count), makeTempDirectory('peers')], { name: 'peers' })
  stops.push(peers.stop)
  let accepted = 0
  await waitFor('all sessions to stand', async () => {
    const { requests } = await client.call('friend.requests', {})
    for (const { did } of requests) await client.call('friend.accept', { who: did })
    accepted += requests.length
    if (peers.hasExited()) throw new GiveUpError(`the peers ended: ${peers.stderr().slice(-1000)}`)
    return accepted >= count && peers.stdout().includes('"online"')
  }, { deadlineMs: ONLINE_DEADLINE_MS, intervalMs: 300 })
  return perItem('session of a friend, with its connection over the relay', count, before, await readAll(programs))
}

async function readAll<Role extends string> (programs: Record<Role, Program>): Promise<Record<string, ProcessMemory>> {
  const result: Record<string, ProcessMemory> = {}
  for (const [role, program] of Object.entries<Program>(programs)) result[role] = await memoryAfterCollection(program)
  return result
}

function perItem (item: string, count: number, before: Record<string, ProcessMemory>, after: Record<string, ProcessMemory>): PerItem[] {
  return Object.entries(after).map(([role, now]) => {
    const then = before[role]
    const share = (key: keyof ProcessMemory): number => (now[key] - (then?.[key] ?? Number.NaN)) / count
    return { process: role, item, count, perItem: { heapKilobytes: share('heapKilobytes'), externalKilobytes: share('externalKilobytes'), residentKilobytes: share('residentKilobytes') } }
  })
}
