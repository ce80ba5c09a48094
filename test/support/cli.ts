/** The command line as people run it: real processes of bin/carrier.js on a data directory, detached daemons included. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { z } from 'zod'
import { JSON_SHAPES } from '../../bin/json-shapes.ts'
import type { JsonShapeName } from '../../bin/json-shapes.ts'
import { carrierFreeEnvironment, ROOT } from './daemon.ts'
import { onTestExit, runProgram } from './program.ts'
import type { ProgramResult } from './program.ts'
import { PATIENCE_MS } from './wait.ts'

/** The command line of one data directory. */
export interface Cli {
  readonly dataDirectory: string
  /** Runs a command and gives what came of it. */
  run: (...args: string[]) => Promise<ProgramResult>
  /** Runs a command that must succeed; gives its stdout. */
  text: (...args: string[]) => Promise<string>
  /** Runs a command with --json that must succeed, and checks the answer's shape. */
  json: <Name extends JsonShapeName>(shape: Name, ...args: string[]) => Promise<z.output<(typeof JSON_SHAPES)[Name]>>
  /** Runs a command with --json that must fail with this exit code and message; gives the code of the error. */
  fails: (exitCode: number, message: RegExp, ...args: string[]) => Promise<string>
}

/** Arguments that run `carrier` from source. */
export const CARRIER = ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier.js')] as const

/** Describes it. A detached daemon that a test leaves behind dies with the test process. */
export function createCli (dataDirectory: string, environment: Record<string, string> = {}): Cli {
  const env = { ...carrierFreeEnvironment(), CARRIER_DATA_DIR: dataDirectory, ...environment }
  onTestExit(() => { killLeftDaemon(dataDirectory) })
  const run = async (...args: string[]): Promise<ProgramResult> => runProgram(process.execPath, [...CARRIER, ...args], { env, name: 'carrier', deadlineMs: 2 * PATIENCE_MS })
  const text = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await run(...args)
    assert.equal(exitCode, 0, `carrier ${args.join(' ')}: ${stderr}`)
    return stdout
  }
  return {
    dataDirectory,
    run,
    text,
    json: async (shape, ...args) => {
      const stdout = await text(...args, '--json')
      assert.match(stdout, /^[^\n]+\n$/, 'one line of JSON')
      return JSON_SHAPES[shape].parse(JSON.parse(stdout)) as z.output<(typeof JSON_SHAPES)[typeof shape]>
    },
    fails: async (exitCode, message, ...args) => {
      const result = await run(...args, '--json')
      assert.equal(result.exitCode, exitCode, `carrier ${args.join(' ')}: ${result.stderr}${result.stdout}`)
      assert.equal(result.stdout, '')
      const { error } = JSON.parse(result.stderr) as { error: { code: string, message: string } }
      assert.match(error.message, message)
      return error.code
    }
  }
}

function killLeftDaemon (dataDirectory: string): void {
  try {
    const pid = Number(readFileSync(join(dataDirectory, 'lock.pid'), 'utf8'))
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    if (command.includes(dataDirectory)) process.kill(pid, 'SIGKILL')
  } catch {
    // no daemon was started there, or it has ended
  }
}
