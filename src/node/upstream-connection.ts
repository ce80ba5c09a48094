/** A socket that was opened through a proxy, as libp2p's raw connection. */
import type { Socket } from 'node:net'
import type { Connection, DialTransportOptions } from '@libp2p/interface'
import { AbstractMultiaddrConnection } from '@libp2p/utils'
import type { AbstractMultiaddrConnectionInit } from '@libp2p/utils'
import { CarrierError } from '../base/index.ts'

/** A raw connection over a socket, which it owns. What is broken is an error, never an end. */
export class UpstreamConnection extends AbstractMultiaddrConnection {
  // not "socket": its remote address is the proxy's, and who looks for that member would take it for the relay's
  readonly #stream: Socket

  constructor (init: Omit<AbstractMultiaddrConnectionInit, 'direction'> & { stream: Socket }) {
    super({ ...init, direction: 'outbound' })
    this.#stream = init.stream
    init.stream.on('data', (chunk: Buffer) => { this.onData(chunk) })
    init.stream.on('drain', () => { this.safeDispatchEvent('drain') })
    init.stream.on('error', (err) => { this.abort(err) })
    init.stream.once('end', () => { this.onTransportClosed() })
    init.stream.once('close', () => {
      if (this.status === 'closing') this.onTransportClosed()
      // after an end there is nothing left to say
      else this.abort(new CarrierError('ERR_LINK_LOST', 'the connection through the proxy broke'))
    })
  }

  sendData (data: Iterable<Uint8Array> & { byteLength: number }): { sentBytes: number, canSendMore: boolean } {
    const sentBytes = data.byteLength
    let canSendMore = true
    this.#stream.cork()
    for (const chunk of data) canSendMore = this.#stream.write(chunk)
    this.#stream.uncork()
    return { sentBytes, canSendMore }
  }

  async sendClose (options?: { signal?: AbortSignal }): Promise<void> {
    if (this.#stream.destroyed) return
    await new Promise<void>((resolve) => {
      const onAbort = (): void => { this.#stream.destroy() }
      options?.signal?.addEventListener('abort', onAbort, { once: true })
      this.#stream.once('close', () => {
        options?.signal?.removeEventListener('abort', onAbort)
        resolve()
      })
      if (options?.signal?.aborted === true) onAbort()
      this.#stream.destroySoon()
    })
  }

  sendReset (): void { this.#stream.destroy() }

  sendPause (): void { this.#stream.pause() }

  sendResume (): void { this.#stream.resume() }
}

/** Lets libp2p take a raw connection over; when that fails nothing is left of it. */
export async function upgradeOrAbort (connection: AbstractMultiaddrConnection, options: DialTransportOptions): Promise<Connection> {
  try {
    return await options.upgrader.upgradeOutbound(connection, options)
  } catch (err) {
    connection.abort(err instanceof Error ? err : new Error(String(err)))
    throw err
  }
}
