/** The friend list: commands of the owner, messages of others, and what follows from both. */
import { randomBytes } from 'node:crypto'
import type { AuditLog } from '../audit/index.ts'
import type { Clock, Database, Logger, Metrics, Timer } from '../base/index.ts'
import { abortable, CarrierError, createEmitter, createTaskOwner, LIMITS, startDeadline, toHex } from '../base/index.ts'
import type { AddressBook, Did, Identity } from '../identity/index.ts'
import { parseAddress, peerIdFromDid } from '../identity/index.ts'
import type { CarrierNode, Peer, PeerStream } from '../node/index.ts'
import { announce } from './announce.ts'
import { createAuditQueue } from './audit-queue.ts'
import { createCourier } from './courier.ts'
import { createDirectory } from './directory.ts'
import { createFriendMetrics } from './friend-metrics.ts'
import { assertHello } from './hello.ts'
import { createInboundHandler } from './inbound.ts'
import { parseFriendLabel } from './labels.ts'
import { createLastSeen } from './last-seen.ts'
import { createLedger, labelTaken } from './ledger.ts'
import type { Change, ChangeDetails } from './ledger.ts'
import { FRIEND_PROTOCOL } from './messages.ts'
import type { FriendMessage, FriendRequestMessage } from './messages.ts'
import { createNospamGuard } from './nospam-guard.ts'
import type { RelayRecords } from './relay-records.ts'
import type { RelationEvent } from './relation.ts'
import { createFriendStore } from './store.ts'
import type { OutboxEntry } from './store.ts'
import type { Friend, FriendEvents, Friends } from './types.ts'

/** What the friend list works with. */
export interface FriendsComponents {
  /** The state database; its migrations include FRIENDS_MIGRATIONS. */
  database: Database
  identity: Pick<Identity, 'did'>
  addressBook: Pick<AddressBook, 'accepts'>
  node: Pick<CarrierNode, 'handle' | 'openStream' | 'on' | 'disconnect'>
  audit: Pick<AuditLog, 'record' | 'countStranger'>
  /** What requests say about relays, ours and theirs; they say nothing when absent. */
  relays?: Pick<RelayRecords, 'ownNews' | 'takeNews'>
  clock: Clock
  /** In [0, 1); for jitter only. */
  random: () => number
  log: Logger
  metrics: Metrics
}

/** Streams of one peer that may be open at once: one in use, one that still closes. */
const STREAMS_PER_PEER = 2

/**
 * Opens the friend list over its tables and registers its protocol; create it before the node starts.
 * `start` begins delivery, `stop` ends it. The caller owns the database and closes it after `stop`.
 */
