/** A Carrier without a network: remembers in memory, pipes lead to functions of the test. For the control API and the command line. */
import type { Duplex } from 'node:stream'
import { PassThrough } from 'node:stream'
import type { Carrier, CarrierStatus } from '../../src/carrier-types.ts'
import { CarrierError, createMetrics } from '../../src/base/index.ts'
import type { Forward, Service, ServiceTarget } from '../../src/forwarding/index.ts'
import type { Friend, FriendRequest } from '../../src/friends/index.ts'
import type { Did, LabelledAddress } from '../../src/identity/index.ts'
import type { Channel } from '../../src/session/index.ts'

/** What a test may set and see. */
export interface FakeCarrier {
  carrier: Carrier
  friends: Friend[]
  requests: FriendRequest[]
  emit: (name: string, payload: unknown) => void
  /** Answers of remote services by `WHO/SERVICE`; what is not here is refused with ERR_NOT_AVAILABLE after the pipe opened. */
  remotes: Map<string, () => Duplex>
  /** Friends that are away: everything towards them fails with ERR_PEER_OFFLINE. */
  offline: Set<string>
  /** Signals that were handed to slow calls (`remoteServices` of the friend "slow" never answers). */
  signals: AbortSignal[]
}

/** DIDs that look right; the fake does not parse them. */
export const FAKE_DIDS = {
  me: 'did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH',
  office: 'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp',
  stranger: 'did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG'
} as const satisfies Record<string, Did>

