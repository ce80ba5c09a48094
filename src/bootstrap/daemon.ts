/** A bootstrap node: relay and DHT server in one process, for operators and for tests. */
import { readdirSync } from 'node:fs'
import type { PeerId } from '@libp2p/interface'
import {
  CarrierError, acquireStateLock, createMetrics, ensurePrivateDirectory, errorMessage, removeStaleTemporaries,
  silentLogger, startAll, startDeadline, stopAll, systemClock
} from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable, StateLock } from '../base/index.ts'
import { openKeystore } from '../identity/index.ts'
import { createPeerSweep } from '../node/index.ts'
import { admitAll } from './admission.ts'
import type { Admit } from './admission.ts'
import { spliceAddresses } from './config.ts'
import type { BootstrapConfig } from './config.ts'
import { createDhtServer } from './dht-server.ts'
import { createHealthServer } from './health-server.ts'
import { createHopServer } from './hop-server.ts'
import { createHost } from './host.ts'
import type { Host } from './host.ts'
import { createIdleConnections } from './idle-connections.ts'
import { createMesh } from './mesh.ts'
import { createSpliceServer } from './splice-server.ts'
import { readTls } from './tls-files.ts'

/** What a bootstrap node may be given; what is absent is made. */
export interface BootstrapComponents {
  clock?: Clock
  log?: Logger
  metrics?: Metrics
  random?: () => number
  /** Who may reserve and connect; everybody when absent. */
  admit?: Admit
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
  /** Takes no further reservations and circuits; busy ones may finish. Resolves when the last has ended, at the latest after the configured time. */
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
  const { clock = systemClock, log = silentLogger, metrics = createMetrics(), random = Math.random, admit = admitAll(init.circuitLimits) } = components
  const identity = await openKeystore({ directory: init.dataDirectory, passphrase: init.passphrase, log: log.child('carrier:identity') })
  const tls = readTls(init)
  const host = await createHost({ clock, log: log.child('carrier:relay') }, { privateKey: identity.privateKey, listen: init.listen, announce: init.announce, maxConnections: init.maxConnections, tls })
  const { node } = host
  let isReady = false

  const health = createHealthServer({ metrics, isReady: () => isReady }, init.health)
  const hop = createHopServer({ node, privateKey: identity.privateKey, admit, clock, log: log.child('carrier:relay'), metrics }, init.relay)
  const addresses = spliceAddresses(init)
  const splice = addresses.length === 0
    ? undefined
    : createSpliceServer({ node, hop, admit, clock, log: log.child('carrier:splice'), metrics }, {
      addresses, mayMove: init.splice === 'auto', announcePort: init.announceSplice, bytesPerSecond: init.spliceBytesPerSecond, copy: init.spliceCopy
    })
  const dht = createDhtServer({ node, clock, log: log.child('carrier:dht'), metrics })
  const mesh = createMesh({ node, clock, log: log.child('carrier:mesh'), random }, { peers: init.peers })
  const idle = createIdleConnections({ node, clock, log, metrics, isInUse: (peerId) => hop.isUsedBy(peerId) || dht.isServer(peerId) })
  const parts: readonly Startable[] = [health, hop, ...(splice === undefined ? [] : [splice]), dht, hostPart(host, log), createPeerSweep({ node: () => node, clock, log, isKept: dht.isServer }), idle, mesh]
  metrics.gauge('carrier_relay_connections_count', 'Connections open now.', [], () => node.getConnections().length)
  metrics.gauge('carrier_relay_resident_bytes', 'Resident memory of the process.', [], () => process.memoryUsage.rss())

  return {
    peerId: identity.peerId,
    metrics,
    addresses: () => node.getMultiaddrs().map(String),
    healthAddress: () => health.address,
    splicePort: () => splice?.port,
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
      using deadline = startDeadline(clock, init.drainMs, 'the drain time is over')
      splice?.drain()
      await hop.drain(deadline.signal)
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

function hostPart ({ node, announceListeners, stopWatching }: Host, log: Logger): Startable {
  return {
    start: async () => {
      try {
        await node.start()
      } catch (err) {
        const message = errorMessage(err)
        throw new CarrierError(message.includes('EADDRINUSE') ? 'ERR_PORT_IN_USE' : 'ERR_INVALID_ARGUMENT', `the node cannot listen: ${message}`, { cause: err })
      }
      announceListeners()
      log.info('listening', { addresses: node.getMultiaddrs().map(String) })
    },
    stop: async () => {
      stopWatching()
      await node.stop()
    }
  }
}
