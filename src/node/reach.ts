/**
 * Everything about being reached directly and reaching friends so: our ports, the router's, the local network, the news of it,
 * and dials beside a relayed connection. Puts the parts together; each is a file of its own.
 */
import type { Connection, Listener } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Clock, HostAndPort, Logger, TaskOwner } from '../base/index.ts'
import { peerIdFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import type { AuthGate } from './auth-gate.ts'
import { planDial } from './dial-plan.ts'
import type { AddressStore } from './dialer.ts'
import { createDirectDial } from './direct-dial.ts'
import type { Interfaces, ListenMode } from './listen-addresses.ts'
import { createLocalDiscovery } from './local-discovery.ts'
import { createMdns } from './mdns.ts'
import type { NodeMetrics } from './metrics.ts'
import { dialableAddresses, directEndpoint, ownHosts } from './own-network.ts'
import { createOwnPorts } from './own-ports.ts'
import type { OwnPorts } from './own-ports.ts'
import { isPrivateHost, pathOf } from './path.ts'
import { createPortMap } from './port-map.ts'
import { createPcpNonces, probeDatagrams } from './port-map-datagram.ts'
import { findGateway } from './port-map-gateway.ts'
import { probeUpnp } from './port-map-upnp.ts'
import { createReachNews } from './reach-news.ts'
import type { ReachNews } from './reach-news.ts'
import type { CarrierNode, PeerLevel } from './types.ts'

/** What the parts need. */
export interface ReachComponents {
  identity: Pick<Identity, 'did' | 'privateKey' | 'publicKey'>
  clock: Clock
  log: Logger
  metrics: Pick<NodeMetrics, 'linkSockets' | 'dials' | 'portMaps' | 'lanQueries'>
  tasks: () => TaskOwner
  gate: Pick<AuthGate, 'connectionsOf' | 'passed' | 'all'>
  levelOf: (device: Did) => PeerLevel
  /** Friends' devices, the most important first; absent: nobody is looked for. */
  friends: (() => Did[]) | undefined
  interfaces: () => Interfaces
  addressStore: AddressStore
  /** False for addresses that only a proxy may connect to. */
  mayDialDirectly: (host: string) => boolean
  /** IP addresses of the relays. */
  relayHosts: () => string[]
  dialAddress: (address: Multiaddr, signal: AbortSignal) => Promise<Connection>
  openStream: CarrierNode['openStream']
}

/** How a node wants to be reached. */
export interface ReachInit {
  listen: ListenMode
  port: number
  /** Loopback counts as local network. Nobody is looked for then: several nodes of one machine know of each other. */
  loopback: boolean
}

/** The parts as one. */
export interface Reach extends Pick<OwnPorts, 'announced' | 'listening' | 'issueLinkTicket' | 'setHandler' | 'problems'>, Pick<ReachNews, 'meet'> {
  /** Handles the protocol of news. */
  handleNews: ReachNews['handle']
  /** Direct addresses of a friend that may be dialled from here and now. */
  recall: (device: Did) => string[]
  /** Something about the connections of a friend is new. */
  consider: (device: Did) => void
  networkChanged: () => void
  /** @throws as OwnPorts.start */
  start: (createListener: () => Listener) => Promise<void>
  stop: () => Promise<void>
}

/** Creates the parts; nothing is opened or said before `start`. */
export function createReach (components: ReachComponents, init: ReachInit): Reach {
  const { clock, log, tasks, gate, levelOf, interfaces, addressStore, metrics } = components
  const nonces = createPcpNonces()
  const ports = createOwnPorts({
    clock,
    log,
    levelOf,
    sockets: metrics.linkSockets,
    interfaces,
    createPortMap: (rest) => createPortMap({
      clock,
      log,
      random: Math.random,
      interfaces,
      findGateway,
      probes: [
        async (gateway, signal) => probeDatagrams(clock, nonces, gateway, signal),
        async (gateway, signal) => probeUpnp(clock, gateway, Math.random, signal)
      ],
      results: metrics.portMaps,
      ...rest
    }),
    onChanged: () => { news.tell() },
    isOutside: (device) => {
      const inbound = gate.connectionsOf(device).findLast(({ connection }) => connection.direction === 'inbound' && pathOf(connection.remoteAddr).path !== 'relayed')
      return inbound !== undefined && pathOf(inbound.connection.remoteAddr).path === 'direct'
    }
  }, init)

  const directDial = createDirectDial({
    clock,
    log,
    tasks,
    random: Math.random,
    gate,
    levelOf,
    candidates,
    dialAddress: components.dialAddress,
    dials: metrics.dials
  })

  const news = createReachNews({
    clock,
    log,
    tasks,
    openStream: components.openStream,
    levelOf,
    connectedFriends: () => [...new Set(gate.all().map((entry) => entry.device))].filter((device) => levelOf(device) === 'friend'),
    addresses: ports.announced,
    onNews: (device, addresses) => {
      if (addresses.length > 0) addressStore.remember(device, addresses)
      directDial.consider(device)
    }
  })

  const { friends } = components
  const discovery = friends === undefined || init.listen === 'none' || init.loopback
    ? undefined
    : createLocalDiscovery({
      clock,
      log,
      random: Math.random,
      identity: components.identity,
      friends,
      isNear: (device) => gate.connectionsOf(device).some(({ connection }) => pathOf(connection.remoteAddr).path !== 'relayed'),
      interfaces,
      addresses: localAddresses,
      createMdns: (answer) => createMdns({ clock, log, answer, hosts: () => ownHosts(interfaces()).filter((host) => isPrivateHost(host) && !host.includes(':')) }),
      onFound: directDial.consider,
      results: metrics.lanQueries
    })

  function localAddresses (): HostAndPort[] {
    return ports.announced().flatMap((text) => {
      const [, , host = '', , port] = text.split('/')
      return isPrivateHost(host) ? [{ host, port: Number(port) }] : []
    })
  }

  function recall (device: Did): string[] {
    const known = [...new Set([...discovery?.recall(device) ?? [], ...addressStore.recall(device)])].filter((text) => components.mayDialDirectly(directEndpoint(text)?.host ?? ''))
    return dialableAddresses(known, { interfaces: interfaces(), relayHosts: components.relayHosts(), mayUseLoopback: init.loopback })
  }

  function candidates (device: Did): Multiaddr[] {
    return planDial({
      peerId: peerIdFromDid(device).toString(),
      level: levelOf(device),
      remembered: recall(device),
      relays: [],
      isReserved: () => false,
      mayUseLan: true,
      mayUseLoopback: init.loopback
    }).map((candidate) => candidate.address)
  }

  return {
    announced: ports.announced,
    listening: ports.listening,
    issueLinkTicket: ports.issueLinkTicket,
    setHandler: ports.setHandler,
    problems: ports.problems,
    meet: news.meet,
    handleNews: news.handle,
    recall,
    consider: directDial.consider,
    networkChanged: () => {
      tasks().run('listen where this machine is now', async () => {
        await ports.rebind()
        discovery?.networkChanged()
        news.tell()
        directDial.networkChanged()
      })
    },
    start: async (createListener) => {
      news.reset()
      await ports.start(createListener)
      await discovery?.start()
    },
    stop: async () => {
      directDial.stop()
      await discovery?.stop()
      await ports.stop()
    }
  }
}
