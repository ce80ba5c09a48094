/** `carrier down`: stops the daemon and waits until its process is gone. */
import type { Command } from 'commander'
import { CarrierError } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { waitForProcessEnd } from '../process-end.ts'

/** The daemon itself gives up waiting for its parts earlier (LIMITS.controlStopMs). */
const STOP_WAIT_MS = 15_000

/** Adds the command. */
export function addDownCommand (program: Command): void {
  program.command('down').description('stop the daemon')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const { pid } = await context.client.call('daemon.stop', {})
      if (!await waitForProcessEnd(pid, STOP_WAIT_MS)) {
        throw new CarrierError('ERR_TIMEOUT', `the daemon (pid ${pid}) did not end within ${STOP_WAIT_MS / 1000} s; nothing is lost if you end it with: kill -9 ${pid}`)
      }
      context.print('down', { pid }, 'Carrier stopped')
    })
}
