/** The shape of every command's `--json` output. Stable: members are added, never renamed or removed. */
import { z } from 'zod'
import { AddressShape, FriendShape, METHODS, NamedShape, PathShape, RelayShape, RequestShape, ServiceShape, ForwardShape } from '../src/control/client/index.ts'

/** By command, as it is typed. */
export const JSON_SHAPES = {
  up: z.object({
    did: z.string(),
    peerId: z.string(),
    address: z.string().optional(),
    pid: z.number(),
    relays: z.array(RelayShape),
    log: z.string().optional(),
    isAlreadyRunning: z.boolean()
  }),
  down: z.object({ pid: z.number() }),
  id: METHODS['identity.show'].output,
  'address new': AddressShape,
  'address list': z.array(AddressShape),
  'address revoke': AddressShape,
  status: METHODS['daemon.status'].output,
  'friend add': METHODS['friend.add'].output,
  'friend list': z.array(FriendShape),
  'friend requests': z.array(RequestShape),
  'friend accept': NamedShape,
  'friend reject': METHODS['friend.reject'].output,
  'friend ignore': METHODS['friend.ignore'].output,
  'friend remove': METHODS['friend.remove'].output,
  'friend block': METHODS['friend.block'].output,
  'friend unblock': METHODS['friend.unblock'].output,
  'friend blocked': z.array(z.string()),
  'friend label': NamedShape,
  serve: ServiceShape,
  unserve: METHODS['service.unserve'].output,
  grant: ServiceShape,
  revoke: METHODS['service.revoke'].output,
  services: z.array(ServiceShape),
  'services WHO': METHODS['service.remote'].output,
  forward: ForwardShape,
  'forward list': z.array(ForwardShape),
  'forward close': METHODS['forward.close'].output,
  ping: z.object({
    did: z.string(),
    label: z.string(),
    path: PathShape,
    relayPeerId: z.string().optional(),
    link: z.string(),
    /** Median. */
    rttMs: z.number(),
    rttsMs: z.array(z.number())
  }),
  why: METHODS['friend.why'].output,
  trace: METHODS['friend.trace'].output,
  doctor: METHODS['node.doctor'].output.extend({ result: z.enum(['ok', 'warn', 'fail']) }),
  netcheck: METHODS['node.netcheck'].output,
  version: z.object({ version: z.string() }),
  completion: z.object({ shell: z.string(), script: z.string() })
} as const satisfies Record<string, z.ZodType>

/** Name of a shape. */
export type JsonShapeName = keyof typeof JSON_SHAPES
