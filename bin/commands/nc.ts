/** `carrier nc WHO/SERVICE`: stdin and stdout become the two directions of a connection. Made for `ssh -o ProxyCommand`. */
import { close, write } from 'node:fs'
import { Writable } from 'node:stream'
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream/promises'
import { isatty } from 'node:tty'
import type { Command } from 'commander'
import { CarrierError } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'

/** Signals that end us; the far side then sees a reset, never an end. */
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

/** Time until another look at a descriptor that takes nothing now. */
const RETRY_MS = 2

/** Adds the command. */
export function addNcCommand (program: Command): void {
  program.command('nc').argument('<who/service>', 'a friend and what they offer you, for example office/ssh').description('connect stdin and stdout to a friend\'s service')
    .addHelpText('after', '\nWith ssh: ssh -o ProxyCommand="carrier nc %h/ssh" LABEL')
    .action(async (to: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const pipe = await context.client.pipe(to)
      let interruptedBy: number | undefined
      for (const [signal, number] of Object.entries(SIGNALS)) {
        process.once(signal, () => {
          interruptedBy = number
          pipe.destroy(new CarrierError('ERR_CANCELLED', `interrupted by ${signal}`))
        })
      }
      try {
        await join(pipe)
      } catch (err) {
        if (interruptedBy !== undefined) context.setExitCode(128 + interruptedBy)
        // whoever read our stdout has gone, as after `| head`: nobody is left to tell
        else if (isBrokenPipe(err)) context.setExitCode(1)
        else throw err
      } finally {
        process.stdin.destroy()
      }
    })
}

/** Runs until both directions are done. @throws what ended the pipe early; what had arrived before is written first */
async function join (pipe: Duplex): Promise<void> {
  const { stdin } = process
  const output = openStdout()
  stdin.on('error', (err: Error) => { pipe.destroy(err) })
  output.on('error', (err) => { pipe.destroy(err) })
  stdin.pipe(pipe, NO_END)
  stdin.once('end', () => { pipe.end() })
  pipe.pipe(output, NO_END)
  pipe.once('end', () => {
    output.end()
    // somebody at a terminal cannot see that the far side has ended: then we end too. A program gets the time to finish.
    if (isatty(0)) {
      stdin.unpipe(pipe)
      pipe.end()
    }
  })
  try {
    await finished(pipe)
  } finally {
    stdin.unpipe(pipe)
    if (!output.destroyed) {
      output.end()
      await finished(output)
    }
  }
}

/** Ends are passed on by hand: to see to it itself, `pipe` looks at process.stdout, and that look makes the descriptor non-blocking. */
const NO_END = { end: false }

/**
 * process.stdout cannot be closed, but whoever reads it waits for our end. So the descriptor is written and closed, and
 * nothing else: to shut a socket down, or to make a pipe non-blocking, would hit the shell that shares it with us.
 */
function openStdout (): Writable {
  return new Writable({
    write: (chunk: Uint8Array, _encoding, done) => { writeAll(chunk, done) },
    final: (done) => { close(1, done) }
  })
}

function writeAll (bytes: Uint8Array, done: (err?: Error | null) => void): void {
  write(1, bytes, (err, writtenBytes) => {
    // a parent such as npm has made it non-blocking: its reader is slow
    if (err?.code === 'EAGAIN') setTimeout(() => { writeAll(bytes, done) }, RETRY_MS)
    else if (err !== null || writtenBytes === bytes.length) done(err)
    else writeAll(bytes.subarray(writtenBytes), done)
  })
}

function isBrokenPipe (err: unknown): boolean {
  return typeof err === 'object' && err !== null && 'code' in err && err.code === 'EPIPE'
}
