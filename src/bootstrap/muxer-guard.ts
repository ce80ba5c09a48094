/**
 * What peers with a key can make the muxers of a relay do (I8, I9): frames of all connections share a fair rate, so that who floods waits
 * and nobody else; frames that no muxer may send, and more incomplete ones than fit, end their connection; streams that do not say
 * what they want make room for others.
 */
import type { MessageStream, Stream, StreamMuxer } from '@libp2p/interface'
import { CarrierError, LIMITS, concatBytes, errorCode } from '../base/index.ts'
import type { Clock, Metrics } from '../base/index.ts'
import { createFrameMeter } from '../node/index.ts'
import { createFairRate } from './fair-rate.ts'

/** What the guard uses. */
export interface MuxerGuardComponents { clock: Clock, metrics: Metrics }

/** One guard for all connections. */
export interface MuxerGuard {
  /** Makes the muxer of an encrypted connection and stands between both as long as they live. Nobody may stand between guard and muxer. */
  guard: (connection: MessageStream, createMuxer: () => StreamMuxer) => StreamMuxer
}

/** libp2p's own streams say also whether they can be paused. */
type Connected = MessageStream & { readonly readStatus?: string }

/** A connection and what it holds. */
interface Guarded { connection: Connected, waitingBytes: number, opening: Set<Stream>, isEndCounted: boolean }

