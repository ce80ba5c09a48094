/** Temporary directories that go away with the test process. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestExit } from './program.ts'

/** Makes a directory that only we can read; removed when the test process ends, however it ends. */
export function makeTempDirectory (name: string): string {
  const directory = mkdtempSync(join(tmpdir(), `carrier-${name}-`))
  onTestExit(() => { rmSync(directory, { recursive: true, force: true, maxRetries: 3 }) })
  return directory
}
