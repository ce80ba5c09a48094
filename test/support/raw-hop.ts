/** Hop and stop streams spoken byte by byte: for hostile clients and for recording what stock peers say. */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { concatBytes, decodeProtobuf, encodeFrame, encodeProtobuf } from '../../src/base/index.ts'
import { PATIENCE_MS, within } from './wait.ts'

/** The standard protocol ids, written out: tests must notice when the source changes them. */
export const HOP = '/libp2p/circuit/relay/0.2.0/hop'
/** As {@link HOP}, towards the called peer. */
export const STOP = '/libp2p/circuit/relay/0.2.0/stop'

/** A RESERVE message without its length. */
export const RESERVE = Uint8Array.from([0x08, 0x00])

/** A CONNECT message without its length. */
export function connectTo (peerId: Libp2p['peerId']): Uint8Array {
  return encodeProtobuf([[1, 1], [2, encodeProtobuf([[1, peerId.toMultihash().bytes]])]])
}

/** Opens a hop stream to a relay. */
export async function openHop (client: Libp2p, relay: string): Promise<{ connection: Connection, stream: Stream }> {
  const connection = await client.dial(multiaddr(relay))
  return { connection, stream: await connection.newStream(HOP, { maxOutboundStreams: 10_000 }) }
}

/** The body of the first message that arrives; fails when the stream ends before. Later bytes are dropped. */
export async function firstMessage (stream: Stream): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  return within('a message', PATIENCE_MS, new Promise<Uint8Array>((resolve, reject) => {
    function look (): void {
      const all = concatBytes(chunks)
      let length = 0
      for (let index = 0; index < Math.min(all.length, 4); index++) {
        const byte = all[index] ?? 0
        length += (byte & 0x7f) * 128 ** index
        if (byte >= 0x80) continue
        if (all.length >= index + 1 + length) resolve(all.slice(index + 1, index + 1 + length))
        return
      }
    }
    stream.addEventListener('message', ({ data }) => {
      chunks.push(data.slice())
      look()
    })
    stream.addEventListener('close', ({ error }) => { reject(error ?? new Error('the stream closed before a message came')) })
    stream.addEventListener('end', () => { reject(new Error('the stream ended before a message came')) })
  }))
}

/** Sends a raw message with its length and gives the status number of the answer. */
export async function askStatus (stream: Stream, body: Uint8Array): Promise<number> {
  const answer = firstMessage(stream)
  stream.send(encodeFrame(body))
  return Number(decodeProtobuf(await answer, 64).varint(5))
}
