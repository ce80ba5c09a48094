/** The handle of a test on the programs tcp-service-main.ts and tcp-load-main.ts, wherever they run. */
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { HOST, startProgram } from './program.ts'
import type { Place, Program } from './program.ts'

/** What a load generator can do; `host` and `port` as seen from where it runs. */
export type Job = Target & (
  { kind: 'up' | 'upMarked' | 'down', connections: number, durationMs: number } |
  { kind: 'roundTrip', bytes: number, durationMs: number } |
  { kind: 'connect', connections: number, durationMs: number } |
  { kind: 'send', base64: string } |
  { kind: 'exchange', text: string, localPort?: number } |
  { kind: 'hold' } |
  { kind: 'ended', hold: number } |
  { kind: 'scan', fromPort: number, toPort: number, timeoutMs: number, parallel: number })

interface Target { host: string, port: number }

/** The last bytes of a stream of the job `upMarked`. */
export const END_MARKER = '\0the end of this load\0'

/** Bytes that really arrived, and the time until the last of them was confirmed. */
export interface LoadReport { bytes: number, elapsedMs: number }
/** How long single operations took. */
export interface TimingReport { count: number, elapsedMs: number, p50Ms: number, p95Ms: number, p99Ms: number }
/** How a held connection ended, and when (epoch ms). */
export interface HoldReport { how: 'end' | 'reset' | 'error' | 'closed', atMs: number }
/** What a connect scan saw. */
export interface ScanReport { open: number[], refused: number, silent: number, failed: number }

/** A load generator in a process of its own. */
export interface LoadGenerator {
  program: Program
  up: (target: Target, connections: number, durationMs: number) => Promise<LoadReport>
  /** As `up` with a service that counts to a marker: for ways without half-close (the service of the bench). */
  upMarked: (target: Target, connections: number, durationMs: number) => Promise<LoadReport>
  down: (target: Target, connections: number, durationMs: number) => Promise<LoadReport>
  roundTrip: (target: Target, bytes: number, durationMs: number) => Promise<TimingReport>
  /** New connections, each until the first byte of its echo is back: `p50Ms` is the time from `connect` to that byte. */
  connectRate: (target: Target, connections: number, durationMs: number) => Promise<TimingReport>
  /** Sends bytes to a service and compares what it received. */
  send: (target: Target, bytes: Uint8Array) => Promise<{ bytes: number, sha256: string, isEqual: boolean }>
  /** Sends a text, half-closes, gives the answer. */
  exchange: (target: Target, text: string, localPort?: number) => Promise<string>
  /** Opens a connection that was proven by an echo; `ended` resolves when it goes. */
  hold: (target: Target) => Promise<{ localPort: number, ended: Promise<HoldReport> }>
  scan: (host: string, fromPort: number, toPort: number, options?: { timeoutMs?: number, parallel?: number }) => Promise<ScanReport>
  stop: () => Promise<void>
}

/** A TCP service in a process of its own. */
export interface TcpService { program: Program, port: number, stop: () => Promise<void> }

const DIRECTORY = import.meta.dirname

/** Starts the service of tcp-service-main.ts. */
export async function startTcpService (options: { place?: Place, host?: string, port?: number } = {}): Promise<TcpService> {
  const place = options.place ?? HOST
  const program = startProgram(process.execPath, [join(DIRECTORY, 'tcp-service-main.ts'), options.host ?? '127.0.0.1', String(options.port ?? 0)], { place, name: 'tcp service' })
  const { port } = JSON.parse(await program.line(0)) as { port: number }
  return { program, port, stop: async () => { await program.stop() } }
}

/** Starts the load generator of tcp-load-main.ts. */
export function startLoadGenerator (options: { place?: Place } = {}): LoadGenerator {
  const program = startProgram(process.execPath, [join(DIRECTORY, 'tcp-load-main.ts')], { place: options.place ?? HOST, name: 'load generator' })
  const waiting = new Map<number, { resolve: (result: unknown) => void, reject: (err: Error) => void }>()
  let lastId = 0

  createInterface({ input: program.stdoutStream }).on('line', (line) => {
    const { id, result, error } = JSON.parse(line) as { id: number, result?: unknown, error?: string }
    const waiter = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) waiter?.resolve(result)
    else waiter?.reject(new Error(error))
  }).on('close', () => {
    for (const { reject } of waiting.values()) reject(new Error(`the load generator ended: ${program.stderr()}`))
    waiting.clear()
  })
  const start = <T> (job: Job): { id: number, result: Promise<T> } => {
    const id = ++lastId
    const result = new Promise<T>((resolve, reject) => { waiting.set(id, { resolve: resolve as (result: unknown) => void, reject }) })
    program.stdin.write(`${JSON.stringify({ id, job })}\n`)
    return { id, result }
  }
  const run = async <T> (job: Job): Promise<T> => start<T>(job).result

  return {
    program,
    up: async (target, connections, durationMs) => run({ ...target, kind: 'up', connections, durationMs }),
    upMarked: async (target, connections, durationMs) => run({ ...target, kind: 'upMarked', connections, durationMs }),
    down: async (target, connections, durationMs) => run({ ...target, kind: 'down', connections, durationMs }),
    roundTrip: async (target, bytes, durationMs) => run({ ...target, kind: 'roundTrip', bytes, durationMs }),
    connectRate: async (target, connections, durationMs) => run({ ...target, kind: 'connect', connections, durationMs }),
    send: async (target, bytes) => run({ ...target, kind: 'send', base64: Buffer.from(bytes).toString('base64') }),
    exchange: async (target, text, localPort) => run({ ...target, kind: 'exchange', text, ...(localPort === undefined ? {} : { localPort }) }),
    hold: async (target) => {
      const { id, result } = start<{ localPort: number }>({ ...target, kind: 'hold' })
      const { localPort } = await result
      const ended = run<HoldReport>({ ...target, kind: 'ended', hold: id })
      ended.catch(() => { /* told to whoever waits for it */ })
      return { localPort, ended }
    },
    scan: async (host, fromPort, toPort, options = {}) => run({ kind: 'scan', host, port: 0, fromPort, toPort, timeoutMs: options.timeoutMs ?? 250, parallel: options.parallel ?? 2000 }),
    stop: async () => { await program.stop() }
  }
}
