/** The facade: builds the parts, starts them in order, stops them in reverse. The only place that knows them all. */
import { networkInterfaces } from 'node:os'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createAuditLog } from './audit/index.ts'
import {
  acquireStateLock, CarrierError, createEmitter, createMetrics, createTaskOwner, ensurePrivateDirectory, LIMITS, openDatabase,
  removeStaleTemporaries, silentLogger, startAll, startDeadline, stopAll, systemClock
} from './base/index.ts'
import type { Clock, Database, Startable } from './base/index.ts'
import type { Carrier, CarrierInit, CarrierStatus, Presence } from './carrier-types.ts'
import { examine, reportNetwork, reportWay, traceService } from './explain/index.ts'
import { createForwarding, formatTarget, FORWARDING_MIGRATIONS } from './forwarding/index.ts'
import { createFriends, createRelayRecords, FRIENDS_MIGRATIONS } from './friends/index.ts'
import type { Friend, Friends, RelayRecords } from './friends/index.ts'
import { ADDRESS_MIGRATIONS, CLOCK_MIGRATIONS, createAddressBook, createClockGuard, openKeystore } from './identity/index.ts'
import type { Did } from './identity/index.ts'
import { ADDRESS_STORE_MIGRATIONS, createAddressStore, createNode, createSessionProver } from './node/index.ts'
import { createPresence, createSessionManager, createStandingSessions } from './session/index.ts'
import { BUILD_DATE, VERSION } from './version.ts'

/** How long `ping` waits for a session and its answer. */
const PING_TIMEOUT_MS = LIMITS.dialTimeoutMs

/**
 * Opens the data directory (creating identity and state on first use) and builds a Carrier that is not started yet.
 * The caller owns it: `start`, then `stop`, which also frees the data directory.
 *
 * @throws CarrierError ERR_ALREADY_RUNNING, ERR_KEYSTORE, ERR_PASSPHRASE, ERR_DATABASE_CORRUPT, ERR_DATABASE_NEWER, ERR_CONFIG
 * @example
 * const carrier = await createCarrier({ dataDirectory: '/var/lib/carrier', relays: ['/ip4/192.0.2.1/tcp/4001/p2p/12D3…'] })
 * await carrier.start()
 */
export async function createCarrier (init: CarrierInit): Promise<Carrier> {
  const { dataDirectory } = init
  await ensurePrivateDirectory(dataDirectory)
  const lock = acquireStateLock(dataDirectory)
  try {
    await removeStaleTemporaries(dataDirectory, readdirSync(dataDirectory))
    return await build(init, lock.release)
  } catch (err) {
    lock.release()
    throw err
  }
}

