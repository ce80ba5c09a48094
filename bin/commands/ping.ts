/** `carrier ping WHO`: is a friend there, over which path, how far away. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { CarrierError } from '../../src/control/client/index.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { formatMs, safeText } from '../output.ts'

/** Time between two pings. */
const INTERVAL_MS = 200
/** A minute of them. */
const UNTIL_DIRECT_ROUNDS = 300

/** Adds the command. */
export function addPingCommand (program: Command): void {
  program.command('ping').argument('<who>').description('measure the round trip to a friend and show the path')
    .option('--count <n>', 'how often', parseCount, 5)
    .option('--until-direct', 'until bytes go straight to the friend, at most a minute')
    .action(async (who: string, options: { count: number, untilDirect?: true }, command: Command) => {
      const context = openContext(command)
      const rounds = options.untilDirect === true ? UNTIL_DIRECT_ROUNDS : options.count
      const answers: Array<MethodOutput<'friend.ping'>> = []
      let shownWay: string | undefined
      for (let round = 0; round < rounds; round++) {
        if (round > 0) await delay(INTERVAL_MS)
        const answer = await context.client.call('friend.ping', { who })
        answers.push(answer)
        const way = describePath(answer)
        // who waits for a better way wants to see it change, and not three hundred equal lines
        if (!context.isJson && (options.untilDirect !== true || way !== shownWay)) process.stdout.write(`${safeText(answer.label)}: ${formatMs(answer.rttMs)}, ${way}\n`)
        shownWay = way
        if (options.untilDirect === true && answer.link === 'direct') break
      }
      const last = answers.at(-1)
      if (last === undefined) return
      const rttsMs = answers.map(({ rttMs }) => rttMs)
      const median = [...rttsMs].sort((a, b) => a - b)[Math.floor(rttsMs.length / 2)] ?? last.rttMs
      context.print('ping', { ...last, rttMs: median, rttsMs }, '')
      if (options.untilDirect === true && last.link !== 'direct') {
        throw new CarrierError('ERR_TIMEOUT', `bytes to ${last.label} still go through a relay; "carrier why ${last.label}" says why`)
      }
    })
}

function describePath (answer: MethodOutput<'friend.ping'>): string {
  const path = answer.relayPeerId === undefined ? answer.path : `${answer.path} through ${safeText(answer.relayPeerId)}`
  return `${path}, link: ${safeText(answer.link)}`
}

function parseCount (text: string): number {
  const amount = Number(text)
  if (!Number.isInteger(amount) || amount < 1 || amount > 1000) throw new InvalidArgumentError('it must be a number from 1 to 1000')
  return amount
}
