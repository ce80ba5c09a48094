/** `carrier trace WHO/SERVICE`: the steps of a connection, each with its time, and where the time goes. */
import type { Command } from 'commander'
import { ERRORS, isErrorCode } from '../../src/control/client/index.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { formatDuration, formatMs, safeText, table } from '../output.ts'

/** From here on milliseconds are noise. */
const LONG_MS = 10_000

/** Adds the command. */
export function addTraceCommand (program: Command): void {
  program.command('trace').argument('<to>', 'WHO/SERVICE').description('time every step of a connection to a friend\'s service')
    .action(async (to: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const report = await context.client.call('friend.trace', { to })
      context.print('trace', report, describe(report))
      // as the connection itself would end
      if (report.code !== undefined) context.setExitCode(ERRORS[isErrorCode(report.code) ? report.code : 'ERR_INTERNAL'].exit)
    })
}

function describe (report: MethodOutput<'friend.trace'>): string {
  const steps = table(['STEP', 'RESULT', 'TIME', ''], report.steps.map(({ step, result, ms, text }) => [step, result, ms === undefined ? '-' : ms < LONG_MS ? formatMs(ms) : formatDuration(ms), text]))
  const advice = report.advice.length === 0 ? [] : ['what would help:', ...report.advice.map((line) => `  ${safeText(line)}`)]
  return [steps, safeText(report.summary), ...advice].join('\n')
}
