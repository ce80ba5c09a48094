/** Bytes of an audit entry: the leaf that stays for ever, and the salted body that may be erased without touching it. PROTOCOL.md "Audit". */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { decodeCbor, encodeCbor } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuditEntry, AuditEvent } from './types.ts'

/** Length of the salt that keeps a body from being guessed from its hash. */
export const SALT_BYTES = 16

/** SHA-256(salt ‖ body): what the leaf says about the body. */
export function commitBody (salt: Uint8Array, body: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(salt).update(body).digest())
}

/** What a leaf holds. */
export interface Leaf { seq: number, at: number, event: AuditEvent, bodyHash: Uint8Array }

/** Leaf bytes: DAG-CBOR {v: 1, seq, t, ev, h}. */
export function encodeLeaf (leaf: Leaf): Uint8Array {
  return encodeCbor({ v: 1, seq: leaf.seq, t: leaf.at, ev: leaf.event, h: leaf.bodyHash })
}

/** Reads a leaf. @throws CarrierError ERR_PROTOCOL when it is none */
export function decodeLeaf (bytes: Uint8Array): Leaf {
  const leaf = decodeCbor(leafSchema, bytes)
  // the event names of later releases are kept as they are: a list shows them, nothing acts on them
  return { seq: leaf.seq, at: leaf.t, event: leaf.ev as AuditEvent, bodyHash: leaf.h }
}

/** Body bytes: DAG-CBOR with the short member names; absent facts are left out. */
export function encodeBody (entry: AuditEntry): Uint8Array {
  return encodeCbor({
    sid: entry.sessionId,
    dir: entry.direction,
    peer: entry.device,
    owner: entry.owner,
    svc: entry.service,
    dec: entry.decision,
    why: entry.why,
    path: encodePath(entry.path, entry.relayPeerId),
    in: entry.bytesIn,
    out: entry.bytesOut,
    ms: entry.durationMs === undefined ? undefined : Math.round(entry.durationMs),
    n: entry.count,
    keys: entry.sample
  } satisfies Record<keyof z.input<typeof bodySchema>, unknown>)
}

/** Reads a body; members of later releases are skipped. @throws CarrierError ERR_PROTOCOL when it is none */
export function decodeBody (bytes: Uint8Array): Omit<AuditEntry, 'event'> {
  const body = decodeCbor(bodySchema, bytes)
  const facts = {
    sessionId: body.sid,
    direction: body.dir,
    device: body.peer,
    owner: body.owner,
    service: body.svc,
    decision: body.dec,
    why: body.why,
    ...decodePath(body.path),
    bytesIn: body.in,
    bytesOut: body.out,
    durationMs: body.ms,
    count: body.n,
    sample: body.keys
  }
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined))
}

/** `direct`, `lan`, …, and `relay:<peerId>` for what a relay carries. */
function encodePath (path: string | undefined, relayPeerId: string | undefined): string | undefined {
  if (relayPeerId === undefined) return path
  return `${path === undefined || path === 'relayed' ? 'relay' : path}:${relayPeerId}`
}

function decodePath (text: string | undefined): { path?: string, relayPeerId?: string } {
  if (text === undefined) return {}
  const colon = text.indexOf(':')
  if (colon === -1) return { path: text }
  const kind = text.slice(0, colon)
  return { path: kind === 'relay' ? 'relayed' : kind, relayPeerId: text.slice(colon + 1) }
}

const bytesSchema = z.instanceof(Uint8Array)
// our own file: the key was judged when the entry was written, and reading a hundred entries must stay cheap
const didSchema = z.string().startsWith('did:key:z6Mk') as z.ZodType<Did>
const countSchema = z.number().int().nonnegative()

const leafSchema = z.strictObject({ v: z.literal(1), seq: countSchema, t: z.number().int(), ev: z.string(), h: bytesSchema })

const bodySchema = z.object({
  sid: bytesSchema.optional(),
  dir: z.enum(['in', 'out']).optional(),
  peer: didSchema.optional(),
  owner: didSchema.optional(),
  svc: z.string().optional(),
  dec: z.enum(['allow', 'deny']).optional(),
  why: z.string().optional(),
  path: z.string().optional(),
  in: countSchema.optional(),
  out: countSchema.optional(),
  ms: countSchema.optional(),
  n: countSchema.optional(),
  keys: z.array(z.string()).optional()
})
