/** `/carrier/splice/1.0.0` at the relay: who may have a splice to whom, and the tickets for both ends. PROTOCOL.md "Splices". */
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { CarrierError, ERRORS, LIMITS, createBufferPool, createTaskOwner, sleep } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable } from '../base/index.ts'
import { SPLICE_PROTOCOL, decodeSpliceAnswer, decodeSpliceAsk, encodeLoad, encodeSpliceOffer, encodeSpliceResult } from '../node/index.ts'
import type { Admit } from './admission.ts'
import { callPeer, isRelayed } from './call-peer.ts'
import { createCircuitTable } from './circuit-table.ts'
import type { CircuitLimits } from './hop-messages.ts'
import type { HopServer } from './hop-server.ts'
import { readMessage, sendMessage } from './message-stream.ts'
import type { QuotaAccount, QuotaBook, QuotaRefusal } from './quota-book.ts'
import { peerKey, peerKeyOfPublicKey } from './reservation-table.ts'
import { createSpliceAccounts } from './splice-accounts.ts'
import { joinSplice } from './splice-copy.ts'
import { LARGE_BUFFER_BYTES } from './splice-leg.ts'
import type { SpliceCopy } from './splice-leg.ts'
import { createSpliceMetrics } from './splice-metrics.ts'
import { createSplicePort } from './splice-port.ts'
import type { SplicePair, SplicePortInit } from './splice-port.ts'
import type { CircuitEnds } from './standing.ts'

/** What the splice server uses. `hop` is the relay's hop server: places, usage and reservations are one for both. */
export interface SpliceServerComponents {
  node: Pick<Libp2p, 'handle' | 'unhandle' | 'getConnections'>
  hop: Pick<HopServer, 'desk' | 'usage' | 'reservationOf' | 'places' | 'standing' | 'loadPermille'>
  admit: Admit
  quotas: Pick<QuotaBook, 'startFlow'>
  clock: Clock
  log: Logger
  metrics: Metrics
}

/** How it is set up. */
export interface SpliceServerInit extends SplicePortInit {
  /** What can change while it runs. */
  settings: SpliceSettings
  copy: SpliceCopy
}

/** What can change while the server runs. */
export interface SpliceSettings {
  /** The port that ends are told, when it differs from the one that is bound. */
  announcePort: number | undefined
  /** Rate of what each identity sends; undefined: no bound. */
  bytesPerSecond: number | undefined
}

/** A running splice server. */
export interface SpliceServer extends Startable {
  /** Takes no further splices; those that fall quiet are ended. Their places are the hop server's, which is drained too. */
  drain: () => void
  /** Other settings from now on. */
  configure: (settings: SpliceSettings) => void
  /** After a change of the lists: ends the splices that would not be given any more, or only to a lower class. */
  endBarred: () => void
  /** The port that ends are told; undefined before `start`. */
  readonly port: number | undefined
  /** What an identity has sent through splices, while it is remembered. */
  sentBytesOf: (peerId: PeerId) => number
  readonly spliceCount: number
}

