/** What questions to relays have in common: over which connection, and how a short conversation ends. */
import type { Connection } from '@libp2p/interface'
import { CarrierError } from '../base/index.ts'
import { createFrameExchange } from './frame-exchange.ts'
import type { PeerStream } from './types.ts'

/** A connection that we made to the relay itself. */
export function isOwnConnection (connection: Connection): boolean {
  return connection.status === 'open' && connection.direction === 'outbound' && !connection.remoteAddr.toString().includes('/p2p-circuit')
}

/** A short conversation; the signal resets its stream with `givenUp` as the reason, so that nothing waits for the other side any longer. @throws what the conversation throws; the stream is reset then */
export async function talkOver<T> (stream: PeerStream, signal: AbortSignal, givenUp: string, conversation: (exchange: ReturnType<typeof createFrameExchange>) => Promise<T>): Promise<T> {
  const onAbort = (): void => { stream.abort(new CarrierError('ERR_CANCELLED', givenUp)) }
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  const exchange = createFrameExchange(stream)
  try {
    const result = await conversation(exchange)
    await exchange.end()
    return result
  } catch (err) {
    stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', String(err)))
    throw err
  } finally {
    exchange.finish()
    signal.removeEventListener('abort', onAbort)
  }
}
