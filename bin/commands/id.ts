/** `carrier id`: who this device is, and the address to give away. Works without a daemon once an identity exists. */
import type { Command } from 'commander'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { CarrierError, errorCode } from '../../src/control/client/index.ts'
import type { CommandContext } from '../context.ts'
import { openContext } from '../context.ts'

type Id = MethodOutput<'identity.show'>

/** Adds the command. */
export function addIdCommand (program: Command): void {
  program.command('id').description('show your DID and the address to give to friends')
    .option('--qr', 'also show the address as a QR code')
    .action(async (options: { qr?: true }, command: Command) => {
      const context = openContext(command)
      const id = await readId(context)
      const text = [`did      ${id.did}`, `peer id  ${id.peerId}`, `address  ${id.address ?? 'none: all are revoked; make one: carrier address new'}`]
      context.print('id', id, text.join('\n'))
      if (options.qr !== true || context.isJson) return
      if (id.address === undefined) throw new CarrierError('ERR_NOT_FOUND', 'there is no address to show: all are revoked; make one: carrier address new')
      const { toString: toQr } = await import('qrcode')
      process.stdout.write(`\n${await toQr(id.address.toUpperCase(), { type: 'utf8', errorCorrectionLevel: 'M' })}\n`)
    })
}

async function readId (context: CommandContext): Promise<Id> {
  try {
    return await context.client.call('identity.show', {})
  } catch (err) {
    if (errorCode(err) !== 'ERR_NOT_RUNNING') throw err
    const { readStoredId } = await import('../stored-id.ts')
    const id = await readStoredId(context.dataDirectory)
    if (id === undefined) throw err
    return id
  }
}
