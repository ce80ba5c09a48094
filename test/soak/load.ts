/** A load on the forwards between two places: channels of every kind, opened again and again, and the history of them all. */
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createChance } from '../support/byte-stream.ts'
import { startProgram } from '../support/program.ts'
import type { Place, Program } from '../support/program.ts'
import { pause, waitFor } from '../support/wait.ts'
import type { ChannelOrder, Span } from './channel-order.ts'
import { createHistory } from './history.ts'
import type { History } from './history.ts'
import type { LoadLine } from './load-main.ts'

/** Where a forward listens. */
export interface ForwardDoor { host: string, port: number }

/** A load that runs between two places. */
export interface Load {
  readonly history: History
  /** On the clock of the history. */
  readonly startedAtMs: number
  /** How many channels of each kind were whole. */
  readonly wholeByKind: ReadonlyMap<string, number>
  /** No channel is opened any more; those that have a length go on to their end, those without stay when `keepIdle` says so. */
  calm: (options: { keepIdle: boolean, deadlineMs: number }) => Promise<void>
  /** Channels are opened again. */
  resume: () => void
  stop: () => Promise<void>
}

/** Both places, each with the forward that leads from it to the other. */
export interface LoadInit {
  seed: number
  hangMs: number
  /** Of each stream in each direction. */
  bytesPerSecond: number
  ends: ReadonlyArray<{ peer: LoadPeer, door: ForwardDoor }>
}

/** A program that serves and opens channels at one place. */
export interface LoadPeer {
  readonly name: string
  readonly port: number
  readonly program: Program
}

type Kind = 'short' | 'long' | 'psql' | 'idle' | 'river'

const PROGRAM = join(import.meta.dirname, 'load-main.ts')
/** After a channel that failed: a forward that is offline refuses at once. */
const AFTER_FAILURE_MS = 200
const LONG_SECONDS = 6
const RIVER_SHARE = 1 / 8
/** Channels of each kind at a time, from each place. */
const LANES: Readonly<Record<Kind, number>> = { short: 3, long: 1, psql: 1, idle: 1, river: 1 }
/** They live until they are told to finish. */
const ENDLESS: readonly Kind[] = ['idle', 'river']
const THINK_MS: Span = [20, 400]

/** Starts the program of one place. */
export async function startLoadPeer (place: Place): Promise<LoadPeer> {
  const program = startProgram(process.execPath, [PROGRAM, '127.0.0.1'], { place, name: `load at ${place.name}` })
  const { port } = JSON.parse(await program.line(0)) as { port: number }
  return { name: place.name, port, program }
}

/** Milliseconds of the clock of a history. */
export function historyNow (): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000
}

/** Begins the load; the programs stay the caller's. */
export function startLoad (init: LoadInit): Load {
  const history = createHistory({ hangMs: init.hangMs })
  const wholeByKind = new Map<string, number>()
  const waiting = new Map<string, (isGood: boolean) => void>()
  const failed = new Set<string>()
  const endless = new Map<string, LoadPeer>()
  const now: { mode: 'running' | 'calm' | 'over' } = { mode: 'running' }
  let openLanes = 0
  for (const { peer } of init.ends) listen(peer)
  const lanes = init.ends.flatMap((end) => (Object.keys(LANES) as Kind[]).flatMap((kind) => Array.from({ length: LANES[kind] }, async (_, index) => lane(end, kind, index))))

  return {
    history,
    startedAtMs: historyNow(),
    wholeByKind,
    calm: async ({ keepIdle, deadlineMs }) => {
      now.mode = 'calm'
      if (!keepIdle) for (const [channel, peer] of endless) tell(peer, { finish: channel })
      await waitFor('the load to be calm', () => openLanes === (keepIdle ? endless.size : 0), { deadlineMs, intervalMs: 50 })
    },
    resume: () => { now.mode = 'running' },
    stop: async () => {
      now.mode = 'over'
      for (const resolve of waiting.values()) resolve(false)
      await Promise.all(lanes)
    }
  }

  function listen (peer: LoadPeer): void {
    let isFirst = true
    createInterface({ input: peer.program.stdoutStream }).on('line', (line) => {
      // the first one told the port, when it was not read yet
      if (isFirst && line.startsWith('{"port"')) return
      isFirst = false
      const said = JSON.parse(line) as LoadLine
      if ('stray' in said) {
        history.accuse({ channel: `to ${peer.name}`, what: said.stray })
        return
      }
      const { operation } = said
      history.note(operation)
      if (operation.kind === 'error') failed.add(operation.channel)
      if (operation.side !== 'caller' || operation.kind !== 'closed') return
      waiting.get(operation.channel)?.(!failed.delete(operation.channel))
      waiting.delete(operation.channel)
    })
  }

  function tell (peer: LoadPeer, line: object): void {
    peer.program.stdin.write(`${JSON.stringify(line)}\n`)
  }

  /** Opens one channel after the other. */
  async function lane ({ peer, door }: LoadInit['ends'][number], kind: Kind, index: number): Promise<void> {
    const chance = createChance(init.seed + index * 1009 + kind.length * 9176)
    for (let number = 1; now.mode !== 'over'; number++) {
      if (now.mode === 'running') {
        const channel = `${peer.name}-${kind}${index}-${number}`
        openLanes++
        if (ENDLESS.includes(kind)) endless.set(channel, peer)
        const isGood = await new Promise<boolean>((resolve) => {
          waiting.set(channel, resolve)
          tell(peer, { open: orderOf(channel, kind), ...door })
        })
        openLanes--
        endless.delete(channel)
        if (isGood) wholeByKind.set(kind, (wholeByKind.get(kind) ?? 0) + 1)
        else await pause(AFTER_FAILURE_MS)
      }
      await pause(THINK_MS[0] + chance() * (THINK_MS[1] - THINK_MS[0]))
    }
  }

  function orderOf (channel: string, kind: Kind): ChannelOrder {
    const { bytesPerSecond } = init
    switch (kind) {
      case 'short': return { channel, mode: 'dialogue', steps: 1, upBytes: [1, 20_000], downBytes: [1, 60_000], thinkMs: [0, 0] }
      case 'psql': return { channel, mode: 'dialogue', steps: 40, upBytes: [40, 600], downBytes: [60, 20_000], thinkMs: [0, 60] }
      case 'idle': return { channel, mode: 'dialogue', steps: null, upBytes: [32, 64], downBytes: [32, 64], thinkMs: [5_000, 7_000] }
      case 'long': return { channel, mode: 'stream', bytesEach: LONG_SECONDS * bytesPerSecond, bytesPerSecond }
      case 'river': return { channel, mode: 'stream', bytesEach: null, bytesPerSecond: bytesPerSecond * RIVER_SHARE }
    }
  }
}
