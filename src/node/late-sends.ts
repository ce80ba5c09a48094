/** A frame that comes after the end of its connection is dropped: yamux sends some where nobody could catch an error. */
import type { MessageStream } from '@libp2p/interface'

/**
 * Makes `connection.send` of a connection that has ended, and whose muxer has not heard of it yet, say "wait" instead of throwing.
 * yamux opens streams in a microtask of its own: a throw there would end the process, at a moment that a relay can choose.
 * Nothing is lost by it: the end of the connection aborts all of its streams right after.
 */
export function dropLateSends (connection: MessageStream): void {
  const send = connection.send.bind(connection)
  connection.send = (data) => {
    try {
      return send(data)
    } catch (err) {
      if (!(err instanceof Error) || err.name !== 'StreamStateError') throw err
      return false
    }
  }
}
