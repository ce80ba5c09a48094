/** What every subject of the bench is: a way from a client port to a service of its own, and the processes on that way. */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { TestNetwork } from '../support/network.ts'
import { HOST, startProgram } from '../support/program.ts'
import type { Place, Program } from '../support/program.ts'
import { GiveUpError, waitFor, within } from '../support/wait.ts'

/** Pids of each role between load generator and service; several where a program forks. */
export type Processes = Record<string, readonly number[]>

/** A subject that is up. */
export interface RunningSubject {
  /** Where the load generator connects. */
  target: { host: string, port: number }
  processes: Processes
  /** What carries the bytes at this moment, where that can change: asked once a round, printed with the table. */
  route?: () => Promise<string>
  stop: () => Promise<void>
}

/** Where a subject runs: everything on this machine's loopback, or two machines on one cable (cable.ts). */
export type NetworkName = 'loopback' | 'cable'

/** One row of the table. `start` gives a sentence instead when the subject cannot run here; everything it starts is in a place of `network`. */
export interface Subject { name: string, on: NetworkName, start: (network: TestNetwork) => Promise<RunningSubject | string> }

/** The way to a service: what {@link withService} wants to be built. The port is one of the laptop's loopback unless there is a host. */
export type Way = Omit<RunningSubject, 'target' | 'stop'> & { port: number, host?: string }

/** Across a cable plain TCP comes to the service from outside. */
const ANY_HOST = '0.0.0.0'
const START_DEADLINE_MS = 120_000
const TCP_LISTEN = '0A'
const LISTEN_DEADLINE_MS = 20_000
const STOP_DEADLINE_MS = 20_000

/** Starts a service at the office and the way to it from the laptop; whatever was started is stopped when a later step fails. `own` registers what the way needs stopped. */
export async function withService (network: TestNetwork, build: (servicePort: number, own: (stop: () => Promise<unknown>) => void) => Promise<Way | string>): Promise<RunningSubject | string> {
  const stops: Array<() => Promise<unknown>> = []
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).reverse()) {
      // a program that does not end in time is killed by its handle; the next one still has to be stopped
      await within('the end of a subject', STOP_DEADLINE_MS, one()).catch((err: unknown) => { console.error(`bench: ${err instanceof Error ? err.message : String(err)}`) })
    }
  }
  try {
    const service = await startService({ place: network.office, host: network.name === 'loopback' ? HOST.address : ANY_HOST })
    stops.push(service.stop)
    const way = await within('the subject to start', START_DEADLINE_MS, build(service.port, (one) => { stops.push(one) }))
    if (typeof way === 'string') {
      await stop()
      return way
    }
    const { port, host = '127.0.0.1', ...rest } = way
    return { ...rest, target: { host, port }, stop }
  } catch (err) {
    await stop()
    throw err
  }
}

/** Starts the service of service-main.ts. */
export async function startService (options: { place?: Place, host?: string } = {}): Promise<{ program: Program, port: number, stop: () => Promise<unknown> }> {
  const program = startProgram(process.execPath, [join(import.meta.dirname, 'service-main.ts'), options.host ?? '127.0.0.1'], { place: options.place ?? HOST, name: 'bench service' })
  const { port } = JSON.parse(await program.line(0)) as { port: number }
  return { program, port, stop: program.stop }
}

/** Waits until somebody listens on a TCP port of the network that `program` is in. */
export async function waitListening (port: number, program: Program): Promise<void> {
  await waitFor(`${program.name} to listen on ${port}`, async () => {
    if (program.hasExited()) throw new GiveUpError(`${program.name} ended: ${program.stderr()}${program.stdout()}`.slice(0, 2000))
    return isListening(port, program.pid)
  }, { deadlineMs: LISTEN_DEADLINE_MS })
}

/** A process and all its descendants. */
export function processTree (pid: number): number[] {
  const parents = new Map<number, number[]>()
  for (const line of execFileSync('ps', ['-A', '-o', 'pid=,ppid=']).toString().trim().split('\n')) {
    const [child = 0, parent = 0] = line.trim().split(/\s+/).map(Number)
    parents.set(parent, [...parents.get(parent) ?? [], child])
  }
  const descend = (one: number): number[] => [one, ...(parents.get(one) ?? []).flatMap(descend)]
  return descend(pid)
}

/** The full path of a tool on the PATH or in the places of system daemons; undefined when it is not installed. */
export function findTool (name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return directories.map((directory) => join(directory, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      // not in this directory; the next one may have it
      return false
    }
  })
}

/** True when a process is still there and no zombie. */
export function isRunning (pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    // the kernel has forgotten it
    return false
  }
}

/** From the kernel's tables of the network that a process is in. */
function isListening (port: number, pid: number): boolean {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  return ['tcp', 'tcp6'].some((table) => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n').some((line) => {
    const [, local, , state] = line.trim().split(/\s+/)
    return local?.endsWith(`:${hexPort}`) === true && state === TCP_LISTEN
  }))
}
