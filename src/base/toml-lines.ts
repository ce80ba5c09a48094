/** On which line each key of a TOML text stands. The text was accepted by a real parser before: this scan only walks it. */

/**
 * Maps the JSON text of each path (keys and array indexes) to its 1-based line. Tables that exist only as part of
 * another's name get the line of that name.
 */
export function scanTomlLines (text: string): Map<string, number> {
  const lines = new Map<string, number>()
  const arrayTables = new Map<string, number>()
  let at = 0
  let line = 1
  let table: Array<string | number> = []

  function note (path: Array<string | number>): void {
    for (let length = 1; length <= path.length; length++) {
      const key = JSON.stringify(path.slice(0, length))
      if (!lines.has(key)) lines.set(key, line)
    }
  }

  function advance (): void {
    if (text[at] === '\n') line++
    at++
  }

  /** Spaces, and with `acrossLines` also line ends and comments. */
  function skipBlank (acrossLines: boolean): void {
    while (at < text.length) {
      const char = text[at]
      if (char === ' ' || char === '\t' || (acrossLines && (char === '\n' || char === '\r'))) advance()
      else if (char === '#' && acrossLines) skipLine()
      else return
    }
  }

  function skipLine (): void {
    while (at < text.length && text[at] !== '\n') at++
  }

  /** A quoted string of any of the four kinds; gives what stands between its quotes. */
  function readString (): string {
    const quote = text[at] ?? ''
    const fence = text.startsWith(quote.repeat(3), at) ? quote.repeat(3) : quote
    const start = at + fence.length
    at = start
    while (at < text.length && !text.startsWith(fence, at)) {
      if (quote === '"' && text[at] === '\\') advance()
      advance()
    }
    const content = text.slice(start, at)
    at += fence.length
    // up to two more quotes may belong to the content of a multi-line string
    while (fence.length === 3 && text[at] === quote) at++
    return content
  }

  function readKeys (end: string): string[] {
    const keys: string[] = []
    while (at < text.length && text[at] !== end) {
      skipBlank(false)
      const char = text[at] ?? ''
      if (char === '.') at++
      else if (char === '"') keys.push(unescapeKey(readString()))
      else if (char === "'") keys.push(readString())
      else if (char !== end) {
        const bare = /^[^\s.=\]"'#]+/.exec(text.slice(at, at + 256))?.[0] ?? char
        keys.push(bare)
        at += Math.max(bare.length, 1)
      }
    }
    return keys
  }

  function readValue (path: Array<string | number>): void {
    skipBlank(true)
    const char = text[at]
    if (char === '"' || char === "'") readString()
    else if (char === '[') readItems(']', (index) => { const item = [...path, index]; note(item); readValue(item) })
    else if (char === '{') readItems('}', () => { readPair(path) })
    else while (at < text.length && !/[,\]}#\r\n]/.test(text[at] ?? '')) at++
  }

  function readItems (end: string, readItem: (index: number) => void): void {
    at++
    for (let index = 0; ; index++) {
      skipBlank(true)
      if (at >= text.length || text[at] === end) break
      readItem(index)
      skipBlank(true)
      if (text[at] === ',') at++
    }
    at++
  }

  function readPair (base: Array<string | number>): void {
    const startLine = line
    const path = [...base, ...readKeys('=')]
    at++
    line = startLine
    note(path)
    readValue(path)
  }

  function readHeader (): void {
    const isArray = text.startsWith('[[', at)
    at += isArray ? 2 : 1
    const keys = readKeys(']')
    at += isArray ? 2 : 1
    table = []
    for (const [position, key] of keys.entries()) {
      table.push(key)
      const name = JSON.stringify(table)
      if (isArray && position === keys.length - 1) arrayTables.set(name, (arrayTables.get(name) ?? -1) + 1)
      const index = arrayTables.get(name)
      if (index !== undefined) table.push(index)
    }
    // a table's own line is that of its header, even when an earlier header mentioned it in passing
    note(table)
    lines.set(JSON.stringify(table), line)
  }

  while (at < text.length) {
    skipBlank(true)
    if (at >= text.length) break
    if (text[at] === '[') readHeader()
    else readPair(table)
  }
  return lines
}

function unescapeKey (raw: string): string {
  try {
    return JSON.parse(`"${raw}"`) as string
  } catch {
    // TOML knows escapes that JSON lacks (\e, \x, \U): such a key merely has no line of its own
    return raw
  }
}
