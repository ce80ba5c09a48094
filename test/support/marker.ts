/** Looks for traces of a secret marker in bytes: as it is, in hex, and in base64 at each alignment. */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'

/** Finds traces of one marker. */
export interface MarkerFinder {
  /** Offset of the first block of 16 bytes that belongs to the marker or a spelling of it; undefined when there is none. */
  find: (bytes: Uint8Array) => number | undefined
}

const BLOCK_BYTES = 16
const FILTER_BITS = 24
const READ_BYTES = 4 << 20
const PAGE_BYTES = 4096n
const PAGEMAP_ENTRY_BYTES = 8

/**
 * Prepares the search. Every 16-byte block of the marker (at steps of 16) is looked for at every offset, so a trace of
 * 31 bytes or more is always found, also when packets or buffers cut the marker into pieces.
 */
export function createMarkerFinder (marker: Uint8Array): MarkerFinder {
  const raw = Buffer.from(marker)
  const spellings = [raw, Buffer.from(raw.toString('hex')), ...[0, 1, 2].map((skip) => Buffer.from(raw.subarray(skip).toString('base64')))]
  // a bit per value of a block's first three bytes: the loop over gigabytes mostly ends there
  const filter = new Uint8Array(1 << (FILTER_BITS - 3))
  const blocks = new Set<string>()
  for (const spelling of spellings) {
    for (let offset = 0; offset + BLOCK_BYTES <= spelling.length; offset += BLOCK_BYTES) {
      const value = ((spelling[offset] ?? 0) << 16) | ((spelling[offset + 1] ?? 0) << 8) | (spelling[offset + 2] ?? 0)
      filter[value >> 3] = (filter[value >> 3] ?? 0) | (1 << (value & 7))
      blocks.add(spelling.toString('latin1', offset, offset + BLOCK_BYTES))
    }
  }
  return {
    find: (bytes) => {
      const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      let value = ((buffer[0] ?? 0) << 8) | (buffer[1] ?? 0)
      for (let offset = 0; offset + BLOCK_BYTES <= buffer.length; offset++) {
        value = ((value << 8) | (buffer[offset + 2] ?? 0)) & 0xffffff
        if (((filter[value >> 3] ?? 0) & (1 << (value & 7))) === 0) continue
        if (blocks.has(buffer.toString('latin1', offset, offset + BLOCK_BYTES))) return offset
      }
      return undefined
    }
  }
}

/** Searches every file below `directory`; gives the first with a trace. */
export function findInDirectory (finder: MarkerFinder, directory: string): { found: string | undefined, bytes: number } {
  let bytes = 0
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const content = readFileSync(path)
    bytes += content.length
    if (finder.find(content) !== undefined) return { found: path, bytes }
  }
  return { found: undefined, bytes }
}

/** Searches the writable mappings of a live process; gives the first with a trace and how much was searched. */
export function findInMemory (finder: MarkerFinder, pid: number): { found: string | undefined, bytes: number } {
  const mappings = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').filter((line) => /^\S+ rw/.test(line))
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r')
  const buffer = Buffer.allocUnsafe(READ_BYTES + BLOCK_BYTES)
  let bytes = 0
  try {
    for (const mapping of mappings) {
      const [start = 0n, end = 0n] = (mapping.split(' ')[0] ?? '').split('-').map((hex) => BigInt(`0x${hex}`))
      for (const piece of presentPieces(pagemap, start, end)) {
        let count = 0
        try {
          count = readSync(memory, buffer, 0, piece.byteCount, piece.position)
        } catch {
          // unmapped since the list was read, or a kernel page: holds no bytes of the process
          continue
        }
        bytes += count
        if (finder.find(buffer.subarray(0, count)) !== undefined) return { found: mapping, bytes }
      }
    }
  } finally {
    closeSync(pagemap)
    closeSync(memory)
  }
  return { found: undefined, bytes }
}

/** The parts of a mapping that hold anything (a page never touched is all zero), overlapping by a block so that no trace hides on a seam. */
function * presentPieces (pagemap: number, start: bigint, end: bigint): Generator<{ position: bigint, byteCount: number }> {
  const pageCount = Number((end - start) / PAGE_BYTES)
  const entries = Buffer.alloc(pageCount * PAGEMAP_ENTRY_BYTES)
  const known = readSync(pagemap, entries, 0, entries.length, start / PAGE_BYTES * BigInt(PAGEMAP_ENTRY_BYTES)) / PAGEMAP_ENTRY_BYTES
  // bits 63 and 62: in memory, or swapped out
  const isPresent = (page: number): boolean => page < known && ((entries[page * PAGEMAP_ENTRY_BYTES + 7] ?? 0) & 0xc0) !== 0
  for (let page = 0; page < pageCount;) {
    if (!isPresent(page)) {
      page++
      continue
    }
    const first = page
    while (page < pageCount && isPresent(page) && page - first < READ_BYTES / Number(PAGE_BYTES)) page++
    const byteCount = (page - first) * Number(PAGE_BYTES) + (page < pageCount ? BLOCK_BYTES : 0)
    yield { position: start + BigInt(first) * PAGE_BYTES, byteCount }
  }
}
