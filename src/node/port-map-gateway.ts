/** Which router leads out of this network, and which of our addresses it knows us by. */
import { readFile } from 'node:fs/promises'
import type { Interfaces } from './listen-addresses.ts'
import { isInOwnSubnet, ownHosts } from './own-network.ts'
import { isPrivateHost } from './path.ts'
import type { Gateway } from './port-map-types.ts'

/** The routes of Linux: one line each, addresses as hexadecimal numbers in the order of this machine's bytes. */
const ROUTES = '/proc/net/route'

/** IPv4 addresses of default routers of a routing table, the preferred one first. Pure. */
export function defaultRouters (table: string): string[] {
  return table.split('\n').slice(1, 1_000).flatMap((line) => {
    const [, destination, gateway, flags, , , metric, mask] = line.trim().split(/\s+/)
    // up, and over a router
    if (destination !== '00000000' || mask !== '00000000' || gateway === undefined || !/^[0-9A-F]{8}$/i.test(gateway) || (Number.parseInt(flags ?? '0', 16) & 3) !== 3) return []
    const router = Buffer.from(gateway, 'hex').reverse().join('.')
    return [{ router, metric: Number(metric) }]
  }).sort((one, other) => one.metric - other.metric).map(({ router }) => router)
}

/**
 * The router in front of us: the default one, where the machine tells; else the first address of our private network, where
 * nearly all home routers are. Undefined when there is none, or it is not in a network of ours.
 */
export async function findGateway (interfaces: Interfaces, readRoutes: () => Promise<string> = async () => readFile(ROUTES, 'latin1')): Promise<Gateway | undefined> {
  const own = ownHosts(interfaces).filter((host) => !host.includes(':') && isPrivateHost(host))
  let routers: string[]
  try {
    routers = defaultRouters(await readRoutes())
  } catch {
    // another system than Linux
    routers = own.map((host) => host.replace(/\.\d+$/, '.1')).filter((host) => !own.includes(host))
  }
  for (const router of routers) {
    if (!isInOwnSubnet(router, interfaces)) continue
    const near = Object.values(interfaces).flatMap((infos) => infos ?? []).find((info) => own.includes(info.address) && isInOwnSubnet(router, { one: [info] }))
    if (near !== undefined) return { router, own: near.address }
  }
  return undefined
}
