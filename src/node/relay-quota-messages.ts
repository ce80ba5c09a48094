/**
 * `/carrier/quota/1.0.0`: a device that a relay refused asks which of its quotas are used up there, because circuit relay v2 has a
 * status number only. PROTOCOL.md "Quotas".
 *
 * ```
 * device → relay   {t:'ask'}
 * relay → device   {t:'used', circuits?, reservations?}   each {quota, retryMs, shared}; absent: the device may have one more
 * ```
 *
 * Each message is an unsigned varint length and at most LIMITS.spliceMessageBytes of DAG-CBOR; readers skip unknown members.
 */
import { z } from 'zod'
import { decodeCbor, encodeCbor } from '../base/index.ts'

/** Id of the protocol. */
export const QUOTA_PROTOCOL = '/carrier/quota/1.0.0'

const askSchema = z.object({ t: z.literal('ask') })

/** `quota`: as in the relay's configuration. `shared`: of all strangers together. `retryMs`: when to ask again. */
const usedUpSchema = z.object({ quota: z.string().regex(/^[a-z_]{1,32}$/), retryMs: z.number().int().min(0).max(86_400_000), shared: z.boolean() })

const usedSchema = z.object({ t: z.literal('used'), circuits: usedUpSchema.optional(), reservations: usedUpSchema.optional() })

/** A quota that is used up: the one that lasts longest. */
export type UsedUpQuota = z.output<typeof usedUpSchema>

/** What a device may not have one more of now, and why. */
export type UsedQuotas = Omit<z.output<typeof usedSchema>, 't'>

/** Encodes the question. */
export const encodeQuotaAsk = (): Uint8Array => encodeCbor({ t: 'ask' })
/** Checks the question. @throws CarrierError ERR_PROTOCOL */
export const decodeQuotaAsk = (bytes: Uint8Array): void => { decodeCbor(askSchema, bytes) }

/** Encodes the answer. */
export const encodeQuotaAnswer = ({ circuits, reservations }: UsedQuotas): Uint8Array => encodeCbor({ t: 'used', ...(circuits === undefined ? {} : { circuits }), ...(reservations === undefined ? {} : { reservations }) })
/** Decodes it. @throws CarrierError ERR_PROTOCOL */
export const decodeQuotaAnswer = (bytes: Uint8Array): UsedQuotas => {
  const { circuits, reservations } = decodeCbor(usedSchema, bytes)
  return { ...(circuits === undefined ? {} : { circuits }), ...(reservations === undefined ? {} : { reservations }) }
}