/** Creates the guard. */
export function createMuxerGuard ({ clock, metrics }: MuxerGuardComponents): MuxerGuard {
  const broken = metrics.counter('carrier_relay_broken_connections_total', 'Connections ended because of what their peer sent after the handshake, by reason.', ['reason'])
  const refusedStreams = metrics.counter('carrier_relay_refused_streams_total', 'Streams reset because too many had not said what they want.')
  const slowed = metrics.counter('carrier_relay_slowed_reads_total', 'Times that a connection was not read for a moment because its frames were more than its share.')
  const rate = createFairRate(clock, { bytesPerSecond: () => LIMITS.relayFrameMicroseconds })
  const all = new Set<Guarded>()
  let waitingBytes = 0
  /** Streams that were opened by peers, in that order. Those that have said what they want are taken out when their turn comes. */
  const opening = new Map<Stream, Guarded>()

  function end (guarded: Guarded, reason: string, message: string): void {
    broken.add(1, { reason })
    guarded.isEndCounted = true
    guarded.connection.abort(new CarrierError('ERR_LIMIT', message))
  }

  /** Who keeps most of what is not complete loses it. */
  function makeRoom (): void {
    while (waitingBytes > LIMITS.relayIncompleteFrameBytes) {
      let largest: Guarded | undefined
      for (const guarded of all) if (guarded.waitingBytes > (largest?.waitingBytes ?? 0)) largest = guarded
      if (largest === undefined) return
      setWaiting(largest, 0)
      end(largest, 'incomplete_frame', 'too many frames are incomplete')
    }
  }

  function setWaiting (guarded: Guarded, bytes: number): void {
    waitingBytes += bytes - guarded.waitingBytes
    guarded.waitingBytes = bytes
  }

  function admit (guarded: Guarded, stream: Stream): void {
    trim(guarded.opening, LIMITS.relayOpeningStreamsPerPeerCount)
    trim(opening.keys(), LIMITS.relayOpeningStreamCount, opening.size)
    guarded.opening.add(stream)
    opening.set(stream, guarded)
  }

  /** Takes the oldest out until one more fits. */
  function trim (streams: Iterable<Stream> & { size?: number }, maxCount: number, startCount = streams.size ?? 0): void {
    let count = startCount
    for (const stream of streams) {
      if (count < maxCount) return
      count--
      opening.get(stream)?.opening.delete(stream)
      opening.delete(stream)
      if (stream.protocol !== '' || stream.status !== 'open') continue
      refusedStreams.add()
      stream.abort(new CarrierError('ERR_LIMIT', 'too many streams do not say what they want'))
    }
  }

  function guard (connection: Connected, createMuxer: () => StreamMuxer): StreamMuxer {
    // those that we opened ourselves lead to relays that the operator listed
    if (connection.direction === 'outbound') return createMuxer()
    const meter = createFrameMeter({ direction: connection.direction, maxFrameBytes: () => LIMITS.relayStreamWindowBytes })
    const share = rate.join()
    const guarded: Guarded = { connection, waitingBytes: 0, opening: new Set(), isEndCounted: false }
    const known = new WeakSet<Stream>()
    let lastStream = 0
    let isHandling = false
    let ownMicroseconds = OWN_MICROSECONDS
    let filledAtMs = clock.monotonicMs()
    all.add(guarded)

    /** What everybody needs is its own; beyond, it is a share of what is left. False: it has to wait for `resume`. */
    function charge (microseconds: number): boolean {
      const nowMs = clock.monotonicMs()
      ownMicroseconds = Math.min(OWN_MICROSECONDS, ownMicroseconds + (nowMs - filledAtMs) * OWN_MICROSECONDS / 1000)
      filledAtMs = nowMs
      if (ownMicroseconds < microseconds) return share.charge(microseconds, resume)
      ownMicroseconds -= microseconds
      return true
    }

    let isResuming = false
    let mustPause = false
    const resume = (): void => {
      if (connection.status !== 'open' || connection.readStatus !== 'paused') return
      // it hands over what waits before it lets the socket go on: a pause in between would hold the one and not the other
      isResuming = true
      try {
        connection.resume()
      } catch (err) {
        // what it handed over has ended the connection, whose socket cannot go on then
        if (all.has(guarded)) throw err
      }
      isResuming = false
      if (mustPause) pause()
    }
    const pause = (): void => {
      mustPause = isResuming
      if (isResuming || connection.status !== 'open' || connection.readStatus !== 'readable') return
      slowed.add()
      connection.pause()
    }
    connection.addEventListener('message', (event) => {
      // what was read before the end, and is looked at only now: its streams are over, and nobody counts what it costs
      if (!all.has(guarded)) {
        event.stopImmediatePropagation()
        return
      }
      const bytes = event.data.subarray()
      const read = meter.read(bytes, TURN_MICROSECONDS)
      if (typeof read === 'string') {
        end(guarded, read, 'the peer sent a frame that no muxer may send')
      } else {
        setWaiting(guarded, meter.waitingBytes)
        makeRoom()
      }
      if (typeof read === 'string' || connection.status !== 'open') {
        // the muxer must not see it
        event.stopImmediatePropagation()
        return
      }
      isHandling = true
      if (!charge(read.microseconds)) pause()
      if (read.byteCount === bytes.length) return
      // the rest comes in a later turn, so that no chunk of small frames holds up the others
      event.data = bytes.subarray(0, read.byteCount)
      connection.unshift(bytes.subarray(read.byteCount))
    })
    // what the muxer answers to one chunk goes out as one piece: each alone costs an encryption and a write
    const send = connection.send.bind(connection)
    let answers: Uint8Array[] = []
    const flush = (): boolean => {
      if (answers.length === 0) return !connection.writableNeedsDrain
      const bytes = concatBytes(answers)
      answers = []
      return connection.status === 'open' ? send(bytes) : false
    }
    connection.send = (data) => {
      if (isHandling && data.byteLength <= ANSWER_BYTES) {
        answers.push(data.slice())
        return !connection.writableNeedsDrain
      }
      // in their order
      flush()
      return send(data)
    }
    const muxer = createMuxer()
    connection.addEventListener('message', () => {
      isHandling = false
      flush()
      if (meter.lastStream === lastStream) return
      lastStream = meter.lastStream
      // the newest are last. A listener for them would get those that came before libp2p listens, and libp2p would not
      const opened: Stream[] = []
      for (let index = muxer.streams.length - 1; index >= 0; index--) {
        const stream = muxer.streams[index]
        if (stream?.direction !== 'inbound') continue
        if (known.has(stream)) break
        known.add(stream)
        opened.push(stream)
      }
      for (const stream of opened.toReversed()) admit(guarded, stream)
    })
    connection.addEventListener('close', (event) => {
      share.cancel(resume)
      setWaiting(guarded, 0)
      all.delete(guarded)
      for (const stream of guarded.opening) opening.delete(stream)
      if (guarded.isEndCounted || event.local !== true || event.error === undefined) return
      if (errorCode(event.error) === 'ERR_LIMIT') broken.add(1, { reason: 'unread_answers' })
      // the muxer gave up while it looked at what had just come
      else if (isHandling) broken.add(1, { reason: 'protocol' })
    })
    return muxer
  }

  return { guard }
}

/** The longest frame that waits for others: a header without payload. */
const ANSWER_BYTES = 12
/** Work for one connection before it is another one's turn. */
const TURN_MICROSECONDS = 10_000
/** Work per second that a connection may cause without a look at the others: a dial, a request, an interactive circuit. */
const OWN_MICROSECONDS = 20_000
