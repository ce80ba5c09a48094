/** Dials what another listed relay announces and says what came of it: only for relays that this operator listed, seldom, and few addresses. */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { ERRORS, LIMITS, createTaskOwner, startDeadline } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable } from '../base/index.ts'
import { closeSoon } from '../node/index.ts'
import { isRelayed } from './call-peer.ts'
import type { HandshakeDesk } from './handshake-desk.ts'
import { peerIdOfAddress } from './mesh.ts'
import { readMessage, sendMessage } from './message-stream.ts'
import { REACH_PROTOCOL, decodeReachCheck, encodeReachAnswer } from './reach-messages.ts'
import type { ReachResult } from './reach-messages.ts'

/** What the server uses. */
export interface ReachServerComponents {
  node: Pick<Libp2p, 'handle' | 'unhandle' | 'dial'>
  desk: Pick<HandshakeDesk, 'run'>
  clock: Clock
  log: Logger
  metrics: Metrics
  /** Listed relays, as multiaddrs with their PeerId. */
  peers: () => readonly string[]
}

/** Creates the server; its owner starts it after the hop server. */
export function createReachServer ({ node, desk, clock, log, metrics, peers }: ReachServerComponents): Startable {
  const requests = metrics.counter('carrier_relay_reach_requests_total', 'Questions of other relays whether they can be reached, by answer.', ['result'])
  /** When a listed relay last asked; others leave nothing here. */
  const askedAtMs = new Map<string, number>()
  let tasks = createTaskOwner(log)

  async function answer (stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    const asker = connection.remotePeer.toString()
    const isListed = !isRelayed(connection) && peers().some((address) => peerIdOfAddress(address) === asker)
    const nowMs = clock.monotonicMs()
    const lastMs = askedAtMs.get(asker)
    const code = !isListed ? 'ERR_NOT_AVAILABLE' : lastMs !== undefined && nowMs - lastMs < LIMITS.relayReachAgainMs ? 'ERR_LIMIT' : undefined
    if (code !== undefined) {
      requests.add(1, { result: code })
      sendMessage(stream, encodeReachAnswer({ t: 'refused', code: ERRORS[code].wire }))
      await stream.close({ signal })
      return
    }
    // one entry per listed relay at most, of those that are listed now
    for (const known of askedAtMs.keys()) if (!peers().some((address) => peerIdOfAddress(address) === known)) askedAtMs.delete(known)
    askedAtMs.set(asker, nowMs)
    const addresses = decodeReachCheck(await readMessage(stream, LIMITS.relayMessageBytes, signal))
    // all at once, and done before the request is over its time
    using deadline = startDeadline(clock, LIMITS.relayReachDialMs, 'the relay could not be reached in time', signal)
    const results = await Promise.all(addresses.map(async (bytes) => dial(bytes, asker, deadline.signal)))
    requests.add(1, { result: 'checked' })
    sendMessage(stream, encodeReachAnswer({ t: 'checked', results }))
    await stream.close({ signal })
  }

  /** A connection of its own, whose other end must prove the key of the asker. */
  async function dial (bytes: Uint8Array, asker: string, signal: AbortSignal): Promise<ReachResult> {
    const address = decodeAddress(bytes)
    if (address === undefined) return 'skipped'
    try {
      closeSoon(await node.dial(address.encapsulate(`/p2p/${asker}`), { force: true, signal }))
      return 'reachable'
    } catch (err) {
      return err instanceof Error && err.name === 'UnexpectedPeerError' ? 'other' : 'unreachable'
    }
  }

  return {
    start: async () => {
      tasks = createTaskOwner(log)
      await node.handle(REACH_PROTOCOL, async (stream, connection) => {
        await desk.run(stream, connection, tasks.signal, async (signal) => answer(stream, connection, signal))
      }, { maxInboundStreams: 2, runOnLimitedConnection: false })
    },
    stop: async () => {
      await node.unhandle(REACH_PROTOCOL)
      await tasks.stop()
    }
  }
}

/** An address that a relay dials: TCP or WebSocket, by IP or by name, and nothing behind it. */
function decodeAddress (bytes: Uint8Array): Multiaddr | undefined {
  try {
    const address = multiaddr(bytes)
    const [host, transport, ...rest] = address.getComponents().map(({ name }) => name)
    const isDialed = ['ip4', 'ip6', 'dns', 'dns4', 'dns6'].includes(host ?? '') && transport === 'tcp' && ['', 'ws', 'wss', 'tls/ws'].includes(rest.join('/'))
    return isDialed ? address : undefined
  } catch {
    // no multiaddr at all
    return undefined
  }
}
