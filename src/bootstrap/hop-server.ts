/** Circuit relay v2, the relay's side: RESERVE and CONNECT on the standard protocol, so any libp2p peer can use it. Circuit v2 §hop. */
import type { Connection, Libp2p, PeerId, PrivateKey, Stream } from '@libp2p/interface'
import { CarrierError, LIMITS, createTaskOwner, sleep } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable } from '../base/index.ts'
import type { Admit } from './admission.ts'
import { callPeer, isRelayed } from './call-peer.ts'
import { joinCircuit } from './circuit.ts'
import { createCircuitTable } from './circuit-table.ts'
import { createHandshakeDesk } from './handshake-desk.ts'
import type { HandshakeDesk } from './handshake-desk.ts'
import { HOP_PROTOCOL, STATUS, STOP_PROTOCOL, decodeHopRequest, decodeStopStatus, encodeHopStatus, encodeStopConnect } from './hop-messages.ts'
import type { CircuitLimits, HopRequest, ReservationAnswer, StatusName } from './hop-messages.ts'
import { completeBounds } from './hop-bounds.ts'
import type { HopServerInit } from './hop-bounds.ts'
import { createHopMetrics } from './hop-metrics.ts'
import { readMessage, sendMessage } from './message-stream.ts'
import { createUsageTable, isUnused } from './peer-usage.ts'
import type { UsageTable } from './peer-usage.ts'
import { createPlaces } from './places.ts'
import type { Places } from './places.ts'
import type { PeerClass, QuotaAccount, QuotaBook } from './quota-book.ts'
import { sealVoucher } from './reservation-voucher.ts'
import { createReservationTable, peerKey } from './reservation-table.ts'
import type { Reservation } from './reservation-table.ts'
import { createStanding } from './standing.ts'
import type { CircuitEnds, Standing } from './standing.ts'

/** What the hop server uses. `node` is the libp2p host; the server registers its protocol there at `start`. */
export interface HopServerComponents {
  node: Pick<Libp2p, 'handle' | 'unhandle' | 'getConnections' | 'getMultiaddrs' | 'addEventListener' | 'removeEventListener' | 'peerId'>
  privateKey: PrivateKey
  admit: Admit
  /** What everybody uses and may use, of circuits and splices together. */
  quotas: QuotaBook
  /** How the operator knows the peer of this {@link peerKey}. */
  classOf: (peer: string) => PeerClass
  clock: Clock
  log: Logger
  metrics: Metrics
}

/** A running hop server. */
export interface HopServer extends Startable {
  /** Takes no further reservations and circuits, resets circuits that fall quiet, and resolves when the last has ended or the signal aborts. */
  drain: (signal: AbortSignal) => Promise<void>
  /** True while the peer holds a reservation, is an end of a circuit or splice, or waits for an answer. */
  isUsedBy: (peerId: PeerId) => boolean
  /** What splices share with circuits: the bounds of requests, what each identity uses, and the places. */
  readonly desk: HandshakeDesk
  readonly usage: UsageTable
  /** A live reservation, by {@link peerKey}. */
  reservationOf: (peer: string) => Reservation | undefined
  readonly places: Places
  readonly standing: Standing
  /** How full the relay is, 0 to 1000: of reservations, of places, or of its rate, whatever is scarcest. */
  loadPermille: () => number
  /** Other bounds from now on; what is over them stays. */
  configure: (init: HopServerInit) => void
  /** Who holds a reservation, the one who has held it for longest first. */
  reservedPeers: () => PeerId[]
  /** After a change of the lists: ends circuits and reservations that would not be given any more, or only to a lower class, and gives those who held the reservations. */
  endBarred: () => PeerId[]
  readonly reservationCount: number
  readonly circuitCount: number
}

