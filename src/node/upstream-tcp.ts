/** libp2p's TCP transport whose dials go through the proxy; listening is the stock one's. */
import { transportSymbol } from '@libp2p/interface'
import type { Connection, DialTransportOptions, Transport } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import type { Multiaddr } from '@multiformats/multiaddr'
import { eagerUpgrader } from './eager-upgrade.ts'
import type { Upstream, UpstreamTarget } from './upstream.ts'
import { UpstreamConnection, upgradeOrAbort } from './upstream-connection.ts'

/** Transport factory for `transports` of libp2p. */
export function proxiedTcp (upstream: Pick<Upstream, 'open' | 'isProxied'>): (components: Parameters<ReturnType<typeof tcp>>[0]) => Transport {
  return (components) => {
    const inner = tcp()(components)
    const log = components.logger.forComponent('carrier:proxied-tcp')

    async function dial (address: Multiaddr, options: DialTransportOptions): Promise<Connection> {
      const target = tcpTarget(address)
      if (target === undefined || !upstream.isProxied(target)) return inner.dial(address, { ...options, upgrader: eagerUpgrader(options.upgrader) })
      const stream = await upstream.open(target, options.signal)
      const connection = new UpstreamConnection({ stream, remoteAddr: address, log })
      return upgradeOrAbort(connection, { ...options, upgrader: eagerUpgrader(options.upgrader) })
    }

    return {
      [Symbol.toStringTag]: 'carrier/proxied-tcp',
      [transportSymbol]: true,
      dial,
      createListener: inner.createListener.bind(inner),
      listenFilter: inner.listenFilter.bind(inner),
      dialFilter: inner.dialFilter.bind(inner)
    }
  }
}

/** Where an address that begins with a host and /tcp/PORT leads; undefined for others. Pure. */
export function tcpTarget (address: Multiaddr): UpstreamTarget | undefined {
  const [host, tcpPart] = address.getComponents()
  if (host?.value === undefined || tcpPart?.name !== 'tcp' || tcpPart.value === undefined) return undefined
  const target = { host: host.value, port: Number(tcpPart.value) }
  if (host.name === 'ip4' || host.name === 'ip6' || host.name === 'dns') return target
  if (host.name === 'dns4') return { ...target, family: 4 }
  if (host.name === 'dns6') return { ...target, family: 6 }
  return undefined
}