export function createFriends (components: FriendsComponents): Friends {
  const { database, identity, addressBook, node, audit, clock, random, log, metrics } = components
  const events = createEmitter<FriendEvents>(log)
  const tasks = createTaskOwner(log)
  const store = createFriendStore(database)
  const directory = createDirectory(store)
  const guard = createNospamGuard()
  const lastSeen = createLastSeen({ directory, store, clock })
  const auditQueue = createAuditQueue({ database, audit, clock, log, tasks })
  const ledger = createLedger({ database, store, directory, auditQueue, clock })
  const counters = createFriendMetrics(metrics, { directory, store, guard })
  const courier = createCourier({
    outbox: { owners: store.outboxOwners, peek: store.outbox, claim, settle }, node, ownNews: () => components.relays?.ownNews(), clock, random, log, tasks, deliveries: counters.deliveries
  })
  const connected = new Set<Did>()
  let isRunning = false
  let sweepTimer: Timer | undefined

  node.handle(FRIEND_PROTOCOL, createInboundHandler({
    clock, log, messages: counters.messages, signal: tasks.signal, isStranger: (peer) => directory.levelOf(peer.device) === 'stranger', receive
  }), { levels: ['friend', 'pending', 'stranger'], maxStreamsPerPeer: STREAMS_PER_PEER })

  const unsubscribers = [
    node.on('peer:authenticated', ({ peer, direction }) => {
      connected.add(peer.device)
      const owner = directory.ownerOf(peer.device)
      // a connection that we opened is most likely the courier's own: to try again because of it would never end
      if (isRunning && direction === 'inbound' && store.outbox(owner) !== undefined) courier.kick(owner)
    }),
    node.on('peer:disconnected', ({ device }) => { connected.delete(device) }),
    node.on('relay:state', ({ state }) => { if (isRunning && state === 'reserved') courier.kickAll() })
  ]

  /** Makes one change durable, then does everything that follows from it. */
  function change (owner: Did, event: RelationEvent, details: ChangeDetails = {}): Change {
    const done = ledger.change(owner, event, details)
    auditQueue.drain()
    if (done.hasNotice && isRunning) courier.kick(owner)
    for (const fact of done.facts) announce({ events, directory, log }, owner, fact, details.hello)
    if (done.previousLabel !== undefined) events.emit('friend:labelled', { did: owner, label: directory.get(owner)?.label ?? '' })
    return done
  }

  function receive (peer: Peer, message: FriendMessage, stream: PeerStream): boolean {
    const owner = directory.ownerOf(peer.device)
    if ('nospam' in message) return receiveRequest(peer, owner, message)
    const done = change(owner, { from: 'them', ...message.notice })
    if (done.facts.includes('they-removed')) {
      tasks.run('disconnect', async (signal) => {
        await waitAtMost(stream.closed, signal)
        await disconnectAll(done.devices)
      })
    }
    return done.answer
  }

  function receiveRequest (peer: Peer, owner: Did, message: FriendRequestMessage): boolean {
    const { notice: { id }, nospam, hello } = message
    // asked for every request, so that none can be told apart by the work it makes
    const isRight = addressBook.accepts(nospam)
    const isStranger = directory.levelOf(peer.device) === 'stranger'
    const verdict = isStranger ? guard.judge(owner, isRight, clock.now()) : { isAdmitted: true as const }
    if (!verdict.isAdmitted) {
      counters.droppedRequests.add(1, { reason: verdict.reason })
      audit.countStranger(peerIdFromDid(peer.device).toString())
    }
    // a request without effect looks at no other one
    if (verdict.isAdmitted) dropExpiredRequests()
    const { answer } = change(owner, { from: 'them', kind: 'request', id, isAdmitted: verdict.isAdmitted }, { hello, devices: [peer.device] })
    if (verdict.isAdmitted && message.news !== undefined) components.relays?.takeNews(peer.device, message.news)
    return answer
  }

  function claim (entry: OutboxEntry): boolean {
    const current = store.outbox(entry.owner)
    if (current?.seq !== entry.seq) return false
    if (!current.isSent) store.markSent(entry.seq)
    return true
  }

  function settle (entry: OutboxEntry, isOk: boolean): void {
    if (store.outbox(entry.owner)?.seq !== entry.seq) return
    const done = change(entry.owner, { from: 'outbox', kind: 'answered', notice: entry.notice, isOk })
    if (done.facts.includes('they-removed')) tasks.run('disconnect', async () => { await disconnectAll(done.devices) })
  }

  function dropExpiredRequests (): void {
    for (const row of store.requests()) {
      if (row.expiresAt <= clock.now()) ledger.change(row.did, { from: 'clock', kind: 'expired' })
    }
  }

  function sweep (): void {
    dropExpiredRequests()
    store.pruneNotices(clock.now())
    sweepTimer = clock.setTimer(sweep, LIMITS.friendSweepMs)
  }

  async function disconnectAll (devices: readonly Did[]): Promise<void> {
    for (const device of devices) await node.disconnect(device)
  }

  /** Waits for something that is polite to wait for, but not long. */
  async function waitAtMost (work: Promise<void>, parent: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.removeNoticeWaitMs, 'waited long enough', parent)
    try {
      await abortable(work, deadline.signal)
    } catch {
      // whoever waits goes on either way
    }
  }

  function labelDetail (label: string | undefined): ChangeDetails {
    return label === undefined ? {} : { label: parseFriendLabel(label) }
  }

  function assertNotSelf (did: Did, what: string): void {
    if (did === identity.did) throw new CarrierError('ERR_OWN_ADDRESS', `this is your own ${what}; use the one of the other device ("carrier id" prints it there)`)
  }

  return {
    on: events.on,
    add: (address, options = {}) => {
      const { did, nospam } = parseAddress(address)
      assertNotSelf(did, 'address')
      const hello = options.hello ?? ''
      assertHello(hello)
      const owner = directory.ownerOf(did)
      change(owner, { from: 'us', kind: 'add', freshId: toHex(randomBytes(16)) }, { hello, nospam, devices: [did], ...labelDetail(options.label) })
      return owner
    },
    list: directory.list,
    requests: () => {
      dropExpiredRequests()
      return directory.requests()
    },
    accept: (who, options = {}) => {
      dropExpiredRequests()
      const { owner } = change(directory.resolveRequest(who), { from: 'us', kind: 'accept' }, labelDetail(options.label))
      return directory.get(owner) as Friend
    },
    reject: (who) => {
      dropExpiredRequests()
      return change(directory.resolveRequest(who), { from: 'us', kind: 'reject' }).owner
    },
    ignore: (who) => {
      dropExpiredRequests()
      return change(directory.resolveRequest(who), { from: 'us', kind: 'ignore' }).owner
    },
    remove: async (who) => {
      const { owner, devices, hasNotice } = change(directory.resolveFriend(who).owner, { from: 'us', kind: 'remove' })
      const isThere = devices.some((device) => connected.has(device))
      if (isRunning && hasNotice && isThere) await waitAtMost(courier.flush(owner), tasks.signal)
      await disconnectAll(devices)
      return owner
    },
    block: async (who) => {
      const did = directory.resolveAnybody(who)
      assertNotSelf(did, 'DID')
      const { owner, devices } = change(did, { from: 'us', kind: 'block' })
      await disconnectAll(devices)
      return owner
    },
    unblock: (who) => change(directory.resolveBlocked(who), { from: 'us', kind: 'unblock' }).owner,
    blocked: directory.blocked,
    label: (who, text) => {
      const { owner, label: previous } = directory.resolveFriend(who)
      const label = parseFriendLabel(text)
      if (directory.isLabelTaken(label, owner)) throw labelTaken(label)
      if (label !== previous) {
        store.setLabel(owner, label)
        directory.reload(owner)
        events.emit('friend:labelled', { did: owner, label })
      }
      return directory.get(owner) as Friend
    },
    resolve: directory.resolveFriend,
    get: directory.get,
    ownerOf: directory.ownerOf,
    levelOf: directory.levelOf,
    markSeen: lastSeen.mark,
    start: async () => {
      isRunning = true
      sweep()
      auditQueue.drain()
      courier.kickAll()
    },
    stop: async () => {
      if (tasks.signal.aborted) return
      isRunning = false
      for (const unsubscribe of unsubscribers) unsubscribe()
      sweepTimer?.cancel()
      auditQueue.stop()
      courier.stop()
      await tasks.stop()
      lastSeen.store()
    }
  }
}
