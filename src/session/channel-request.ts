/** An inbound channel between its open frame and the decision about it. */
import { CarrierError } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'
import type { Channel, ChannelRequest, Session } from './types.ts'

/** What a request needs of its session. */
export interface ChannelRequestInit {
  session: Pick<Session, 'peer' | 'path' | 'relayPeerId' | 'id'>
  core: ChannelCore
  message: Uint8Array
  accept: () => Channel
  refuse: (err: CarrierError) => void
}

/** The request for the handler, and `settle`, which refuses with `err` when the handler decided nothing; true if so. */
export interface PendingDecision { request: ChannelRequest, settle: (err: CarrierError) => boolean }

/** Makes the request; it listens on the channel until it is decided. */
export function createChannelRequest (init: ChannelRequestInit): PendingDecision {
  const { core, session } = init
  const controller = new AbortController()
  let isDecided = false

  core.listener = {
    onBytes: () => {},
    onEnd: () => {},
    onSent: () => {},
    onFinished: () => {},
    onFailed: (err) => { controller.abort(err) }
  }

  function decide (): void {
    if (isDecided) throw new CarrierError('ERR_INTERNAL', 'a channel request is decided once')
    isDecided = true
  }

  return {
    request: {
      kind: core.kind,
      message: init.message,
      peer: session.peer,
      path: session.path,
      relayPeerId: session.relayPeerId,
      sessionId: session.id,
      signal: controller.signal,
      accept: () => {
        decide()
        return init.accept()
      },
      refuse: (err) => {
        decide()
        init.refuse(err)
      }
    },
    settle: (err) => {
      if (isDecided) return false
      isDecided = true
      init.refuse(err)
      return true
    }
  }
}