/** Creates the hop server; its owner calls `start` before the host listens, and `stop`, which resets what still runs. */
export function createHopServer (components: HopServerComponents, init: HopServerInit = {}): HopServer {
  const { node, privateKey, admit, quotas, clock, log, metrics } = components
  let bounds = completeBounds(init)
  const reservations = createReservationTable(() => ({ maxReservations: bounds.maxReservations, ttlMs: bounds.reservationTtlMs }))
  const circuits = createCircuitTable({ maxBufferedBytes: () => bounds.maxBufferedBytes })
  const usage = createUsageTable()
  const counters = createHopMetrics(metrics, { reservations: () => reservations.size, circuits: () => circuits.size, bufferedBytes: circuits.bufferedBytes, pendingHandshakes: () => desk.size })
  const places = createPlaces({ circuits, usage, quotas, classOf: components.classOf, refusals: counters.quotaRefusals, bounds: () => bounds })
  const standing = createStanding({ admit, classOf: components.classOf })
  const tasks = createTaskOwner(log)
  const ownId = node.peerId.toMultihash().bytes
  const desk = createHandshakeDesk({ clock, log, usage, onFailed: () => { counters.failedHandshakes.add() }, onRefused: () => { counters.refusedHandshakes.add() } })
  let isDraining = false

  async function handleHop (stream: Stream, connection: Connection): Promise<void> {
    await desk.run(stream, connection, tasks.signal, async (signal) => answer(stream, connection, signal))
  }

  async function answer (stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    let request: HopRequest
    try {
      request = decodeHopRequest(await readMessage(stream, LIMITS.relayMessageBytes, signal))
    } catch (err) {
      if (stream.status === 'open') sendMessage(stream, encodeHopStatus('MALFORMED_MESSAGE'))
      throw err
    }
    switch (request.type) {
      case 'reserve': await handleReserve(stream, connection, signal); break
      case 'connect': await handleConnect(stream, connection, request.peerId, signal); break
      case 'unexpected': await refuse(stream, 'UNEXPECTED_MESSAGE', signal); break
    }
  }

  async function handleReserve (stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    const { remotePeer: peerId } = connection
    const peer = peerKey(peerId.toMultihash().bytes)
    const decision = decideReserve()
    counters.reservationRequests.add(1, { status: decision.status })
    if (decision.status !== 'OK') {
      await refuse(stream, decision.status, signal)
      return
    }
    const isRefresh = reservations.get(peer, clock.now()) !== undefined
    const { account } = decision
    const { expiresAt } = reservations.reserve({ peerId, nowMs: clock.now(), account, hold: () => quotas.hold(account, 'reservations') })
    try {
      const reservation = await makeReservationAnswer(peerId, Math.floor(expiresAt / 1000))
      signal.throwIfAborted()
      sendMessage(stream, encodeHopStatus('OK', { reservation, limits: decision.limits }))
      await stream.close({ signal })
    } catch (err) {
      // the peer does not know that it has one; a refresh that failed leaves the one it knows
      if (!isRefresh) reservations.remove(peer)
      throw err
    } finally {
      // the connection may have gone while the voucher was signed: a reservation never outlives the last one
      if (node.getConnections(peerId).length === 0) reservations.remove(peer)
    }

    function decideReserve (): Decision<{ limits: CircuitLimits | undefined, account: QuotaAccount }> {
      if (isRelayed(connection)) return { status: 'PERMISSION_DENIED' }
      if (isDraining || !reservations.hasRoomFor(peer)) return { status: 'RESERVATION_REFUSED' }
      const verdict = admit({ action: 'reserve', peerId, remoteAddress: connection.remoteAddr })
      if (!verdict.allow) return { status: verdict.status }
      const account = places.accountOf(connection)
      const held = reservations.get(peer, clock.now())
      // a holder may always refresh, also from elsewhere when there is room for it
      const refusal = held?.account === account ? undefined : quotas.judge(account, 'reservations')
      if (refusal === undefined) return { status: 'OK', limits: verdict.limits, account }
      places.note(account, refusal)
      return { status: 'RESERVATION_REFUSED' }
    }
  }

  async function makeReservationAnswer (peerId: PeerId, expireSeconds: number): Promise<ReservationAnswer> {
    return {
      expireSeconds,
      addresses: node.getMultiaddrs().map((address) => address.bytes),
      voucher: await sealVoucher({ relay: ownId, peer: peerId.toMultihash().bytes, expirationSeconds: expireSeconds }, privateKey)
    }
  }

  async function handleConnect (stream: Stream, connection: Connection, calledId: Uint8Array, signal: AbortSignal): Promise<void> {
    const callerId = connection.remotePeer.toMultihash().bytes
    const caller = peerKey(callerId)
    const called = peerKey(calledId)
    const decision = decideConnect()
    if (decision.status !== 'OK') {
      counters.connectRequests.add(1, { status: decision.status })
      await refuse(stream, decision.status, signal)
      return
    }
    const { callerAccount, calledAccount } = decision
    const ends: CircuitEnds = { action: 'connect', caller: { peerId: connection.remotePeer, remoteAddress: connection.remoteAddr, account: callerAccount }, called: { peerId: decision.peerId, account: calledAccount } }
    const release = places.claim(caller, called, callerAccount)
    let isJoined = false
    try {
      const calledStream = await callPeer({ node, clock, log }, {
        peerId: decision.peerId,
        protocol: STOP_PROTOCOL,
        question: encodeStopConnect(callerId, decision.limits),
        readAnswer: (bytes) => decodeStopStatus(bytes) === STATUS.OK,
        maxAnswerBytes: LIMITS.relayMessageBytes,
        maxStreams: bounds.maxCircuitsPerCalled
      }, signal)
      counters.connectRequests.add(1, { status: calledStream === undefined ? 'CONNECTION_FAILED' : 'OK' })
      if (calledStream === undefined) {
        await refuse(stream, 'CONNECTION_FAILED', signal)
        return
      }
      if (stream.status !== 'open') {
        calledStream.abort(new CarrierError('ERR_LINK_LOST', 'the caller has gone'))
        return
      }
      sendMessage(stream, encodeHopStatus('OK', { limits: decision.limits }))
      const circuit = joinCircuit({ clock, onBytes: counters.bytes.add }, {
        caller: stream,
        called: calledStream,
        limits: decision.limits,
        callerFlow: (onOver) => quotas.startFlow(callerAccount, undefined, onOver),
        calledFlow: (onOver) => quotas.startFlow(calledAccount, undefined, onOver)
      })
      circuits.add(circuit, () => standing.isCircuitBarred(ends))
      isJoined = true
      void circuit.ended.then((reason) => {
        release()
        counters.endedCircuits.add(1, { reason })
        log.debug('circuit ended', { reason })
      })
    } finally {
      if (!isJoined) release()
    }

    function decideConnect (): Decision<{ peerId: PeerId, limits: CircuitLimits | undefined, callerAccount: QuotaAccount, calledAccount: QuotaAccount }> {
      if (isRelayed(connection)) return { status: 'PERMISSION_DENIED' }
      if (isDraining) return { status: 'RESOURCE_LIMIT_EXCEEDED' }
      const reservation = reservations.get(called, clock.now())
      if (reservation === undefined) return { status: 'NO_RESERVATION' }
      if (!places.hasPlaceFor(caller, called)) return { status: 'RESOURCE_LIMIT_EXCEEDED' }
      const verdict = admit({ action: 'connect', peerId: connection.remotePeer, remoteAddress: connection.remoteAddr, called: reservation.peerId })
      if (!verdict.allow) return { status: verdict.status }
      const callerAccount = places.accountOf(connection)
      if (places.judgeCircuit(callerAccount, reservation.account) !== undefined) return { status: 'RESOURCE_LIMIT_EXCEEDED' }
      return { status: 'OK', peerId: reservation.peerId, limits: verdict.limits, callerAccount, calledAccount: reservation.account }
    }
  }

  async function refuse (stream: Stream, status: StatusName, signal: AbortSignal): Promise<void> {
    sendMessage(stream, encodeHopStatus(status))
    await stream.close({ signal })
  }

  function onPeerDisconnect (event: CustomEvent<PeerId>): void {
    reservations.remove(peerKey(event.detail.toMultihash().bytes))
  }

  async function sweep (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(clock, LIMITS.relaySweepMs, signal)
      reservations.sweep(clock.now())
      circuits.enforceBudget()
      if (isDraining) circuits.endQuiet(clock.monotonicMs(), LIMITS.relayDrainQuietMs)
    }
  }

  return {
    start: async () => {
      node.addEventListener('peer:disconnect', onPeerDisconnect)
      tasks.run('sweep', sweep)
      // libp2p asks for a bound once, the settings can be raised later
      await node.handle(HOP_PROTOCOL, handleHop, { maxInboundStreams: LIMITS.relayHopStreamCount, runOnLimitedConnection: false })
    },
    drain: async (signal) => {
      isDraining = true
      await circuits.whenEmpty(signal)
    },
    stop: async () => {
      isDraining = true
      await node.unhandle(HOP_PROTOCOL)
      node.removeEventListener('peer:disconnect', onPeerDisconnect)
      await tasks.stop()
      circuits.abortAll()
      reservations.clear()
    },
    isUsedBy: (peerId) => {
      const peer = peerKey(peerId.toMultihash().bytes)
      return !isUnused(usage.get(peer)) || reservations.get(peer, clock.now()) !== undefined
    },
    desk,
    usage,
    reservationOf: (peer) => reservations.get(peer, clock.now()),
    places,
    standing,
    loadPermille: () => Math.min(1000, Math.round(1000 * Math.max(reservations.size / bounds.maxReservations, circuits.claimed / bounds.maxCircuits, quotas.rateShare()))),
    configure: (next) => { bounds = completeBounds(next) },
    reservedPeers: () => reservations.list().map(({ peerId }) => peerId),
    endBarred: () => {
      circuits.endBarred()
      const ended = reservations.list().filter(standing.isReservationBarred).map(({ peerId }) => peerId)
      for (const peerId of ended) reservations.remove(peerKey(peerId.toMultihash().bytes))
      return ended
    },
    get reservationCount () { return reservations.size },
    get circuitCount () { return circuits.size }
  }
}

/** What was decided before anything was allocated or signed. */
type Decision<Facts> = { status: 'OK' } & Facts | { status: Exclude<StatusName, 'OK'> }