/** Never answers; rejects with the signal's reason, also when it fired before. */
export async function untilAborted (signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const onAbort = (): void => { reject(signal?.reason as Error) }
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** A remote service that sends back what it gets and ends when we end. */
export function echo (): Duplex {
  return new PassThrough()
}

/** Makes a fake with the friend "office". */
export function createFakeCarrier (): FakeCarrier {
  const metrics = createMetrics()
  const friends: Friend[] = [{ owner: FAKE_DIDS.office, devices: [FAKE_DIDS.office], label: 'office', state: 'friend', addedAt: 1_700_000_000_000, lastSeenAt: undefined }]
  const requests: FriendRequest[] = []
  const services = new Map<string, Service>()
  const forwards: Forward[] = []
  const addresses: LabelledAddress[] = [{ label: '1', number: 1, address: 'cr1fake1', createdAt: 1_700_000_000_000, revokedAt: undefined }]
  const listeners = new Set<(name: string, payload: unknown) => void>()
  const remotes = new Map<string, () => Duplex>()
  const offline = new Set<string>()
  const signals: AbortSignal[] = []
  const startedAtMs = performance.now()

  function resolve (who: string): Friend {
    const friend = friends.find((item) => item.label === who || item.owner === who)
    if (friend === undefined) throw new CarrierError('ERR_UNKNOWN_FRIEND', `"${who}" is no friend of yours; see: carrier friend list`)
    return friend
  }

  function request (who: string): FriendRequest {
    const index = requests.findIndex((item) => item.did === who)
    const found = requests[index]
    if (found === undefined) throw new CarrierError('ERR_UNKNOWN_REQUEST', `no request of "${who}" waits; see: carrier friend requests`)
    requests.splice(index, 1)
    return found
  }

  function service (name: string): Service {
    const found = services.get(name)
    if (found === undefined) throw new CarrierError('ERR_NOT_FOUND', `no service "${name}" is offered; see: carrier services`)
    return found
  }

  function target (text: string): ServiceTarget {
    if (text.startsWith('unix:')) return { kind: 'unix', path: text.slice(5) }
    const [host, port] = text.includes(':') ? text.split(':') : ['127.0.0.1', text]
    if (!/^\d+$/.test(port ?? '')) throw new CarrierError('ERR_INVALID_ARGUMENT', `"${text}" is no target: PORT, HOST:PORT or unix:PATH`)
    return { kind: 'tcp', host: host ?? '', port: Number(port) }
  }

  function dial (to: string): Channel {
    const [who = '', name = ''] = [to.slice(0, to.lastIndexOf('/')), to.slice(to.lastIndexOf('/') + 1)]
    const friend = resolve(who)
    if (offline.has(friend.label)) throw new CarrierError('ERR_PEER_OFFLINE', `${friend.label} is offline`)
    const remote = remotes.get(`${friend.label}/${name}`)
    if (remote !== undefined) return remote() as Channel
    const channel = new PassThrough()
    setImmediate(() => { channel.destroy(new CarrierError('ERR_NOT_AVAILABLE', `${to} is not offered to you, or not there`)) })
    return channel as Duplex as Channel
  }

  function status (): CarrierStatus {
    return {
      did: FAKE_DIDS.me,
      peerId: '12D3KooWFake',
      version: '0.1.0',
      uptimeMs: Math.round(performance.now() - startedAtMs),
      relays: [{ peerId: '12D3KooWRelay', address: '/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWRelay', state: 'reserved', rttMs: 12, loadPermille: 250, isChosen: true, reason: undefined }],
      friends: friends.map((friend) => ({
        did: friend.owner,
        label: friend.label,
        presence: friend.state === 'requested' ? 'requested' : offline.has(friend.label) ? 'offline' : 'online',
        link: offline.has(friend.label) || friend.state === 'requested' ? undefined : 'stream',
        rttMs: offline.has(friend.label) || friend.state === 'requested' ? undefined : 12,
        path: offline.has(friend.label) || friend.state === 'requested' ? undefined : 'relayed',
        lastSeenAt: friend.lastSeenAt
      })),
      services: [...services.values()].map((item) => ({
        name: item.name,
        target: item.target.kind === 'unix' ? `unix:${item.target.path}` : `${item.target.host}:${item.target.port}`,
        allow: item.allow,
        connections: item.connectionCount,
        source: item.source.kind
      })),
      forwards: [],
      listen: [],
      requestCount: requests.length,
      problems: []
    }
  }

  const carrier = {
    identity: { did: FAKE_DIDS.me, peerId: { toString: () => '12D3KooWFake' } },
    metrics,
    addresses: {
      create: (name?: string) => {
        const address = { label: name ?? String(addresses.length + 1), number: addresses.length + 1, address: `cr1fake${addresses.length + 1}`, createdAt: 1_700_000_000_000, revokedAt: undefined }
        addresses.push(address)
        return address
      },
      list: () => addresses,
      current: () => addresses.find((item) => item.revokedAt === undefined),
      revoke: (label: string) => {
        const found = addresses.find((item) => item.label === label)
        if (found === undefined) throw new CarrierError('ERR_NOT_FOUND', `no address has the label "${label}"`)
        found.revokedAt = 1_700_000_000_001
        return found
      }
    },
    friends: {
      add: (address: string, options: { label?: string } = {}) => {
        if (!address.startsWith('cr1')) throw new CarrierError('ERR_INVALID_ADDRESS', `"${address}" is no address`)
        friends.push({ owner: FAKE_DIDS.stranger, devices: [FAKE_DIDS.stranger], label: options.label ?? 'friend-p5rdjv', state: 'requested', addedAt: 1_700_000_000_000, lastSeenAt: undefined })
        return FAKE_DIDS.stranger
      },
      list: () => friends,
      requests: () => requests,
      accept: (who: string, options: { label?: string } = {}) => {
        const { did } = request(who)
        const friend: Friend = { owner: did, devices: [did], label: options.label ?? 'friend-new', state: 'friend', addedAt: 1_700_000_000_000, lastSeenAt: undefined }
        friends.push(friend)
        return friend
      },
      reject: (who: string) => request(who).did,
      ignore: (who: string) => request(who).did,
      remove: async (who: string) => {
        const friend = resolve(who)
        friends.splice(friends.indexOf(friend), 1)
        return friend.owner
      },
      block: async (who: string) => friends.find((item) => item.label === who)?.owner ?? who,
      unblock: (who: string) => who,
      blocked: () => [],
      label: (who: string, label: string) => {
        const friend = resolve(who)
        friend.label = label
        return friend
      },
      resolve
    },
    forwarding: {
      serve: (name: string, text: string, options: { allow?: string[] } = {}) => {
        const item: Service = { name, target: target(text), allow: (options.allow ?? []).map((who) => resolve(who).owner), source: { kind: 'state' }, connectionCount: 0 }
        services.set(name, item)
        return item
      },
      unserve: (name: string) => {
        service(name)
        services.delete(name)
      },
      grant: (who: string, name: string) => {
        service(name).allow.push(resolve(who).owner)
        return service(name)
      },
      revoke: (who: string, name?: string) => {
        resolve(who)
        return { services: name === undefined ? [...services.keys()] : [name], closedConnections: 1 }
      },
      services: () => [...services.values()],
      remoteServices: async (who: string, options: { signal?: AbortSignal } = {}) => {
        const friend = resolve(who)
        if (options.signal !== undefined) signals.push(options.signal)
        if (offline.has(friend.label)) throw new CarrierError('ERR_PEER_OFFLINE', `${friend.label} is offline`)
        if (friend.label === 'slow') return untilAborted(options.signal)
        return [...remotes.keys()].filter((key) => key.startsWith(`${friend.label}/`)).map((key) => key.slice(friend.label.length + 1))
      },
      openForward: async ({ host = '127.0.0.1', port, to, once = false }: { host?: string, port: number, to: string, once?: boolean }) => {
        const [who = '', name = ''] = to.split('/')
        const friend = resolve(who)
        const isOffline = offline.has(friend.label)
        if (!isOffline && !remotes.has(`${friend.label}/${name}`)) throw new CarrierError('ERR_NOT_AVAILABLE', `${to} is not offered to you, or not there`)
        const forward: Forward = {
          bind: { host, port },
          listen: `${host}:${port === 0 ? 40_000 + forwards.length : port}`,
          to,
          friend: friend.owner,
          service: name,
          isPersistent: !once,
          source: { kind: 'state' },
          state: isOffline ? 'offline' : 'active',
          reason: isOffline ? `${friend.label} is offline` : undefined,
          path: isOffline ? undefined : 'relayed',
          connectionCount: 0,
          provenAt: undefined
        }
        forwards.push(forward)
        return forward
      },
      closeForward: async (port: number) => {
        const index = forwards.findIndex((item) => item.listen.endsWith(`:${port}`))
        const [forward] = index < 0 ? [] : forwards.splice(index, 1)
        if (forward === undefined) throw new CarrierError('ERR_NOT_FOUND', `no forward listens on port ${port}; see: carrier forward list`)
        return forward
      },
      forwards: () => forwards,
      dial: async (to: string) => dial(to)
    },
    status,
    ping: async (who: string) => {
      const friend = resolve(who)
      if (offline.has(friend.label)) throw new CarrierError('ERR_PEER_OFFLINE', `${friend.label} is offline`)
      return { did: friend.owner, label: friend.label, rttMs: 41.2, path: 'relayed', relayPeerId: '12D3KooWRelay', link: 'stream' }
    },
    onAnyEvent: (listener: (name: string, payload: unknown) => void) => {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
    start: async () => {},
    stop: async () => {}
  }
  return {
    // a double: the control API uses these members only, and a test fails loudly when it uses another
    carrier: carrier as unknown as Carrier,
    friends,
    requests,
    remotes,
    offline,
    signals,
    emit: (name, payload) => { for (const listener of listeners) listener(name, payload) }
  }
}
