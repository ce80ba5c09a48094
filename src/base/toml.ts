/** TOML with line numbers: for syntax errors, and for whatever a reader finds wrong with a value later. */
import { parse, TomlError } from 'smol-toml'
import { CarrierError } from './errors.ts'
import { scanTomlLines } from './toml-lines.ts'

/** Where a value stands: table names, keys, and indexes of arrays. */
export type TomlPath = readonly (string | number)[]

/** A parsed file. */
export interface TomlDocument {
  value: Record<string, unknown>
  /** The 1-based line on which the key at `path` stands; of its nearest ancestor when it has none of its own. */
  lineOf: (path: TomlPath) => number
}

/**
 * Parses the text of a TOML file; `file` is its name for messages.
 *
 * @throws CarrierError ERR_CONFIG `FILE:LINE: what is wrong`
 */
export function parseToml (text: string, file: string): TomlDocument {
  // editors of some systems put a byte order mark first; TOML knows none
  const source = text.startsWith('\uFEFF') ? text.slice(1) : text
  let value: Record<string, unknown>
  try {
    value = parse(source)
  } catch (err) {
    if (!(err instanceof TomlError)) throw err
    const summary = err.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? 'not valid TOML'
    throw new CarrierError('ERR_CONFIG', `${file}:${err.line}: ${summary}`, { cause: err, detail: { file, line: err.line } })
  }
  let lines: Map<string, number> | undefined
  return {
    value,
    lineOf: (path) => {
      lines ??= scanTomlLines(source)
      for (let length = path.length; length > 0; length--) {
        const line = lines.get(JSON.stringify(path.slice(0, length)))
        if (line !== undefined) return line
      }
      return 1
    }
  }
}
