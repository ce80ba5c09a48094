/** What `doctor` can see of a machine and a data directory without an engine: files, disk, memory, limits. Changes nothing that stays. */
import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { open, readdir, readFile, rm, stat, statfs } from 'node:fs/promises'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { errorMessage, isDatabaseBusy, LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { KEY_FILE_NAME, loadPublicIdentity } from '../identity/index.ts'
import type { DoctorCheck } from '../carrier-types.ts'
import { formatBytes, judgeDirectory, judgeDisk, judgeMemory, judgeOpenFiles, judgeRoutes, judgeRuntime, toCheck } from './doctor-words.ts'
import type { DirectoryFacts, Finding } from './doctor-words.ts'

/** Databases of a data directory, as people call them. */
const DATABASES = { 'state.db': 'state', 'audit.db': 'audit' } as const

/** Files that are not Carrier's to close. */
const OWNERS_FILES = ['carrier.toml']

/** Node, memory, open files, routes: this process and its machine. */
export async function checkMachine (): Promise<DoctorCheck[]> {
  return [
    toCheck('runtime', judgeRuntime(process)),
    toCheck('memory', judgeMemory({ availableBytes: process.availableMemory(), residentBytes: process.memoryUsage.rss() })),
    toCheck('open files', judgeOpenFiles(await readOpenFiles())),
    toCheck('routes', judgeRoutes({ ipv4: await routeFrom('udp4', '192.0.2.1'), ipv6: await routeFrom('udp6', '2001:db8::1') }))
  ]
}

/**
 * The directory, its disk, its identity and its databases.
 *
 * @param isRunning this process serves from it: reading large databases through would hold it up
 */
export async function checkDataDirectory (path: string, clock: Clock, isRunning = false): Promise<DoctorCheck[]> {
  const facts = await readDirectory(path)
  const checks = [toCheck('data directory', judgeDirectory(facts))]
  if (facts.kind !== 'directory') return checks
  const names = await readdir(path)
  if (names.length > 0 && !names.some((name) => name === KEY_FILE_NAME || name === 'lock.db' || OWNERS_FILES.includes(name))) {
    return [toCheck('data directory', { result: 'fail', text: `${path} holds other files and no Carrier data`, advice: 'give Carrier a directory of its own with --data-dir' })]
  }
  checks.push(toCheck('disk', judgeDisk(await tryDisk(path, clock))), toCheck('identity', await findIdentity(path)))
  for (const [file, name] of Object.entries(DATABASES)) checks.push(toCheck(name, inspectDatabase(join(path, file), isRunning)))
  return checks
}

/** Whether a process holds the data directory: asks for a reader's place in the lock, and gives it back at once. */
export function isDirectoryLocked (path: string): boolean {
  const file = join(path, 'lock.db')
  if (!existsSync(file)) return false
  const handle = new DatabaseSync(file, { readOnly: true, timeout: 0 })
  try {
    handle.prepare('SELECT count(*) FROM sqlite_schema').get()
    return false
  } catch (err) {
    if (isDatabaseBusy(err)) return true
    throw err
  } finally {
    handle.close()
  }
}

/** Whether the audit log takes an entry, for the process that has it open: another program may hold it, or the file may be read-only. */
export function checkAuditWritable (path: string): Finding {
  const file = join(path, 'audit.db')
  let handle: DatabaseSync | undefined
  try {
    // SQLite would make an empty one
    statSync(file)
    handle = new DatabaseSync(file, { timeout: 0 })
    handle.exec('BEGIN IMMEDIATE; ROLLBACK')
    return { result: 'ok', text: 'it takes entries' }
  } catch (err) {
    return { result: 'fail', text: `it takes no entries: ${errorMessage(err)}; what cannot be recorded is not served`, advice: `see which program holds ${file}, and whether this account may write to it` }
  } finally {
    handle?.close()
  }
}

async function readDirectory (path: string): Promise<DirectoryFacts> {
  const nothing = { path, reason: undefined, mode: 0, isOwn: false, openFiles: [] }
  try {
    const facts = await stat(path)
    if (!facts.isDirectory()) return { ...nothing, kind: 'other' }
    const openFiles = (await readdir(path)).filter((name) => !OWNERS_FILES.includes(name) && isOpenToOthers(join(path, name)))
    return { ...nothing, kind: 'directory', mode: facts.mode, isOwn: process.getuid === undefined || facts.uid === process.getuid(), openFiles }
  } catch (err) {
    const code = err instanceof Error && 'code' in err ? err.code : undefined
    if (code === 'ENOENT') return { ...nothing, kind: 'missing' }
    if (code === 'ENOTDIR') return { ...nothing, kind: 'other' }
    return { ...nothing, kind: 'unreadable', reason: errorMessage(err) }
  }
}

function isOpenToOthers (path: string): boolean {
  const facts = statSync(path, { throwIfNoEntry: false })
  return facts !== undefined && (facts.isFile() || facts.isSocket()) && (facts.mode & 0o077) !== 0
}

/** Free room, and how long it takes until some bytes are on the disk. A crash leaves a name that the next start removes. */
async function tryDisk (path: string, clock: Clock): Promise<Parameters<typeof judgeDisk>[0]> {
  let freeBytes: number | undefined
  try {
    const { bavail, bsize } = await statfs(path)
    freeBytes = bavail * bsize
  } catch {
    // not every file system says so; the write below tells what matters
  }
  const file = join(path, `doctor.${randomBytes(6).toString('hex')}.tmp`)
  const startedMs = clock.monotonicMs()
  try {
    const handle = await open(file, 'wx', 0o600)
    try {
      await handle.writeFile(randomBytes(4096))
      await handle.sync()
    } finally {
      await handle.close()
    }
    return { freeBytes, writeMs: clock.monotonicMs() - startedMs, reason: undefined }
  } catch (err) {
    return { freeBytes, writeMs: undefined, reason: errorMessage(err) }
  } finally {
    await rm(file, { force: true }).catch(() => { /* the next start removes it */ })
  }
}

async function findIdentity (path: string): Promise<Finding> {
  try {
    const identity = await loadPublicIdentity(path)
    if (identity === undefined) return { result: 'warn', text: 'there is none yet', advice: 'make one with: carrier up' }
    return { result: 'ok', text: `${identity.did}, ${identity.isSealed ? 'sealed with a passphrase' : 'not sealed: whoever gets the file is you'}` }
  } catch (err) {
    return { result: 'fail', text: errorMessage(err), advice: `bring ${join(path, KEY_FILE_NAME)} back from your backup` }
  }
}

/** Reads a database through, up to a size: it must not hold up a daemon. */
function inspectDatabase (path: string, isRunning: boolean): Finding {
  const facts = statSync(path, { throwIfNoEntry: false })
  if (facts === undefined) return { result: 'ok', text: 'there is none yet' }
  const sizeBytes = facts.size + (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0)
  if (isRunning && sizeBytes > LIMITS.doctorRunningDatabaseBytes) return { result: 'ok', text: `${formatBytes(sizeBytes)}, not read through: more than ${formatBytes(LIMITS.doctorRunningDatabaseBytes)} would hold up the daemon; "carrier doctor" does it while the daemon is stopped` }
  if (sizeBytes > LIMITS.doctorDatabaseBytes) return { result: 'ok', text: `${formatBytes(sizeBytes)}, too large to read through now: the next start does that` }
  let handle: DatabaseSync | undefined
  try {
    handle = new DatabaseSync(path, { readOnly: true, timeout: 1_000 })
    const answer = String(Object.values(handle.prepare('PRAGMA quick_check(1)').get() ?? {})[0] ?? 'no answer')
    if (answer === 'ok') return { result: 'ok', text: `${formatBytes(sizeBytes)}, sound` }
    return damaged(path, answer)
  } catch (err) {
    return damaged(path, errorMessage(err))
  } finally {
    handle?.close()
  }
}

function damaged (path: string, reason: string): Finding {
  return { result: 'fail', text: `${path} cannot be used: ${reason.replaceAll(/\s+/g, ' ')}`, advice: 'bring it back from a backup, or move it away to start with an empty one' }
}

/** Linux only: what the kernel allows this process, and what it has open. */
async function readOpenFiles (): Promise<{ limit: number, used: number } | undefined> {
  try {
    const row = /^Max open files\s+(\d+|unlimited)/m.exec(await readFile('/proc/self/limits', 'utf8'))
    const limit = row?.[1] === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(row?.[1])
    return Number.isNaN(limit) ? undefined : { limit, used: (await readdir('/proc/self/fd')).length }
  } catch {
    // another system
    return undefined
  }
}

/** The address from which the kernel would send to `host`, which is one of those that documents use. A connected UDP socket sends nothing. */
export async function routeFrom (type: 'udp4' | 'udp6', host: string): Promise<string | undefined> {
  const socket = createSocket(type)
  try {
    return await new Promise<string | undefined>((resolve) => {
      socket.once('error', () => { resolve(undefined) })
      // a failure comes here too, and the socket then has no address
      socket.connect(9, host, (err?: Error | null) => { resolve(err instanceof Error ? undefined : socket.address().address) })
    })
  } finally {
    socket.close()
  }
}
