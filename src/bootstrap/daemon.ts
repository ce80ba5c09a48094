/** A bootstrap node: relay and DHT server in one process, for operators and for tests. */
import { readdirSync } from 'node:fs'
import type { PeerId } from '@libp2p/interface'
import {
  CarrierError, LIMITS, abortable, acquireStateLock, createMetrics, ensurePrivateDirectory, errorMessage, removeStaleTemporaries,
  silentLogger, startAll, startDeadline, stopAll, systemClock
} from '../base/index.ts'
import type { Clock, LogLevel, Logger, Metrics, Startable, StateLock } from '../base/index.ts'
import { openKeystore } from '../identity/index.ts'
import { closeSoon, createPeerSweep } from '../node/index.ts'
import type { Admit } from './admission.ts'
import { admitByLists, classOf } from './admission-lists.ts'
import { spliceAddresses } from './config.ts'
import type { BootstrapConfig } from './config.ts'
import { createConnectionGate } from './connection-gate.ts'
import type { ConnectionGate } from './connection-gate.ts'
import { createConnectionRoom } from './connection-room.ts'
import { createDhtServer } from './dht-server.ts'
import { tellDrain } from './drain-notice.ts'
import { createHealthServer } from './health-server.ts'
import { createHopServer } from './hop-server.ts'
import { createHost } from './host.ts'
import type { Host } from './host.ts'
import { createIdleConnections } from './idle-connections.ts'
import { createMesh } from './mesh.ts'
import { createOperatorServer } from './operator-server.ts'
import { viewPeers } from './operator-views.ts'
import type { ReloadState, RelayStatus } from './operator-views.ts'
import { createOptionalPart } from './optional-part.ts'
import { createQuotaBook } from './quota-book.ts'
import type { QuotaSettings } from './quota-book.ts'
import { createQuotaServer } from './quota-server.ts'
import { createQuotaStore } from './quota-store.ts'
import { createReachCheck } from './reach-check.ts'
import { createReachServer } from './reach-server.ts'
import { createReloader, loadConfig } from './reload.ts'
import type { LoadedConfig, Reloader } from './reload.ts'
import { createSpliceServer } from './splice-server.ts'
import type { SpliceSettings } from './splice-server.ts'
import { tlsFingerprint } from './tls-files.ts'
import { createTlsWatch } from './tls-watch.ts'

/** What a bootstrap node may be given; what is absent is made. */
export interface BootstrapComponents {
  clock?: Clock
  log?: Logger
  metrics?: Metrics
  random?: () => number
  /** Who may reserve and connect; what the configuration says when absent. */
  admit?: Admit
  /** Reads the configuration's sources again, for `reload`. @throws CarrierError ERR_CONFIG */
  readConfig?: () => BootstrapConfig
  /** Of the program, for `status`. */
  version?: string
  setLogLevel?: (level: LogLevel) => void
  /** The operator asked over the control socket to drain and stop; absent: that is refused. */
  onDrainAsked?: () => void
}

/** A bootstrap node. `stop` ends at once; call `drain` before it to let circuits finish. */
export interface Bootstrap extends Startable {
  readonly peerId: PeerId
  /** Multiaddrs with /p2p/…, as announced. Empty before `start`. */
  addresses: () => string[]
  /** HOST:PORT of the health listener; undefined before `start`. */
  healthAddress: () => string | undefined
  /** The port for legs of splices, as ends are told; undefined before `start`, and when splices are off. */
  splicePort: () => number | undefined
  /** As the operator sees it. */
  status: () => RelayStatus
  /** Reads the configuration again; a wrong one is refused and the old one stays. Never rejects. */
  reload: () => Promise<ReloadState>
  /** Tells devices to move, takes no further reservations and circuits; busy ones may finish. Resolves when the last has ended, at the latest after the configured time. */
  drain: () => Promise<void>
  readonly metrics: Metrics
}

/**
 * Opens the data directory (making the identity on first use) and builds a bootstrap node that is not started yet.
 *
 * @throws CarrierError ERR_ALREADY_RUNNING, ERR_KEYSTORE, ERR_PASSPHRASE
 * @example
 * const relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory, listen: ['/ip4/127.0.0.1/tcp/0'] })
 * await relay.start()
 */
export async function createBootstrap (components: BootstrapComponents, init: BootstrapConfig & { passphrase?: string }): Promise<Bootstrap> {
  await ensurePrivateDirectory(init.dataDirectory)
  const lock = acquireStateLock(init.dataDirectory)
  try {
    await removeStaleTemporaries(init.dataDirectory, readdirSync(init.dataDirectory))
    return await build(components, init, lock)
  } catch (err) {
    lock.release()
    throw err
  }
}

