/**
 * `npm test`: every check that a change must pass, one stage after the other, with one summary at the end.
 * `npm test -- STAGE…` runs some stages only. Stages that need root or Debian packages say why they did not run;
 * with CARRIER_TEST_REQUIRE (a comma-separated list such as `lab,postgres`) that is a failure, and so is any skipped test.
 * Where `CI` is set, `npm test` ends with the whole matrix of networks; elsewhere one cell of it stands for all.
 * `npm run test:lab -- --repeat N --cells eim-sym,… --loss 0.01 --at-once N`: rounds per cell of the matrix of networks, some
 * cells only (`direct`: those that can be), packets lost, cells at a time; `npm test -- matrix` with the same options is the
 * matrix alone. `npm test -- nemesis --seed N,…` repeats draws of random faults; `npm test -- soak` is the short form of `npm run test:soak`,
 * `npm test -- hostile` that of `npm run test:hostile`.
 */
import { execFileSync, spawn } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'

interface Stage { name: string, inDefault: boolean, run: () => Promise<boolean> }
interface Counted { result: 'passed' | 'failed' | 'skipped', name: string, file: string, durationMs: number, reason?: string | boolean }

const root = dirname(import.meta.dirname)
const tools = join(root, 'node_modules', '.bin')
const counted: Counted[] = []
/** What an option sets for the tests. */
const OPTIONS = { repeat: 'CARRIER_LAB_REPEAT', cells: 'CARRIER_LAB_CELLS', loss: 'CARRIER_LAB_LOSS', 'at-once': 'CARRIER_LAB_AT_ONCE', seed: 'CARRIER_NEMESIS_SEED' } as const
const LAB_FILE_MS = 1_800_000
const MATRIX_AT_ONCE = 2
/** What depends on the inside of Node, or on how deep its stack is. */
const NODE_SENSITIVE_TESTS = ['test/unit/{base,identity,node,session}/**/*.test.ts', 'test/loopback/{splice-copy,splice,link-port,session-migration,carrier,wss}.test.ts']
const SOAK_FILE_MS = 900_000
const HOSTILE_FILE_MS = 900_000
/** Files of the stage process that look at memory, or at how long something takes: each has the machine to itself. */
const ALONE = 'bootstrap-memory|bootstrap-reload|resume|short-faults|slow-reader'
/** What Node makes of the sources, for all processes of a run: up to half of what the start of one costs. */
const compileCache = mkdtempSync(join(tmpdir(), 'carrier-compile-'))
process.once('exit', () => {
  try {
    // a process that a test left may write there at this moment
    rmSync(compileCache, { recursive: true, force: true, maxRetries: 3 })
  } catch (err) {
    console.error(`${compileCache} is left: ${String(err)}`)
  }
})
// without these the cache would stay
for (const [signal, number] of [['SIGINT', 2], ['SIGTERM', 15], ['SIGHUP', 1]] as const) {
  process.once(signal, () => { process.exit(128 + number) })
}

const stages: Stage[] = [
  { name: 'types', inDefault: true, run: async () => command(join(tools, 'tsc'), ['--noEmit', '-p', 'tsconfig.json']) },
  { name: 'lint', inDefault: true, run: async () => command(join(tools, 'eslint'), ['.', '--max-warnings', '0']) },
  { name: 'deps', inDefault: true, run: async () => await command(join(tools, 'depcruise'), ['--config', '.dependency-cruiser.cjs', 'src', 'bin']) && await command(join(tools, 'knip'), []) },
  { name: 'unit', inDefault: true, run: async () => tests('test/unit/**/*.test.ts', { concurrency: 2, timeoutMs: 300_000 }) },
  { name: 'guards', inDefault: true, run: async () => tests('test/guards/*.test.ts', { concurrency: 2, timeoutMs: 180_000 }) },
  { name: 'loopback', inDefault: true, run: async () => tests('test/loopback/*.test.ts', { concurrency: 2, timeoutMs: 600_000 }) },
  {
    name: 'process',
    inDefault: true,
    run: async () => {
      // the command line keeps one processor busy, the daemons hardly any
      const isGood = await tests(`test/process/!(${ALONE}).test.ts`, { concurrency: 2, timeoutMs: 600_000 })
      return await tests(`test/process/@(${ALONE}).test.ts`, { concurrency: 1, timeoutMs: 600_000 }) && isGood
    }
  },
  { name: 'smoke', inDefault: true, run: async () => tests('test/natlab/smoke*.test.ts', { concurrency: 1, timeoutMs: 600_000 }) },
  // each cell has namespaces of its own and waits for its lines most of the time
  { name: 'matrix', inDefault: isCi(), run: async () => matrix() },
  { name: 'soak', inDefault: isCi(), run: async () => tests('test/soak/*.test.ts', { concurrency: 1, timeoutMs: SOAK_FILE_MS }) },
  { name: 'hostile', inDefault: isCi(), run: async () => tests('test/hostile/*.test.ts', { concurrency: 1, timeoutMs: HOSTILE_FILE_MS }) },
  { name: 'nemesis', inDefault: false, run: async () => tests('test/natlab/full-nemesis.test.ts', { concurrency: 1, timeoutMs: labFileMs() }) },
  { name: 'lab', inDefault: false, run: async () => tests('test/natlab/full-*.test.ts', { concurrency: 1, timeoutMs: labFileMs() }) },
  { name: 'deploy', inDefault: isCi(), run: async () => tests('test/deploy/*.test.ts', { concurrency: 1, timeoutMs: 600_000 }) },
  { name: 'oldest-node', inDefault: isCi(), run: async () => oldestNode() },
  { name: 'faults', inDefault: false, run: async () => tests('test/faults/*.test.ts', { concurrency: 1, timeoutMs: 900_000 }) }
]

