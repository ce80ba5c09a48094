/** Where the daemon of a data directory answers: the files that server and client agree on. */
import { join } from 'node:path'
import { CarrierError, readFileIfExists, utf8Decode } from '../../base/light.ts'

/** Names of the control files in a data directory; all of them mode 0600. */
export const CONTROL_FILES = {
  socket: 'control.sock',
  /** Holds the socket's path when it had to move because the usual one is too long. */
  movedSocket: 'control.path',
  token: 'control.token'
} as const

/** How to reach a daemon. */
export interface ControlEndpoint { socketPath: string, token: string }

/** Reads where the daemon of `dataDirectory` answers. @throws CarrierError ERR_NOT_RUNNING when none ever ran there */
export async function readEndpoint (dataDirectory: string): Promise<ControlEndpoint> {
  const moved = await readText(join(dataDirectory, CONTROL_FILES.movedSocket))
  const token = await readText(join(dataDirectory, CONTROL_FILES.token))
  if (token === undefined) throw notRunning(dataDirectory)
  return { socketPath: moved ?? join(dataDirectory, CONTROL_FILES.socket), token }
}

/** The error of every call while no daemon answers. */
export function notRunning (dataDirectory: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_NOT_RUNNING', `no daemon runs on the data directory ${dataDirectory}; run: carrier up`,
    { detail: { dataDirectory }, ...(cause === undefined ? {} : { cause }) })
}

async function readText (path: string): Promise<string | undefined> {
  try {
    const bytes = await readFileIfExists(path)
    return bytes === undefined ? undefined : utf8Decode(bytes).trim()
  } catch (err) {
    // a file in the place of the directory: no daemon can ever have run there
    if (err instanceof Error && 'code' in err && err.code === 'ENOTDIR') return undefined
    throw new CarrierError('ERR_UNAUTHORIZED', `cannot read ${path}: ${err instanceof Error ? err.message : String(err)}; use the account that runs the daemon`, { cause: err })
  }
}
