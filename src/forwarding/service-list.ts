/** Channel kind `services`: which names may I dial? Both sides. */
import { CarrierError, createFrameReader, encodeFrame, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Friends } from '../friends/index.ts'
import type { ChannelHandler, Session } from '../session/index.ts'
import type { ForwardingMetrics } from './metrics.ts'
import { judgeAccess } from './policy.ts'
import type { ServiceRegistry } from './service-registry.ts'
import { CHANNEL_KIND, checkServicesOpening, decodeServicesAnswer, encodeServicesAnswer, encodeServicesOpening } from './wire.ts'

/** Answers a friend with the names that this friend may dial, and nothing else (I3). */
export function createServiceListHandler (components: { registry: Pick<ServiceRegistry, 'list'>, friends: Pick<Friends, 'ownerOf'>, metrics: ForwardingMetrics }): ChannelHandler {
  const { registry, friends, metrics } = components
  // not async in itself, but a rejection is how a handler refuses
  return async (request) => {
    try {
      checkServicesOpening(request.message)
    } catch (err) {
      metrics.serviceLists.add(1, { result: 'malformed' })
      request.refuse(toCarrierError(err))
      return
    }
    const owner = friends.ownerOf(request.peer.device)
    const names = registry.list().filter((service) => judgeAccess({ owner, allow: service.allow }).allow).map((service) => service.name)
    metrics.serviceLists.add(1, { result: 'answered' })
    const channel = request.accept()
    // whoever asked and went away needs no answer
    channel.on('error', () => {})
    channel.resume()
    channel.end(encodeFrame(encodeServicesAnswer(names)))
  }
}

/**
 * Asks the other side of `session` what we may dial.
 *
 * @throws CarrierError ERR_TIMEOUT, ERR_PROTOCOL, ERR_LINK_LOST, ERR_CANCELLED
 */
export async function requestServiceList (session: Session, clock: Clock, signal?: AbortSignal): Promise<string[]> {
  using deadline = startDeadline(clock, LIMITS.serviceListTimeoutMs, 'the friend did not say in time what it offers; try again', signal)
  const channel = session.openChannel(CHANNEL_KIND.services, encodeServicesOpening())
  const onAbort = (): void => { channel.destroy(toCarrierError(deadline.signal.reason, 'ERR_CANCELLED', 'the question was cancelled')) }
  deadline.signal.addEventListener('abort', onAbort, { once: true })
  // the reader below reports it
  channel.on('error', () => {})
  try {
    channel.end()
    const answer = await createFrameReader(channel).read(LIMITS.friendFrameBytes)
    if (answer === undefined) throw new CarrierError('ERR_PROTOCOL', 'the friend gave no answer about its services')
    return decodeServicesAnswer(answer)
  } catch (err) {
    throw toCarrierError(err, 'ERR_LINK_LOST')
  } finally {
    deadline.signal.removeEventListener('abort', onAbort)
    channel.destroy()
  }
}