process.exitCode = await main(process.argv.slice(2))

async function main (args: string[]): Promise<number> {
  let wanted: string[]
  try {
    wanted = readArguments(args)
  } catch (err) {
    console.error(err instanceof Error ? err.message : String(err))
    return 2
  }
  const unknown = wanted.filter((name) => !stages.some((stage) => stage.name === name))
  if (unknown.length > 0) {
    console.error(`unknown stage ${unknown.join(', ')}; stages are: ${stages.map((stage) => stage.name).join(', ')}`)
    return 2
  }
  if (Number(process.versions.node.split('.')[0]) < 24) {
    console.error(`tests run on Node 24 or newer, this is ${process.version}: use "npm test", which brings its own`)
    return 1
  }
  const failures: string[] = []
  for (const stage of stages.filter((candidate) => wanted.length === 0 ? candidate.inDefault : wanted.includes(candidate.name))) {
    const startedAt = performance.now()
    console.log(`\n=== ${stage.name}`)
    const isGood = await stage.run()
    console.log(`=== ${stage.name}: ${isGood ? 'ok' : 'FAILED'} in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
    if (!isGood) failures.push(stage.name)
  }
  return summarize(failures)
}

/** The stages of a command line; its options become environment. @throws TypeError for an unknown option */
function readArguments (args: string[]): string[] {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { repeat: { type: 'string' }, cells: { type: 'string' }, loss: { type: 'string' }, 'at-once': { type: 'string' }, seed: { type: 'string' } } })
  for (const name of ['repeat', 'cells', 'loss', 'at-once', 'seed'] as const) {
    const value = values[name]
    if (value !== undefined) process.env[OPTIONS[name]] = value
  }
  return positionals
}

async function matrix (): Promise<boolean> {
  process.env[OPTIONS['at-once']] ??= String(MATRIX_AT_ONCE)
  return tests('test/natlab/full-matrix.test.ts', { concurrency: 1, timeoutMs: labFileMs() })
}

/** The same code on the oldest Node that package.json allows, as npm has it. */
async function oldestNode (): Promise<boolean> {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { engines: { node: string } }
  const major = /\d+/.exec(engines.node)?.[0] ?? ''
  const node = execFileSync('npm', ['exec', '--yes', `--package=node-${process.platform}-${process.arch}@${major}`, '-c', 'command -v node'], { cwd: tmpdir(), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()
  console.log(`Node ${version}`)
  if (!version.startsWith(`v${major}.`)) return false
  return tests(NODE_SENSITIVE_TESTS, { concurrency: 2, timeoutMs: 300_000, node })
}

function isCi (): boolean {
  return !['', '0', 'false'].includes(process.env['CI'] ?? '')
}

/** The matrix is one file, and takes as long as there are rounds. */
function labFileMs (): number {
  return LAB_FILE_MS * Math.max(1, Number(process.env[OPTIONS.repeat] ?? 1) / 2)
}

function summarize (failures: string[]): number {
  const count = (result: Counted['result']): Counted[] => counted.filter((item) => item.result === result)
  for (const item of count('skipped')) console.log(`skipped: ${item.name} (${String(item.reason)})`)
  for (const item of count('failed')) console.log(`failed: ${item.name} in ${item.file}`)
  const slowest = [...counted].sort((a, b) => b.durationMs - a.durationMs).slice(0, 5)
  if (slowest.length > 0) console.log(`slowest: ${slowest.map((item) => `${item.name} ${(item.durationMs / 1000).toFixed(1)} s`).join(' · ')}`)
  const mayNotSkip = (process.env['CARRIER_TEST_REQUIRE'] ?? '') !== ''
  if (mayNotSkip && count('skipped').length > 0) failures.push('skipped tests where none may be skipped')
  if (failures.length > 0) console.log(`FAILED: ${failures.join(', ')}`)
  console.log(`${count('passed').length} passed, ${count('failed').length} failed, ${count('skipped').length} skipped`)
  return failures.length === 0 ? 0 : 1
}

async function tests (pattern: string | string[], options: { concurrency: number, timeoutMs: number, node?: string }): Promise<boolean> {
  const files = globSync(pattern, { cwd: root }).sort()
  if (files.length === 0) {
    console.log(`no test file matches ${String(pattern)}`)
    return false
  }
  const directory = mkdtempSync(join(tmpdir(), 'carrier-test-'))
  const resultFile = join(directory, 'results.jsonl')
  try {
    const isGood = await command(options.node ?? process.execPath, [
      '--conditions=carrier-source', '--test', `--test-concurrency=${options.concurrency}`, `--test-timeout=${options.timeoutMs}`,
      '--test-reporter=spec', '--test-reporter-destination=stdout',
      '--test-reporter=./test/support/count-reporter.ts', `--test-reporter-destination=${resultFile}`,
      ...files
    ])
    const lines = readFileSync(resultFile, 'utf8').split('\n').filter((line) => line !== '')
    counted.push(...lines.map((line) => JSON.parse(line) as Counted))
    return isGood && lines.length > 0
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function command (file: string, args: string[]): Promise<boolean> {
  // the tools' own "#!/usr/bin/env node" must find the Node that runs this file
  const env = { ...process.env, NODE_COMPILE_CACHE: compileCache, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env })
    child.on('error', reject)
    child.on('close', (code) => { resolve(code === 0) })
  })
}
