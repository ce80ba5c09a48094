/** The DAG-CBOR bodies of hello and welcome. Unknown members are ignored: that is how later releases add to them. */
import { z } from 'zod'
import { decodeCbor, encodeCbor, LIMITS } from '../base/index.ts'

/** The session protocol's major version; another one at the other end ends the link with ERR_UNSUPPORTED_VERSION. */
export const SESSION_MAJOR = 1

/** Features that this release has; a feature is used when both ends name it. */
export const FEATURES = ['resume', 'direct', 'punch', 'auth'] as const

/** A feature's name, as both ends of a session must say it. */
export type Feature = typeof FEATURES[number]

/** What the sender of a hello accepts. The other end obeys it without further words. */
export interface WireLimits {
  /** Longest payload of a data frame. */
  framePayloadBytes: number
  /** Longest opening message. */
  openMessageBytes: number
  /** Credit of a new channel before its first ack. */
  channelCreditBytes: number
  /** Channels that may be opened before the first open-credit. */
  channelCount: number
}

/** The first frame of each end. */
export interface Hello {
  major: number
  features: string[]
  limits: WireLimits
  /** 16 bytes, the same for the life of the process. */
  instanceId: Uint8Array
  /** Grows with every hello of this process. */
  sequence: number
  /** The session with this peer that the sender believes to be alive. */
  sessionId?: Uint8Array | undefined
  /** The highest epoch that the sender accepted in it. */
  epoch?: number | undefined
  /** The sender lost the link with this epoch and asks for the session to be resumed on this one. */
  isLost?: boolean | undefined
}

/** The controller's word that this link carries a session: a new one, or, when both know its id, one link more. */
export interface Welcome {
  sessionId: Uint8Array
  /** 32 secret bytes; proves, together with the peer's key, who may resume the session. */
  token: Uint8Array
  /** Number of the link, above every earlier one of the session; 1 for the first. */
  epoch: number
}

/** What this release accepts. */
export const OWN_LIMITS: WireLimits = {
  framePayloadBytes: LIMITS.sessionFramePayloadBytes,
  openMessageBytes: LIMITS.sessionOpenMessageBytes,
  channelCreditBytes: LIMITS.channelInitialCreditBytes,
  channelCount: LIMITS.sessionOpenCreditCount
}

/** Encodes a hello. */
export function encodeHello (hello: Hello): Uint8Array {
  return encodeCbor(hello)
}

/** Decodes a hello; limits above what this release can use are lowered to that. @throws CarrierError ERR_PROTOCOL */
export function decodeHello (body: Uint8Array): Hello {
  const hello = decodeCbor(HELLO, body)
  const { framePayloadBytes, openMessageBytes, channelCreditBytes, channelCount } = hello.limits
  return {
    ...hello,
    limits: {
      framePayloadBytes: Math.min(framePayloadBytes, LIMITS.sessionFramePayloadBytes),
      openMessageBytes: Math.min(openMessageBytes, LIMITS.sessionOpenMessageBytes),
      channelCreditBytes: Math.min(channelCreditBytes, LIMITS.channelMaxCreditBytes),
      channelCount: Math.min(channelCount, LIMITS.sessionChannelCount)
    }
  }
}

/** Encodes a welcome. */
export function encodeWelcome (welcome: Welcome): Uint8Array {
  return encodeCbor(welcome)
}

/** @throws CarrierError ERR_PROTOCOL */
export function decodeWelcome (body: Uint8Array): Welcome {
  return decodeCbor(WELCOME, body)
}

function bytesOf (count: number): z.ZodType<Uint8Array> {
  return z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === count, `must be ${count} bytes`)
}

const COUNT = z.int().min(0)

const HELLO = z.object({
  major: COUNT,
  features: z.array(z.string().max(32)).max(32),
  limits: z.object({
    framePayloadBytes: z.int().min(1024),
    openMessageBytes: z.int().min(1024),
    channelCreditBytes: z.int().min(1024),
    channelCount: z.int().min(1)
  }),
  instanceId: bytesOf(16),
  sequence: z.int().min(1),
  sessionId: bytesOf(16).optional(),
  epoch: z.int().min(1).max(0xffff_ffff).optional(),
  isLost: z.boolean().optional()
})

const WELCOME = z.object({ sessionId: bytesOf(16), token: bytesOf(32), epoch: z.int().min(1).max(0xffff_ffff) })
