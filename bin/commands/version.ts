/** `carrier version`. */
import type { Command } from 'commander'
import { VERSION } from '../../src/version.ts'
import { openContext } from '../context.ts'

/** Adds the command. */
export function addVersionCommand (program: Command): void {
  program.command('version').description('print the version of this program')
    .action((_options: unknown, command: Command) => {
      openContext(command).print('version', { version: VERSION }, VERSION)
    })
}
