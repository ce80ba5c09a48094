/** Processes of the hostile stage: orders as JSON lines on standard input, answered one after the other on standard output. */
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { carrierFreeEnvironment } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { PATIENCE_MS } from '../support/wait.ts'

/** A process that takes orders. */
export interface Worker {
  readonly program: Program
  /** Gives an order and waits for its answer; one order at a time. */
  order: <Answer>(order: object, deadlineMs?: number) => Promise<Answer>
  stop: () => Promise<void>
}

/** Starts `file` of this folder; `isNice` gives it only the processor time that nobody else wants. */
export function startWorker (file: string, args: readonly string[], options: { isNice?: boolean } = {}): Worker {
  const command = [process.execPath, '--conditions=carrier-source', join(import.meta.dirname, file), ...args]
  const [first = '', ...rest] = options.isNice === true ? ['nice', '-n', '19', ...command] : command
  const program = startProgram(first, rest, { env: carrierFreeEnvironment(), name: `${file} ${args[0] ?? ''}` })
  let lineCount = 0
  return {
    program,
    order: async <Answer>(order: object, deadlineMs = PATIENCE_MS) => {
      const line = lineCount++
      program.stdin.write(`${JSON.stringify(order)}\n`)
      return JSON.parse(await program.line(line, deadlineMs)) as Answer
    },
    stop: async () => { await program.stop({ signal: 'SIGKILL' }) }
  }
}

/** The inside of such a process: `answer` gives what is told back. A failure ends the process; so does the end of its standard input. */
export function takeOrders<Order> (answer: (order: Order) => Promise<object>): void {
  let last: Promise<void> = Promise.resolve()
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      last = last.then(async () => { console.log(JSON.stringify(await answer(JSON.parse(line) as Order))) })
      last.catch((err: unknown) => {
        console.error(err)
        process.exit(1)
      })
    })
    .on('close', () => { process.exit(0) })
}
