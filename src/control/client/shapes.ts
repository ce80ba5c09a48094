/** Shapes of what crosses the control API. Absent members are left out; `null` does not occur. */
import { z } from 'zod'

/** How bytes travel to a friend. */
export const PathShape = z.enum(['lan', 'direct', 'punched', 'relayed', 'spliced'])

/** Who wrote an item: a command or carrier.toml. */
export const SourceShape = z.enum(['state', 'config'])

/** A friend's label or DID, as people type it. */
export const WhoShape = z.string().min(1).max(256)

/** `WHO/SERVICE`. */
export const ToShape = z.string().min(3).max(512)

/** One configured relay. */
export const RelayShape = z.object({
  peerId: z.string(),
  address: z.string(),
  state: z.enum(['connecting', 'reserved', 'standby', 'unreachable', 'refused']),
  rttMs: z.number().optional(),
  loadPermille: z.number().optional(),
  isChosen: z.boolean(),
  reason: z.string().optional()
})

/** One friend as `status` shows it. */
export const FriendStatusShape = z.object({
  did: z.string(),
  label: z.string(),
  presence: z.enum(['online', 'offline', 'requested']),
  /** What carries the session: stream, splice or direct. */
  link: z.string().optional(),
  path: PathShape.optional(),
  rttMs: z.number().optional(),
  lastSeenAt: z.number().optional()
})

/** One service that we offer. */
export const ServiceShape = z.object({
  name: z.string(),
  target: z.string(),
  allow: z.array(z.string()),
  connections: z.number(),
  source: SourceShape
})

/** One forward. `once`: gone when the daemon stops. */
export const ForwardShape = z.object({
  listen: z.string(),
  to: z.string(),
  state: z.enum(['connecting', 'active', 'offline', 'refused', 'target-down', 'error']),
  reason: z.string().optional(),
  path: PathShape.optional(),
  connections: z.number(),
  source: SourceShape,
  once: z.boolean()
})

/** Everything `carrier status` prints. */
export const StatusShape = z.object({
  did: z.string(),
  peerId: z.string(),
  version: z.string(),
  uptimeMs: z.number(),
  relays: z.array(RelayShape),
  friends: z.array(FriendStatusShape),
  services: z.array(ServiceShape),
  forwards: z.array(ForwardShape),
  listen: z.array(z.string()),
  requestCount: z.number(),
  problems: z.array(z.string())
})

/** What the daemon was started with. */
export const DaemonShape = z.object({
  pid: z.number(),
  version: z.string(),
  dataDirectory: z.string(),
  startedAt: z.number(),
  logFile: z.string().optional(),
  configFile: z.string().optional(),
  relays: z.array(z.string()),
  listen: z.enum(['none', 'lan', 'mapped', 'public']),
  port: z.number(),
  keepalive: z.enum(['fast', 'normal', 'saver']).optional()
})

/** One handed-out address. */
export const AddressShape = z.object({
  label: z.string(),
  number: z.number(),
  address: z.string(),
  createdAt: z.number(),
  revokedAt: z.number().optional()
})

/** One friend, or one whom we asked. */
export const FriendShape = z.object({
  did: z.string(),
  label: z.string(),
  state: z.enum(['requested', 'friend']),
  devices: z.array(z.string()),
  presence: z.enum(['online', 'offline', 'requested']),
  path: PathShape.optional(),
  addedAt: z.number(),
  lastSeenAt: z.number().optional()
})

/** A request that waits for our answer. */
export const RequestShape = z.object({
  did: z.string(),
  /** Short for the DID in commands. */
  name: z.string(),
  hello: z.string(),
  receivedAt: z.number(),
  expiresAt: z.number(),
  state: z.enum(['pending', 'ignored'])
})

/** A friend by name. */
export const NamedShape = z.object({ did: z.string(), label: z.string() })

/** One round trip. */
export const PingShape = z.object({
  did: z.string(),
  label: z.string(),
  rttMs: z.number(),
  path: PathShape,
  relayPeerId: z.string().optional(),
  link: z.string()
})

/** What kind of network the node is in. */
export const NetShape = z.object({
  nat: z.enum(['none', 'independent', 'dependent', 'unknown']),
  seenAs: z.array(z.string()),
  reason: z.string().optional(),
  hasIpv4: z.boolean(),
  hasIpv6: z.boolean(),
  listen: z.array(z.string()),
  relays: z.array(RelayShape),
  advice: z.array(z.string())
})

/** The way to a friend. */
export const WayShape = z.object({
  did: z.string(),
  label: z.string(),
  presence: z.enum(['online', 'offline']),
  link: z.string().optional(),
  path: PathShape.optional(),
  relayPeerId: z.string().optional(),
  isRelayListed: z.boolean().optional(),
  rttMs: z.number().optional(),
  offlineReason: z.string().optional(),
  reasons: z.array(z.object({ way: z.enum(['dial', 'punch', 'splice']), state: z.enum(['impossible', 'failed', 'trying', 'untried']), text: z.string(), nextTryMs: z.number().optional() })),
  service: z.object({ name: z.string(), isOffered: z.boolean() }).optional(),
  advice: z.array(z.string())
})

/** Everything that `doctor` looked at. */
export const DoctorShape = z.object({
  checks: z.array(z.object({
    name: z.string(),
    /** Which one, where there are several. */
    subject: z.string().optional(),
    result: z.enum(['ok', 'warn', 'fail']),
    text: z.string(),
    advice: z.string().optional()
  }))
})

/** A connection to a service, step by step. */
export const TraceShape = z.object({
  did: z.string(),
  label: z.string(),
  service: z.string(),
  steps: z.array(z.object({
    step: z.enum(['friend', 'session', 'way', 'relay', 'offer', 'open', 'answer']),
    result: z.enum(['ok', 'failed']),
    ms: z.number().optional(),
    text: z.string()
  })),
  /** What a connection would end with; absent when one comes about. */
  code: z.string().optional(),
  summary: z.string(),
  advice: z.array(z.string())
})

/** How a pipe stands: bytes flow, the far end closed its side, both sides are done, or it failed with a code. */
export const PipeResultShape = z.object({
  state: z.enum(['open', 'ended', 'closed', 'failed']),
  code: z.string().optional(),
  message: z.string().optional()
})

/** Body of every answer that is not 2xx. */
export const ErrorShape = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional()
  })
})
