/** The inside of a program that tells what its garbage collection leaves: at each SIGUSR2 it collects and writes figures to a file. */
import { renameSync, writeFileSync } from 'node:fs'

/** Collects so often, for memory of buffers is given back by finalizers, which run after a collection. Needs --expose-gc. */
export async function collectGarbage (rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    globalThis.gc?.()
    await new Promise<void>((resolve) => { setImmediate(resolve) })
  }
}

/** Answers each SIGUSR2 with `measure(count)`, as JSON in the file that `url` names behind `?file=`; a reader never sees half of it. */
export function answerProbes (url: string, measure: (count: number) => Promise<object>): void {
  const file = new URL(url).searchParams.get('file')
  let count = 0
  process.on('SIGUSR2', () => {
    measure(++count).then((figures) => {
      if (file === null) return
      writeFileSync(`${file}.new`, JSON.stringify(figures))
      renameSync(`${file}.new`, file)
    }, (err: unknown) => { console.error(err) })
  })
}
