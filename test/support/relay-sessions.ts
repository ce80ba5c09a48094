/** Two friends with sessions on several relays of ours, all in this process. */
import { createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Logger, Metrics } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { createSessionManager } from '../../src/session/index.ts'
import type { Channel, LinkKind, Session, SessionManager } from '../../src/session/index.ts'
import { freePort } from './free-port.ts'
import { befriend, makeNode, reserved } from './node-pair.ts'
import type { TestNode } from './node-pair.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENCE_MS, waitFor } from './wait.ts'

/** A device with its sessions. */
export interface SessionDevice extends TestNode {
  sessions: SessionManager
  sessionMetrics: Metrics
  /** What happened to its sessions, oldest first: `lost`, `resumed LINK`, `moved LINK`, `closed CODE`. */
  story: string[]
  /** How long each loss lasted, milliseconds. */
  stallsMs: number[]
}

/** Relays and friends. The controller of their session is the first device. */
export interface RelayWorld {
  controller: SessionDevice
  other: SessionDevice
  /** PeerIds of the relays. */
  relayIds: string[]
  /** Ends the relay without a word, as a kill does. */
  kill: (relayPeerId: string) => Promise<void>
  /** Tells devices to leave; resolves when the relay has nothing left to do. */
  drain: (relayPeerId: string) => Promise<void>
  /** Starts a killed relay again, with its key and on its port. */
  restart: (relayPeerId: string) => Promise<void>
  /** The links of the session at the controller: kind and number of the relay. */
  links: () => string[]
}

/** Starts everything and waits for the reservations. `offer` registers channel kinds. */
export async function startRelayWorld (t: { after: (stop: () => Promise<void>) => void }, init: { relayCount: number, offer?: (sessions: SessionManager) => void, log?: Logger }): Promise<RelayWorld> {
  const running = new Map<string, { relay: Bootstrap, dataDirectory: string, listen: string }>()
  async function startRelay (dataDirectory: string, listen: string): Promise<string> {
    const relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory, listen: [listen] })
    await relay.start()
    const [address = ''] = relay.addresses()
    running.set(relay.peerId.toString(), { relay, dataDirectory, listen: address.split('/p2p/')[0] ?? '' })
    return address
  }
  const stops: Array<() => Promise<void>> = []
  t.after(async () => {
    await Promise.all(stops.map(async (stop) => { await stop() }))
    await Promise.all([...running.values()].map(async ({ relay }) => { await relay.stop() }))
  })
  const addresses: string[] = []
  for (let index = 0; index < init.relayCount; index++) addresses.push(await startRelay(makeTempDirectory('relay'), `/ip4/127.0.0.1/tcp/${await freePort()}`))
  const relayIds = [...running.keys()]
  const device = async (): Promise<SessionDevice> => {
    const test = await makeNode({ relays: addresses, punch: false }, init.log === undefined ? {} : { log: init.log })
    const sessionMetrics = createMetrics()
    const sessions = createSessionManager({ node: test.node, identity: test.identity, clock: systemClock, log: init.log ?? silentLogger, metrics: sessionMetrics, random: Math.random })
    init.offer?.(sessions)
    const story: string[] = []
    const stallsMs: number[] = []
    sessions.on('session:lost', () => { story.push('lost') })
    sessions.on('session:resumed', ({ link, stallMs }) => {
      story.push(`resumed ${link}`)
      stallsMs.push(stallMs)
    })
    sessions.on('session:link', ({ link }) => { story.push(`moved ${link}`) })
    sessions.on('session:closed', ({ error }) => { story.push(`closed ${error.code}`) })
    stops.push(async () => {
      await sessions.stop()
      await test.node.stop()
    })
    return { ...test, sessions, sessionMetrics, story, stallsMs }
  }
  const devices = [await device(), await device()].sort((one, other) => Buffer.compare(one.identity.publicKey, other.identity.publicKey)) as [SessionDevice, SessionDevice]
  const [controller, other] = devices
  befriend(controller, other)
  for (const { sessions, node } of devices) {
    await sessions.start()
    await node.start()
  }
  await Promise.all(devices.map(async (one) => { await reserved(one, PATIENCE_MS) }))
  await waitFor('all relays to be known for their splices', () => devices.every(({ node }) => relayIds.every((relayPeerId) => node.canSplice(relayPeerId))), { deadlineMs: PATIENCE_MS, intervalMs: 10 })
  const found = (relayPeerId: string): { relay: Bootstrap, dataDirectory: string, listen: string } => {
    const one = running.get(relayPeerId)
    if (one === undefined) throw new Error(`no relay ${relayPeerId}`)
    return one
  }
  return {
    relayIds,
    controller,
    other,
    kill: async (relayPeerId) => { await found(relayPeerId).relay.stop() },
    drain: async (relayPeerId) => { await found(relayPeerId).relay.drain() },
    restart: async (relayPeerId) => {
      const { dataDirectory, listen } = found(relayPeerId)
      await startRelay(dataDirectory, listen)
    },
    links: () => heldLinks(controller.sessions.list()[0]).map(({ kind, relayPeerId }) => `${kind} ${relayIds.indexOf(relayPeerId ?? '')}`).sort()
  }
}

/** The links of a session. */
export function heldLinks (session: Session | undefined): Array<{ kind: LinkKind, relayPeerId: string | undefined }> {
  const inner = session as unknown as { links: { all: () => Array<{ link: { kind: LinkKind, relayPeerId: string | undefined } }> } } | undefined
  return inner?.links.all().map(({ link }) => link) ?? []
}

/** Waits until a splice carries the session and a stream over another relay is its spare. */
export async function untilSpare (world: RelayWorld, session: Session): Promise<void> {
  await waitFor(`a spare over another relay: ${world.links().join()}`, () => {
    return session.link === 'splice' && heldLinks(session).some(({ kind, relayPeerId }) => kind === 'stream' && relayPeerId !== session.relayPeerId)
  }, { deadlineMs: PATIENCE_MS, intervalMs: 5 })
}

/** Sends everything back. */
export function offerEcho (sessions: SessionManager): void {
  sessions.onChannel('echo', async (request) => {
    const channel: Channel = request.accept()
    channel.on('error', () => { /* its other end sees the same */ })
    channel.pipe(channel)
  })
}
