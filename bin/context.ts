/** What every command gets: where the daemon is, how to answer, and what the environment says. */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import type { z } from 'zod'
import type { ControlClient } from '../src/control/client/index.ts'
import { createControlClient } from '../src/control/client/index.ts'
import type { JsonShapeName } from './json-shapes.ts'
import { JSON_SHAPES } from './json-shapes.ts'
import { safeLines, toJson } from './output.ts'

/** The environment variables of Carrier; besides them only {@link PROXY_VARIABLES} have a meaning. */
export const ENVIRONMENT_VARIABLES = ['CARRIER_DATA_DIR', 'CARRIER_CONFIG', 'CARRIER_RELAYS', 'CARRIER_LISTEN', 'CARRIER_PROXY', 'CARRIER_CA_FILE', 'CARRIER_PASSPHRASE_FILE'] as const

/** Proxies that are set for all programs; in both cases, and of two the small one wins, as elsewhere. */
export const PROXY_VARIABLES = ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY', 'no_proxy', 'NO_PROXY'] as const

/** Their values; an empty one counts as absent. */
export type CarrierEnvironment = Partial<Record<(typeof ENVIRONMENT_VARIABLES | typeof PROXY_VARIABLES)[number], string>>

/** One run of a command. */
export interface CommandContext {
  dataDirectory: string
  /** How to repeat the choice of data directory in a command that is printed for pasting: empty or ` --data-dir DIR`. */
  dataDirectoryFlag: string
  isJson: boolean
  environment: CarrierEnvironment
  client: ControlClient
  /** Writes the result to stdout: JSON of the named shape, or text. */
  print: <Name extends JsonShapeName>(shape: Name, value: z.input<(typeof JSON_SHAPES)[Name]>, text: string) => void
  /** Writes a line for people to stderr. */
  note: (text: string) => void
  /** Ends with this code although nothing was thrown. */
  setExitCode: (code: number) => void
}

/** Options that every command takes. */
interface GlobalOptions { dataDir?: string, json?: true }

/** Reads our variables out of an environment. */
export function readEnvironment (source: NodeJS.ProcessEnv): CarrierEnvironment {
  const entries = [...ENVIRONMENT_VARIABLES, ...PROXY_VARIABLES].flatMap((name) => {
    const value = source[name]
    return value === undefined || value === '' ? [] : [[name, value]]
  })
  return Object.fromEntries(entries) as CarrierEnvironment
}

/** The context of `command`, whose options were parsed. */
export function openContext (command: Command): CommandContext {
  const options = command.optsWithGlobals<GlobalOptions>()
  const environment = readEnvironment(process.env)
  const dataDirectory = resolve(options.dataDir ?? environment.CARRIER_DATA_DIR ?? join(homedir(), '.carrier'))
  const isJson = options.json === true
  return {
    dataDirectory,
    dataDirectoryFlag: options.dataDir === undefined ? '' : ` --data-dir ${quoteForShell(dataDirectory)}`,
    isJson,
    environment,
    client: createControlClient({ dataDirectory }),
    print: (shape, value, text) => {
      if (isJson) process.stdout.write(`${toJson(JSON_SHAPES[shape].parse(value))}\n`)
      else if (text !== '') process.stdout.write(`${safeLines(text)}\n`)
    },
    note: (text) => { process.stderr.write(`${safeLines(text)}\n`) },
    setExitCode: (code) => { process.exitCode = code }
  }
}

/** `text` as one word of a shell command. */
export function quoteForShell (text: string): string {
  return /^[\w@%+=:,./~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
