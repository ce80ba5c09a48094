/** One process per data directory: an exclusive SQLite transaction that the kernel frees when the process dies, however it dies. */
import { chmodSync } from 'node:fs'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { isDatabaseBusy } from './database.ts'
import { CarrierError, errorMessage } from './errors.ts'

/** A held lock; `release` is idempotent. */
export interface StateLock { release: () => void }

/**
 * Takes the single-writer lock of `directory`.
 *
 * @throws CarrierError ERR_ALREADY_RUNNING when another process holds it, ERR_DATABASE when it cannot be taken for another reason
 */
export function acquireStateLock (directory: string): StateLock {
  const path = join(directory, 'lock.db')
  const pidPath = join(directory, 'lock.pid')
  let handle: DatabaseSync | undefined
  try {
    handle = new DatabaseSync(path, { timeout: 0 })
    chmodSync(path, 0o600)
    handle.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;')
    writeFileSync(pidPath, `${process.pid}\n`, { mode: 0o600 })
  } catch (err) {
    handle?.close()
    if (!isDatabaseBusy(err)) {
      throw new CarrierError('ERR_DATABASE', `the data directory ${directory} cannot be locked (${errorMessage(err)}); check that it exists, belongs to you and that the disk has room`, { cause: err })
    }
    const pid = readPid(pidPath)
    throw new CarrierError('ERR_ALREADY_RUNNING',
      `another process${pid === undefined ? '' : ` (pid ${pid})`} uses the data directory ${directory}; stop it ("carrier down", or SIGTERM for carrier-bootstrap), or use another --data-dir`, { cause: err })
  }
  const held = handle
  let isHeld = true
  return {
    release: () => {
      if (!isHeld) return
      isHeld = false
      held.close()
    }
  }
}

function readPid (path: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(path, 'utf8'), 10)
    return Number.isInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    // no pid file: the message goes without it
    return undefined
  }
}
