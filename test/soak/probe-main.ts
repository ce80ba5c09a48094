/**
 * Loaded into a program under test by `--expose-gc --import probe-main.ts?file=FILE`: at each SIGUSR2 it collects garbage
 * and writes what is left to FILE.
 */
import { getHeapSpaceStatistics } from 'node:v8'
import { answerProbes, collectGarbage } from '../support/garbage-probe.ts'
import type { ProbeFigures } from './probe.ts'

const ROUNDS = 5
/** Where V8 keeps byte code and machine code: it grows as long as functions become hot, and is no data. */
const CODE_SPACES = ['code_space', 'code_large_object_space', 'trusted_space', 'trusted_large_object_space']

answerProbes(import.meta.url, async (count): Promise<ProbeFigures> => {
  await collectGarbage(ROUNDS)
  const { heapUsed, external } = process.memoryUsage()
  const codeBytes = getHeapSpaceStatistics().filter(({ space_name: name }) => CODE_SPACES.includes(name)).reduce((sum, { space_used_size: bytes }) => sum + bytes, 0)
  const resources: Record<string, number> = {}
  for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1
  return { count, heapBytes: heapUsed, externalBytes: external, codeBytes, resources }
})
