/** Bounds what a peer can make us hold by asking without reading: yamux answers pings and resets whatever the socket can take (I8). */
import type { MessageStream, StreamMuxer } from '@libp2p/interface'
import { CarrierError, LIMITS } from '../base/index.ts'
import { dropLateSends } from './late-sends.ts'

/**
 * Makes the muxer of `connection` and watches what it adds to the connection's write buffer while it handles what came in.
 * Stream data is not counted: it is sent later and waits for the socket. A connection with too many unread answers is reset.
 * What the muxer sends after the end of the connection is dropped ({@link dropLateSends}).
 */
export function limitAnswers (connection: MessageStream, createMuxer: () => StreamMuxer): StreamMuxer {
  dropLateSends(connection)
  let beforeBytes = 0
  let answerBytes = 0
  connection.addEventListener('message', () => { beforeBytes = connection.writeBufferLength })
  const muxer = createMuxer()
  connection.addEventListener('message', () => {
    const waitingBytes = connection.writeBufferLength
    answerBytes = waitingBytes === 0 ? 0 : answerBytes + Math.max(0, waitingBytes - beforeBytes)
    if (answerBytes > LIMITS.connectionAnswerBytes) connection.abort(new CarrierError('ERR_LIMIT', 'the peer does not read the answers to what it asks'))
  })
  return muxer
}
