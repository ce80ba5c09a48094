/** An open WebSocket as libp2p's raw connection: back-pressure both ways, bounded, and broken is never ended. */
import { AbstractMultiaddrConnection } from '@libp2p/utils'
import type { AbstractMultiaddrConnectionInit } from '@libp2p/utils'
import type { WebSocket } from 'ws'
import { CarrierError, LIMITS } from '../base/index.ts'

/** Codes of a close that somebody meant: done, going away, no code given (RFC 6455 section 7.4.1). */
const MEANT: ReadonlySet<number> = new Set([1000, 1001, 1005])

/** A raw connection over a WebSocket, which it owns. Create it in the turn in which the socket opens. */
export class WebSocketConnection extends AbstractMultiaddrConnection {
  readonly #webSocket: WebSocket
  /** Bytes that the socket below has not taken. */
  #unsentBytes = 0
  #isFull = false

  constructor (init: Omit<AbstractMultiaddrConnectionInit, 'direction' | 'maxMessageSize'> & { webSocket: WebSocket }) {
    super({ ...init, direction: 'outbound', maxMessageSize: LIMITS.webSocketMessageBytes })
    this.#webSocket = init.webSocket
    init.webSocket.on('message', (data, isBinary) => {
      if (isBinary && Buffer.isBuffer(data)) this.onData(data)
      else this.abort(new CarrierError('ERR_PROTOCOL', 'text came over a WebSocket that carries bytes'))
    })
    init.webSocket.on('error', (err) => { this.abort(err) })
    init.webSocket.on('close', (code) => { this.#onClose(code) })
  }

  sendData (data: { byteLength: number, subarray: () => Uint8Array }): { sentBytes: number, canSendMore: boolean } {
    const sentBytes = data.byteLength
    this.#unsentBytes += sentBytes
    // a failed write is followed by the close of the socket, which tells
    this.#webSocket.send(data.subarray(), { binary: true }, () => { this.#onSent(sentBytes) })
    this.#isFull = this.#unsentBytes >= LIMITS.webSocketBufferBytes
    return { sentBytes, canSendMore: !this.#isFull }
  }

  async sendClose (options?: { signal?: AbortSignal }): Promise<void> {
    const webSocket = this.#webSocket
    if (webSocket.readyState === webSocket.CLOSED) return
    await new Promise<void>((resolve) => {
      const onAbort = (): void => { webSocket.terminate() }
      options?.signal?.addEventListener('abort', onAbort, { once: true })
      webSocket.once('close', () => {
        options?.signal?.removeEventListener('abort', onAbort)
        resolve()
      })
      if (options?.signal?.aborted === true) onAbort()
      else webSocket.close(1000)
    })
  }

  sendReset (): void { this.#webSocket.terminate() }

  sendPause (): void { this.#webSocket.pause() }

  sendResume (): void { this.#webSocket.resume() }

  #onSent (bytes: number): void {
    this.#unsentBytes -= bytes
    if (!this.#isFull || this.#unsentBytes > LIMITS.webSocketBufferBytes / 2) return
    this.#isFull = false
    this.safeDispatchEvent('drain')
  }

  #onClose (code: number): void {
    if (this.status === 'closing' || (this.status === 'open' && MEANT.has(code))) this.onTransportClosed()
    else if (this.status === 'open') this.onRemoteReset()
  }
}
