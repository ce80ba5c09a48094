/**
 * `/carrier/reach/1.0.0`: a relay asks another one that the operators of both have listed to dial what it announces. PROTOCOL.md "Reach".
 *
 * ```
 * asker → relay   {t:'check', addresses}       addresses: 1 to 8 multiaddrs without /p2p, as bytes
 * relay → asker   {t:'checked', results}       one word per address, in their order
 *                 {t:'refused', code}          ERR_NOT_AVAILABLE: the asker is not listed; ERR_LIMIT: asked too soon
 * ```
 *
 * Each message is an unsigned varint length and at most LIMITS.relayMessageBytes of DAG-CBOR.
 */
import { z } from 'zod'
import { decodeCbor, encodeCbor } from '../base/index.ts'

/** Id of the protocol. */
export const REACH_PROTOCOL = '/carrier/reach/1.0.0'

/** How many addresses one question may name. */
export const REACH_ADDRESS_COUNT = 8

/** What came of one address: the asker answered there, somebody else did, nobody did, or it is nothing that a relay dials. */
export type ReachResult = 'reachable' | 'other' | 'unreachable' | 'skipped'

const checkSchema = z.strictObject({ t: z.literal('check'), addresses: z.array(z.instanceof(Uint8Array).refine((bytes) => bytes.length <= 256, 'must have at most 256 bytes')).min(1).max(REACH_ADDRESS_COUNT) })

const answerSchema = z.discriminatedUnion('t', [
  z.strictObject({ t: z.literal('checked'), results: z.array(z.enum(['reachable', 'other', 'unreachable', 'skipped'])).min(1).max(REACH_ADDRESS_COUNT) }),
  z.strictObject({ t: z.literal('refused'), code: z.number().int().min(0).max(0xffff) })
])

/** What the asked relay answers. */
export type ReachAnswer = z.output<typeof answerSchema>

/** Encodes the question. */
export const encodeReachCheck = (addresses: readonly Uint8Array[]): Uint8Array => encodeCbor({ t: 'check', addresses: [...addresses] })
/** Decodes it. @throws CarrierError ERR_PROTOCOL */
export const decodeReachCheck = (bytes: Uint8Array): Uint8Array[] => decodeCbor(checkSchema, bytes).addresses

/** Encodes the answer. */
export const encodeReachAnswer = (answer: ReachAnswer): Uint8Array => encodeCbor(answer)
/** Decodes it. @throws CarrierError ERR_PROTOCOL */
export const decodeReachAnswer = (bytes: Uint8Array): ReachAnswer => decodeCbor(answerSchema, bytes)
