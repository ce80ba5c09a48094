/**
 * The messages of /carrier/friend/1.0.0: one message and one answer per stream, each a varint length and DAG-CBOR.
 *
 *   request {v: 1, t: 'request', id: bytes16, ns: bytes8, hello: bytes ≤ 256 (UTF-8)}, and maybe {ls: bytes32, r: relay record}
 *   accept  {v: 1, t: 'accept',  id: bytes16}
 *   reject  {v: 1, t: 'reject',  id: bytes16}
 *   remove  {v: 1, t: 'remove',  ids: [bytes16, at most 8]}   none: whatever relation there is
 *   answer  {ok: bool}
 *
 * Unknown members are skipped; an unknown `t` or `v` is a protocol error.
 */
import { z } from 'zod'
import { decodeCbor, encodeCbor, encodeFrame, fromHex, LIMITS, toHex, utf8Encode } from '../base/index.ts'
import { decodeHello } from './hello.ts'
import type { Notice, RequestId } from './relation.ts'
import type { RelayNews } from './relay-news.ts'

/** The protocol id. */
export const FRIEND_PROTOCOL = '/carrier/friend/1.0.0'

/** Longest answer that is read. */
export const MAX_ANSWER_BYTES = 64

/** A friend request with what it brings along. */
export interface FriendRequestMessage {
  notice: Notice & { kind: 'request' }
  nospam: Uint8Array
  hello: string
  /** Over which relays the answer finds the sender. Not verified here. */
  news?: RelayNews
}

/** Any other message. */
export interface FriendNoticeMessage { notice: Exclude<Notice, { kind: 'request' }> }

/** One message. */
export type FriendMessage = FriendRequestMessage | FriendNoticeMessage

const REQUEST_ID_BYTES = 16

const requestIdSchema = bytesSchema(REQUEST_ID_BYTES, REQUEST_ID_BYTES)

const messageSchema = z.discriminatedUnion('t', [
  z.object({ v: z.literal(1), t: z.literal('request'), id: requestIdSchema, ns: bytesSchema(8, 8), hello: bytesSchema(0, LIMITS.helloBytes), ls: bytesSchema(32, 32).optional(), r: bytesSchema(1, LIMITS.relayRecordBytes).optional() }),
  z.object({ v: z.literal(1), t: z.literal('accept'), id: requestIdSchema }),
  z.object({ v: z.literal(1), t: z.literal('reject'), id: requestIdSchema }),
  z.object({ v: z.literal(1), t: z.literal('remove'), ids: z.array(requestIdSchema).max(LIMITS.requestIdCount) })
])

const answerSchema = z.object({ ok: z.boolean() })

/**
 * Decodes a message's body.
 *
 * @throws CarrierError ERR_PROTOCOL for anything that is not exactly a message, a hello with invalid UTF-8 or control characters
 */
export function decodeFriendMessage (body: Uint8Array): FriendMessage {
  const message = decodeCbor(messageSchema, body)
  switch (message.t) {
    case 'request': return { notice: { kind: 'request', id: toHex(message.id) }, nospam: message.ns, hello: decodeHello(message.hello), ...(message.ls === undefined || message.r === undefined ? {} : { news: { lookUpSecret: message.ls, record: message.r } }) }
    case 'accept': return { notice: { kind: 'accept', id: toHex(message.id) } }
    case 'reject': return { notice: { kind: 'reject', id: toHex(message.id) } }
    case 'remove': return { notice: { kind: 'remove', ids: message.ids.map(toHex) } }
  }
}

/** The frame of a message. */
export function encodeFriendMessage (message: FriendMessage): Uint8Array {
  const body = encodeCbor({ v: 1, t: message.notice.kind, ...membersOf(message) })
  // the relays are an extra: a request that would be too long goes without them
  if (body.length > LIMITS.friendMessageBytes && 'nospam' in message && message.news !== undefined) return encodeFriendMessage({ notice: message.notice, nospam: message.nospam, hello: message.hello })
  return encodeFrame(body)
}

function membersOf (message: FriendMessage): Record<string, unknown> {
  if ('nospam' in message) return { id: fromHex(message.notice.id), ns: message.nospam, hello: utf8Encode(message.hello), ls: message.news?.lookUpSecret, r: message.news?.record }
  const { notice } = message
  return notice.kind === 'remove' ? { ids: notice.ids.map(fromHex) } : { id: fromHex(notice.id) }
}

/** The frame of an answer. */
export function encodeFriendAnswer (isOk: boolean): Uint8Array {
  return encodeFrame(encodeCbor({ ok: isOk }))
}

/** What the other side answered. @throws CarrierError ERR_PROTOCOL */
export function decodeFriendAnswer (body: Uint8Array): boolean {
  return decodeCbor(answerSchema, body).ok
}

/** Stored form of a list of request ids: 16 bytes each. */
export function packRequestIds (ids: readonly RequestId[]): Uint8Array {
  return fromHex(ids.join(''))
}

/** The list of a stored form. */
export function unpackRequestIds (bytes: Uint8Array): RequestId[] {
  const ids: RequestId[] = []
  for (let at = 0; at < bytes.length; at += REQUEST_ID_BYTES) ids.push(toHex(bytes.subarray(at, at + REQUEST_ID_BYTES)))
  return ids
}

function bytesSchema (minBytes: number, maxBytes: number): z.ZodType<Uint8Array> {
  return z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length >= minBytes && value.length <= maxBytes,
    minBytes === maxBytes ? `must be ${minBytes} bytes` : `must be ${minBytes} to ${maxBytes} bytes`)
}