async function build (init: CarrierInit, releaseLock: () => void): Promise<Carrier> {
  const { dataDirectory } = init
  const log = init.log ?? silentLogger
  const clock = init.clock ?? systemClock
  const metrics = init.metrics ?? createMetrics()
  const identity = await openKeystore({ directory: dataDirectory, log: log.child('carrier:identity'), ...(init.passphrase === undefined ? {} : { passphrase: init.passphrase }) })
  const database = openDatabase({ path: join(dataDirectory, 'state.db'), name: 'state', migrations: composeMigrations() })
  try {
    return assemble(database)
  } catch (err) {
    database.close()
    throw err
  }

  function assemble (database: Database): Carrier {
    const random = Math.random
    const events = createEmitter<Record<string, unknown>>(log)
    const clockGuard = createClockGuard({ clock, database, log: log.child('carrier:clock') }, { buildDateMs: BUILD_DATE })
    // what expires is judged by the time that can be trusted, not by a clock that was set back
    const trustedClock: Clock = { now: () => clockGuard.judge().atMs, monotonicMs: () => clock.monotonicMs(), setTimer: (run, delayMs) => clock.setTimer(run, delayMs) }
    const addresses = createAddressBook({ database, identity, clock: trustedClock })
    const audit = createAuditLog({ clock, log: log.child('carrier:audit'), metrics }, { directory: dataDirectory })

    // node/ asks friends/ who somebody is, friends/ uses node/ to reach them: the two are tied here, nowhere else
    const late: { friends?: Friends, relayRecords?: RelayRecords } = {}
    const node = createNode({
      identity,
      clock,
      log: log.child('carrier:node'),
      metrics,
      levelOf: (device) => late.friends?.levelOf(device) ?? 'stranger',
      ownerOf: (device) => late.friends?.ownerOf(device) ?? device,
      onStranger: (peerId) => { audit.countStranger(peerId) },
      addressStore: createAddressStore(database),
      friends: () => late.friends?.list().filter((friend) => friend.state === 'friend').flatMap((friend) => friend.devices) ?? [],
      relayRecords: {
        recall: (device) => late.relayRecords?.book.recall(device),
        secretsOf: (device) => late.relayRecords?.book.secretsOf(device) ?? [],
        keep: (record, bytes) => { late.relayRecords?.book.keep(record, bytes) },
        now: () => trustedClock.now()
      }
    }, { relays: init.relays ?? [], listen: init.listen ?? 'none', port: init.port ?? 0, keepalive: init.keepalive ?? 'normal', punch: init.punch ?? true, ...(init.upstream === undefined ? {} : { upstream: init.upstream }) })
    const relays = { ownNews: () => late.relayRecords?.ownNews(), takeNews: (...news: Parameters<RelayRecords['takeNews']>) => { late.relayRecords?.takeNews(...news) } }
    const friends = createFriends({ database, identity, addressBook: addresses, node, audit, relays, clock: trustedClock, random, log: log.child('carrier:friends'), metrics })
    late.friends = friends
    const relayRecords = createRelayRecords({ database, identity, addresses, node, friends, clock: trustedClock, random, log: log.child('carrier:friends'), metrics })
    late.relayRecords = relayRecords
    const prover = createSessionProver({ identity, clock: trustedClock, levelOf: (device) => friends.levelOf(device) })
    const sessions = createSessionManager({ node, identity, clock, log: log.child('carrier:session'), metrics, random, prover }, { keepalive: init.keepalive, ...(init.resumeWindowMs === undefined ? {} : { resumeWindowMs: init.resumeWindowMs }) })
    const standing = createStandingSessions({ sessions, node, clock, random, log: log.child('carrier:session') }, {
      friends: () => friends.list().filter((friend) => friend.state === 'friend').flatMap((friend) => friend.devices)
    })
    const forwarding = createForwarding({ database, sessions, friends, audit, clock, log: log.child('carrier:forwarding'), metrics }, {
      declaredServices: init.services ?? [], declaredForwards: init.forwards ?? []
    })
    const presence = createPresence({ sessions, clock }, {
      onOnline: (owner, path) => {
        friends.markSeen(owner)
        events.emit('friend:online', { did: owner, path })
      },
      onOffline: (owner) => { events.emit('friend:offline', { did: owner }) }
    })
    const tasks = createTaskOwner(log)
    const firstEntry: Startable = {
      start: async () => { await audit.record({ event: 'node.start', device: identity.did }) },
      stop: async () => {}
    }
    // node starts after those who register protocols with it, and stops after those who still say goodbye through it
    const startOrder: Startable[] = [clockGuard, audit, friends, forwarding, sessions, node, relayRecords, standing, firstEntry]
    const stopStack: Startable[] = [clockGuard, audit, node, friends, sessions, forwarding, relayRecords, standing]
    const state = { startedAtMs: clock.monotonicMs(), duplicate: false, wallOffsetMs: clock.now() - clock.monotonicMs() }
    let starting: Promise<void> | undefined
    let stopping: Promise<void> | undefined

    relayEvents()

    return {
      identity,
      addresses: {
        ...addresses,
        create: (name) => {
          const made = addresses.create(name)
          relayRecords.addressesChanged()
          return made
        },
        revoke: (label) => {
          const revoked = addresses.revoke(label)
          relayRecords.addressesChanged()
          return revoked
        }
      },
      friends,
      sessions,
      forwarding,
      node,
      audit,
      metrics,
      status,
      ping,
      why: async (to, options) => reportWay({ friends, sessions, forwarding, relays: () => node.relays(), clock }, to, options),
      netcheck,
      doctor,
      trace: async (to, options) => traceService({ friends, sessions, forwarding, relays: () => node.relays(), clock }, to, options),
      start: async (options) => {
        if (stopping !== undefined) throw new CarrierError('ERR_CLOSED', 'this Carrier was stopped; make another one with createCarrier')
        starting ??= startParts(options)
        await starting
      },
      stop: async () => {
        stopping ??= stopParts()
        await stopping
      },
      onAnyEvent: (listener) => events.onAny(listener)
    }

    async function startParts (options: { signal?: AbortSignal } | undefined): Promise<void> {
      await startAll(startOrder, options)
      state.startedAtMs = clock.monotonicMs()
    }

    async function stopParts (): Promise<void> {
      // a start on its way comes first, or it would start what was just stopped; its failure is told to whoever asked for it
      const isRunning = starting !== undefined && await starting.then(() => true, () => false)
      try {
        if (isRunning) await audit.record({ event: 'node.stop', device: identity.did }).catch((err: unknown) => { log.warn('the stop could not be recorded', { err }) })
        await tasks.stop()
        await stopAll(stopStack)
        presence.stop()
      } finally {
        database.close()
        releaseLock()
      }
    }

    function relayEvents (): void {
      for (const name of ['friend:requested', 'friend:added', 'friend:rejected', 'friend:removed', 'friend:blocked', 'friend:labelled'] as const) {
        friends.on(name, (payload) => { events.emit(name, payload) })
      }
      friends.on('friend:added', () => { standing.refresh() })
      for (const name of ['friend:removed', 'friend:blocked'] as const) {
        friends.on(name, ({ did }) => {
          standing.refresh()
          // also the device named by the DID itself: a dial to it may be under way
          const devices = new Set([did, ...sessions.list().filter((session) => session.peer.owner === did).map((session) => session.peer.device)])
          tasks.run('end sessions', async () => {
            await Promise.all([...devices].map(async (device) => { await sessions.close(device, new CarrierError('ERR_CLOSED', 'the friendship ended')) }))
          })
        })
      }
      for (const name of ['forward:state', 'forward:closed', 'service:changed', 'service:connection'] as const) {
        forwarding.on(name, (payload) => { events.emit(name, payload) })
      }
      node.on('relay:state', (payload) => { events.emit('relay:state', payload) })
      node.on('node:network-changed', (payload) => { events.emit('node:network-changed', payload) })
      node.on('node:duplicate-identity', ({ device }) => { noteDuplicate(device) })
      sessions.on('session:duplicate-identity', ({ device }) => { noteDuplicate(device) })
      sessions.on('session:opened', ({ session }) => {
        events.emit('session:opened', { did: session.peer.owner, link: session.link, path: session.path })
        presence.noteLive(session)
      })
      sessions.on('session:link', ({ session, from, link, path }) => { events.emit('session:link', { did: session.peer.owner, from, link, path }) })
      sessions.on('session:lost', ({ session, error }) => {
        friends.markSeen(session.peer.owner)
        events.emit('session:lost', { did: session.peer.owner, reason: error.message })
        presence.noteLost(session)
      })
      sessions.on('session:resumed', ({ session, link, path, stallMs }) => {
        events.emit('session:resumed', { did: session.peer.owner, link, path, stallMs: Math.round(stallMs) })
        presence.noteLive(session)
      })
      sessions.on('session:closed', ({ peer, error }) => {
        friends.markSeen(peer.owner)
        events.emit('session:closed', { did: peer.owner, code: error.code })
        presence.noteClosed(peer)
      })
    }

    /** Two live processes with one key: a friend's (both seen by us) or our own (a friend told us). */
    function noteDuplicate (device: Did): void {
      state.duplicate = state.duplicate || device === identity.did
      events.emit('node:duplicate-identity', { did: device })
    }

    function presenceOf (friend: Friend): Presence {
      if (friend.state === 'requested') return 'requested'
      return presence.isOnline(friend.owner) ? 'online' : 'offline'
    }

    function status (): CarrierStatus {
      return {
        did: identity.did,
        peerId: identity.peerId.toString(),
        version: VERSION,
        uptimeMs: Math.round(clock.monotonicMs() - state.startedAtMs),
        relays: node.relays(),
        friends: friends.list().map((friend) => ({
          did: friend.owner,
          label: friend.label,
          presence: presenceOf(friend),
          ...wayTo(friend),
          lastSeenAt: friend.lastSeenAt
        })),
        services: forwarding.services().map((service) => ({
          name: service.name, target: formatTarget(service.target), allow: service.allow, connections: service.connectionCount, source: service.source.kind
        })),
        forwards: forwarding.forwards().map((forward) => ({
          listen: forward.listen, to: forward.to, state: forward.state, reason: forward.reason, path: forward.path, connections: forward.connectionCount, source: forward.source.kind
        })),
        listen: node.listenAddresses(),
        requestCount: friends.requests().filter((request) => request.state === 'pending').length,
        problems: problems()
      }
    }

    async function netcheck (options?: { signal?: AbortSignal }): ReturnType<Carrier['netcheck']> {
      return reportNetwork({ node, interfaces: networkInterfaces, clock }, options)
    }

    async function doctor (options?: { signal?: AbortSignal }): ReturnType<Carrier['doctor']> {
      return examine({
        dataDirectory,
        clock,
        judgeTime: () => clockGuard.judge(),
        steppedMs: () => clock.now() - clock.monotonicMs() - state.wallOffsetMs,
        node,
        netcheck,
        listen: init.listen ?? 'none',
        proxy: init.upstream?.proxy,
        isDoubled: () => state.duplicate,
        presence: () => friends.list().map((friend) => ({ label: friend.label, presence: presenceOf(friend) })),
        friends,
        forwarding
      }, options)
    }

    /** Link and path of the session with the friend, as long as something carries it. */
    function wayTo (friend: Friend): Pick<CarrierStatus['friends'][number], 'link' | 'path' | 'rttMs'> {
      const session = friend.devices.map((device) => sessions.get(device)).find((one) => one?.state === 'live')
      return { link: session?.link, path: session?.path, rttMs: session?.rttMs === undefined ? undefined : Math.round(session.rttMs * 100) / 100 }
    }

    function problems (): string[] {
      const relays = node.relays()
      const found = node.problems()
      for (const relay of relays) {
        if (relay.state === 'unreachable' || relay.state === 'refused') found.push(`relay ${relay.address} is ${relay.state}: ${relay.reason ?? 'no answer'}; it is tried again by itself`)
      }
      const time = clockGuard.judge()
      if (!time.isSure) found.push(`${time.reason}; until then expiry counts from the last good time`)
      if (state.duplicate) found.push('another live process uses this identity: stop it, or give it an identity of its own')
      return found
    }

    async function ping (who: string, options: { signal?: AbortSignal } = {}): ReturnType<Carrier['ping']> {
      const friend = friends.resolve(who)
      using deadline = startDeadline(clock, PING_TIMEOUT_MS, `no answer from ${friend.label} within ${PING_TIMEOUT_MS} ms`, options.signal)
      const session = await openAny(friend.devices, deadline.signal)
      session.markUsed()
      const rttMs = await session.ping({ signal: deadline.signal })
      return { did: friend.owner, label: friend.label, rttMs, path: session.path, relayPeerId: session.relayPeerId, link: session.link }
    }

    async function openAny (devices: readonly Did[], signal: AbortSignal): ReturnType<typeof sessions.open> {
      const live = devices.find((device) => sessions.get(device) !== undefined)
      const device = live ?? devices[0]
      if (device === undefined) throw new CarrierError('ERR_PEER_OFFLINE', 'the friend has no known device')
      return sessions.open(device, { signal })
    }
  }
}

/** Schema version n of state.db is the n-th script of every part, in this order. */
function composeMigrations (): string[] {
  const parts = [CLOCK_MIGRATIONS, ADDRESS_MIGRATIONS, ADDRESS_STORE_MIGRATIONS, FRIENDS_MIGRATIONS, FORWARDING_MIGRATIONS]
  const versions = Math.max(...parts.map((part) => part.length))
  return Array.from({ length: versions }, (_, index) => parts.map((part) => part[index] ?? '').join('\n'))
}
