/** The test vectors of PROTOCOL.md, as JSON files that other implementations can read too. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Reads test/vectors/PROTOCOL/NAME.json; the caller names its shape. */
export function readVectors<T> (name: string): T {
  return JSON.parse(readFileSync(join(import.meta.dirname, '..', 'vectors', 'PROTOCOL', `${name}.json`), 'utf8')) as T
}