/** Creates the server; its owner starts it after the hop server and before the host listens. */
export function createSpliceServer (components: SpliceServerComponents, init: SpliceServerInit): SpliceServer {
  const { node, hop, admit, quotas, clock, log } = components
  let settings = init.settings
  const pool = createBufferPool({ bufferBytes: LARGE_BUFFER_BYTES, maxBytes: LIMITS.relaySpliceBufferPoolBytes })
  // its memory is bounded per splice and by the pool
  const splices = createCircuitTable({ maxBufferedBytes: () => Infinity })
  const accounts = createSpliceAccounts(clock, { bytesPerSecond: () => settings.bytesPerSecond, maxCount: LIMITS.relaySpliceAccountCount })
  const counters = createSpliceMetrics(components.metrics, { splices: () => splices.size, bufferedBytes: splices.bufferedBytes, bufferBytes: () => pool.usedBytes, pairs: () => dataPort.pairCount, waiting: () => dataPort.waitingCount })
  const dataPort = createSplicePort({ clock, log, onRefused: (reason) => { counters.refusedSockets.add(1, { reason }) } }, init)
  const tasks = createTaskOwner(log)
  /** When each peer asked of late. */
  const observations = new Map<string, number[]>()
  let isDraining = false

  async function answer (stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    const asked = decodeSpliceAsk(await readMessage(stream, LIMITS.spliceMessageBytes, signal))
    if (asked.t === 'observe') {
      await answerObserve(stream, connection, signal)
      return
    }
    if (asked.t === 'load') {
      sendMessage(stream, encodeLoad({ permille: hop.loadPermille(), isDraining }))
      counters.requests.add(1, { result: 'load' })
      await stream.close({ signal })
      return
    }
    const { to } = asked
    const decision = decide(connection, to)
    if (!decision.isAllowed) {
      await refuse(stream, decision.code, signal, decision.quota)
      return
    }
    const { callerKey, caller, called, calledId } = decision
    const claimed = claim(caller, called, decision.callerAccount)
    let pair: SplicePair | undefined
    try {
      const calledStream = await callPeer({ node, clock, log }, {
        peerId: calledId,
        protocol: SPLICE_PROTOCOL,
        question: encodeSpliceOffer(callerKey),
        readAnswer: decodeSpliceAnswer,
        maxAnswerBytes: LIMITS.spliceMessageBytes,
        maxStreams: LIMITS.relaySpliceTicketsPerCalledCount
      }, signal)
      if (calledStream === undefined) {
        await refuse(stream, 'ERR_NOT_AVAILABLE', signal)
        return
      }
      try {
        pair = openPair(decision, claimed)
        // the caller first: when it has gone meanwhile, the called end need not come
        sendTicket(stream, pair.tickets.caller)
        sendTicket(calledStream, pair.tickets.called)
        counters.requests.add(1, { result: 'ticket' })
        await Promise.all([stream.close({ signal }), calledStream.close({ signal })])
      } catch (err) {
        pair?.cancel()
        calledStream.abort(new CarrierError('ERR_LINK_LOST', 'the splice came to nothing'))
        throw err
      }
    } finally {
      if (pair === undefined) {
        claimed.endTicket()
        claimed.endPlace()
      }
    }
  }

  /** Who holds a reservation is told where it is seen; so many at once that a punch gets what it needs. */
  async function answerObserve (stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    const key = peerKey(connection.remotePeer.toMultihash().bytes)
    if (isRelayed(connection) || hop.reservationOf(key) === undefined) {
      await refuse(stream, 'ERR_NOT_AVAILABLE', signal)
      return
    }
    const rate = observations.get(key)
    const nowMs = clock.monotonicMs()
    const recent = (rate ?? []).filter((atMs) => nowMs - atMs < LIMITS.relayObserveSpanMs)
    if (isDraining || recent.length >= LIMITS.relayObservePerPeerCount) {
      await refuse(stream, 'ERR_LIMIT', signal)
      return
    }
    observations.delete(key)
    for (const oldest of observations.keys()) {
      if (observations.size < LIMITS.relaySpliceAccountCount) break
      observations.delete(oldest)
    }
    observations.set(key, [...recent, nowMs])
    sendTicket(stream, dataPort.openObservation())
    counters.requests.add(1, { result: 'observe' })
    await stream.close({ signal })
  }

  type Decision = { isAllowed: false, code: SpliceRefusal, quota?: QuotaRefusal } | { isAllowed: true, callerKey: Uint8Array, calledId: PeerId } & Ends

  /** Not there, refused and not allowed are one answer; places are judged last, so that a full relay tells nothing about them. */
  function decide (connection: Connection, to: Uint8Array): Decision {
    const { remotePeer, remoteAddr } = connection
    const caller = peerKey(remotePeer.toMultihash().bytes)
    const called = peerKeyOfPublicKey(to)
    const reservation = hop.reservationOf(called)
    if (remotePeer.type !== 'Ed25519' || isRelayed(connection) || caller === called || reservation === undefined) return { isAllowed: false, code: 'ERR_NOT_AVAILABLE' }
    const verdict = admit({ action: 'splice', peerId: remotePeer, remoteAddress: remoteAddr, called: reservation.peerId })
    if (!verdict.allow) return { isAllowed: false, code: verdict.status === 'RESOURCE_LIMIT_EXCEEDED' ? 'ERR_LIMIT' : 'ERR_NOT_AVAILABLE' }
    const isFull = hop.usage.get(caller).callerTickets >= LIMITS.relaySpliceTicketsPerPeerCount ||
      hop.usage.get(called).calledTickets >= LIMITS.relaySpliceTicketsPerCalledCount || !hop.places.hasPlaceFor(caller, called)
    if (isDraining || isFull) return { isAllowed: false, code: 'ERR_LIMIT' }
    const callerAccount = hop.places.accountOf(connection)
    const over = hop.places.judgeCircuit(callerAccount, reservation.account)
    if (over !== undefined) return over.whose === 'caller' ? { isAllowed: false, code: 'ERR_QUOTA', quota: over.refusal } : { isAllowed: false, code: 'ERR_LIMIT' }
    const ends: CircuitEnds = { action: 'splice', caller: { peerId: remotePeer, remoteAddress: remoteAddr, account: callerAccount }, called: reservation }
    return { isAllowed: true, callerKey: remotePeer.publicKey.raw, caller, called, calledId: reservation.peerId, limits: verdict.limits, callerAccount, calledAccount: reservation.account, isBarred: () => hop.standing.isCircuitBarred(ends) }
  }

  /** Counts the splice before anybody is asked. */
  function claim (caller: string, called: string, account: QuotaAccount): Claim {
    const endPlace = hop.places.claim(caller, called, account)
    hop.usage.add(caller, 'callerTickets', 1)
    hop.usage.add(called, 'calledTickets', 1)
    return {
      endPlace,
      endTicket: () => {
        hop.usage.add(caller, 'callerTickets', -1)
        hop.usage.add(called, 'calledTickets', -1)
      }
    }
  }

  function openPair ({ caller, called, limits, callerAccount: callerQuota, calledAccount: calledQuota, isBarred }: Ends, { endTicket, endPlace }: Claim): SplicePair {
    return dataPort.openPair({
      onFailed: (reason) => {
        endTicket()
        endPlace()
        counters.failedPairs.add(1, { reason })
      },
      onJoined: (sockets) => {
        endTicket()
        const [callerAccount, calledAccount] = [accounts.of(caller), accounts.of(called)]
        const splice = joinSplice({ clock, pool, onBytes: counters.bytes.add }, {
          caller: { socket: sockets.caller, flow: (onOver) => quotas.startFlow(callerQuota, callerAccount.rate, onOver), onSent: (count) => { callerAccount.sentBytes += count } },
          called: { socket: sockets.called, flow: (onOver) => quotas.startFlow(calledQuota, calledAccount.rate, onOver), onSent: (count) => { calledAccount.sentBytes += count } },
          limits,
          copy: init.copy
        })
        splices.claim()
        splices.add(splice, isBarred)
        counters.joined.add(1, { copy: splice.isReusing ? 'reused' : 'public' })
        void splice.ended.then((reason) => {
          splices.release()
          endPlace()
          counters.ended.add(1, { reason })
          log.debug('splice ended', { reason })
        })
      }
    })
  }

  function sendTicket (stream: Stream, ticket: Uint8Array): void {
    const port = settings.announcePort ?? dataPort.port
    if (port === undefined || stream.status !== 'open') throw new CarrierError('ERR_LINK_LOST', 'an end of the splice has gone')
    sendMessage(stream, encodeSpliceResult({ t: 'ticket', port, ticket, ttlMs: LIMITS.spliceTicketMs }))
  }

  async function refuse (stream: Stream, code: SpliceRefusal, signal: AbortSignal, quota?: QuotaRefusal): Promise<void> {
    counters.requests.add(1, { result: code })
    const why = quota === undefined ? code === 'ERR_LIMIT' ? { retryMs: LIMITS.relaySpliceRetryMs } : {} : { retryMs: Math.ceil(quota.retryMs), quota: quota.quota }
    sendMessage(stream, encodeSpliceResult({ t: 'refused', code: ERRORS[code].wire, ...why }))
    await stream.close({ signal })
  }

  async function sweep (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(clock, LIMITS.relaySweepMs, signal)
      if (isDraining) splices.endQuiet(clock.monotonicMs(), LIMITS.relayDrainQuietMs)
    }
  }

  return {
    start: async () => {
      await dataPort.start()
      tasks.run('splices', sweep)
      await node.handle(SPLICE_PROTOCOL, async (stream, connection) => {
        await hop.desk.run(stream, connection, tasks.signal, async (signal) => answer(stream, connection, signal))
      }, { maxInboundStreams: LIMITS.relayPendingHandshakesPerPeerCount, maxOutboundStreams: LIMITS.relaySpliceTicketsPerCalledCount, runOnLimitedConnection: false })
    },
    drain: () => { isDraining = true },
    endBarred: splices.endBarred,
    configure: (next) => {
      settings = next
      accounts.refresh()
    },
    stop: async () => {
      isDraining = true
      await node.unhandle(SPLICE_PROTOCOL)
      await tasks.stop()
      await dataPort.stop()
      splices.abortAll()
    },
    get port () { return dataPort.port === undefined ? undefined : settings.announcePort ?? dataPort.port },
    sentBytesOf: (peerId) => accounts.of(peerKey(peerId.toMultihash().bytes)).sentBytes,
    get spliceCount () { return splices.size }
  }
}

/** What a splice takes until it ends, and until its legs have come. */
interface Claim { endPlace: () => void, endTicket: () => void }

/** The two ends of a splice that may be. */
interface Ends { caller: string, called: string, limits: CircuitLimits | undefined, callerAccount: QuotaAccount, calledAccount: QuotaAccount, isBarred: () => boolean }

/** What a refused end is told. */
type SpliceRefusal = 'ERR_NOT_AVAILABLE' | 'ERR_LIMIT' | 'ERR_QUOTA'