async function build (components: BootstrapComponents, init: BootstrapConfig & { passphrase?: string }, lock: StateLock): Promise<Bootstrap> {
  const { clock = systemClock, log = silentLogger, metrics = createMetrics(), random = Math.random } = components
  const { passphrase, ...config } = init
  const identity = await openKeystore({ directory: config.dataDirectory, passphrase, log: log.child('carrier:identity') })
  const loaded = loadConfig(config)
  const reloader: Reloader = createReloader({ clock, log, metrics, readConfig: components.readConfig, apply }, loaded)
  // until a reload is done, what it applies asks for the new state already
  let { config: settings, admission } = loaded
  const admit = components.admit ?? admitByLists(() => admission, () => settings.circuitLimits)
  const quotas = createQuotaBook(clock, config.quotas)
  const evicted = metrics.counter('carrier_relay_evicted_connections_total', 'Connections that used nothing and were closed to make room for new ones.')
  const gate = createConnectionGate({ clock, metrics, bounds: () => settings.connections, hasRoom: () => makeRoom() })
  const host = await createHost({ clock, log: log.child('carrier:relay'), metrics }, { privateKey: identity.privateKey, listen: config.listen, announce: config.announce, maxConnections: config.maxConnections, tls: loaded.tls, gater: gate.gater })
  const { node } = host
  const startedAtMs = clock.monotonicMs()
  let isReady = false
  let isDraining = false

  const health = createHealthServer({ metrics, isReady: () => isReady }, config.health)
  const hop = createHopServer({ node, privateKey: identity.privateKey, admit, quotas, classOf: (peer) => classOf(admission, peer), clock, log: log.child('carrier:relay'), metrics }, config.relay)
  const addresses = spliceAddresses(config)
  const splice = addresses.length === 0
    ? undefined
    : createSpliceServer({ node, hop, admit, quotas, clock, log: log.child('carrier:splice'), metrics }, { addresses, mayMove: config.splice === 'auto', settings: spliceSettings(config), copy: config.spliceCopy })
  const dht = createDhtServer({ node, clock, log: log.child('carrier:dht'), metrics, peers: () => settings.peers })
  const store = createOptionalPart(createQuotaStore({ clock, log: log.child('carrier:quotas'), book: quotas }, config), hasDailyQuota(config.quotas))
  const quotaServer = createQuotaServer({ node, desk: hop.desk, places: hop.places, quotas, log: log.child('carrier:quotas'), metrics })
  const reachServer = createReachServer({ node, desk: hop.desk, clock, log: log.child('carrier:reach'), metrics, peers: () => settings.peers })
  const reach = createReachCheck({ node, clock, log: log.child('carrier:reach'), metrics, peers: () => settings.peers })
  let mesh = makeMesh(config.peers)
  const tlsWatch = createTlsWatch({ clock, log, fingerprint: () => settings.tls === undefined ? undefined : tlsFingerprint(settings.tls), renew: async () => (await reloader.renewTls()).result === 'ok' })
  const isInUse = (peerId: PeerId): boolean => hop.isUsedBy(peerId) || dht.isServer(peerId)
  const makeRoom = createConnectionRoom({ node, clock, isInUse, maxConnections: () => settings.maxConnections, onEvicted: evicted.add })
  const idle = createIdleConnections({ node, clock, log, metrics, isInUse })
  const operator = createOperatorServer({ log, methods: { status, peers: (isFull) => ({ peers: viewPeers(quotas.list(), settings.quotas, isFull) }), reload: reloader.reload, drain: askDrain } }, config)
  const parts: readonly Startable[] = [
    operator, health, store, hop, ...(splice === undefined ? [] : [splice]), dht, quotaServer, reachServer, hostPart({ clock, log, gate }, host),
    createPeerSweep({ node: () => node, clock, log, isKept: dht.isServer }), idle, { start: async () => { await mesh.start() }, stop: async () => { await mesh.stop() } }, reach, tlsWatch
  ]
  const notices = metrics.counter('carrier_relay_drain_notices_total', 'Devices with a reservation that were told that the relay drains, by result.', ['result'])
  const startedAtSeconds = Math.floor(clock.now() / 1000)
  metrics.gauge('carrier_relay_start_seconds', 'When the relay was started, as epoch seconds.', [], () => startedAtSeconds)
  metrics.gauge('carrier_relay_connections_count', 'Connections open now.', [], () => node.getConnections().length)
  metrics.gauge('carrier_relay_resident_bytes', 'Resident memory of the process.', [], () => process.memoryUsage.rss())
  metrics.gauge('carrier_relay_load_permille', 'How full the relay says it is, 0 to 1000.', [], hop.loadPermille)
  metrics.gauge('carrier_relay_draining', '1 while the relay drains, else 0.', [], () => isDraining ? 1 : 0)
  metrics.gauge('carrier_relay_quota_accounts_count', 'Accounts of identities and source prefixes that are remembered.', [], () => quotas.size)

  function makeMesh (peers: readonly string[]): Startable {
    return createMesh({ node, clock, log: log.child('carrier:mesh'), random }, { peers })
  }

  /** Everything that can change. */
  async function apply (next: LoadedConfig): Promise<void> {
    // what can fail comes first
    await store.setWanted(hasDailyQuota(next.config.quotas))
    if (next.tls !== undefined && isListening()) host.setTls(next.tls)
    const { peers, announce } = settings
    settings = next.config
    admission = next.admission
    components.setLogLevel?.(settings.logLevel)
    quotas.configure(settings.quotas)
    hop.configure(settings.relay)
    splice?.configure(spliceSettings(settings))
    host.setMaxConnections(settings.maxConnections)
    splice?.endBarred()
    for (const peerId of hop.endBarred()) for (const connection of node.getConnections(peerId)) closeSoon(connection)
    if (String(announce) !== String(settings.announce)) await host.setAnnounce(settings.announce)
    if (String(peers) === String(settings.peers)) return
    await mesh.stop()
    mesh = makeMesh(settings.peers)
    if (isListening()) await mesh.start()
  }

  function isListening (): boolean { return node.status === 'started' }

  function status (): RelayStatus {
    const { mode, callers, lists } = admission
    const last = reloader.last()
    return {
      version: components.version ?? 'unknown',
      pid: process.pid,
      peerId: identity.peerId.toString(),
      addresses: node.getMultiaddrs().map(String),
      reach: reach.report(),
      ...(health.address === undefined ? {} : { health: health.address }),
      ...(splice?.port === undefined ? {} : { splice: splice.port }),
      startedAt: Math.round(clock.now() - (clock.monotonicMs() - startedAtMs)),
      uptimeMs: Math.round(clock.monotonicMs() - startedAtMs),
      isReady,
      isDraining,
      loadPermille: hop.loadPermille(),
      connections: node.getConnections().length,
      pendingConnections: gate.pendingCount,
      reservations: hop.reservationCount,
      circuits: hop.circuitCount,
      splices: splice?.spliceCount ?? 0,
      accounts: quotas.size,
      residentBytes: process.memoryUsage.rss(),
      admission: { mode, callers, allow: lists.allow.size, members: lists.members.size, friends: lists.friends.size },
      ...(last === undefined ? {} : { lastReload: last })
    }
  }

  function askDrain (): { withinMs: number } {
    if (components.onDrainAsked === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'this relay is part of another program, which stops it')
    components.onDrainAsked()
    return { withinMs: settings.drainMs }
  }

  return {
    peerId: identity.peerId,
    metrics,
    addresses: () => node.getMultiaddrs().map(String),
    healthAddress: () => health.address,
    splicePort: () => splice?.port,
    status,
    reload: reloader.reload,
    start: async (options) => {
      try {
        await startAll(parts, options)
      } catch (err) {
        lock.release()
        throw err
      }
      isReady = true
      if (node.getMultiaddrs().length === 0) log.warn('no address is announced; peers find this node only by an address they were given: set --announce')
    },
    drain: async () => {
      isReady = false
      isDraining = true
      const withinMs = settings.drainMs
      using deadline = startDeadline(clock, withinMs, 'the drain time is over')
      splice?.drain()
      const drained = hop.drain(deadline.signal)
      await tellDrain({ node, clock, log, notices }, hop.reservedPeers(), withinMs)
      await drained
      const left = { circuits: hop.circuitCount, splices: splice?.spliceCount ?? 0 }
      if (left.circuits + left.splices > 0) log.warn('the drain time is over: what still runs is ended', left)
    },
    stop: async () => {
      isReady = false
      try {
        await stopAll(parts)
      } finally {
        lock.release()
      }
    }
  }
}

