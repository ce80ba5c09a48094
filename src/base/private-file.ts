/** Files that only their owner may read, written so that a crash leaves the old or the new content. */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { CarrierError } from './errors.ts'

/** Creates `directory` (mode 0700) if missing; one that others may enter is closed to them. */
export async function ensurePrivateDirectory (directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const facts = await stat(directory)
  if (!facts.isDirectory()) throw new CarrierError('ERR_INVALID_ARGUMENT', `${directory} is not a directory`)
  if ((facts.mode & 0o077) !== 0) await chmod(directory, 0o700)
}

/** Writes `content` to `path` with mode 0600: temporary file, fsync, rename, fsync of the directory. */
export async function writePrivateFile (path: string, content: Uint8Array | string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } catch (err) {
    await rm(temporary, { force: true })
    throw err
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}

/** Reads a file; undefined when it does not exist. */
export async function readFileIfExists (path: string): Promise<Uint8Array | undefined> {
  try {
    return new Uint8Array(await readFile(path))
  } catch (err) {
    if (err instanceof Error && 'code' in err && err.code === 'ENOENT') return undefined
    throw err
  }
}

/** Removes temporary files that a crash left in `directory`. */
export async function removeStaleTemporaries (directory: string, names: readonly string[]): Promise<void> {
  const stale = names.filter((name) => /\.[0-9a-f]{12}\.tmp$/.test(name))
  for (const name of stale) await rm(join(directory, name), { force: true })
}

async function syncDirectory (directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
