/** `carrier doctor`: looks at everything that Carrier stands on, with or without a daemon, and says what to do. */
import type { Command } from 'commander'
import { startDeadline, systemClock } from '../../src/base/light.ts'
import { CarrierError, errorCode } from '../../src/control/client/index.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { VERSION } from '../../src/version.ts'
import type { CommandContext } from '../context.ts'
import { openContext } from '../context.ts'
import { count, table } from '../output.ts'
import { configFileOf } from './up.ts'

type Check = MethodOutput<'node.doctor'>['checks'][number]

/** How long the daemon may take to answer at all, and to look at everything; each of its checks has a deadline of its own. */
const ANSWER_MS = 8_000
const EXAMINE_MS = 13_000

/** Adds the command. */
export function addDoctorCommand (program: Command): void {
  program.command('doctor').description('look at everything that Carrier stands on and say what to do, also without a daemon')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const checks = await examine(context)
      const result = (['fail', 'warn'] as const).find((one) => checks.some((check) => check.result === one)) ?? 'ok'
      context.print('doctor', { result, checks }, describe(checks))
      if (result === 'fail') context.setExitCode(1)
    })
}

async function examine (context: CommandContext): Promise<Check[]> {
  try {
    const info = await within(ANSWER_MS, async (signal) => context.client.call('daemon.info', {}, { signal }))
    const { checks } = await within(EXAMINE_MS, async (signal) => context.client.call('node.doctor', {}, { signal }))
    return [judgeDaemon(info, context.dataDirectoryFlag), ...checks]
  } catch (err) {
    const failure = err instanceof CarrierError ? err : new CarrierError('ERR_INTERNAL', String(err), { cause: err })
    // loads the engine's judgement of keys, settings and addresses: only where no daemon can be asked
    const { examineAlone } = await import('../doctor-alone.ts')
    const { dataDirectory, dataDirectoryFlag, environment } = context
    return examineAlone({ dataDirectory, dataDirectoryFlag, environment, configFile: configFileOf(context, {}), failure: { code: errorCode(failure), message: failure.message } })
  }
}

async function within<T> (waitMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  using deadline = startDeadline(systemClock, waitMs, `the daemon did not answer within ${waitMs / 1000} s`)
  return await work(deadline.signal)
}

function judgeDaemon (info: MethodOutput<'daemon.info'>, flag: string): Check {
  const text = `process ${info.pid} answers, version ${info.version}`
  if (info.version === VERSION) return { name: 'daemon', result: 'ok', text }
  return { name: 'daemon', result: 'warn', text: `${text}; this command has version ${VERSION}`, advice: `start the newer one: carrier down${flag}, then carrier up${flag}` }
}

function describe (checks: readonly Check[]): string {
  const rows = checks.flatMap(({ name, subject, result, text, advice }) => {
    const [first = '', ...others] = `${subject === undefined ? '' : `${subject}: `}${text}`.split('\n')
    return [[result, name, first], ...others.map((line) => ['', '', line]), ...advice === undefined ? [] : [['', '', `→ ${advice}`]]]
  })
  const [fails, warnings] = (['fail', 'warn'] as const).map((result) => checks.filter((check) => check.result === result).length)
  const end = fails === 0 && warnings === 0 ? 'all is well' : `${count(fails ?? 0, 'failure')}, ${count(warnings ?? 0, 'warning')}`
  return `${table(['RESULT', 'CHECK', 'WHAT'], rows)}\n${count(checks.length, 'check')}: ${end}`
}
