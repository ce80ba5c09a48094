/**
 * Reads an accepted socket into memory of ours. `net` offers that (`onread`) only for sockets that connect, so the handle of
 * an accepted one is put into a new Socket. That handle is no public API: its shape is checked, and where it is another one
 * the caller copies with the public API.
 */
import { Socket } from 'node:net'
import type { OnReadOpts } from 'node:net'

/** The members of the handle that `net` uses when it reads into given memory. */
const HANDLE_METHODS = ['readStart', 'readStop', 'useUserBuffer', 'shutdown', 'writeBuffer', 'close'] as const

/** What a socket keeps its handle in; private to Node. */
interface WithHandle { _handle?: object | null }

/**
 * Moves the connection of `socket` into a new socket that reads with `onread`, and gives it together with what had been read
 * before. Undefined, with `socket` untouched, when this Node's sockets have another shape.
 * From then on `socket` is an empty shell; it is closed with the new one, so that its server counts right.
 */
export function reuseBuffers (socket: Socket, onread: OnReadOpts): { socket: Socket, rest: Buffer[] } | undefined {
  const shell = socket as Socket & WithHandle
  const handle = shell._handle
  if (!isTcpHandle(handle)) return undefined
  const rest = readRest(socket)
  handle.readStop()
  handle.reading = false
  shell._handle = null
  // the types know this option only for sockets that were bound and not connected yet
  const moved = new Socket({ handle, allowHalfOpen: true, onread } as unknown as ConstructorParameters<typeof Socket>[0])
  moved.once('close', () => { socket.destroy() })
  return { socket: moved, rest }
}

/** What a paused socket holds already. */
function readRest (socket: Socket): Buffer[] {
  const rest: Buffer[] = []
  for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) rest.push(chunk)
  return rest
}

function isTcpHandle (handle: unknown): handle is { reading: boolean, readStop: () => void } {
  if (typeof handle !== 'object' || handle === null || handle.constructor.name !== 'TCP' || !('reading' in handle)) return false
  const members = handle as Record<string, unknown>
  return HANDLE_METHODS.every((name) => typeof members[name] === 'function')
}
