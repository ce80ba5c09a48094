/** Two live sessions over real links on loopback sockets, without nodes and without a keeper: the test opens, cuts and switches. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { CarrierError, createMetrics, createTaskOwner, silentLogger, systemClock } from '../../src/base/index.ts'
import { createLinkCertificate } from '../../src/identity/index.ts'
import type { Identity, LinkCertificate } from '../../src/identity/index.ts'
import { createSessionProver } from '../../src/node/index.ts'
import type { Path, PeerStream } from '../../src/node/index.ts'
import { CreditPool } from '../../src/session/credit-pool.ts'
import { FrameDecoder } from '../../src/session/frame-decoder.ts'
import { FEATURES, OWN_LIMITS } from '../../src/session/hello.ts'
import type { Link } from '../../src/session/link.ts'
import type { LinkSource } from '../../src/session/link-set.ts'
import { LiveSession } from '../../src/session/live-session.ts'
import { createSessionMetrics } from '../../src/session/session-metrics.ts'
import { createStreamLink } from '../../src/session/stream-link.ts'
import { openTlsLink } from '../../src/session/tls-link.ts'
import type { ChannelHandler, LinkKind } from '../../src/session/types.ts'
import { makeIdentity } from './node-pair.ts'
import { waitFor } from './wait.ts'

/** One end of a session. */
export interface LiveEnd {
  identity: Identity
  certificate: LinkCertificate
  handlers: Map<string, ChannelHandler>
  session: LiveSession
  /** What happened to its links, oldest first. */
  events: LiveEvent[]
}

/** One line of the story. */
export type LiveEvent = { what: 'lost' | 'closed', code: string } | { what: 'resumed', link: LinkKind, stallMs: number } | { what: 'switched', link: LinkKind }

/** One link: both ends of it, and the raw sockets below. */
export interface LinkPair { kind: LinkKind, links: [Link, Link], sockets: [Socket, Socket] }

/** Both ends; the controller is the first. */
export interface LivePair {
  controller: LiveEnd
  other: LiveEnd
  /** Makes one more link of the session. Resolves when both ends have it. */
  attach: (pair: LinkPair) => void
  close: () => Promise<void>
}

/** Between two sockets of a link: gets both ends of it as a relay has them. */
export type Middle = (near: Socket, far: Socket) => void

