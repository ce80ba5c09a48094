/** Whether carrier.toml, as it lies there now, could be started from: for `doctor`. */
import { readFile, stat } from 'node:fs/promises'
import type { DoctorCheck } from '../../carrier-types.ts'
import { errorMessage } from '../../base/index.ts'
import { parseConfig } from './config.ts'

/** `startedAt`: when the daemon read it, epoch milliseconds; undefined when none runs. */
export async function checkConfigFile (path: string | undefined, startedAt?: number): Promise<DoctorCheck> {
  const about = { name: 'config', subject: undefined }
  if (path === undefined) return { ...about, result: 'ok', text: 'no carrier.toml: flags, environment and defaults count', advice: undefined }
  try {
    parseConfig(await readFile(path, 'utf8'), path)
    const { mtimeMs } = await stat(path)
    if (startedAt !== undefined && mtimeMs > startedAt) {
      return { ...about, result: 'warn', text: `${path} was changed after the daemon had read it`, advice: 'what is new counts after: carrier down, then carrier up' }
    }
    return { ...about, result: 'ok', text: `${path} is right`, advice: undefined }
  } catch (err) {
    return { ...about, result: 'fail', text: errorMessage(err), advice: 'correct it: the daemon does not start from a file that it does not understand' }
  }
}
