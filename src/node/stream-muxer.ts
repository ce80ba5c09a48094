/**
 * Yamux behind our own door: how many streams and how much memory a peer gets depends on who it is, which protocol it
 * may speak is decided before libp2p sees the stream, and a connection that fell silent is lost.
 */
import { yamux } from '@chainsafe/libp2p-yamux'
import { TypedEventEmitter } from '@libp2p/interface'
import type { CreateStreamOptions, MessageStream, NewStreamOptions, PeerId, Stream, StreamMuxer, StreamMuxerEvents, StreamMuxerFactory } from '@libp2p/interface'
import { CarrierError, keepaliveOf, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, KeepaliveMode, Logger } from '../base/index.ts'
import { limitAnswers } from './answer-limit.ts'
import { selectAtOnce } from './eager-select.ts'
import { limitFrames } from './frame-guard.ts'
import { answerNegotiation } from './protocol-negotiation.ts'
import type { NegotiationVerdict } from './protocol-negotiation.ts'
import { createSilenceWatch } from './silence-watch.ts'

/** Who is at the other end, as far as streams are concerned. */
export type StreamClass = 'relay' | 'friend' | 'stranger'

/** What decides about streams. */
export interface StreamPolicy {
  classOf: (peer: PeerId) => StreamClass
  /** Verdict about a name that a peer asks for. */
  judge: (peer: PeerId, protocol: string) => NegotiationVerdict
  /** Accepted: gives the name under which libp2p finds the handler. */
  route: (stream: Stream, protocol: string) => string
  /** Counts a refusal. */
  onRefused: (peer: PeerId, reason: 'protocol' | 'stream-limit') => void
}

/** Most inbound streams at a time. */
const STREAM_COUNT: Record<StreamClass, number> = {
  relay: LIMITS.relayStreamCount,
  friend: LIMITS.peerStreamCount,
  stranger: LIMITS.strangerStreamCount
}

/** The muxer factory for `streamMuxers`, and its end. */
export interface StreamMuxers {
  factory: () => StreamMuxerFactory
  /** Stops watching; connections are libp2p's to close. */
  stop: () => void
}

/** Creates the factory; `peerOf` comes from the secure channel. */
export function createStreamMuxers (components: { policy: StreamPolicy, peerOf: (connection: MessageStream) => PeerId | undefined, clock: Clock, log: Logger, keepalive?: KeepaliveMode | undefined }): StreamMuxers {
  const { policy, peerOf, clock, log } = components
  const { connectionPingMs, connectionSilenceMs } = keepaliveOf(components.keepalive)
  const silence = createSilenceWatch({ clock, log }, { silenceMs: connectionSilenceMs, lookMs: connectionPingMs / 2 })

  function createStreamMuxer (connection: MessageStream): StreamMuxer {
    const peer = peerOf(connection)
    if (peer === undefined) throw new CarrierError('ERR_INTERNAL', 'a connection without a proven peer cannot carry streams')
    const muxer = createGatedMuxer(connection, peer)
    silence.add(connection)
    return muxer
  }

  function createGatedMuxer (connection: MessageStream, peer: PeerId): GatedMuxer {
    // its pings are one small frame; those of libp2p's connection monitor are a stream each
    const windows = windowsFor(() => policy.classOf(peer))
    const factory = yamux({ keepAliveInterval: connectionPingMs, maxInboundStreams: LIMITS.relayStreamCount, maxOutboundStreams: LIMITS.relayStreamCount, streamOptions: windows.options })()
    const inner = limitAnswers(connection, () => limitFrames(connection, windows.widestBytes, () => factory.createStreamMuxer(connection)))
    const muxer = new GatedMuxer(inner)
    inner.addEventListener('stream', (event) => { admit(muxer, peer, event.detail) })
    return muxer
  }

  function admit (muxer: GatedMuxer, peer: PeerId, stream: Stream): void {
    const openCount = muxer.streams.filter((other) => other.direction === 'inbound').length
    if (openCount > STREAM_COUNT[policy.classOf(peer)]) {
      policy.onRefused(peer, 'stream-limit')
      stream.abort(new CarrierError('ERR_LIMIT', 'too many streams'))
      return
    }
    const deadline = startDeadline(clock, LIMITS.authTimeoutMs, 'the stream named no protocol in time')
    answerNegotiation(stream, (protocol) => policy.judge(peer, protocol), deadline.signal)
      .then((protocol) => {
        stream.protocol = policy.route(stream, protocol)
        muxer.deliver(stream)
      })
      .catch((err: unknown) => {
        policy.onRefused(peer, 'protocol')
        log.debug('inbound stream refused', { peer: peer.toString(), err })
        stream.abort(err instanceof Error ? err : new CarrierError('ERR_PROTOCOL', 'refused'))
      })
      .finally(() => { deadline[Symbol.dispose]() })
  }

  return {
    factory: () => ({ protocol: '/yamux/1.0.0', createStreamMuxer }),
    stop: () => { silence.stop() }
  }
}

/** Yamux reads the options for every new stream: a stranger that becomes a friend gets the wide window from its next stream on, and keeps it there. */
function windowsFor (classOf: () => StreamClass): { options: { readonly maxStreamWindowSize: number, readonly initialStreamWindowSize: number, readonly maxReadBufferLength: number }, widestBytes: () => number } {
  let widestBytes: number = LIMITS.strangerWindowBytes
  const windowBytes = (): number => classOf() === 'stranger' ? LIMITS.strangerWindowBytes : LIMITS.streamWindowBytes
  const options = {
    initialStreamWindowSize: LIMITS.strangerWindowBytes,
    get maxStreamWindowSize () {
      const bytes = windowBytes()
      widestBytes = Math.max(widestBytes, bytes)
      return bytes
    },
    get maxReadBufferLength () { return windowBytes() }
  }
  return { options, widestBytes: () => widestBytes }
}

/** A muxer that shows libp2p only the inbound streams that were let in. */
class GatedMuxer extends TypedEventEmitter<StreamMuxerEvents> implements StreamMuxer {
  readonly protocol = '/yamux/1.0.0'
  readonly #inner: StreamMuxer
  #early: Stream[] = []

  constructor (inner: StreamMuxer) {
    super()
    this.#inner = inner
  }

  get streams (): Stream[] { return this.#inner.streams }

  get status (): StreamMuxer['status'] { return this.#inner.status }

  /** libp2p passes on what a caller of `newStream` wished, and selects only for streams that have no protocol yet. */
  async createStream (options?: CreateStreamOptions & Pick<NewStreamOptions, 'negotiateFully'>): Promise<Stream> {
    const stream = await this.#inner.createStream(options)
    if (options?.negotiateFully === false && options.protocol !== undefined) {
      stream.protocol = options.protocol
      selectAtOnce(stream, options.protocol)
    }
    return stream
  }

  abort (err: Error): void { this.#inner.abort(err) }

  async close (options?: { signal?: AbortSignal }): Promise<void> { await this.#inner.close(options) }

  /** Hands a stream to libp2p, or keeps it until libp2p listens. */
  deliver (stream: Stream): void {
    if (this.listenerCount('stream') === 0) this.#early.push(stream)
    else this.safeDispatchEvent('stream', { detail: stream })
  }

  override addEventListener: TypedEventEmitter<StreamMuxerEvents>['addEventListener'] = (...args) => {
    super.addEventListener(...args)
    if (args[0] !== 'stream' || this.#early.length === 0) return
    const early = this.#early
    this.#early = []
    queueMicrotask(() => { for (const stream of early) this.deliver(stream) })
  }
}
