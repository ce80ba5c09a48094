/** Splices at listed relays: asks for one, answers offers of others, and connects our leg with the ticket. PROTOCOL.md "Splices". */
import type { Socket } from 'node:net'
import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import { CarrierError, LIMITS, codeFromWire, errorCode, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, HostAndPort, Logger, TaskOwner } from '../base/index.ts'
import { didFromPublicKey, publicKeyFromDid } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'
import type { createFrameExchange } from './frame-exchange.ts'
import type { RelayEndpoints } from './relay-endpoints.ts'
import { nameQuota } from './relay-quota.ts'
import { isOwnConnection, talkOver } from './relay-talk.ts'
import { SPLICE_PROTOCOL, decodeLoad, decodeRelayCall, decodeSpliceResult, encodeLoadAsk, encodeSpliceAnswer, encodeSpliceObserve, encodeSpliceOpen } from './splice-messages.ts'
import type { RelayLoad, SpliceResult } from './splice-messages.ts'
import { createPeerStream } from './stream-adapter.ts'
import { SPLICE_PREFACE } from './ticket-door.ts'
import { dialTicketPort } from './ticket-dial.ts'
import type { CarrierNode, PeerLevel, PeerStream, SpliceHandler } from './types.ts'

/** What splices need. */
export interface SpliceClientComponents {
  libp2p: () => Pick<Libp2p, 'getConnections'>
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  isRelay: (peerId: string) => boolean
  endpoints: Pick<RelayEndpoints, 'ipOf'>
  levelOf: (device: Did) => PeerLevel
  splices: CounterMetric
  /** A relay said that it stops soon: what runs over it should move. Several times, if it likes. */
  onDrain?: (relayPeerId: string, withinMs: number) => void
}

/** Both ends of splices. */
export interface SpliceClient extends Pick<CarrierNode, 'openSplice' | 'canSplice'> {
  setHandler: (handler: SpliceHandler) => void
  /** True when offers of relays are answered at all. */
  hasHandler: () => boolean
  /** Notes what a peer says that it speaks: from identify. */
  noteProtocols: (peer: PeerId, protocols: readonly string[]) => void
  /** A ticket with which this relay answers where a socket comes from, and where to show it. @throws CarrierError as `openSplice` */
  askObserve: (relayPeerId: string, signal: AbortSignal) => Promise<HostAndPort & { ticket: Uint8Array }>
  /** How full the relay is; undefined when it offers no splices, and so tells nothing. @throws CarrierError ERR_NOT_AVAILABLE, ERR_PROTOCOL, or the signal's reason */
  askLoad: (relayPeerId: string, signal: AbortSignal) => Promise<RelayLoad | undefined>
  /** Relays that can be asked so. */
  observers: () => string[]
  /** Answers an offer; the stream comes from a listed relay. */
  handleOffer: (stream: PeerStream, connection: Connection) => Promise<void>
}

