/**
 * `/carrier/splice/1.0.0`: how two peers of a relay get a ticket each for one pair of TCP legs. PROTOCOL.md "Splices".
 *
 * ```
 * caller → relay   {t:'open', to}          relay → called   {t:'offer', from}
 *                                          called → relay   {t:'accept'} or {t:'refuse'}
 * relay → caller   {t:'ticket', port, ticket, ttlMs} or {t:'refused', code, retryMs?, quota?}
 * relay → called   {t:'ticket', port, ticket, ttlMs} or {t:'refused', code}
 * ```
 *
 * caller → relay   {t:'observe'}           relay → caller   {t:'ticket', …} or {t:'refused', …}: what comes with this ticket is
 *                                          answered with the address that it came from (base/socket-address.ts)
 * caller → relay   {t:'load'}              relay → caller   {t:'load', permille, isDraining}
 * relay → device   {t:'drain', withinMs}   in place of an offer: move to another relay; the device only ends the stream
 *
 * Each message is an unsigned varint length and at most LIMITS.spliceMessageBytes of DAG-CBOR.
 */
import { z } from 'zod'
import { decodeCbor, encodeCbor } from '../base/index.ts'
import { TICKET_BYTES } from './ticket-door.ts'

/** Id of the protocol, on both streams. */
export const SPLICE_PROTOCOL = '/carrier/splice/1.0.0'

const RAW_KEY_BYTES = 32

const bytesOf = (length: number): z.ZodType<Uint8Array> => z.instanceof(Uint8Array).refine((bytes) => bytes.length === length, `must have ${length} bytes`)

/** `to`: the raw Ed25519 key of the called device. */
const openSchema = z.strictObject({ t: z.literal('open'), to: bytesOf(RAW_KEY_BYTES) })

const askSchema = z.discriminatedUnion('t', [openSchema, z.strictObject({ t: z.literal('observe') }), z.strictObject({ t: z.literal('load') })])

/** `from`: the raw Ed25519 key that the relay has proven of the caller. */
const offerSchema = z.strictObject({ t: z.literal('offer'), from: bytesOf(RAW_KEY_BYTES) })

/** `withinMs`: when the relay ends what is still there. */
const drainSchema = z.strictObject({ t: z.literal('drain'), withinMs: z.number().int().min(0).max(3_600_000) })

const calledSchema = z.discriminatedUnion('t', [offerSchema, drainSchema])

/** `permille`: how full the relay is, of whatever is scarcest there. */
const loadSchema = z.strictObject({ t: z.literal('load'), permille: z.number().int().min(0).max(1000), isDraining: z.boolean() })

const answerSchema = z.discriminatedUnion('t', [z.strictObject({ t: z.literal('accept') }), z.strictObject({ t: z.literal('refuse') })])

const resultSchema = z.discriminatedUnion('t', [
  // only the port: the endpoint is the IP address that the connection to the relay already uses
  z.strictObject({ t: z.literal('ticket'), port: z.number().int().min(1).max(65_535), ticket: bytesOf(TICKET_BYTES), ttlMs: z.number().int().min(1).max(600_000) }),
  // code: the wire number of an error code; quota: which one is used up, with ERR_QUOTA
  z.strictObject({ t: z.literal('refused'), code: z.number().int().min(0).max(0xffff), retryMs: z.number().int().min(0).max(86_400_000).optional(), quota: z.string().regex(/^[a-z_]{1,32}$/).optional() })
])

/** What each end gets from the relay. */
export type SpliceResult = z.output<typeof resultSchema>

/** Encodes the caller's question. */
export const encodeSpliceOpen = (to: Uint8Array): Uint8Array => encodeCbor({ t: 'open', to })
/** Encodes the question under which address we are seen. */
export const encodeSpliceObserve = (): Uint8Array => encodeCbor({ t: 'observe' })
/** Encodes the question how full the relay is. */
export const encodeLoadAsk = (): Uint8Array => encodeCbor({ t: 'load' })
/** Decodes any of the questions. @throws CarrierError ERR_PROTOCOL */
export const decodeSpliceAsk = (bytes: Uint8Array): z.output<typeof askSchema> => decodeCbor(askSchema, bytes)

/** Encodes the relay's question to the called end. */
export const encodeSpliceOffer = (from: Uint8Array): Uint8Array => encodeCbor({ t: 'offer', from })
/** Encodes the relay's word that it will stop. */
export const encodeDrain = (withinMs: number): Uint8Array => encodeCbor({ t: 'drain', withinMs })
/** Decodes what a relay tells a device. @throws CarrierError ERR_PROTOCOL */
export const decodeRelayCall = (bytes: Uint8Array): z.output<typeof calledSchema> => decodeCbor(calledSchema, bytes)

/** Encodes the called end's answer. */
export const encodeSpliceAnswer = (isAccepted: boolean): Uint8Array => encodeCbor({ t: isAccepted ? 'accept' : 'refuse' })
/** True for accept. @throws CarrierError ERR_PROTOCOL */
export const decodeSpliceAnswer = (bytes: Uint8Array): boolean => decodeCbor(answerSchema, bytes).t === 'accept'

/** Encodes what an end gets. */
export const encodeSpliceResult = (result: SpliceResult): Uint8Array => encodeCbor(result)
/** Decodes it. @throws CarrierError ERR_PROTOCOL */
export const decodeSpliceResult = (bytes: Uint8Array): SpliceResult => decodeCbor(resultSchema, bytes)

/** How full a relay says it is. */
export type RelayLoad = Omit<z.output<typeof loadSchema>, 't'>

/** Encodes how full the relay is. */
export const encodeLoad = (load: RelayLoad): Uint8Array => encodeCbor({ t: 'load', ...load })
/** Decodes it; a refusal throws too. @throws CarrierError ERR_PROTOCOL */
export const decodeLoad = (bytes: Uint8Array): RelayLoad => {
  const { permille, isDraining } = decodeCbor(loadSchema, bytes)
  return { permille, isDraining }
}
