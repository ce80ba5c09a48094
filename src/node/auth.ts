/**
 * `/carrier/auth/1.0.0`: both ends of a libp2p connection prove their device key over one transcript. PROTOCOL.md "Auth".
 *
 * ```
 * 1  I→R  {v:1, n}            2  R→I  {v:1, n}
 * 3  I→R  {p, sig, h}         4  R→I  {p, sig, h}      only after 3 was verified
 * 5  both {ok:true, exp}  or  {ok:false, err}
 * ```
 * Frames are length-prefixed DAG-CBOR. Both sides know from Noise which key the other holds; the signature binds the
 * presented credentials, both nonces and the role to it. The caller sets the deadline and closes the stream.
 * The same frames run on control channel 0 of a session (auth-session.ts), bound to the session and its link.
 */
import { z } from 'zod'
import { CarrierError, decodeCbor, encodeCbor, LIMITS } from '../base/index.ts'
import { AUTH_NONCE_BYTES, AUTH_SIGNATURE_BYTES, EMPTY_PRESENT, NO_CREDENTIALS, presentSchema, signAuthProof, verifyAuthProof } from '../identity/index.ts'
import type { AuthTranscript, Credentials, Did, Identity, Present, SessionBinding } from '../identity/index.ts'
import { createFrameExchange } from './frame-exchange.ts'
import type { FrameExchange } from './frame-exchange.ts'
import type { ByteDuplex, PeerLevel } from './types.ts'

/** Id of the protocol. */
export const AUTH_PROTOCOL = '/carrier/auth/1.0.0'

/** The whole refusal: the same for everybody and every reason. */
const REFUSED = { ok: false, err: 'refused' } as const

/** `exp` when nothing was presented that could expire. */
const NEVER_EXPIRES = 0

/** Bytes of an instance id. */
const INSTANCE_BYTES = 16

const bytesOf = (length: number): z.ZodType<Uint8Array> => z.instanceof(Uint8Array).refine((bytes) => bytes.length === length, `must have ${length} bytes`)

/** Frames 1 and 2. */
const nonceFrame = z.strictObject({ v: z.literal(1), n: bytesOf(AUTH_NONCE_BYTES) })

/** What a side says about itself; unknown members are ignored, so that later releases may add some. */
const helloSchema = z.object({
  major: z.number().int().min(0),
  features: z.array(z.string().max(64)).max(32),
  limits: z.record(z.string().max(64), z.number().int().min(0)).refine((limits) => Object.keys(limits).length <= 32, 'too many limits'),
  instance: bytesOf(INSTANCE_BYTES).optional(),
  addrs: z.array(z.string().max(256)).max(LIMITS.rememberedAddressCount).optional()
})

/** Frames 3 and 4. */
const proofFrame = z.strictObject({ p: presentSchema, sig: bytesOf(AUTH_SIGNATURE_BYTES), h: helloSchema })

/** Frame 5. */
const resultFrame = z.union([
  z.strictObject({ ok: z.literal(true), exp: z.number().int().min(0) }),
  z.strictObject({ ok: z.literal(false), err: z.string().max(64) })
])

/** Version, abilities and (for friends) instance and direct addresses of one side. */
export type Hello = z.infer<typeof helloSchema>

/** What one run of the handshake needs. */
export interface AuthComponents {
  identity: Pick<Identity, 'did' | 'sign' | 'instanceId'>
  /** How the remote device is known now. Asked for the frame limit before frame 3 or 4, and again after its verification. */
  levelOf: (device: Did) => PeerLevel
  /** Random bytes. */
  random: (length: number) => Uint8Array
  /** Own direct addresses, told to friends only. */
  listenAddresses: () => string[]
  /** What friends are shown, and how what they show is judged; nothing, and always accepted, when absent. */
  credentials?: Credentials | undefined
}

/** Frames in both directions, whatever carries them. */
export type AuthChannel = Pick<FrameExchange, 'read' | 'write'>

/** What the handshake proved. */
export interface AuthResult {
  device: Did
  present: Present
  hello: Hello
  /** Epoch seconds until which we accept what the other side showed; 0: for ever. */
  acceptedUntilSeconds: number
  /** Epoch seconds after which it must run again, for what either side showed; 0: nothing expires. */
  expiresAtSeconds: number
}

/**
 * The side that opened the connection.
 *
 * @param remote the key that Noise proved for the other side
 * @throws CarrierError ERR_NOT_AVAILABLE (refused), ERR_PROTOCOL (wrong proof or frame), ERR_UNSUPPORTED_VERSION, ERR_LINK_LOST
 */
export async function initiateAuth (components: AuthComponents, stream: ByteDuplex, remote: Did): Promise<AuthResult> {
  return overStream(stream, async (channel) => runInitiator(components, channel, remote))
}

/**
 * The side that accepted the connection. To anybody but a friend it presents nothing, in messages of constant length.
 *
 * @param remote the key that Noise proved for the other side
 * @throws as {@link initiateAuth}
 */
export async function respondAuth (components: AuthComponents, stream: ByteDuplex, remote: Did): Promise<AuthResult> {
  return overStream(stream, async (channel) => runResponder(components, channel, remote))
}

