/** What a program under test holds after a garbage collection: memory, open files, and what keeps its event loop busy. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { residentMegabytes } from '../support/proc.ts'
import { waitFor } from '../support/wait.ts'

/** What probe-main.ts writes. */
export interface ProbeFigures { count: number, heapBytes: number, externalBytes: number, codeBytes: number, resources: Record<string, number> }

/** One look at one process. */
export interface Sample {
  /** Since the beginning of the run. */
  atMs: number
  /** heapUsed + external, which holds the array buffers. */
  memoryBytes: number
  /** Of these, what is compiled code. */
  codeBytes: number
  residentBytes: number
  openFiles: number
  /** Handles and requests of the event loop. */
  handles: number
  resources: Record<string, number>
}

const DEADLINE_MS = 60_000
/** The lowest of so many looks counts: what happens to be under way is no growth. */
const LOOKS = 3
const BETWEEN_LOOKS_MS = 400

/** Node arguments that make a program answer {@link takeSample} with the same `file`. */
export function probeArguments (file: string): string[] {
  const url = pathToFileURL(join(import.meta.dirname, 'probe-main.ts'))
  url.searchParams.set('file', file)
  return ['--expose-gc', '--import', url.href]
}

/** Looks at a process some times and gives the look with the least memory. */
export async function takeSample (pid: number, file: string, beganMs: number): Promise<Sample> {
  let least: Sample | undefined
  for (let look = 0; look < LOOKS; look++) {
    if (look > 0) await new Promise((resolve) => { setTimeout(resolve, BETWEEN_LOOKS_MS) })
    const { heapBytes, externalBytes, codeBytes, resources } = await figures(pid, file)
    const sample: Sample = {
      atMs: performance.now() - beganMs,
      memoryBytes: heapBytes + externalBytes,
      codeBytes,
      residentBytes: residentMegabytes(pid).now * 1e6,
      openFiles: readdirSync(`/proc/${pid}/fd`).length,
      handles: Object.values(resources).reduce((sum, count) => sum + count, 0),
      resources
    }
    if (least === undefined || sample.memoryBytes < least.memoryBytes) least = sample
  }
  if (least === undefined) throw new Error('no look was taken')
  return least
}

async function figures (pid: number, file: string): Promise<ProbeFigures> {
  const read = (): ProbeFigures | undefined => existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) as ProbeFigures : undefined
  const before = read()?.count ?? 0
  process.kill(pid, 'SIGUSR2')
  return waitFor(`process ${pid} to tell what it holds`, () => {
    const now = read()
    // a process that was started again counts from one
    return now !== undefined && now.count !== before ? now : undefined
  }, { deadlineMs: DEADLINE_MS, intervalMs: 20 })
}
