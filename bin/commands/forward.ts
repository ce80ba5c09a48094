/** `carrier forward …`: local ports that lead to friends' services. */
import { isIPv6 } from 'node:net'
import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { ERRORS } from '../../src/control/client/index.ts'
import type { ErrorCode } from '../../src/control/client/index.ts'
import { openContext } from '../context.ts'
import { formatDuration } from '../output.ts'
import { describeForwards } from './status.ts'

type Forward = MethodOutput<'forward.open'>

/** What a forward that stands but does not work yet means for the exit code. */
const UNREADY: Record<Exclude<Forward['state'], 'active'>, ErrorCode> = {
  connecting: 'ERR_TIMEOUT',
  offline: 'ERR_PEER_OFFLINE',
  refused: 'ERR_NOT_AVAILABLE',
  'target-down': 'ERR_TARGET_UNREACHABLE',
  error: 'ERR_PORT_IN_USE'
}

/** Adds the commands. */
export function addForwardCommands (program: Command): void {
  const forward = program.command('forward').description('open a local port to a friend\'s service, or list and close such ports')
    .usage('[options] [BIND:]PORT WHO/SERVICE')
    .argument('<[bind:]port>', 'where to listen; 0 picks a port, without BIND only this machine can connect', parseBind)
    .argument('<who/service>', 'a friend and what they offer you, for example office/postgres')
    .option('--once', 'forget it when the daemon stops')
    .action(async (bind: Bind, to: string, options: { once?: true }, command: Command) => {
      const context = openContext(command)
      const startedAtMs = performance.now()
      const opened = await context.client.call('forward.open', { ...bind, to, ...options })
      const elapsed = formatDuration(performance.now() - startedAtMs)
      if (opened.state === 'active') {
        context.print('forward', opened, `${opened.listen} → ${opened.to}   ready in ${elapsed}, path: ${opened.path ?? 'unknown'}`)
        return
      }
      context.print('forward', opened, `${opened.listen} → ${opened.to}   ${opened.state}`)
      context.note(explain(opened))
      context.setExitCode(ERRORS[UNREADY[opened.state]].exit)
    })

  forward.command('list').description('forwards and their health')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const { forwards } = await context.client.call('forward.list', {})
      context.print('forward list', forwards, forwards.length === 0 ? 'no forwards; open one: carrier forward PORT WHO/SERVICE' : describeForwards(forwards))
    })

  forward.command('close').argument('<port>', 'the local port', parsePort).description('close a forward')
    .action(async (port: number, _options: unknown, command: Command) => {
      const context = openContext(command)
      const closed = await context.client.call('forward.close', { port })
      context.print('forward close', closed, `${closed.listen} → ${closed.to}   closed`)
    })
}

function explain (forward: Forward): string {
  const who = forward.to.slice(0, forward.to.lastIndexOf('/'))
  const reason = forward.reason === undefined ? '' : ` (${forward.reason})`
  switch (forward.state) {
    case 'offline': return `${who} is offline${reason}: the forward stays configured and works when ${who} is back`
    case 'target-down': return `${who} answers, but the service behind ${forward.to} does not${reason}: the forward stays configured and works when it is back`
    case 'refused': return `${forward.to} is not offered to you, or not there${reason}: ask ${who} to run "carrier grant"`
    case 'error': return `cannot listen on ${forward.listen}${reason}`
    case 'connecting': return `no answer from ${who} yet${reason}: the forward stays configured, see: carrier forward list`
    case 'active': return ''
  }
}

interface Bind { host?: string, port: number }

function parseBind (text: string): Bind {
  const colon = text.lastIndexOf(':')
  const port = Number(text.slice(colon + 1))
  const rawHost = colon === -1 ? undefined : text.slice(0, colon)
  const host = rawHost?.startsWith('[') === true && rawHost.endsWith(']') ? rawHost.slice(1, -1) : rawHost
  if (!/^\d{1,5}$/.test(text.slice(colon + 1)) || port > 65_535 || host === '') throw new InvalidArgumentError('it must be PORT (0 to 65535) or BIND:PORT, for example 5433 or 127.0.0.1:5433')
  if (rawHost === host && host !== undefined && isIPv6(host)) throw new InvalidArgumentError(`an IPv6 address needs brackets: [${host}]:${port}`)
  return { port, ...(host === undefined ? {} : { host }) }
}

function parsePort (text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > 65_535) throw new InvalidArgumentError('it must be a port from 1 to 65535; see: carrier forward list')
  return Number(text)
}