/** Frames 1, 3 and 5 of the initiator; in a session bound to it. A failure is not told to the other side. @throws as {@link initiateAuth} */
export async function runInitiator (components: AuthComponents, channel: AuthChannel, remote: Did, session?: SessionBinding): Promise<AuthResult> {
  const { identity, levelOf, random } = components
  const initiatorNonce = random(AUTH_NONCE_BYTES)
  channel.write(encodeCbor({ v: 1, n: initiatorNonce }))
  const { n: responderNonce } = decodeCbor(nonceFrame, await receive(channel, LIMITS.strangerFrameBytes))

  const transcript = { initiator: identity.did, responder: remote, initiatorNonce, responderNonce, session }
  const level = levelOf(remote)
  channel.write(await proof(components, level, { ...transcript, role: 'i', present: presentFor(components, level, remote) }))

  // a responder that refuses answers with frame 5 in place of frame 4
  const answer = decodeCbor(z.union([proofFrame, resultFrame]), await receive(channel, frameLimit(levelOf(remote))))
  if (!('sig' in answer)) throw refusedByPeer()
  checkProof({ ...transcript, role: 'r', present: answer.p }, answer.sig)
  const acceptedUntilSeconds = judge(components, remote, answer.p)
  channel.write(encodeCbor({ ok: true, exp: acceptedUntilSeconds }))
  const result = decodeCbor(resultFrame, await receive(channel, LIMITS.strangerFrameBytes))
  if (!result.ok) throw refusedByPeer()
  checkVersion(answer.h)
  return { device: remote, present: answer.p, hello: answer.h, acceptedUntilSeconds, expiresAtSeconds: earlier(acceptedUntilSeconds, result.exp) }
}

/** Frames 2, 4 and 5 of the responder; else as {@link runInitiator}. */
export async function runResponder (components: AuthComponents, channel: AuthChannel, remote: Did, session?: SessionBinding): Promise<AuthResult> {
  const { identity, levelOf, random } = components
  const { n: initiatorNonce } = decodeCbor(nonceFrame, await receive(channel, LIMITS.strangerFrameBytes))
  const responderNonce = random(AUTH_NONCE_BYTES)
  channel.write(encodeCbor({ v: 1, n: responderNonce }))

  const transcript = { initiator: remote, responder: identity.did, initiatorNonce, responderNonce, session }
  const claim = decodeCbor(proofFrame, await receive(channel, frameLimit(levelOf(remote))))
  checkProof({ ...transcript, role: 'i', present: claim.p }, claim.sig)
  const level = levelOf(remote)
  if (level === 'blocked') throw new CarrierError('ERR_NOT_AVAILABLE', 'the device is blocked')
  const acceptedUntilSeconds = judge(components, remote, claim.p)

  channel.write(await proof(components, level, { ...transcript, role: 'r', present: presentFor(components, level, remote) }))
  channel.write(encodeCbor({ ok: true, exp: acceptedUntilSeconds }))
  const result = decodeCbor(resultFrame, await receive(channel, LIMITS.strangerFrameBytes))
  if (!result.ok) throw refusedByPeer()
  checkVersion(claim.h)
  return { device: remote, present: claim.p, hello: claim.h, acceptedUntilSeconds, expiresAtSeconds: earlier(acceptedUntilSeconds, result.exp) }
}

/** Runs one side over a stream: a failure is told with the constant refusal, whatever it was. */
async function overStream (stream: ByteDuplex, run: (channel: AuthChannel) => Promise<AuthResult>): Promise<AuthResult> {
  const exchange = createFrameExchange(stream)
  try {
    const result = await run(exchange)
    await exchange.end()
    return result
  } catch (err) {
    exchange.write(encodeCbor(REFUSED))
    throw err
  } finally {
    exchange.finish()
  }
}

/** Friends are shown what is for them, all others nothing. */
function presentFor (components: AuthComponents, level: PeerLevel, remote: Did): Present {
  return level === 'friend' ? (components.credentials ?? NO_CREDENTIALS).presentTo(remote) : EMPTY_PRESENT
}

/** What somebody who is no friend shows is not looked at. @throws CarrierError as Credentials.judge */
function judge (components: AuthComponents, remote: Did, present: Present): number {
  return components.levelOf(remote) === 'friend' ? (components.credentials ?? NO_CREDENTIALS).judge(remote, present) : NEVER_EXPIRES
}

/** The earlier of two instants, of which 0 is never. */
function earlier (one: number, other: number): number {
  if (one === NEVER_EXPIRES || other === NEVER_EXPIRES) return Math.max(one, other)
  return Math.min(one, other)
}

/** Largest frame that is read from a device of this level. */
function frameLimit (level: PeerLevel): number {
  return level === 'friend' ? LIMITS.friendFrameBytes : LIMITS.strangerFrameBytes
}

/** Frame 3 or 4. Only friends learn the instance and the addresses of this process. */
async function proof (components: AuthComponents, level: PeerLevel, transcript: AuthTranscript): Promise<Uint8Array> {
  const hello: Hello = { major: 1, features: [], limits: { streams: level === 'friend' ? LIMITS.peerStreamCount : LIMITS.strangerStreamCount } }
  if (level === 'friend') {
    hello.instance = components.identity.instanceId
    const addrs = components.listenAddresses().slice(0, LIMITS.rememberedAddressCount)
    if (addrs.length > 0) hello.addrs = addrs
  }
  return encodeCbor({ p: transcript.present, sig: await signAuthProof(components.identity, transcript), h: hello })
}

function checkProof (transcript: AuthTranscript, signature: Uint8Array): void {
  if (!verifyAuthProof(transcript, signature)) throw new CarrierError('ERR_PROTOCOL', 'the auth proof is not a signature of this connection by the device')
}

function checkVersion (hello: Hello): void {
  if (hello.major !== 1) throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the other side speaks Carrier ${hello.major}, this release speaks 1: update the older one`)
}

async function receive (channel: AuthChannel, maxBytes: number): Promise<Uint8Array> {
  const frame = await channel.read(maxBytes)
  if (frame === undefined) throw new CarrierError('ERR_PROTOCOL', 'the other side ended the auth handshake')
  return frame
}

function refusedByPeer (): CarrierError {
  return new CarrierError('ERR_NOT_AVAILABLE', 'the other side refused the connection')
}
