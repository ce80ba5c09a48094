/** What people and programs see: plain text that cannot steer a terminal, tables, and JSON of known shape. */

/** Control, direction and other invisible characters: with them a stranger's text could rewrite what stands on the screen. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu

/** Text of others, made safe for a terminal: what is invisible or steers it is shown as an escape. */
export function safeText (text: string): string {
  return text.replace(UNSAFE, escapeCharacter)
}

/** Text of several lines; each line is made safe. */
export function safeLines (text: string): string {
  return text.split('\n').map(safeText).join('\n')
}

/** JSON on one line; characters that a terminal might obey are escaped, the value stays the same. */
export function toJson (value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, (character) =>
    Array.from({ length: character.length }, (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`).join(''))
}

/** Rows under headings, in columns; cells are made safe. No rows give an empty text. */
export function table (headings: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  if (rows.length === 0) return ''
  const safeRows = [headings, ...rows.map((row) => row.map(safeText))]
  const widths = headings.map((_, column) => Math.max(...safeRows.map((row) => (row[column] ?? '').length)))
  return safeRows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n')
}

/** A span of time in one unit: `850 ms`, `12 s`, `3 min`, `5 h`, `2 days`. */
export function formatDuration (ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`
  return `${Math.round(ms / 86_400_000)} days`
}

/** A measured time: one decimal below 10 ms. */
export function formatMs (ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}

/** A DID short enough for a table; its first and last characters. */
export function shortDid (did: string): string {
  return did.length <= 28 ? did : `${did.slice(0, 16)}…${did.slice(-6)}`
}

/** `1 connection`, `2 connections`. */
export function count (amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`
}

function escapeCharacter (character: string): string {
  if (character === '\n') return '\\n'
  if (character === '\t') return '\\t'
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
}
