/** The signed proof of a reservation: a libp2p signed envelope (RFC 0002) around a circuit v2 reservation voucher. */
import { publicKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { concatBytes, encodeProtobuf, encodeVarint, utf8Encode } from '../base/index.ts'

/** What a voucher says. Peers are multihash bytes. */
export interface VoucherFacts { relay: Uint8Array, peer: Uint8Array, expirationSeconds: number }

/** Signs a voucher with the relay's key. */
export async function sealVoucher (facts: VoucherFacts, privateKey: PrivateKey): Promise<Uint8Array> {
  const payload = encodeProtobuf([[1, facts.relay], [2, facts.peer], [3, facts.expirationSeconds]])
  const signature = await privateKey.sign(concatBytes([DOMAIN, PAYLOAD_TYPE, payload].flatMap((part) => [encodeVarint(part.length), part])))
  return encodeProtobuf([[1, publicKeyToProtobuf(privateKey.publicKey)], [2, PAYLOAD_TYPE], [3, payload], [5, signature]])
}

const DOMAIN = utf8Encode('libp2p-relay-rsvp')
// multicodec libp2p-relay-rsvp, 0x0302, as the specification and all implementations write it
const PAYLOAD_TYPE = Uint8Array.from([0x03, 0x02])