/** Creates the client. */
export function createSpliceClient (components: SpliceClientComponents): SpliceClient {
  const { clock, log, tasks, endpoints } = components
  // listed relays only
  const offering = new Set<string>()
  let handler: SpliceHandler | undefined
  let offerCount = 0
  /** Of these, friends' whose leg is being connected. */
  let friendOfferCount = 0

  function connectionTo (relayPeerId: string): Connection | undefined {
    if (!components.isRelay(relayPeerId)) return undefined
    return components.libp2p().getConnections().findLast((connection) => connection.remotePeer.toString() === relayPeerId && isOwnConnection(connection))
  }

  function canSplice (relayPeerId: string): boolean {
    return offering.has(relayPeerId) && endpoints.ipOf(relayPeerId) !== undefined && connectionTo(relayPeerId) !== undefined
  }

  /** One leg, at the address that the connection to the relay uses: only the port is the relay's to say. */
  async function connectLeg (relayPeerId: string, result: SpliceResult, signal: AbortSignal): Promise<Socket> {
    if (result.t === 'refused') throw refusal(result)
    const host = endpoints.ipOf(relayPeerId)
    if (host === undefined) throw notAvailable('the IP address of the relay is not known')
    return dialTicketPort(clock, { host, port: result.port, preface: SPLICE_PREFACE, ticket: result.ticket }, signal)
  }

  async function openSplice (device: Did, relayPeerId: string, options: { signal?: AbortSignal } = {}): Promise<Socket> {
    if (components.levelOf(device) === 'blocked') throw new CarrierError('ERR_NOT_AVAILABLE', 'the device is blocked; unblock it first')
    const connection = canSplice(relayPeerId) ? connectionTo(relayPeerId) : undefined
    if (connection === undefined) throw notAvailable('the relay offers no splices, or is not connected')
    const { signal: stopSignal } = tasks()
    using deadline = startDeadline(clock, LIMITS.spliceTimeoutMs, 'the splice was not there in time', options.signal === undefined ? stopSignal : AbortSignal.any([stopSignal, options.signal]))
    try {
      const result = await ask(connection, encodeSpliceOpen(publicKeyFromDid(device)), decodeSpliceResult, deadline.signal)
      const socket = await connectLeg(relayPeerId, result, deadline.signal)
      components.splices.add(1, { result: 'opened' })
      return socket
    } catch (err) {
      const reason: unknown = deadline.signal.aborted ? deadline.signal.reason : err
      components.splices.add(1, { result: errorCode(reason) })
      throw reason
    }
  }

  async function askObserve (relayPeerId: string, signal: AbortSignal): Promise<HostAndPort & { ticket: Uint8Array }> {
    const connection = canSplice(relayPeerId) ? connectionTo(relayPeerId) : undefined
    const host = endpoints.ipOf(relayPeerId)
    if (connection === undefined || host === undefined) throw notAvailable('the relay offers no splices, or is not connected')
    const result = await ask(connection, encodeSpliceObserve(), decodeSpliceResult, signal)
    if (result.t === 'refused') throw refusal(result)
    return { host, port: result.port, ticket: result.ticket }
  }

  async function askLoad (relayPeerId: string, signal: AbortSignal): Promise<RelayLoad | undefined> {
    const connection = offering.has(relayPeerId) ? connectionTo(relayPeerId) : undefined
    return connection === undefined ? undefined : ask(connection, encodeLoadAsk(), decodeLoad, signal)
  }

  async function ask<Answer> (connection: Connection, question: Uint8Array, decode: (bytes: Uint8Array) => Answer, signal: AbortSignal): Promise<Answer> {
    let stream: PeerStream
    try {
      stream = createPeerStream(await connection.newStream(SPLICE_PROTOCOL, { signal, maxOutboundStreams: LIMITS.peerStreamCount }))
    } catch (err) {
      signal.throwIfAborted()
      throw new CarrierError('ERR_NOT_AVAILABLE', 'the relay does not answer for splices', { cause: err })
    }
    return talkOver(stream, signal, GIVEN_UP, async (exchange) => {
      exchange.write(question)
      return decode(await receive(exchange))
    })
  }

  async function handleOffer (stream: PeerStream, connection: Connection): Promise<void> {
    const relayPeerId = connection.remotePeer.toString()
    if (offerCount >= LIMITS.spliceOfferReadCount || !isOwnConnection(connection)) {
      stream.abort(new CarrierError('ERR_LIMIT', 'too many offers'))
      return
    }
    offerCount++
    try {
      using deadline = startDeadline(clock, LIMITS.spliceTimeoutMs, 'the splice was not there in time', tasks().signal)
      await answer(stream, relayPeerId, deadline.signal)
    } finally {
      offerCount--
    }
  }

  async function answer (stream: PeerStream, relayPeerId: string, signal: AbortSignal): Promise<void> {
    const accepted = await talkOver(stream, signal, GIVEN_UP, async (exchange) => {
      const call = decodeRelayCall(await receive(exchange))
      if (call.t === 'drain') {
        // at once: the relay may not wait for the end of the stream
        components.onDrain?.(relayPeerId, call.withinMs)
        return 'told'
      }
      const { from } = call
      const device = didFromPublicKey(from)
      // strangers may ask too: their questions must not use up what friends need
      const isAdmitted = friendOfferCount < LIMITS.spliceOfferCount && handler !== undefined && components.levelOf(device) === 'friend' && endpoints.ipOf(relayPeerId) !== undefined && handler.admits(device, relayPeerId)
      exchange.write(encodeSpliceAnswer(isAdmitted))
      if (!isAdmitted) return undefined
      return { device, result: decodeSpliceResult(await receive(exchange)) }
    })
    if (accepted === undefined) {
      components.splices.add(1, { result: 'refused' })
      return
    }
    if (accepted === 'told') return
    friendOfferCount++
    const socket = await connectLeg(relayPeerId, accepted.result, signal).finally(() => { friendOfferCount-- })
    // it may have been removed or blocked meanwhile
    if (handler === undefined || components.levelOf(accepted.device) !== 'friend' || signal.aborted) {
      socket.destroy()
      return
    }
    components.splices.add(1, { result: 'accepted' })
    handler.onSocket(socket, accepted.device, relayPeerId)
  }

  return {
    openSplice,
    canSplice,
    askObserve,
    askLoad,
    observers: () => [...offering].filter(canSplice),
    handleOffer: async (stream, connection) => {
      try {
        await handleOffer(stream, connection)
      } catch (err) {
        components.splices.add(1, { result: errorCode(err) })
        log.debug('an offered splice came to nothing', { relay: connection.remotePeer.toString(), err })
        stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', String(err)))
      }
    },
    setHandler: (given) => {
      if (handler !== undefined) throw new CarrierError('ERR_INTERNAL', 'splices have a handler already')
      handler = given
    },
    hasHandler: () => handler !== undefined,
    noteProtocols: (peer, protocols) => {
      const relayPeerId = peer.toString()
      if (!components.isRelay(relayPeerId)) return
      if (protocols.includes(SPLICE_PROTOCOL)) offering.add(relayPeerId)
      else offering.delete(relayPeerId)
    }
  }
}

