/**
 * Loaded into a program under test by `--expose-gc --import memory-probe-main.ts?file=FILE`: at each SIGUSR2 it collects garbage
 * and writes what is left to FILE.
 */
import { answerProbes, collectGarbage } from './garbage-probe.ts'

answerProbes(import.meta.url, async (count) => {
  await collectGarbage(3)
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { count, heapUsed, arrayBuffers }
})
