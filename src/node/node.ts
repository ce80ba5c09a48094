/** The network host of one device: reachable through its relays, visible to nobody else, authenticated in both directions. */
import { randomBytes } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import type { Connection, PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { CarrierError, createEmitter, createTaskOwner, errorMessage, LIMITS, toHex } from '../base/index.ts'
import type { Clock, KeepaliveMode, Logger, Metrics, TaskOwner } from '../base/index.ts'
import { peerIdFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import { createAddressMemory } from './address-memory.ts'
import { AUTH_PROTOCOL } from './auth.ts'
import { createAuthGate } from './auth-gate.ts'
import type { AuthenticatedConnection } from './auth-gate.ts'
import { createConnectionCheck } from './connection-check.ts'
import { createConnectionDesk } from './connection-desk.ts'
import { checkDataPort } from './data-port-check.ts'
import type { DataPortAnswer } from './data-port-check.ts'
import { createDialer } from './dialer.ts'
import type { AddressStore } from './dialer.ts'
import type { DhtClient } from './dht-client.ts'
import { createGater } from './gater.ts'
import { createHost } from './host.ts'
import type { Host } from './host.ts'
import { createInboundLimits } from './inbound-limits.ts'
import { createLinkDialer } from './link-dialer.ts'
import type { Interfaces, ListenMode } from './listen-addresses.ts'
import { createNodeMetrics } from './metrics.ts'
import { createNetworkWatch } from './network-watch.ts'
import { createOutboundStreams } from './outbound-streams.ts'
import { isLoopbackHost, pathOf } from './path.ts'
import { createPeerDirectory } from './peer-directory.ts'
import { createPeerSweep } from './peer-sweep.ts'
import { pingConnection } from './ping.ts'
import { createProtocolDoor } from './protocol-door.ts'
import { addressesOf, parseRelayAddresses } from './relay-address.ts'
import { createPuncher } from './punch.ts'
import { createReach } from './reach.ts'
import { ADDRESSES_PROTOCOL } from './reach-news.ts'
import { createRelayEndpoints } from './relay-endpoints.ts'
import { createRelayHintParts } from './relay-hints-parts.ts'
import type { RelayRecordBook } from './relay-hints-source.ts'
import { createRelayProbe } from './relay-probe.ts'
import { createRelayQuota } from './relay-quota.ts'
import { createRelaySupervisor } from './relay-supervisor.ts'
import { createSecureChannel } from './secure-channel.ts'
import { createSpliceClient } from './splice-client.ts'
import { createStreamMuxers } from './stream-muxer.ts'
import type { StreamMuxers } from './stream-muxer.ts'
import { createUpstream } from './upstream.ts'
import type { UpstreamInit } from './upstream.ts'
import type { CarrierNode, NetworkChange, NodeEvents, Peer, PeerLevel } from './types.ts'

/** What a node is given. */
export interface NodeComponents {
  identity: Identity
  clock: Clock
  log: Logger
  metrics: Metrics
  /** How a device is known; asked for every connection and every stream, so it must be a look-up. */
  levelOf: (device: Did) => PeerLevel
  ownerOf: (device: Did) => Did
  /** A device that is no friend was refused something. Counted in bulk by the audit log. */
  onStranger: (peerId: string) => void
  /** Direct addresses of friends; kept in memory when absent. */
  addressStore?: AddressStore
  /** What devices said of their relays; without it only the listed relays are used. */
  relayRecords?: RelayRecordBook
  /** Friends' devices, the most important first: those are looked for on the local network. Absent: nobody is. */
  friends?: () => Did[]
  /** The addresses of this machine; as the operating system has them when absent. */
  interfaces?: () => Interfaces
}

/** How a node is set up. */
export interface NodeInit {
  /** Multiaddrs with /p2p/ part. */
  relays: readonly string[]
  listen: ListenMode
  /** For `listen` other than `none`; 0 picks one. */
  port: number
  /** Loopback counts as local network: several nodes on one machine. */
  loopback?: boolean
  /** The proxy to relays, and certificates that are trusted besides the usual ones. */
  upstream?: UpstreamInit
  /** How soon a silent connection is noticed; `normal` when absent. */
  keepalive?: KeepaliveMode
  /** Whether holes are punched with friends; true when absent. */
  punch?: boolean
}

/** A node, and what is wrong with its set-up in plain sentences. */
export interface Node extends CarrierNode {
  problems: () => string[]
  /** Values in the private DHT of the listed relays. */
  dht: DhtClient
  /** Whether the data port of a relay answers from here. @throws CarrierError saying why it does not */
  checkDataPort: (relayPeerId: string, signal?: AbortSignal) => Promise<DataPortAnswer>
}

/**
 * Creates a node; nothing is opened before `start`, which never waits for a relay.
 *
 * @throws CarrierError ERR_CONFIG for a relay address that is wrong
 */
export function createNode (components: NodeComponents, init: NodeInit): Node {
  const { identity, clock, levelOf, ownerOf } = components
  const log = components.log.child('carrier:node')
  const relays = parseRelayAddresses(init.relays)
  const emitter = createEmitter<NodeEvents>(log)
  const addressStore = components.addressStore ?? createAddressMemory()
  const upstream = createUpstream(clock, init.upstream ?? {})
  const limits = createInboundLimits()
  const peers = createPeerDirectory(relays, (peerId) => friendRelays.pool.isBorrowed(peerId))
  let tasks: TaskOwner = createTaskOwner(log)
  let running: { host: Host, muxers: StreamMuxers } | undefined

  const metrics = createNodeMetrics(components.metrics, {
    connections: () => gate.all().length,
    strangers: () => limits.strangerCount(),
    reserved: () => supervisor.statuses().filter((status) => status.state === 'reserved').length,
    leaving: () => relays.filter((relay) => supervisor.isLeaving(relay.peerId)).length,
    loadPermille: () => Math.max(0, ...supervisor.statuses().map((status) => status.state === 'reserved' ? status.loadPermille ?? 0 : 0))
  })

  const gate = createAuthGate({
    identity,
    levelOf,
    clock,
    log,
    tasks: () => tasks,
    random: (length) => new Uint8Array(randomBytes(length)),
    listenAddresses: () => reach.announced(),
    ping: async (connection, signal) => pingConnection(clock, connection, signal)
  }, {
    onPassed: (entry) => {
      metrics.auths.add(1, { result: 'ok' })
      if (levelOf(entry.device) === 'friend') {
        remember(entry)
        reach.consider(entry.device)
      }
      log.debug('peer authenticated', { device: entry.device, direction: entry.connection.direction })
      emitter.emit('peer:authenticated', { peer: describe(entry), direction: entry.connection.direction })
    },
    onGone: (device) => { emitter.emit('peer:disconnected', { device }) },
    onFailed: (peer, code) => {
      metrics.auths.add(1, { result: code })
      noteStranger(peer)
    },
    onDuplicate: (device, ids) => {
      log.warn('two live processes use the key of one device: stop one of them, or give it an identity of its own', { device })
      emitter.emit('node:duplicate-identity', { device, instanceIds: [toHex(ids[0]), toHex(ids[1])] })
    }
  })

  const endpoints = createRelayEndpoints(peers, upstream.mayDialDirectly)
  const splices = createSpliceClient({
    libp2p: () => host().libp2p,
    clock,
    log,
    tasks: () => tasks,
    isRelay: (peerId) => isListed(peerId) || friendRelays.pool.isBorrowed(peerId),
    endpoints,
    levelOf,
    splices: metrics.splices,
    onDrain: (relayPeerId, withinMs) => { supervisor.noteDrain(relayPeerId, withinMs) }
  })
  const puncher = createPuncher({
    clock,
    log,
    random: Math.random,
    // nothing is in between on one machine
    observers: () => running === undefined || init.punch === false ? [] : splices.observers().filter((relayPeerId) => isListed(relayPeerId) && !isLoopbackHost(endpoints.ipOf(relayPeerId) ?? '')),
    askObserve: splices.askObserve,
    relayHosts,
    interfaces: readInterfaces,
    mayDialDirectly: upstream.mayDialDirectly
  }, { mayUseLan: init.listen !== 'none', mayUseLoopback: init.loopback === true })
  const linkDialer = createLinkDialer({ clock, tasks: () => tasks, connectionsOf: gate.connectionsOf, levelOf })

  const door = createProtocolDoor({
    clock,
    log,
    tasks: () => tasks,
    gate,
    peers,
    levelOf,
    describe,
    onRefused,
    streams: metrics.streams,
    openStreams: metrics.openStreams,
    spliceOffers: { isReady: splices.hasHandler, handle: splices.handleOffer }
  })

  const desk = createConnectionDesk({ clock, peers, levelOf, limits, gate, onRefused, abortStreams: door.abortAll })

  /** Connections whose other end has said what it speaks. */
  const identified = new WeakSet<Connection>()
  const relayQuota = createRelayQuota({
    libp2p: () => host().libp2p,
    clock,
    log,
    tasks: () => tasks,
    isRelay: (peerId) => isListed(peerId) || friendRelays.pool.isBorrowed(peerId),
    onCircuits: (relayPeerId, usedUp) => { supervisor.noteQuota(relayPeerId, usedUp) }
  })
  const relayProbe = createRelayProbe(host)
  const supervisor = createRelaySupervisor({
    host,
    clock,
    log,
    attempts: metrics.relayAttempts,
    probes: metrics.relayProbes,
    probe: relayProbe.probe,
    askLoad: splices.askLoad,
    identify: async (connection, signal) => { if (!identified.has(connection)) await host().identify(connection, signal) },
    askQuota: relayQuota.ask,
    explainRefusal: async (relayPeerId, err, signal) => relayQuota.explain(relayPeerId, 'reservations', err, signal),
    ping: async (connection, signal) => pingConnection(clock, connection, signal),
    random: Math.random,
    onState: (status) => { emitter.emit('relay:state', status) }
  }, relays)

  const checkConnection = createConnectionCheck({ clock, log, tasks: () => tasks, ping: async (connection, signal) => pingConnection(clock, connection, signal) })
  const networkWatch = createNetworkWatch({ clock, interfaces: readInterfaces, onChange: networkChanged })

  const peerSweep = createPeerSweep({
    node: () => host().libp2p,
    clock,
    log,
    isKept: (peer) => peers.isRelay(peer) || isFriend(peer)
  })

  const friendRelays = createRelayHintParts({
    host,
    clock,
    log,
    metrics: components.metrics,
    tasks: () => tasks,
    levelOf,
    book: components.relayRecords,
    interfaces: readInterfaces,
    relayHosts,
    upstream,
    onForgotten: (peerId) => {
      splices.noteProtocols(peerIdFromString(peerId), [])
      endpoints.forget(peerId)
    }
  }, { relays, ownPeerId: identity.peerId.toString(), mayUseLoopback: init.loopback === true, mayBorrow: init.punch !== false })

  const dialer = createDialer({
    host,
    clock,
    log,
    tasks: () => tasks,
    gate,
    levelOf,
    addressStore: { recall: (device) => reach.recall(device) },
    isReserved: (relayPeerId) => supervisor.isReserved(relayPeerId) && !supervisor.isLeaving(relayPeerId),
    relayOrder: supervisor.dialOrder,
    hints: friendRelays.hints,
    pool: friendRelays.pool,
    resolveRelay: friendRelays.resolveRelay,
    explainCircuit: async (relayPeerId, err, signal) => relayQuota.explain(relayPeerId, 'circuits', err, signal),
    dials: metrics.dials
  }, { relays, mayUseLan: true, mayUseLoopback: init.loopback === true })

  const outbound = createOutboundStreams({ clock, gate, dialer, door, levelOf, describe, isLeavingRelay: supervisor.isLeaving })

  const reach = createReach({
    identity,
    clock,
    log,
    metrics,
    tasks: () => tasks,
    gate,
    levelOf,
    friends: components.friends,
    interfaces: readInterfaces,
    addressStore,
    mayDialDirectly: upstream.mayDialDirectly,
    relayHosts,
    dialAddress: async (address, signal) => host().dialAddress(address, signal),
    openStream: outbound.openStream
  }, { listen: init.listen, port: init.port, loopback: init.loopback === true })
  door.register(ADDRESSES_PROTOCOL, { handler: reach.handleNews, levels: ['friend'], maxStreamsPerPeer: 1 })

  function isListed (peerId: string): boolean {
    return relays.some((relay) => relay.peerId === peerId)
  }

  function isFriend (peer: PeerId): boolean {
    const device = peers.deviceOf(peer)
    return device !== undefined && levelOf(device) === 'friend'
  }

  function host (): Host {
    if (running === undefined) throw new CarrierError('ERR_CLOSED', 'the node is not running')
    return running.host
  }

  function assertNotRunning (): void {
    if (running !== undefined) throw new CarrierError('ERR_INTERNAL', 'protocols and handlers are registered before the node starts')
  }

  function onRefused (peer: PeerId, reason: string): void {
    metrics.refusals.add(1, { reason })
    noteStranger(peer)
  }

  function noteStranger (peer: PeerId): void {
    if (!peers.isRelay(peer) && !isFriend(peer)) components.onStranger(peer.toString())
  }

  /** Circuits end with the connection to their relay. */
  function networkChanged (change: NetworkChange): void {
    log.info('the network changed, everything open is looked after', { kind: change.kind })
    for (const connection of host().libp2p.getConnections()) {
      const relay = supervisor.statuses().find((status) => status.peerId === connection.remotePeer.toString())
      const isOurs = peers.isRelay(connection.remotePeer) || isFriend(connection.remotePeer)
      if (isOurs && pathOf(connection.remoteAddr).path !== 'relayed') checkConnection(connection, relay?.rttMs)
    }
    supervisor.networkChanged()
    reach.networkChanged()
    emitter.emit('node:network-changed', change)
  }

  /** The interfaces of this machine; none when it does not tell them. */
  function readInterfaces (): Interfaces {
    try {
      return (components.interfaces ?? networkInterfaces)()
    } catch {
      // some machines refuse: the node then listens on nothing in mode lan, and says so
      return {}
    }
  }

  function relayHosts (): string[] {
    return relays.flatMap((relay) => [endpoints.ipOf(relay.peerId) ?? [], ...addressesOf(relay).map(({ text }) => text.split('/')[2] ?? [])].flat())
  }

  function describe (entry: AuthenticatedConnection): Peer {
    return { device: entry.device, owner: ownerOf(entry.device), level: levelOf(entry.device), instanceId: entry.instanceId, ...pathOf(entry.connection.remoteAddr) }
  }

  function remember (entry: AuthenticatedConnection): void {
    const { connection } = entry
    const used = connection.direction === 'outbound' && pathOf(connection.remoteAddr).path !== 'relayed' ? [connection.remoteAddr.toString()] : []
    const addresses = [...new Set([...used, ...entry.addresses])].slice(0, LIMITS.rememberedAddressCount)
    if (addresses.length > 0) addressStore.remember(entry.device, addresses)
  }

  async function stop (): Promise<void> {
    if (running === undefined) return
    const { host: { libp2p }, muxers } = running
    networkWatch.stop()
    // from here on no stream is admitted; those that are would keep their tasks, and so the stop, waiting
    const tasksDone = tasks.stop()
    // a graceful close of the connection would look like an end on every stream of it
    door.abortAll(new CarrierError('ERR_CLOSED', 'the node stops'))
    friendRelays.pool.stop()
    await reach.stop()
    await supervisor.stop()
    await peerSweep.stop()
    await tasksDone
    await libp2p.stop()
    muxers.stop()
    desk.stop()
    running = undefined
  }

  return {
    device: identity.did,
    on: emitter.on,
    handle: (protocol, handler, options) => {
      assertNotRunning()
      door.register(protocol, {
        handler: async (stream, peer) => {
          if (peer.level === 'friend') reach.meet(peer.device)
          await handler(stream, peer)
        },
        ...options
      })
    },
    start: async () => {
      if (running !== undefined) return
      tasks = createTaskOwner(log)
      const secureChannel = createSecureChannel()
      const muxers = createStreamMuxers({
        clock,
        log,
        keepalive: init.keepalive,
        peerOf: secureChannel.peerOf,
        policy: {
          classOf: (peer) => {
            if (peers.isRelay(peer)) return 'relay'
            return isFriend(peer) ? 'friend' : 'stranger'
          },
          judge: door.judge,
          route: door.route,
          onRefused
        }
      })
      const made = await createHost({
        privateKey: identity.privateKey,
        gater: relayProbe.letSelfIn(createGater({ clock, relays, peers, levelOf, limits, onRefused })),
        secureChannel: { ...secureChannel, encrypter: endpoints.observe(secureChannel.encrypter) },
        muxers,
        upstream
      }).catch((err: unknown) => {
        muxers.stop()
        throw explainStartFailure(err, init)
      })
      const { libp2p } = made
      running = { host: made, muxers }
      libp2p.addEventListener('connection:open', (event) => { desk.opened(event.detail) })
      libp2p.addEventListener('peer:identify', (event) => {
        identified.add(event.detail.connection)
        splices.noteProtocols(event.detail.peerId, event.detail.protocols)
      })
      libp2p.addEventListener('connection:close', (event) => {
        desk.closed(event.detail)
        const device = peers.deviceOf(event.detail.remotePeer)
        if (device !== undefined && gate.connectionsOf(device).length > 0) reach.consider(device)
      })
      try {
        await libp2p.handle(AUTH_PROTOCOL, door.enter, { runOnLimitedConnection: true, maxInboundStreams: LIMITS.peerStreamCount, maxOutboundStreams: LIMITS.peerStreamCount })
        await libp2p.start()
        await reach.start(made.createTcpListener)
        await supervisor.start()
        await peerSweep.start()
        networkWatch.start()
      } catch (err) {
        await stop()
        throw explainStartFailure(err, init)
      }
      log.info('node started', { device: identity.did, relays: relays.length, listen: init.listen })
    },
    stop,
    openStream: async (device, protocol, options) => {
      const opened = await outbound.openStream(device, protocol, options)
      if (opened.peer.level === 'friend') reach.meet(device)
      return opened
    },
    ping: outbound.ping,
    peer: (device) => {
      const entry = outbound.bestOf(device)
      return entry === undefined ? undefined : describe(entry)
    },
    isReachable: () => running !== undefined && (supervisor.statuses().some((status) => status.state === 'reserved') || reach.listening().length > 0),
    relays: () => supervisor.statuses(),
    isLeavingRelay: supervisor.isLeaving,
    canAvoidRelay: (relayPeerId) => supervisor.statuses().some(({ peerId, state }) => peerId !== relayPeerId && (state === 'reserved' || state === 'standby') && !supervisor.isLeaving(peerId)),
    listenAddresses: reach.announced,
    openSplice: splices.openSplice,
    canSplice: (relayPeerId) => running !== undefined && splices.canSplice(relayPeerId),
    handleSplices: (handler) => {
      assertNotRunning()
      splices.setHandler(handler)
    },
    issueLinkTicket: reach.issueLinkTicket,
    handleLinkSockets: (handler) => {
      assertNotRunning()
      reach.setHandler(handler)
    },
    dialLink: linkDialer.dialLink,
    canDialLink: linkDialer.canDialLink,
    canPunch: puncher.canPunch,
    preparePunch: puncher.prepare,
    dht: friendRelays.dht,
    checkDataPort: async (relayPeerId, signal) => checkDataPort({ clock, canSplice: (peerId) => running !== undefined && splices.canSplice(peerId), askObserve: splices.askObserve }, relayPeerId, signal),
    disconnect: async (device) => {
      const err = new CarrierError('ERR_CLOSED', 'the connection was ended')
      door.abortAll(err, device)
      if (running === undefined) return
      for (const connection of running.host.libp2p.getConnections(peerIdFromDid(device))) connection.abort(err)
    },
    problems: () => {
      const problems: string[] = []
      if (relays.length === 0 && init.listen === 'none') problems.push('no relay is configured and the node does not listen: nobody can reach it; add one with "carrier up --relay MULTIADDR"')
      problems.push(...reach.problems())
      return problems
    }
  }
}

function explainStartFailure (err: unknown, init: NodeInit): CarrierError {
  const text = errorMessage(err)
  if (/EADDRINUSE/.test(text)) return new CarrierError('ERR_PORT_IN_USE', `port ${init.port} is in use by another program; choose another with --port, or 0 for any`, { cause: err })
  if (/EACCES/.test(text)) return new CarrierError('ERR_CONFIG', `this user may not listen on port ${init.port}; choose one above 1023 with --port`, { cause: err })
  if (err instanceof CarrierError) return err
  return new CarrierError('ERR_INTERNAL', `the network host did not start: ${text}`, { cause: err })
}