/** Two connected sockets. With a `middle` there is a relay in between, which is handed its two legs. */
export async function openSocketPair (middle?: Middle): Promise<[Socket, Socket]> {
  const server = createServer({ pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const one = async (): Promise<[Socket, Socket]> => {
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const dialled = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(dialled, 'connect')
    const [socket] = await accepted
    socket.setNoDelay(true)
    for (const end of [dialled, socket]) end.on('error', () => { /* whoever uses it sees the close */ })
    return [dialled, socket]
  }
  try {
    const first = await one()
    if (middle === undefined) return first
    const second = await one()
    middle(first[1], second[1])
    return [first[0], second[0]]
  } finally {
    server.close()
  }
}

/** A socket as an authenticated stream of a node. */
export function streamOver (socket: Socket): PeerStream {
  const closed = new Promise<void>((resolve) => { socket.once('close', () => { resolve() }) })
  async function * source (): AsyncGenerator<Uint8Array> {
    for await (const chunk of socket) yield chunk as Uint8Array
  }
  return {
    source: source(),
    sink: async (chunks) => {
      for await (const chunk of chunks) {
        if (socket.destroyed) throw new CarrierError('ERR_LINK_LOST', 'the socket is gone')
        if (!socket.write(chunk)) await Promise.race([once(socket, 'drain'), closed])
      }
      socket.end()
    },
    abort: () => { socket.destroy() },
    closed
  }
}

/** A link of `kind` between two ends, over sockets with nobody, or `middle`, in between. */
export async function openLinkPair (kind: LinkKind, controller: Pick<LiveEnd, 'identity' | 'certificate'>, other: Pick<LiveEnd, 'identity' | 'certificate'>, middle?: Middle): Promise<LinkPair> {
  const sockets = await openSocketPair(middle)
  if (kind === 'stream') {
    const links = sockets.map((socket) => createStreamLink(streamOver(socket), { path: 'relayed', relayPeerId: 'relay' })) as [Link, Link]
    return { kind, links, sockets }
  }
  const path: Path = kind === 'splice' ? 'spliced' : 'lan'
  const relayPeerId = kind === 'splice' ? 'relay' : undefined
  const links = await Promise.all([
    openTlsLink({ clock: systemClock }, { socket: sockets[0], isController: true, certificate: controller.certificate, device: other.identity.did, kind, path, relayPeerId }),
    openTlsLink({ clock: systemClock }, { socket: sockets[1], isController: false, certificate: other.certificate, device: controller.identity.did, kind, path, relayPeerId })
  ])
  return { kind, links, sockets }
}

/** A fresh identity with its certificate. */
export async function makeLinkIdentity (): Promise<{ identity: Identity, certificate: LinkCertificate }> {
  const identity = await makeIdentity()
  return { identity, certificate: await createLinkCertificate(identity) }
}

/** Begins a session over a stream link. */
export async function openLivePair (init: { resumeWindowMs?: number, handlers?: Map<string, ChannelHandler> } = {}): Promise<LivePair> {
  const people = [await makeLinkIdentity(), await makeLinkIdentity()].sort((one, other) => Buffer.compare(one.identity.publicKey, other.identity.publicKey)) as [LiveEnd, LiveEnd]
  const first = await openLinkPair('stream', people[0], people[1])
  const [id, token] = [new Uint8Array(randomBytes(16)), new Uint8Array(randomBytes(32))]
  const tasks = createTaskOwner(silentLogger)
  const build = (index: 0 | 1): LiveEnd => {
    const events: LiveEvent[] = []
    const { did } = people[index === 0 ? 1 : 0].identity
    const metrics = createSessionMetrics(createMetrics(), { sessionCount: () => 1, channelCount: () => 0, creditBytes: () => 0, lostCount: () => 0 })
    const handlers = init.handlers ?? new Map<string, ChannelHandler>()
    const session = new LiveSession({ clock: systemClock, log: silentLogger, tasks, metrics, pool: new CreditPool(256 * 1024 * 1024), handlers, resumeWindowMs: init.resumeWindowMs ?? 60_000, prover: createSessionProver({ identity: people[index].identity, clock: systemClock, levelOf: () => 'friend' }) }, {
      peer: { device: did, owner: did },
      id,
      token,
      isController: index === 0,
      limits: OWN_LIMITS,
      peerLimits: OWN_LIMITS,
      features: new Set(FEATURES),
      source: sourceOf(first.links[index]),
      epoch: 1
    }, {
      onLost: (_session, err) => { events.push({ what: 'lost', code: err.code }) },
      onResumed: (live, stallMs) => { events.push({ what: 'resumed', link: live.link, stallMs }) },
      onSwitched: (live) => { events.push({ what: 'switched', link: live.link }) },
      onLinksChanged: () => {},
      onUsed: () => {},
      onResumeFailed: () => {},
      onPunchAsk: (_session, _candidates, answer) => { answer('no') },
      issueTicket: () => undefined,
      onClosed: (_session, err) => { events.push({ what: 'closed', code: `${err.code}: ${err.message}` }) }
    })
    return { ...people[index], handlers, session, events }
  }
  const other = build(1)
  const controller = build(0)
  return {
    controller,
    other,
    attach: (pair) => {
      const epoch = controller.session.links.nextEpoch()
      // the end that is welcomed has the link first, as on the wire
      other.session.links.attach(sourceOf(pair.links[1]), epoch)
      controller.session.links.attach(sourceOf(pair.links[0]), epoch)
    },
    close: async () => {
      await Promise.all([controller.session.close(), other.session.close()])
      await tasks.stop()
    }
  }
}

/** Moves the session to its link of `kind` and waits until both ends are there. */
export async function switchTo (pair: LivePair, kind: LinkKind): Promise<void> {
  const { controller, other } = pair
  const to = controller.session.links.all().find((one) => one.link.kind === kind)
  if (to === undefined) throw new Error(`there is no ${kind} link; ${JSON.stringify(controller.events.slice(-5))}`)
  if (!controller.session.links.switchTo(to)) throw new Error(`the switch to ${kind} was refused in state ${controller.session.state}`)
  await waitFor(`both ends to be on ${kind}: ${JSON.stringify([controller.events.slice(-5), other.events.slice(-5)])}`, () => {
    return !controller.session.links.isSwitching && controller.session.link === kind && other.session.link === kind
  }, { deadlineMs: 60_000, intervalMs: 1 })
}

/** A link that is past any handshake. */
function sourceOf (link: Link): LinkSource {
  return {
    link,
    decoder: new FrameDecoder({ onFrame: () => {}, onData: () => {}, onDataBytes: () => {} }),
    // nothing is read before: the first frame finds its owner
    adopt: (next) => { link.open(next) }
  }
}
