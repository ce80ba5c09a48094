/** daemon.log: JSON lines, owner-only, bounded. When it is full it becomes daemon.log.1, whose predecessor goes. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'
import { LIMITS } from '../src/base/light.ts'

/** Name of the log in the data directory. */
export const LOG_FILE_NAME = 'daemon.log'

/** A sink for the logger. Writes are synchronous: the last line before a crash is on disk. */
export interface DaemonLog { write: (line: string) => void, close: () => void }

/** Opens the log for appending. */
export function openDaemonLog (path: string, maxBytes: number = LIMITS.daemonLogBytes): DaemonLog {
  let descriptor = openLogFile(path)
  let sizeBytes = fstatSync(descriptor).size

  return {
    write: (line) => {
      if (sizeBytes > 0 && sizeBytes + Buffer.byteLength(line) > maxBytes) {
        closeSync(descriptor)
        renameSync(path, `${path}.1`)
        descriptor = openLogFile(path)
        sizeBytes = 0
      }
      try {
        sizeBytes += writeSync(descriptor, line)
      } catch (err) {
        // a full disk must not end the daemon: forwarding goes on, the line is lost and stderr says so
        process.stderr.write(`cannot write ${path}: ${err instanceof Error ? err.message : String(err)}\n`)
      }
    },
    close: () => { closeSync(descriptor) }
  }
}

/** Opens a log file for appending, mode 0600. */
export function openLogFile (path: string): number {
  return openSync(path, 'a', 0o600)
}
