/** Carrier daemons under test: real processes of bin/carrier.js, driven by the real command line. */
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createControlClient } from '../../src/control/client/index.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { HOST, runProgram, startProgram } from './program.ts'
import type { Place, Program, ProgramResult } from './program.ts'
import { GiveUpError, PATIENCE_MS, waitFor } from './wait.ts'

/** What a daemon is started with. */
export interface DaemonInit {
  /** Role in the scenario: office, laptop. */
  name: string
  dataDirectory: string
  place?: Place
  relays: readonly string[]
  listen?: 'none' | 'lan' | 'mapped' | 'public'
  port?: number
  /** Further arguments of Node itself, for the daemon only. */
  nodeArguments?: readonly string[]
}

/** A daemon that can be started, killed and started again on the same data. */
export interface Daemon {
  readonly name: string
  readonly dataDirectory: string
  readonly place: Place
  /** The running process; fails when it is not running. */
  program: () => Program
  /** Starts `carrier up --foreground` and waits until its control socket answers. */
  start: () => Promise<void>
  /** Starts without waiting for an answer. */
  launch: () => Program
  /** Waits until the control socket answers. */
  ready: () => Promise<void>
  /** SIGTERM and a clean end. */
  stop: () => Promise<void>
  /** SIGKILL: nothing is said good-bye to. */
  kill: () => Promise<void>
  /** Runs a command of the command line and gives what came of it. */
  cli: (...args: string[]) => Promise<ProgramResult>
  /** Runs a command with --json; fails unless it exits 0. */
  json: <T>(...args: string[]) => Promise<T>
  /** What `carrier status --json` gives, asked over the control socket: cheap enough to poll. */
  status: () => Promise<DaemonStatus>
}

/** Everything a daemon tells about itself. */
export type DaemonStatus = MethodOutput<'daemon.status'>

/** The repository. */
export const ROOT = dirname(dirname(import.meta.dirname))

/** Describes a daemon; it runs from `start` on. */
export function createDaemon (init: DaemonInit): Daemon {
  const place = init.place ?? HOST
  const environment = { ...carrierFreeEnvironment(), CARRIER_DATA_DIR: init.dataDirectory }
  const client = createControlClient({ dataDirectory: init.dataDirectory })
  let running: Program | undefined
  mkdirSync(init.dataDirectory, { recursive: true, mode: 0o700 })

  const command = (args: readonly string[]): [string, string[]] => [process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier.js'), ...args]]
  const cli = async (...args: string[]): Promise<ProgramResult> => {
    const [file, fileArgs] = command(args)
    return runProgram(file, fileArgs, { place, env: environment, name: `carrier of ${init.name}`, deadlineMs: 2 * PATIENCE_MS })
  }
  const json = async <T>(...args: string[]): Promise<T> => {
    const result = await cli(...args, '--json')
    if (result.exitCode !== 0) throw new Error(`carrier ${args.join(' ')} of ${init.name} ended with ${result.exitCode}: ${result.stderr}${result.stdout}`)
    return JSON.parse(result.stdout) as T
  }
  const program = (): Program => {
    if (running === undefined) throw new Error(`${init.name} is not running`)
    return running
  }
  const daemon: Daemon = {
    name: init.name,
    dataDirectory: init.dataDirectory,
    place,
    program,
    cli,
    json,
    status: async () => client.call('daemon.status', {}, { signal: AbortSignal.timeout(20_000) }),
    launch: () => {
      const [file, args] = command(['up', '--foreground', '--listen', init.listen ?? 'none', ...(init.port === undefined ? [] : ['--port', String(init.port)]), ...init.relays.flatMap((relay) => ['--relay', relay])])
      running = startProgram(file, [...init.nodeArguments ?? [], ...args], { place, env: environment, name: `daemon ${init.name}` })
      return running
    },
    ready: async () => {
      await waitFor(`the control socket of ${init.name}`, async () => {
        if (program().hasExited()) throw new GiveUpError(`daemon ${init.name} ended: ${program().stderr()}${program().stdout()}`)
        return daemon.status()
      }, { deadlineMs: PATIENCE_MS })
    },
    start: async () => {
      daemon.launch()
      await daemon.ready()
    },
    stop: async () => {
      const stopping = running
      running = undefined
      await stopping?.stop()
    },
    kill: async () => {
      const dying = running
      running = undefined
      await dying?.stop({ signal: 'SIGKILL' })
    }
  }
  return daemon
}

/** This process' environment without anything that configures Carrier or the test runner's children. */
export function carrierFreeEnvironment (): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CARRIER_') && name !== 'NODE_OPTIONS' && name !== 'NODE_TEST_CONTEXT'))
}
