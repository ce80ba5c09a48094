/** Server-sent events to local clients. A client that reads too slowly is let go, never waited for. */
import type { ServerResponse } from 'node:http'
import type { Clock, CounterMetric, Timer } from '../../base/index.ts'
import { CarrierError, LIMITS } from '../../base/index.ts'

/** The open event streams of one server. */
export interface EventStreams {
  count: () => number
  /** Takes over an answer. @throws CarrierError ERR_LIMIT */
  open: (response: ServerResponse) => void
  /** Ends all streams. */
  stop: () => void
}

/** What event streams need. */
export interface EventStreamsComponents {
  /** Every event as clients may see it. Returns the remover. */
  onEvent: (listener: (name: string, payload: unknown) => void) => () => void
  clock: Clock
  lagged: CounterMetric
}

/** Interval of comments that keep a quiet stream visibly alive. */
const HEARTBEAT_MS = 15_000

/** Makes an empty set. */
export function createEventStreams ({ onEvent, clock, lagged }: EventStreamsComponents): EventStreams {
  const open = new Set<ServerResponse>()

  function serve (response: ServerResponse): void {
    let timer: Timer
    const send = (text: string): void => {
      if (response.writableLength <= LIMITS.controlEventBufferBytes) {
        response.write(text)
        return
      }
      lagged.add()
      release()
      response.end('event: control:lagged\ndata: {}\n\n')
      // whoever does not even read that must not keep a place
      timer = clock.setTimer(() => { response.destroy() }, HEARTBEAT_MS)
    }
    const beat = (): void => {
      timer = clock.setTimer(() => {
        beat()
        send(': alive\n\n')
      }, HEARTBEAT_MS)
    }
    const removeListener = onEvent((name, payload) => { send(`event: ${name}\ndata: ${JSON.stringify(payload)}\n\n`) })
    const release = (): void => {
      timer.cancel()
      removeListener()
    }

    open.add(response)
    response.once('close', () => {
      release()
      open.delete(response)
    })
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    response.write(': carrier\n\n')
    beat()
  }

  return {
    count: () => open.size,
    open: (response) => {
      if (open.size >= LIMITS.controlEventClientCount) {
        throw new CarrierError('ERR_LIMIT', `at most ${LIMITS.controlEventClientCount} event streams can be open; close another one`)
      }
      serve(response)
    },
    stop: () => {
      for (const response of open) response.destroy()
    }
  }
}
