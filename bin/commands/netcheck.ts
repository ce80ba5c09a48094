/** `carrier netcheck`: what kind of network this is, and what follows from it. */
import type { Command } from 'commander'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { formatMs, safeText } from '../output.ts'

const NAT = {
  none: 'none: this machine has a public address',
  independent: 'one port for all destinations: friends can punch through',
  dependent: 'another port for every destination: nobody can punch through',
  unknown: 'unknown'
} as const

/** Adds the command. */
export function addNetcheckCommand (program: Command): void {
  program.command('netcheck').description('what kind of network this is: router, addresses, relays')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const report = await context.client.call('node.netcheck', {})
      context.print('netcheck', report, describe(report))
    })
}

function describe (report: MethodOutput<'node.netcheck'>): string {
  const lines = [
    `router:  ${NAT[report.nat]}${report.reason === undefined ? '' : ` (${safeText(report.reason)})`}`,
    `seen as: ${report.seenAs.length === 0 ? 'nobody said' : report.seenAs.map((one) => safeText(one)).join(', ')}`,
    `IPv4 ${report.hasIpv4 ? 'yes' : 'no'}, IPv6 ${report.hasIpv6 ? 'yes' : 'no'}, listening on ${report.listen.length === 0 ? 'nothing' : report.listen.map((one) => safeText(one)).join(', ')}`,
    ...report.relays.map((relay) => `relay ${relay.state}${relay.rttMs === undefined ? '' : ` ${formatMs(relay.rttMs)}`}${relay.loadPermille === undefined ? '' : `, ${Math.round(relay.loadPermille / 10)} % full`}: ${safeText(relay.address)}${relay.reason === undefined ? '' : ` (${safeText(relay.reason)})`}`),
    ...report.advice.length === 0 ? [] : ['what would help:', ...report.advice.map((advice) => `  ${safeText(advice)}`)]
  ]
  return lines.join('\n')
}