function spliceSettings ({ announceSplice, spliceBytesPerSecond }: BootstrapConfig): SpliceSettings {
  return { announcePort: announceSplice, bytesPerSecond: spliceBytesPerSecond }
}

function hasDailyQuota ({ friend, member, stranger, strangers }: QuotaSettings): boolean {
  return [friend, member, stranger, strangers].some(({ bytesPerDay }) => bytesPerDay !== undefined)
}

function hostPart ({ clock, log, gate }: { clock: Clock, log: Logger, gate: ConnectionGate }, { node, announceListeners, watchSockets, stopWatching }: Host): Startable {
  return {
    start: async () => {
      try {
        await node.start()
      } catch (err) {
        const message = errorMessage(err)
        throw new CarrierError(message.includes('EADDRINUSE') ? 'ERR_PORT_IN_USE' : 'ERR_INVALID_ARGUMENT', `the node cannot listen: ${message}`, { cause: err })
      }
      watchSockets(gate.enterSocket)
      announceListeners()
      log.info('listening', { addresses: node.getMultiaddrs().map(String) })
    },
    stop: async () => {
      stopWatching()
      using deadline = startDeadline(clock, LIMITS.relayStopMs, 'the connections did not end in time')
      try {
        await abortable(Promise.resolve(node.stop()), deadline.signal)
      } catch (err) {
        if (!deadline.signal.aborted) throw err
        // what comes after it counts more: the quotas are saved
        log.warn('the relay stops before all its connections have ended')
      }
    }
  }
}
