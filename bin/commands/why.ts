/** `carrier why WHO[/SERVICE]`: which way bytes take to a friend, why not a better one, and what would help. */
import type { Command } from 'commander'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { formatMs, safeText } from '../output.ts'

const WAYS = { dial: 'to dial the other side', punch: 'to punch through the routers', splice: 'to splice at the relay' } as const

/** Adds the command. */
export function addWhyCommand (program: Command): void {
  program.command('why').argument('<to>', 'WHO or WHO/SERVICE').description('explain the path to a friend: which, why not a better one, what would help')
    .action(async (to: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const report = await context.client.call('friend.why', { to })
      context.print('why', report, describe(report))
    })
}

function describe (report: MethodOutput<'friend.why'>): string {
  const lines = [report.presence === 'online' ? onlineLine(report) : `${safeText(report.label)} is offline: ${safeText(report.offlineReason ?? '')}`]
  if (report.presence === 'online' && report.reasons.length === 0) lines.push('  nothing better is possible: bytes go straight to the other side')
  for (const { way, text, nextTryMs } of report.reasons) {
    const next = nextTryMs === undefined ? '' : `; next try in ${Math.ceil(nextTryMs / 1000)} s`
    lines.push(`  ${WAYS[way]}: ${safeText(text)}${next}`)
  }
  if (report.service !== undefined) lines.push(`  the service "${safeText(report.service.name)}": ${report.service.isOffered ? 'you may dial it' : 'not offered to you, or not there'}`)
  if (report.advice.length > 0) lines.push('what would help:', ...report.advice.map((advice) => `  ${safeText(advice)}`))
  return lines.join('\n')
}

function onlineLine (report: MethodOutput<'friend.why'>): string {
  const relay = report.relayPeerId === undefined ? '' : ` through ${report.isRelayListed === false ? `a relay that only ${safeText(report.label)} lists, ` : ''}${safeText(report.relayPeerId)}`
  const time = report.rttMs === undefined ? '' : `, ${formatMs(report.rttMs)}`
  return `${safeText(report.label)}: ${report.path ?? ''}${relay}, link: ${safeText(report.link ?? '')}${time}`
}
