/** `carrier friend …`: the friend list and its requests. */
import type { Command } from 'commander'
import { openContext } from '../context.ts'
import { formatDuration, table } from '../output.ts'
import { describeLastSeen } from './status.ts'

/** Adds the commands. */
export function addFriendCommands (program: Command): void {
  const friend = program.command('friend').description('friends and friend requests')

  friend.command('add').argument('<address>', 'the address they gave you (cr1…)').description('send a friend request; delivered when they are reachable')
    .option('--hello <text>', 'who you are, for them to read (at most 256 bytes)')
    .option('--label <name>', 'your private name for them')
    .action(async (address: string, options: { hello?: string, label?: string }, command: Command) => {
      const context = openContext(command)
      const { did } = await context.client.call('friend.add', { address, ...options })
      context.print('friend add', { did }, `${did}\nThe request is stored and is delivered when they are reachable. They accept it with: carrier friend accept WHO`)
    })

  friend.command('list').description('friends, and those you asked')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const { friends } = await context.client.call('friend.list', {})
      const nowMs = Date.now()
      const rows = friends.map((item) => [item.label, item.presence, item.path ?? '-', describeLastSeen(item, nowMs), item.did])
      context.print('friend list', friends, rows.length === 0 ? 'no friends yet; ask someone: carrier friend add ADDRESS' : table(['LABEL', 'PRESENCE', 'PATH', 'LAST SEEN', 'DID'], rows))
    })

  friend.command('requests').description('requests that wait for your answer')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const { requests } = await context.client.call('friend.requests', {})
      const nowMs = Date.now()
      const rows = requests.map((item) => [item.name, item.state, `${formatDuration(Math.max(0, nowMs - item.receivedAt))} ago`, item.hello, item.did])
      context.print('friend requests', requests, rows.length === 0 ? 'no requests' : `${table(['WHO', 'STATE', 'RECEIVED', 'HELLO', 'DID'], rows)}\nanswer with: carrier friend accept WHO, reject WHO, ignore WHO or block WHO`)
    })

  friend.command('accept').argument('<who>', 'the request: its name in "carrier friend requests", or its DID').description('accept a request')
    .option('--label <name>', 'your private name for them')
    .action(async (who: string, options: { label?: string }, command: Command) => {
      const context = openContext(command)
      const accepted = await context.client.call('friend.accept', { who, ...options })
      const hint = options.label === undefined ? `\nGive them a name of your own: carrier friend label ${accepted.label} NAME` : ''
      context.print('friend accept', accepted, `${accepted.label} is a friend now (${accepted.did})${hint}`)
    })

  friend.command('label').alias('rename').argument('<who>').argument('<name>').description('set your private name for a friend')
    .action(async (who: string, label: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const labelled = await context.client.call('friend.label', { who, label })
      context.print('friend label', labelled, `${labelled.did} is called ${labelled.label} now`)
    })

  friend.command('blocked').description('blocked DIDs')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const { blocked } = await context.client.call('friend.blocked', {})
      context.print('friend blocked', blocked, blocked.length === 0 ? 'nobody is blocked' : blocked.join('\n'))
    })

  const verdicts = [
    ['reject', 'decline a request; the sender is told', 'declined'],
    ['ignore', 'hide a request; the sender is not told', 'ignored'],
    ['remove', 'end a friendship, or withdraw your request', 'removed; services and forwards with them have ended'],
    ['block', 'make someone a stranger who cannot even connect', 'blocked'],
    ['unblock', 'take a block back', 'no longer blocked']
  ] as const
  for (const [name, about, outcome] of verdicts) {
    friend.command(name).argument('<who>').description(about)
      .action(async (who: string, _options: unknown, command: Command) => {
        const context = openContext(command)
        const answer = await context.client.call(`friend.${name}`, { who })
        context.print(`friend ${name}`, answer, `${answer.did}: ${outcome}`)
      })
  }
}
