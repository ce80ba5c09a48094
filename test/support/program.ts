/** Programs that a test starts: output collected, stopped by pid, and gone when the test process goes, however it goes. */
import { spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { GiveUpError, PATIENCE_MS, waitFor, within } from './wait.ts'

/** How a program ended. */
export interface ProgramExit { code: number | null, signal: NodeJS.Signals | null }

/** A running child process. */
export interface Program {
  readonly name: string
  readonly pid: number
  readonly exited: Promise<ProgramExit>
  hasExited: () => boolean
  stdout: () => string
  stderr: () => string
  /** Everything it wrote to standard output and error, for searches. */
  output: () => Buffer
  stdin: ChildProcessWithoutNullStreams['stdin']
  stdoutStream: ChildProcessWithoutNullStreams['stdout']
  /** Line `index` of standard output, waited for; fails when the program ends before. */
  line: (index: number, deadlineMs?: number) => Promise<string>
  /** Sends `signal` (default SIGTERM) and waits for the end; SIGKILL when the deadline passes. */
  stop: (options?: { signal?: NodeJS.Signals, deadlineMs?: number }) => Promise<ProgramExit>
}

/** What a finished program left. */
export interface ProgramResult { exitCode: number | null, stdout: string, stderr: string, elapsedMs: number }

/** Where programs run: this machine, or a network namespace of a lab. */
export interface Place {
  readonly name: string
  /** The IPv4 address under which others reach this place, if they can at all. */
  readonly address: string
  /** The command line that runs `command` there, keeping its pid. */
  wrap: (command: string, args: readonly string[]) => [string, string[]]
}

/** Options of {@link startProgram}. */
export interface StartOptions { name?: string, place?: Place, env?: NodeJS.ProcessEnv, cwd?: string }

/** This machine's own network: the loopback variant of every scenario. */
export const HOST: Place = { name: 'host', address: '127.0.0.1', wrap: (command, args) => [command, [...args]] }

const alive = new Set<ChildProcessWithoutNullStreams>()
const atExit: Array<() => void> = []
let isGuarded = false

/** Runs `cleanUp` (synchronously) when this process ends: normally, by a failure, or by Ctrl-C. Gives the remover. */
export function onTestExit (cleanUp: () => void): () => void {
  guardExit()
  atExit.unshift(cleanUp)
  return () => {
    const index = atExit.indexOf(cleanUp)
    if (index >= 0) atExit.splice(index, 1)
  }
}

/** Starts a program; the caller stops it, or it dies with the test process. */
export function startProgram (command: string, args: readonly string[], options: StartOptions = {}): Program {
  guardExit()
  const name = options.name ?? command
  const [file, fileArgs] = (options.place ?? HOST).wrap(command, args)
  const child = spawn(file, fileArgs, { env: options.env ?? process.env, ...(options.cwd === undefined ? {} : { cwd: options.cwd }) })
  alive.add(child)
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  let exit: ProgramExit | undefined
  child.stdout.on('data', (chunk: Buffer) => { chunks.stdout.push(chunk) })
  child.stderr.on('data', (chunk: Buffer) => { chunks.stderr.push(chunk) })
  child.stdin.on('error', () => { /* a program that has gone takes no input; its exit tells */ })
  const exited = new Promise<ProgramExit>((resolve, reject) => {
    child.once('error', (err) => {
      alive.delete(child)
      reject(new Error(`${name} could not be started: ${err.message}`))
    })
    child.once('close', (code, signal) => {
      alive.delete(child)
      exit = { code, signal }
      resolve(exit)
    })
  })
  exited.catch(() => { /* told to whoever waits for it */ })
  const text = (which: 'stdout' | 'stderr'): string => Buffer.concat(chunks[which]).toString()
  const program: Program = {
    name,
    pid: child.pid ?? -1,
    exited,
    hasExited: () => exit !== undefined,
    stdout: () => text('stdout'),
    stderr: () => text('stderr'),
    output: () => Buffer.concat([...chunks.stdout, ...chunks.stderr]),
    stdin: child.stdin,
    stdoutStream: child.stdout,
    line: async (index, deadlineMs = PATIENCE_MS) => waitFor(`line ${index + 1} of ${name}`, () => {
      const lines = text('stdout').split('\n')
      if (lines.length > index + 1) return lines[index]
      if (exit !== undefined) throw new GiveUpError(`${name} ended with ${describeExit(exit)}: ${text('stderr').slice(-2000)}`)
      return undefined
    }, { deadlineMs, intervalMs: 10 }),
    stop: async ({ signal = 'SIGTERM', deadlineMs = PATIENCE_MS } = {}) => {
      if (exit !== undefined) return exit
      child.kill(signal)
      try {
        return await within(`the end of ${name} after ${signal}`, deadlineMs, exited)
      } catch (err) {
        child.kill('SIGKILL')
        await exited
        throw err
      }
    }
  }
  return program
}

/** Runs a program to its end. */
export async function runProgram (command: string, args: readonly string[], options: StartOptions & { input?: string, deadlineMs?: number } = {}): Promise<ProgramResult> {
  const startedAtMs = performance.now()
  const program = startProgram(command, args, options)
  program.stdin.end(options.input ?? '')
  const deadlineMs = options.deadlineMs ?? 2 * PATIENCE_MS
  try {
    const { code } = await within(`the end of ${program.name} ${args.join(' ')}`, deadlineMs, program.exited)
    return { exitCode: code, stdout: program.stdout(), stderr: program.stderr(), elapsedMs: performance.now() - startedAtMs }
  } catch (err) {
    await program.stop({ signal: 'SIGKILL' })
    throw new Error(`${err instanceof Error ? err.message : String(err)}; so far it said: ${program.stderr()}${program.stdout()}`.slice(0, 4000), { cause: err })
  }
}

/** Runs a program to its end and gives its standard output; any exit code but 0 is a failure. */
export async function mustRun (command: string, args: readonly string[], options: Parameters<typeof runProgram>[2] = {}): Promise<string> {
  const result = await runProgram(command, args, options)
  if (result.exitCode !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${result.exitCode}: ${result.stderr}${result.stdout}`)
  return result.stdout
}

function describeExit (exit: ProgramExit): string {
  return exit.signal === null ? `code ${exit.code}` : exit.signal
}

function guardExit (): void {
  if (isGuarded) return
  isGuarded = true
  process.once('exit', () => {
    for (const child of alive) child.kill('SIGKILL')
    for (const cleanUp of atExit) cleanUp()
  })
  for (const [signal, number] of [['SIGINT', 2], ['SIGTERM', 15], ['SIGHUP', 1]] as const) {
    process.once(signal, () => { process.exit(128 + number) })
  }
}
