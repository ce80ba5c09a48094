/** `carrier address …`: the addresses that were handed out, each of which can be revoked alone. */
import type { Command } from 'commander'
import { openContext } from '../context.ts'
import { table } from '../output.ts'

/** Adds the commands. */
export function addAddressCommands (program: Command): void {
  const address = program.command('address').description('addresses to give to future friends')

  address.command('new').argument('[name]', 'how you call it, to revoke it later').description('make another address')
    .action(async (name: string | undefined, _options: unknown, command: Command) => {
      const context = openContext(command)
      const made = await context.client.call('address.new', name === undefined ? {} : { name })
      context.print('address new', made, made.address)
    })

  address.command('list').description('addresses handed out so far')
    .action(async (_options: unknown, command: Command) => {
      const context = openContext(command)
      const { addresses } = await context.client.call('address.list', {})
      context.print('address list', addresses, table(['LABEL', 'STATE', 'MADE', 'ADDRESS'], addresses.map((item) => [
        item.label, item.revokedAt === undefined ? 'valid' : 'revoked', new Date(item.createdAt).toISOString().slice(0, 10), item.address
      ])))
    })

  address.command('revoke').argument('<label>').description('stop accepting requests sent to an address; friends stay friends')
    .action(async (label: string, _options: unknown, command: Command) => {
      const context = openContext(command)
      const revoked = await context.client.call('address.revoke', { label })
      context.print('address revoke', revoked, `the address ${revoked.label} is revoked: nobody can send requests to it any more`)
    })
}
