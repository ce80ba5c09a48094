/** The answering side of /carrier/friend/1.0.0: reads one message, lets it be judged, answers. Nothing that a peer sends makes it throw. */
import type { Clock, CounterMetric, Logger } from '../base/index.ts'
import { CarrierError, createFrameReader, errorCode, errorMessage, LIMITS, sleep, startDeadline, toCarrierError } from '../base/index.ts'
import type { Peer, PeerStream, StreamHandler } from '../node/index.ts'
import { decodeFriendMessage, encodeFriendAnswer } from './messages.ts'
import type { FriendMessage } from './messages.ts'

/** What the handler works with. */
export interface InboundComponents {
  clock: Clock
  log: Logger
  /** Counts messages by kind and result. */
  messages: CounterMetric
  /** Fires when the part stops. */
  signal: AbortSignal
  /** True when the peer is to be answered like any stranger, after a constant time. */
  isStranger: (peer: Peer) => boolean
  /** Applies a message durably and gives the answer. The stream is for knowing when the exchange is over. */
  receive: (peer: Peer, message: FriendMessage, stream: PeerStream) => boolean
}

/** Creates the stream handler. */
export function createInboundHandler (components: InboundComponents): StreamHandler {
  const { clock, log, messages, signal: parent, isStranger, receive } = components

  async function exchange (stream: PeerStream, peer: Peer, signal: AbortSignal): Promise<void> {
    const body = await createFrameReader(stream.source).read(LIMITS.friendMessageBytes)
    if (body === undefined) return
    const receivedAtMs = clock.monotonicMs()
    const wasStranger = isStranger(peer)
    const message = decodeFriendMessage(body)
    const isOk = receive(peer, message, stream)
    messages.add(1, { kind: message.notice.kind, result: isOk ? 'ok' : 'refused' })
    // storing a request takes longer than dropping one: a stranger must not see the difference
    if (wasStranger) await sleep(clock, Math.max(0, receivedAtMs + LIMITS.strangerAnswerMs - clock.monotonicMs()), signal)
    await stream.sink((async function * () { yield encodeFriendAnswer(isOk) })())
  }

  return async (stream, peer) => {
    using deadline = startDeadline(clock, LIMITS.friendExchangeMs, 'the other side did not finish its friend message in time', parent)
    const { signal } = deadline
    const onAbort = (): void => { stream.abort(toCarrierError(signal.reason)) }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      if (signal.aborted) throw new CarrierError('ERR_CLOSED', 'the friend list is stopping')
      await exchange(stream, peer, signal)
    } catch (err) {
      const code = errorCode(err)
      messages.add(1, { kind: 'invalid', result: code })
      if (code === 'ERR_PROTOCOL') log.warn('a malformed friend message was refused', { did: peer.device, reason: errorMessage(err) })
      else if (code === 'ERR_INTERNAL') log.error('a friend message could not be handled', { did: peer.device, err })
      else log.debug('a friend exchange ended early', { did: peer.device, code })
      stream.abort(toCarrierError(err))
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }
}
