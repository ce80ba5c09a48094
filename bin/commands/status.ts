/** `carrier status`: everything at a glance, nothing nicer than it is. */
import type { Command } from 'commander'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { count, formatDuration, formatMs, safeText, shortDid, table } from '../output.ts'

type Status = MethodOutput<'daemon.status'>

/** Adds the command. */
export function addStatusCommand (program: Command): void {
  program.command('status').description('show this node, its relays, friends, services and forwards')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const status = await context.client.call('daemon.status', {})
      context.print('status', status, describe(status, Date.now()))
    })
}

function describe (status: Status, nowMs: number): string {
  const labels = new Map(status.friends.map(({ did, label }) => [did, label]))
  const parts = [
    `${status.did}\nup for ${formatDuration(status.uptimeMs)}, version ${status.version}, listening on ${status.listen.length === 0 ? 'nothing' : status.listen.join(', ')}`,
    section('Relays', status.relays.length === 0
      ? 'none'
      : table(['STATE', 'ROUND TRIP', 'LOAD', 'ADDRESS', ''],
        status.relays.map(({ state, rttMs, loadPermille, address, reason }) => [state, rttMs === undefined ? '-' : formatMs(rttMs), loadPermille === undefined ? '-' : `${Math.round(loadPermille / 10)} %`, address, reason ?? '']))),
    section('Friends', status.friends.length === 0
      ? 'none; ask someone: carrier friend add ADDRESS'
      : table(['LABEL', 'PRESENCE', 'PATH', 'LINK', 'ROUND TRIP', 'LAST SEEN', 'DID'],
        status.friends.map((friend) => [friend.label, friend.presence, friend.path ?? '-', friend.link ?? '-', friend.rttMs === undefined ? '-' : formatMs(friend.rttMs), describeLastSeen(friend, nowMs), friend.did]))),
    section('Services', status.services.length === 0 ? 'none; offer one: carrier serve NAME TARGET' : describeServices(status.services, labels)),
    section('Forwards', status.forwards.length === 0 ? 'none; open one: carrier forward PORT WHO/SERVICE' : describeForwards(status.forwards))
  ]
  if (status.requestCount > 0) parts.push(`${count(status.requestCount, 'friend request')} waiting, see: carrier friend requests`)
  if (status.problems.length > 0) parts.push(section('Problems', status.problems.map((text) => `- ${safeText(text)}`).join('\n')))
  return parts.join('\n\n')
}

/** Services as a table; DIDs of friends are shown by their labels. */
export function describeServices (services: Status['services'], labels: ReadonlyMap<string, string>): string {
  return table(['NAME', 'TARGET', 'ALLOWED', 'CONNECTIONS', 'FROM'], services.map((service) => [
    service.name,
    service.target,
    service.allow.length === 0 ? 'nobody yet' : service.allow.map((did) => labels.get(did) ?? shortDid(did)).join(', '),
    String(service.connections),
    service.source === 'config' ? 'carrier.toml' : 'command'
  ]))
}

/** Forwards as a table. */
export function describeForwards (forwards: Status['forwards']): string {
  return table(['LISTEN', 'TO', 'STATE', 'PATH', 'CONNECTIONS', ''], forwards.map((forward) => [
    forward.listen,
    forward.to,
    forward.state,
    forward.path ?? '-',
    String(forward.connections),
    [forward.reason, forward.once ? 'until the daemon stops' : undefined].filter((text) => text !== undefined).join('; ')
  ]))
}

/** When a friend was last there. */
export function describeLastSeen (friend: { presence: string, lastSeenAt?: number | undefined }, nowMs: number): string {
  if (friend.presence === 'online') return 'now'
  return friend.lastSeenAt === undefined ? 'never' : `${formatDuration(Math.max(0, nowMs - friend.lastSeenAt))} ago`
}

function section (title: string, body: string): string {
  return `${title}\n${body.split('\n').map((row) => `  ${row}`).join('\n')}`
}
