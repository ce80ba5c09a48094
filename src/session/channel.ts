/** A channel as its user sees it: a node:stream Duplex over the session core. */
import { Duplex } from 'node:stream'
import { CarrierError, toCarrierError } from '../base/index.ts'
import type { ChannelCore, ChannelListener } from './channel-core.ts'
import type { SessionCore } from './session-core.ts'
import type { ByteSink, Channel, SessionPeer } from './types.ts'

/** Bytes that a writer may be ahead of the session before `write` returns false. */
const WRITE_AHEAD_BYTES = 64 * 1024

type Done = (err?: Error | null) => void

/**
 * `finish` means: the other side's session has every byte and the end. `end` means: the other side ended, and every
 * byte before was read. Everything else closes the stream with an error (I4).
 */
export class ChannelStream extends Duplex implements Channel, ChannelListener {
  readonly kind: string
  readonly peer: SessionPeer
  readonly #session: SessionCore
  readonly #core: ChannelCore
  #writeDone: Done | undefined
  #finalDone: Done | undefined
  #acceptedBytes = 0
  /** The reader took the last bytes at once; it may have more. */
  #isReaderFree = false
  #isPulling = false
  #sink: ByteSink | undefined

  constructor (session: SessionCore, core: ChannelCore, peer: SessionPeer) {
    // read-ahead stays in the core, where credit counts it and small pieces are packed
    super({ allowHalfOpen: true, readableHighWaterMark: 1, writableHighWaterMark: WRITE_AHEAD_BYTES })
    this.kind = core.kind
    this.peer = peer
    this.#session = session
    this.#core = core
    core.listener = this
    // A peer must not be able to end this process where a user forgot an 'error' listener: `close` and `errored` still tell.
    this.on('error', () => {})
    if (core.isClosed) this.destroy(core.error)
  }

  get id (): number {
    return this.#core.id
  }

  get bytesRead (): number {
    return this.#core.deliveredBytes
  }

  get bytesWritten (): number {
    return this.#acceptedBytes
  }

  readTo (sink: ByteSink): void {
    if (this.#sink !== undefined || this.readableFlowing !== null || this.readableLength > 0) throw new CarrierError('ERR_INVALID_ARGUMENT', 'this channel has a reader already')
    this.#sink = sink
    this.#session.read(this.#core)
  }

  readMore (): void {
    if (this.#isPulling) this.#isReaderFree = true
    else this.#session.read(this.#core)
  }

  // ---- node:stream asks

  override _read (): void {
    if (this.#sink === undefined) this.#session.read(this.#core)
  }

  override _write (chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#acceptedBytes += chunk.length
    this.#writeDone = done
    this.#session.send(this.#core, [chunk])
  }

  override _writev (items: Array<{ chunk: Buffer }>, done: Done): void {
    const chunks: Buffer[] = []
    for (const { chunk } of items) {
      chunks.push(chunk)
      this.#acceptedBytes += chunk.length
    }
    this.#writeDone = done
    this.#session.send(this.#core, chunks)
  }

  override _final (done: Done): void {
    this.#finalDone = done
    this.#session.finish(this.#core)
  }

  override _destroy (err: Error | null, done: Done): void {
    const unfinished = [this.#writeDone, this.#finalDone]
    this.#writeDone = undefined
    this.#finalDone = undefined
    const hasUnfinished = unfinished.some((call) => call !== undefined)
    // complete but for our last ack, which is on its way
    const isOver = this.#core.isClosed || (err === null && this.#core.isDone)
    if (!isOver || hasUnfinished) {
      const reason = err === null ? new CarrierError('ERR_RESET', 'the channel was given up on this side') : toCarrierError(err)
      this.#session.reset(this.#core, reason)
      // a writer that waits for its callback, and those behind it, would wait for ever
      for (const call of unfinished) call?.(reason)
    }
    done(err)
  }

  // ---- the session answers

  /** While the reader keeps up, what waits is handed over in one go, without a turn of the event loop for each piece. */
  onBytes (bytes: Uint8Array): void {
    // a listener of the user's that throws costs this channel, not the session that carries the others
    try {
      this.#isReaderFree = false
      const isFree = this.#sink === undefined ? this.push(bytes) : this.#sink(bytes, () => { this.#session.recycle(bytes) })
      // a sink may have asked for more by itself meanwhile
      if (isFree) this.#isReaderFree = true
    } catch (err) {
      this.#isReaderFree = false
      this.destroy(toCarrierError(err))
    }
    if (this.#isPulling) return
    this.#isPulling = true
    while (this.#isReaderFree) {
      this.#isReaderFree = false
      this.#session.read(this.#core)
    }
    this.#isPulling = false
  }

  onEnd (): void {
    try {
      this.push(null)
      // nobody else lets it flow to its end
      if (this.#sink !== undefined) this.resume()
    } catch (err) {
      this.destroy(toCarrierError(err))
    }
  }

  onSent (): void {
    const done = this.#writeDone
    this.#writeDone = undefined
    this.#call(done)
  }

  onFinished (): void {
    const done = this.#finalDone
    this.#finalDone = undefined
    this.#call(done)
  }

  onFailed (err: CarrierError): void {
    this.destroy(err)
  }

  #call (done: Done | undefined): void {
    try {
      done?.()
    } catch (err) {
      this.destroy(toCarrierError(err))
    }
  }
}
