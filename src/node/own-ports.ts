/**
 * The ports at which friends reach this node directly: libp2p's and the link port. They follow the addresses of this machine,
 * and friends hear of it.
 */
import type { Listener } from '@libp2p/interface'
import { errorMessage } from '../base/index.ts'
import type { Logger } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { createLinkPort } from './link-port.ts'
import type { LinkPort, LinkPortComponents } from './link-port.ts'
import { announcedMultiaddrs, listenHosts } from './listen-addresses.ts'
import type { Interfaces, ListenMode } from './listen-addresses.ts'
import { tcpMultiaddr } from './listen-addresses.ts'
import { createListeners } from './listeners.ts'
import type { Listeners } from './listeners.ts'
import type { PortMap, PortMapComponents } from './port-map.ts'
import type { CarrierNode } from './types.ts'

/** What the ports need. */
export interface OwnPortsComponents extends LinkPortComponents {
  log: Logger
  interfaces: () => Interfaces
  /** Opens the ports at the router too; only in mode `mapped`. */
  createPortMap: (components: Pick<PortMapComponents, 'ports' | 'onChanged'>) => PortMap
  /** The addresses that friends are told may be others now. */
  onChanged: () => void
  /** True when the device reached us from outside our networks. */
  isOutside: (device: Did) => boolean
}

/** Where to listen. */
export interface OwnPortsInit {
  listen: ListenMode
  /** 0 picks one. */
  port: number
  /** Loopback counts as local network. */
  loopback: boolean
}

/** The ports. */
export interface OwnPorts extends Pick<CarrierNode, 'issueLinkTicket'>, Pick<LinkPort, 'setHandler'> {
  /** Listens. @throws CarrierError ERR_NOT_AVAILABLE when some wanted address could not be listened on */
  start: (createListener: () => Listener) => Promise<void>
  /** Listens where it is to listen now: this machine has other addresses. */
  rebind: () => Promise<void>
  stop: () => Promise<void>
  /** Multiaddrs of the open sockets. */
  listening: () => string[]
  /** Multiaddrs that friends are told, the best first. */
  announced: () => string[]
  /** What is wrong, in plain sentences. */
  problems: () => string[]
}

/** Creates the ports; nothing is opened before `start`. A stopped one may start again. */
export function createOwnPorts (components: OwnPortsComponents, init: OwnPortsInit): OwnPorts {
  const { log, interfaces } = components
  let listeners: Listeners | undefined
  let failure: string | undefined
  const linkPort = createLinkPort(components, () => ({ hosts: wantedHosts(), port: init.port === 0 ? 0 : init.port + 1 }))

  const portMap = init.listen !== 'mapped'
    ? undefined
    : components.createPortMap({
      ports: () => {
        const main = listeners?.port()
        return main === undefined ? undefined : { main, link: linkPort.port }
      },
      onChanged: components.onChanged
    })

  function wantedHosts (): string[] {
    return listenHosts(init.listen, interfaces(), init.loopback)
  }

  function listening (): string[] {
    return listeners?.listening() ?? []
  }

  return {
    setHandler: linkPort.setHandler,
    issueLinkTicket: (device) => {
      const ticket = linkPort.issueLinkTicket(device)
      const outside = portMap?.outside()
      // the router may have given another number than ours
      return ticket !== undefined && outside?.link !== undefined && components.isOutside(device) ? { ...ticket, port: outside.link } : ticket
    },
    listening,
    announced: () => {
      const outside = portMap?.outside()
      return [...outside === undefined ? [] : [tcpMultiaddr(outside.host, outside.main)], ...announcedMultiaddrs(listening(), interfaces())]
    },
    start: async (createListener) => {
      failure = undefined
      listeners = createListeners({ log, createListener })
      await listeners.set(wantedHosts(), init.port)
      await linkPort.start()
      portMap?.start()
    },
    rebind: async () => {
      if (listeners === undefined) return
      try {
        await listeners.set(wantedHosts(), init.port)
        failure = undefined
      } catch (err) {
        failure = errorMessage(err)
      }
      await linkPort.rebind()
      portMap?.refresh()
    },
    stop: async () => {
      await portMap?.stop()
      await linkPort.stop()
      await listeners?.close()
      listeners = undefined
    },
    problems: () => {
      const problems: string[] = []
      if (failure !== undefined) problems.push(`listen = ${init.listen}: ${failure}`)
      else if (init.listen !== 'none' && listeners !== undefined && listening().length === 0) problems.push(`listen = ${init.listen}: this machine has no address to listen on in this mode`)
      const unmapped = portMap?.problem()
      if (unmapped !== undefined) problems.push(`listen = mapped: ${unmapped}`)
      return problems
    }
  }
}
