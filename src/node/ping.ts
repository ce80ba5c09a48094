/** One libp2p ping over a given connection. */
import { randomBytes } from 'node:crypto'
import type { Connection } from '@libp2p/interface'
import { CarrierError, equalBytes } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { createPeerStream } from './stream-adapter.ts'

const PING_PROTOCOL = '/ipfs/ping/1.0.0'
const PING_BYTES = 32

/** Round trip in milliseconds. @throws CarrierError ERR_PROTOCOL for a wrong echo, ERR_LINK_LOST, or the signal's reason */
export async function pingConnection (clock: Clock, connection: Connection, signal: AbortSignal): Promise<number> {
  const stream = createPeerStream(await connection.newStream(PING_PROTOCOL, { signal, runOnLimitedConnection: true }))
  const onAbort = (): void => { stream.abort(new CarrierError('ERR_TIMEOUT', 'no answer to the ping')) }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    const sent = new Uint8Array(randomBytes(PING_BYTES))
    const startedAt = clock.monotonicMs()
    const written = stream.sink((async function * () { yield sent })())
    written.catch(() => { /* the reader below fails as well and tells */ })
    const echo = new Uint8Array(PING_BYTES)
    let length = 0
    for await (const chunk of stream.source) {
      echo.set(chunk.subarray(0, PING_BYTES - length), length)
      length += chunk.length
      if (length >= PING_BYTES) break
    }
    const rttMs = clock.monotonicMs() - startedAt
    if (length !== PING_BYTES || !equalBytes(echo, sent)) throw new CarrierError('ERR_PROTOCOL', 'the answer to the ping is not its echo')
    return rttMs
  } catch (err) {
    signal.throwIfAborted()
    throw err
  } finally {
    signal.removeEventListener('abort', onAbort)
    // who does not close its end would keep one stream for every ping
    stream.abort(new CarrierError('ERR_CLOSED', 'the ping is over'))
  }
}
