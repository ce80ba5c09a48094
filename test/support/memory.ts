/** Memory of programs under test after a garbage collection, by memory-probe-main.ts. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { PATIENCE_MS, waitFor } from './wait.ts'

/** What is in use after a collection, bytes. */
export interface MemoryFigures { count: number, heapUsed: number, arrayBuffers: number }

/** Node arguments that make a program answer {@link readMemory} with the same `file`. */
export function memoryArguments (file: string): string[] {
  const url = pathToFileURL(join(import.meta.dirname, 'memory-probe-main.ts'))
  url.searchParams.set('file', file)
  return ['--expose-gc', '--import', url.href]
}

/** Collects garbage in a program and gives heapUsed + arrayBuffers, bytes. */
export async function readMemory (pid: number, file: string): Promise<number> {
  const read = (): MemoryFigures | undefined => existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) as MemoryFigures : undefined
  const before = read()?.count ?? 0
  process.kill(pid, 'SIGUSR2')
  const figures = await waitFor(`the memory of process ${pid}`, () => {
    const now = read()
    return now !== undefined && now.count > before ? now : undefined
  }, { deadlineMs: PATIENCE_MS, intervalMs: 20 })
  return figures.heapUsed + figures.arrayBuffers
}
