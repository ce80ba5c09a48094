/** Ends a connection whose peer announces a frame that no muxer may send, before the muxer keeps it in memory until it is complete (I8). */
import type { MessageStream, StreamMuxer } from '@libp2p/interface'
import { CarrierError } from '../base/index.ts'
import { createFrameMeter } from './frame-meter.ts'

/** Makes the muxer of `connection` and reads the headers of what comes before it does. `maxFrameBytes`: the widest window that a stream of the connection was given. */
export function limitFrames (connection: MessageStream, maxFrameBytes: () => number, createMuxer: () => StreamMuxer): StreamMuxer {
  const meter = createFrameMeter({ direction: connection.direction, maxFrameBytes })
  connection.addEventListener('message', (event) => {
    const { data } = event
    for (const bytes of data instanceof Uint8Array ? [data] : data) {
      if (typeof meter.read(bytes, Infinity) !== 'string') continue
      event.stopImmediatePropagation()
      connection.abort(new CarrierError('ERR_PROTOCOL', 'the peer sent a frame that no muxer may send'))
      return
    }
  })
  return createMuxer()
}
