/** A real PostgreSQL: a cluster of its own in a temporary directory, run as `postgres`, on one loopback address only. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { mustRun, runProgram, startProgram } from '../support/program.ts'
import type { Place, Program, ProgramResult } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { GiveUpError, PATIENCE_MS, waitFor, within } from '../support/wait.ts'

/** Where a client connects: host and port as seen from the place where it runs. */
export interface PostgresDoor { place: Place, host: string, port: number }

/** The server. */
export interface PostgresServer {
  readonly door: PostgresDoor
  stop: () => Promise<void>
}

const SERVER_FLAGS = ['-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off', '-c', 'max_connections=100', '-c', 'log_min_messages=warning', '-c', 'timezone=UTC']
const USER = 'postgres'

/** Why PostgreSQL cannot be used here; undefined when it can. */
export function postgresObstacle (): string | undefined {
  if (process.getuid?.() !== 0) return 'the lab PostgreSQL is started as the user postgres, which needs root'
  if (findPostgresPrograms() === undefined) return 'no PostgreSQL server programs found (Debian: postgresql)'
  return undefined
}

/** Makes a cluster and starts it. It listens on 127.0.0.1 of `place` and nowhere else. */
export async function startPostgres (place: Place, options: { port?: number } = {}): Promise<PostgresServer> {
  const port = options.port ?? 5432
  const directory = makeTempDirectory('postgres')
  const data = join(directory, 'data')
  mkdirSync(data, { mode: 0o700 })
  await mustRun('chown', ['-R', `${USER}:`, directory])
  await mustRun('runuser', asPostgres('initdb', ['-D', data, '--auth=trust', '--username=postgres', '--encoding=UTF8', '--locale=C', '--no-sync']), { cwd: directory })
  const program = startProgram('runuser', asPostgres('postgres', ['-D', data, '-p', String(port), '-c', `unix_socket_directories=${directory}`, ...SERVER_FLAGS]), { place, name: 'postgres', cwd: directory })
  const door: PostgresDoor = { place, host: '127.0.0.1', port }
  await waitFor('PostgreSQL to take connections', async () => {
    if (program.hasExited()) throw new GiveUpError(`postgres ended: ${program.stderr()}`)
    return (await psql(door, ['-c', 'select 1'])).exitCode === 0
  }, { deadlineMs: PATIENCE_MS, intervalMs: 100 })
  return {
    door,
    stop: async () => {
      // runuser waits for the server: its pid is in the first line of postmaster.pid
      const pidFile = join(data, 'postmaster.pid')
      if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8').split('\n')[0]), 'SIGINT')
      await within('the end of PostgreSQL', PATIENCE_MS, program.exited)
    }
  }
}

/** Runs psql with unaligned, silent output; errors stop it. */
export async function psql (door: PostgresDoor, args: readonly string[], options: { deadlineMs?: number } = {}): Promise<ProgramResult> {
  return runProgram(programPath('psql'), [...psqlFlags(door), ...args], { place: door.place, env: clientEnvironment(), ...options })
}

/** Starts psql and leaves it running, for cancels. */
export function startPsql (door: PostgresDoor, args: readonly string[]): Program {
  const program = startPsqlSession(door, args)
  program.stdin.end()
  return program
}

/** Starts psql with an open standard input, for statements that come later. */
export function startPsqlSession (door: PostgresDoor, args: readonly string[] = []): Program {
  return startProgram(programPath('psql'), [...psqlFlags(door), ...args], { place: door.place, env: clientEnvironment(), name: 'psql' })
}

/** What pgbench reported. */
export interface PgbenchReport { processed: number, failed: number, transactionsPerSecond: number, latencyMs: number, text: string }

/** Fills the tables of pgbench. */
export async function pgbenchInit (door: PostgresDoor, scale: number): Promise<ProgramResult> {
  return runProgram(programPath('pgbench'), [...doorFlags(door), '-i', '-q', '-s', String(scale), 'postgres'], { place: door.place, env: clientEnvironment(), deadlineMs: 120_000 })
}

/** Runs pgbench's standard transactions. */
export async function pgbench (door: PostgresDoor, options: { clients: number, seconds: number }): Promise<PgbenchReport> {
  const text = await mustRun(programPath('pgbench'), [...doorFlags(door), '-c', String(options.clients), '-j', '2', '-T', String(options.seconds), 'postgres'], {
    place: door.place, env: clientEnvironment(), deadlineMs: (options.seconds + 60) * 1000
  })
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? Number.NaN)
  return {
    processed: number(/transactions actually processed: (\d+)/),
    failed: number(/number of failed transactions: (\d+)/),
    transactionsPerSecond: number(/tps = ([\d.]+)/),
    latencyMs: number(/latency average = ([\d.]+)/),
    text
  }
}

/** Copies the rows of `query` out and gives their size and hash, without keeping them. */
export async function copyOut (door: PostgresDoor, query: string, deadlineMs = 120_000, onBytes: (bytes: number) => void = () => {}): Promise<{ bytes: number, sha256: string, elapsedMs: number }> {
  const startedAtMs = performance.now()
  const program = startPsql(door, ['-c', `copy (${query}) to stdout`])
  const hash = createHash('sha256')
  let bytes = 0
  program.stdoutStream.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    hash.update(chunk)
    onBytes(bytes)
  })
  const { code } = await within('the end of the copy', deadlineMs, program.exited)
  if (code !== 0) throw new Error(`copy ended with ${code} after ${bytes} bytes: ${program.stderr()}`)
  return { bytes, sha256: hash.digest('hex'), elapsedMs: performance.now() - startedAtMs }
}

/** A query whose rows, in order, are about `megabytes` of text that no compression makes small. */
export function bigQuery (megabytes: number): string {
  return `select i, md5(i::text) || md5((-i)::text) || md5((i * 7)::text) from generate_series(1, ${Math.ceil(megabytes * 1_000_000 / 98)}) as i`
}

function doorFlags (door: PostgresDoor): string[] {
  return ['-h', door.host, '-p', String(door.port), '-U', USER]
}

function psqlFlags (door: PostgresDoor): string[] {
  return [...doorFlags(door), '-d', 'postgres', '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1']
}

function clientEnvironment (): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], LANG: 'C', PGCONNECT_TIMEOUT: '10', PGSSLMODE: 'prefer' }
}

function asPostgres (program: string, args: readonly string[]): string[] {
  return ['-u', USER, '--', programPath(program), ...args]
}

function programPath (program: string): string {
  const directory = findPostgresPrograms()
  if (directory === undefined) throw new Error('no PostgreSQL programs found')
  return join(directory, program)
}

/** The folder with the newest server's programs; Debian keeps them in one folder per version, off the PATH. */
function findPostgresPrograms (): string | undefined {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root).filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(b) - Number(a)) : []
  const candidates = [...versions.map((version) => join(root, version, 'bin')), ...(process.env['PATH'] ?? '').split(':')]
  return candidates.find((directory) => ['initdb', 'postgres', 'psql', 'pgbench'].every((program) => existsSync(join(directory, program))))
}
