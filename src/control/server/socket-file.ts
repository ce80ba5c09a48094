/** The control socket as a file: where it lies, that only its owner reaches it, and that a dead daemon's is replaced. */
import { chmod, mkdtemp, rm, rmdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { CarrierError, LIMITS, errorMessage, readFileIfExists, utf8Decode, writePrivateFile } from '../../base/index.ts'
import { CONTROL_FILES } from '../client/index.ts'

/** Where to put the socket. */
export interface SocketFileInit {
  dataDirectory: string
  /** Tried in order when the path in the data directory is too long for a Unix socket; a private directory is made inside. */
  fallbackDirectories: readonly string[]
}

/** A place that is free for listening. */
export interface SocketFile {
  path: string
  /** Closes the socket to everybody but its owner; call right after listening. */
  protect: () => Promise<void>
  /** Removes what was made. Idempotent. */
  remove: () => Promise<void>
}

const MOVED_PREFIX = 'carrier-'

/** Finds the place and removes what a dead daemon left. @throws CarrierError ERR_ALREADY_RUNNING, ERR_CONFIG (no place short enough) */
export async function prepareSocketFile (init: SocketFileInit): Promise<SocketFile> {
  const usual = join(init.dataDirectory, CONTROL_FILES.socket)
  const record = join(init.dataDirectory, CONTROL_FILES.movedSocket)
  const recorded = await readFileIfExists(record)
  const previous = recorded === undefined ? usual : utf8Decode(recorded).trim()
  if (await isAnswered(previous)) {
    throw new CarrierError('ERR_ALREADY_RUNNING', `another daemon answers on ${previous}; stop it with "carrier down", or use another --data-dir`)
  }
  await removeSocket(previous, previous !== usual)
  await rm(record, { force: true })

  const isMoved = Buffer.byteLength(usual) > LIMITS.controlSocketPathBytes
  const path = isMoved ? await movedPath(init) : usual
  if (isMoved) await writePrivateFile(record, `${path}\n`)
  return {
    path,
    protect: async () => { await chmod(path, 0o600) },
    remove: async () => {
      await removeSocket(path, isMoved)
      if (isMoved) await rm(record, { force: true })
    }
  }
}

async function movedPath (init: SocketFileInit): Promise<string> {
  const failures: string[] = []
  for (const parent of init.fallbackDirectories) {
    const length = Buffer.byteLength(join(parent, `${MOVED_PREFIX}XXXXXX`, CONTROL_FILES.socket))
    if (length > LIMITS.controlSocketPathBytes) continue
    try {
      // mkdtemp makes it 0700
      return join(await mkdtemp(join(parent, MOVED_PREFIX)), CONTROL_FILES.socket)
    } catch (err) {
      failures.push(errorMessage(err))
    }
  }
  throw new CarrierError('ERR_CONFIG',
    `the path of the control socket in ${init.dataDirectory} has more than ${LIMITS.controlSocketPathBytes} bytes and no other place was found${failures.length === 0 ? '' : ` (${failures.join('; ')})`}; use a shorter --data-dir`)
}

async function removeSocket (path: string, isMoved: boolean): Promise<void> {
  await rm(path, { force: true })
  const parent = dirname(path)
  // only a directory that was made for the socket, never the data directory
  if (!isMoved || !basename(parent).startsWith(MOVED_PREFIX)) return
  try {
    await rmdir(parent)
  } catch {
    // not ours alone, or gone: an empty directory at most stays behind
  }
}

async function isAnswered (path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => { probe.destroy(); resolve(true) })
    // nothing there, or nobody behind it: both mean free
    probe.once('error', () => { resolve(false) })
  })
}
