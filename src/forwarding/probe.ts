/** The asking side of a probe: proves that a connection to a friend's service would come about. */
import { toCarrierError } from '../base/index.ts'
import type { Session } from '../session/index.ts'
import { CHANNEL_KIND, encodeTcpOpening } from './wire.ts'

/**
 * Resolves when the friend let us, its target answered, and the channel ended cleanly.
 *
 * @throws CarrierError with the code of the refusal, ERR_LINK_LOST, or the signal's reason
 */
export async function probeService (session: Session, service: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const channel = session.openChannel(CHANNEL_KIND.tcp, encodeTcpOpening({ service, probe: true }))
  const onAbort = (): void => { channel.destroy(toCarrierError(signal.reason, 'ERR_CANCELLED', 'the probe was cancelled')) }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await new Promise<void>((resolve, reject) => {
      channel.once('end', resolve)
      channel.on('error', (err: unknown) => { reject(toCarrierError(err, 'ERR_LINK_LOST')) })
      channel.once('close', () => { reject(toCarrierError(channel.errored ?? undefined, 'ERR_LINK_LOST', 'the probe got no answer')) })
      // a probe carries no bytes; what a careless friend sends is dropped
      channel.resume()
      channel.end()
    })
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
