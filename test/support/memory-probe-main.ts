/**
 * Loaded into a program under test by `--expose-gc --import memory-probe-main.ts?file=FILE`: at each SIGUSR2 it collects garbage
 * and writes what is left to FILE.
 */
import { renameSync, writeFileSync } from 'node:fs'

const file = new URL(import.meta.url).searchParams.get('file')
let count = 0

process.on('SIGUSR2', () => {
  collect().then((figures) => {
    if (file === null) return
    writeFileSync(`${file}.new`, JSON.stringify(figures))
    renameSync(`${file}.new`, file)
  }, (err: unknown) => { console.error(err) })
})

async function collect (): Promise<{ count: number, heapUsed: number, arrayBuffers: number }> {
  // memory of buffers is given back by finalizers, which run after a collection
  for (let round = 0; round < 3; round++) {
    globalThis.gc?.()
    await new Promise<void>((resolve) => { setImmediate(resolve) })
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { count: ++count, heapUsed, arrayBuffers }
}
