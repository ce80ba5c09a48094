/**
 * Reads a socket into memory of ours, which is used again, instead of a new buffer for each read. `net` offers that (`onread`)
 * for sockets that it connects itself. Accepted sockets and TLS sockets have the same machinery inside, under names that are
 * private to Node: their shape is checked, and where it is another one the caller reads with the public API.
 */
import { Socket } from 'node:net'

/** Where bytes go. */
export interface ReadTarget {
  /** Memory for the next read; asked for once at the start and after each read. */
  buffer: () => Uint8Array
  /** The first `byteCount` bytes of that memory were read. False stops reading until `socket.resume()`; a TLS socket may bring a little more before. */
  onRead: (byteCount: number) => boolean
}

/** What `net` calls the fields in which a socket keeps the option `onread`. */
const FIELD_NAMES = ['kBuffer', 'kBufferCb', 'kBufferGen'] as const
const HANDLE_METHODS = ['readStart', 'readStop', 'useUserBuffer'] as const

interface Fields { buffer: symbol, callback: symbol, generator: symbol }
/** What a socket keeps its handle in. */
interface Inside { _handle?: Record<string, unknown> | null, [field: symbol]: unknown }

let fields: Fields | undefined | 'unknown' = 'unknown'

/**
 * Takes over the reading of a paused socket, which stays paused. What it holds already is told by `onRest` in the next tick; from
 * `socket.resume()` on everything goes to `target`, and the end is told by 'end' as ever. False, with nothing changed, where this
 * Node's sockets have another shape.
 */
export function readInto (socket: Socket, target: ReadTarget, onRest: (bytes: Uint8Array) => void): boolean {
  const inside = socket as unknown as Inside
  const handle = inside._handle
  if (fields === 'unknown') fields = findFields()
  if (fields === undefined || typeof handle !== 'object' || handle === null) return false
  if (!(fields.buffer in inside) || !('reading' in handle) || !HANDLE_METHODS.every((name) => typeof handle[name] === 'function')) return false
  const first = target.buffer()
  inside[fields.buffer] = first
  inside[fields.generator] = target.buffer
  inside[fields.callback] = target.onRead;
  (handle['useUserBuffer'] as (buffer: Uint8Array) => void)(first)
  const rest: Buffer[] = []
  // before the 'end' that the reading may bring about
  process.nextTick(() => { for (const bytes of rest) if (!socket.destroyed) onRest(bytes) })
  for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) rest.push(chunk)
  socket.pause()
  return true
}

function findFields (): Fields | undefined {
  const symbols = Object.getOwnPropertySymbols(new Socket())
  const [buffer, callback, generator] = FIELD_NAMES.map((name) => symbols.find((symbol) => symbol.description === name))
  return buffer === undefined || callback === undefined || generator === undefined ? undefined : { buffer, callback, generator }
}
