/** The one table of the control API. Server routes, the typed client and the documents derive from it; names are frozen. */
import { z } from 'zod'
import {
  AddressShape, DaemonShape, DoctorShape, ForwardShape, FriendShape, NamedShape, NetShape, PingShape, PipeResultShape, RequestShape, ServiceShape,
  StatusShape, ToShape, TraceShape, WayShape, WhoShape
} from './shapes.ts'

/** One method: GET reads and takes its input from the query, POST changes and takes a JSON body. */
export interface MethodFacts<Input extends z.ZodType, Output extends z.ZodType> {
  verb: 'GET' | 'POST'
  path: `/v1/${string}`
  input: Input
  output: Output
  /** One sentence for the documents. */
  about: string
}

const Nothing = z.strictObject({})
const Who = z.strictObject({ who: WhoShape })
const Did = z.object({ did: z.string() })
const PipeId = z.string().min(1).max(64)
const Name = z.string().min(1).max(256)

/** Every method of the control API. */
export const METHODS = {
  'daemon.info': get('/v1/daemon', Nothing, DaemonShape, 'process and settings of the daemon'),
  'daemon.status': get('/v1/status', Nothing, StatusShape, 'everything `carrier status` prints'),
  'daemon.stop': post('/v1/daemon/stop', Nothing, z.object({ pid: z.number() }), 'stops the daemon; it answers first'),
  'daemon.metrics': get('/v1/metrics', Nothing, z.object({ text: z.string() }), 'metrics in Prometheus text format'),
  'node.netcheck': get('/v1/node/netcheck', Nothing, NetShape, 'what kind of network this is: asks the relays'),
  'node.doctor': get('/v1/node/doctor', Nothing, DoctorShape, 'looks at everything that the daemon stands on'),
  'identity.show': get('/v1/id', Nothing, z.object({ did: z.string(), peerId: z.string(), address: z.string().optional() }), 'own DID and current address (absent when all are revoked)'),

  'address.new': post('/v1/address/new', z.strictObject({ name: Name.optional() }), AddressShape, 'makes another address'),
  'address.list': get('/v1/address', Nothing, z.object({ addresses: z.array(AddressShape) }), 'addresses handed out so far'),
  'address.revoke': post('/v1/address/revoke', z.strictObject({ label: Name }), AddressShape, 'an address stops working for new requests'),

  'friend.add': post('/v1/friend/add', z.strictObject({ address: z.string().min(1).max(512), hello: z.string().max(4096).optional(), label: Name.optional() }), Did, 'stores a friend request; it is delivered when the other side is reachable'),
  'friend.list': get('/v1/friend', Nothing, z.object({ friends: z.array(FriendShape) }), 'friends, and those we asked'),
  'friend.requests': get('/v1/friend/requests', Nothing, z.object({ requests: z.array(RequestShape) }), 'requests that wait for our answer'),
  'friend.accept': post('/v1/friend/accept', z.strictObject({ who: WhoShape, label: Name.optional() }), NamedShape, 'accepts a request'),
  'friend.reject': post('/v1/friend/reject', Who, Did, 'declines a request; the sender is told'),
  'friend.ignore': post('/v1/friend/ignore', Who, Did, 'hides a request; the sender is not told'),
  'friend.remove': post('/v1/friend/remove', Who, Did, 'ends a friendship, or withdraws our request'),
  'friend.block': post('/v1/friend/block', Who, Did, 'makes a peer a stranger who cannot connect'),
  'friend.unblock': post('/v1/friend/unblock', Who, Did, 'takes a block back'),
  'friend.blocked': get('/v1/friend/blocked', Nothing, z.object({ blocked: z.array(z.string()) }), 'blocked DIDs'),
  'friend.label': post('/v1/friend/label', z.strictObject({ who: WhoShape, label: Name }), NamedShape, 'our private name for a friend'),
  'friend.why': get('/v1/friend/why', z.strictObject({ to: z.string().min(1).max(512) }), WayShape, 'the way to a friend (WHO or WHO/SERVICE), and why not a better one'),
  'friend.ping': get('/v1/friend/ping', Who, PingShape, 'one round trip through the session'),
  'friend.trace': get('/v1/friend/trace', z.strictObject({ to: ToShape }), TraceShape, 'takes the steps of a connection to WHO/SERVICE and times each'),

  'service.serve': post('/v1/service/serve', z.strictObject({ name: Name, target: z.string().min(1).max(512), allow: z.array(WhoShape).max(256).optional() }), ServiceShape, 'offers a service; dark until someone is allowed'),
  'service.unserve': post('/v1/service/unserve', z.strictObject({ name: Name }), z.object({ name: z.string() }), 'stops offering; live connections end'),
  'service.list': get('/v1/service', Nothing, z.object({ services: z.array(ServiceShape) }), 'services that we offer'),
  'service.remote': get('/v1/service/remote', Who, z.object({ did: z.string(), label: z.string(), services: z.array(z.string()) }), 'services that a friend lets us dial'),
  'service.grant': post('/v1/service/grant', z.strictObject({ who: WhoShape, service: Name }), ServiceShape, 'lets a friend dial a service'),
  'service.revoke': post('/v1/service/revoke', z.strictObject({ who: WhoShape, service: Name.optional() }), z.object({ services: z.array(z.string()), closedConnections: z.number() }), 'withdraws one service or all, and cuts live connections'),

  'forward.open': post('/v1/forward/open', z.strictObject({ host: z.string().min(1).max(253).optional(), port: z.number().int().min(0).max(65_535), to: ToShape, once: z.boolean().optional() }), ForwardShape, 'binds a local port to WHO/SERVICE and probes it'),
  'forward.list': get('/v1/forward', Nothing, z.object({ forwards: z.array(ForwardShape) }), 'forwards and their health'),
  'forward.close': post('/v1/forward/close', z.strictObject({ port: z.number().int().min(1).max(65_535) }), z.object({ listen: z.string(), to: z.string() }), 'ends the forward of a local port'),

  'pipe.reset': post('/v1/pipe/reset', z.strictObject({ id: PipeId }), Nothing, 'gives a pipe up: the far side sees a reset, not an end'),
  'pipe.result': get('/v1/pipe/result', z.strictObject({ id: PipeId, until: z.enum(['end', 'close']) }), PipeResultShape, 'how a pipe ended; waits for the end of its incoming side, or of both')
} as const

/** Name of a method. */
export type MethodName = keyof typeof METHODS

/** What a caller passes. */
export type MethodInput<Name extends MethodName> = z.input<(typeof METHODS)[Name]['input']>

/** What a caller gets. */
export type MethodOutput<Name extends MethodName> = z.output<(typeof METHODS)[Name]['output']>

/** Paths beside the methods: the event stream and the byte pipe. */
export const EVENTS_PATH = '/v1/events'
export const PIPE_PATH = '/v1/pipe'

/** Value of `Upgrade:` for a byte pipe. */
export const PIPE_UPGRADE = 'carrier-pipe'

/** Answer header that names the pipe for `pipe.result`. */
export const PIPE_ID_HEADER = 'carrier-pipe-id'

function get<Input extends z.ZodType, Output extends z.ZodType> (path: `/v1/${string}`, input: Input, output: Output, about: string): MethodFacts<Input, Output> {
  return { verb: 'GET', path, input, output, about }
}

function post<Input extends z.ZodType, Output extends z.ZodType> (path: `/v1/${string}`, input: Input, output: Output, about: string): MethodFacts<Input, Output> {
  return { verb: 'POST', path, input, output, about }
}
