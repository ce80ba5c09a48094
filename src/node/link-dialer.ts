/** Connects to the link port of a friend, at an address where we have reached it already. */
import { CarrierError, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthGate } from './auth-gate.ts'
import { pathOf } from './path.ts'
import { LINK_PREFACE, TICKET_BYTES } from './ticket-door.ts'
import { dialTicketPort } from './ticket-dial.ts'
import type { CarrierNode, PeerLevel } from './types.ts'

/** What the dialer needs. */
export interface LinkDialerComponents {
  clock: Clock
  tasks: () => TaskOwner
  connectionsOf: AuthGate['connectionsOf']
  levelOf: (device: Did) => PeerLevel
}

/** The two calls of the node about links of others. */
export type LinkDialer = Pick<CarrierNode, 'dialLink' | 'canDialLink'>

/** Creates the dialer. */
export function createLinkDialer (components: LinkDialerComponents): LinkDialer {
  /** Host and path of the newest direct connection that we dialled; dialled ones are IP addresses, see dial-plan.ts. */
  function endpointOf (device: Did): { host: string, path: 'lan' | 'direct' } | undefined {
    for (const { connection } of components.connectionsOf(device).toReversed()) {
      const { path } = pathOf(connection.remoteAddr)
      const [first] = connection.remoteAddr.getComponents()
      const isIp = first?.name === 'ip4' || first?.name === 'ip6'
      if (connection.direction === 'outbound' && isIp && first.value !== undefined && (path === 'lan' || path === 'direct')) return { host: first.value, path }
    }
    return undefined
  }

  return {
    canDialLink: (device) => endpointOf(device) !== undefined,
    dialLink: async (device, link, options = {}) => {
      if (components.levelOf(device) !== 'friend') throw new CarrierError('ERR_NOT_AVAILABLE', 'direct links are for friends only')
      if (!Number.isInteger(link.port) || link.port < 1 || link.port > 65_535 || link.ticket.length !== TICKET_BYTES) throw new CarrierError('ERR_PROTOCOL', 'the friend named no link port')
      const endpoint = endpointOf(device)
      if (endpoint === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'there is no direct connection to the device that we dialled')
      const { signal: stopSignal } = components.tasks()
      using deadline = startDeadline(components.clock, LIMITS.spliceTimeoutMs, 'the link was not there in time', options.signal === undefined ? stopSignal : AbortSignal.any([stopSignal, options.signal]))
      const socket = await dialTicketPort(components.clock, { host: endpoint.host, port: link.port, preface: LINK_PREFACE, ticket: link.ticket }, deadline.signal)
      return { socket, path: endpoint.path }
    }
  }
}
