/** A connection on which nothing at all is heard is lost. Anything that arrives counts: under bulk a ping waits behind megabytes. */
import type { MessageStream } from '@libp2p/interface'
import { CarrierError } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'

/** Watches the connections of one host. The muxer's keepalive pings make sure that a live one is never silent for long. */
export interface SilenceWatch {
  /** Watches a connection until it closes. */
  add: (connection: MessageStream) => void
  /** Stops watching; connections are libp2p's to close. */
  stop: () => void
}

/** Creates a watch that aborts what was silent for `silenceMs`; looks every `lookMs`. */
export function createSilenceWatch (components: { clock: Clock, log: Logger }, init: { silenceMs: number, lookMs: number }): SilenceWatch {
  const { clock, log } = components
  const watched = new Map<MessageStream, { heardAt: number }>()
  let isStopped = false
  let dueAt = clock.monotonicMs() + init.lookMs
  let timer = clock.setTimer(look, init.lookMs)

  function look (): void {
    if (isStopped) return
    timer = clock.setTimer(look, init.lookMs)
    const now = clock.monotonicMs()
    const lateMs = now - dueAt
    dueAt = now + init.lookMs
    for (const [connection, state] of watched) {
      // while this process stood still it could not hear: what came is still to be read
      if (lateMs > init.lookMs) state.heardAt = Math.min(now, state.heardAt + lateMs)
      if (now - state.heardAt <= init.silenceMs) continue
      watched.delete(connection)
      log.info('connection fell silent, it counts as lost', { silenceMs: init.silenceMs })
      // its muxer ends with it; told first it would try to say goodbye, which throws on a connection that is closing
      connection.abort(new CarrierError('ERR_LINK_LOST', `nothing was heard for ${init.silenceMs} ms`))
    }
  }

  return {
    add: (connection) => {
      const state = { heardAt: clock.monotonicMs() }
      watched.set(connection, state)
      connection.addEventListener('message', () => { state.heardAt = clock.monotonicMs() })
      connection.addEventListener('close', () => { watched.delete(connection) })
    },
    stop: () => {
      isStopped = true
      timer.cancel()
      watched.clear()
    }
  }
}