const GIVEN_UP = 'the splice was given up'

async function receive (exchange: Pick<ReturnType<typeof createFrameExchange>, 'read'>): Promise<Uint8Array> {
  const frame = await exchange.read(LIMITS.spliceMessageBytes)
  if (frame === undefined) throw new CarrierError('ERR_PROTOCOL', 'the relay ended the talk about a splice')
  return frame
}

function refusal (result: Extract<SpliceResult, { t: 'refused' }>): CarrierError {
  if (codeFromWire(result.code) === 'ERR_LIMIT') {
    return new CarrierError('ERR_LIMIT', 'the relay has no place for another splice now', result.retryMs === undefined ? {} : { detail: { retryMs: result.retryMs } })
  }
  if (codeFromWire(result.code) === 'ERR_QUOTA') return quotaRefusal(result)
  return notAvailable('the relay does not offer this splice')
}

/** The quota by its name and when it is free again, in words. */
function quotaRefusal ({ quota = '', retryMs }: Extract<SpliceResult, { t: 'refused' }>): CarrierError {
  const when = retryMs === undefined ? 'try again later' : retryMs < 60_000 ? 'try again soon' : `it is free again in ${Math.ceil(retryMs / 60_000)} minutes`
  return new CarrierError('ERR_QUOTA', `${nameQuota(quota)} is used up at this relay; ${when}, or use another relay`, { detail: { ...(quota === '' ? {} : { quota }), ...(retryMs === undefined ? {} : { retryMs }) } })
}

function notAvailable (message: string): CarrierError {
  return new CarrierError('ERR_NOT_AVAILABLE', message)
}
