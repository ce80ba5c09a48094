/**
 * A lab with IPv6, and with homes that have one family only. There is no NAT between IPv6 hosts, but routers that let
 * nobody in whom nobody inside asked.
 *
 *   office 2a00:1:1::2 ─ firewall ─┐             ┌─ relay1 50.0.1.2 and 2a00:0:1::2
 *                                   ├─ internet ──┤
 *   laptop 2a00:1:2::2 ─ firewall ─┘             └─ relay2 50.0.2.2 and 2a00:0:2::2
 *   or laptop 10.2.0.2 ─ NAT 50.2.0.2
 */
import type { LinkShape } from './delay.ts'
import { joinByDelay } from './delay.ts'
import { natRuleset } from './nat-flavours.ts'
import { addAddress, createNamespaces, joinByCable, loadRuleset, makeRouter, routeVia, skipAddressDetection } from './namespace.ts'
import type { Namespace } from './namespace.ts'

/** Which addresses a home has. */
export type Family = 'ipv4' | 'ipv6'

/** The lab. Relays have both families; `address` of a namespace is its IPv6 address where it has one. */
export interface Ipv6Lab {
  readonly office: Namespace
  readonly laptop: Namespace
  readonly relays: ReadonlyArray<{ place: Namespace, ipv4: string, ipv6: string }>
  close: () => Promise<void>
}

/** Builds it; the caller closes it. */
export async function openIpv6Lab (init: { office: Family, laptop: Family, line: LinkShape }): Promise<Ipv6Lab> {
  const namespaces = createNamespaces()
  const lines: Array<{ close: () => Promise<void> }> = []
  try {
    const internet = await namespaces.add('internet', '2a00::1')
    await makeRouter(internet)
    await skipAddressDetection(internet)
    const relays = []
    for (const number of [1, 2]) {
      const [ipv4, ipv6] = [`50.0.${number}.2`, `2a00:0:${number}::2`]
      const place = await namespaces.add(`relay${number}`, ipv6)
      await skipAddressDetection(place)
      await joinByCable({ namespace: internet, name: `relay${number}`, cidr: `50.0.${number}.1/24` }, { namespace: place, name: 'eth0', cidr: `${ipv4}/24` })
      await addAddress({ namespace: internet, name: `relay${number}`, cidr: `2a00:0:${number}::1/64` })
      await addAddress({ namespace: place, name: 'eth0', cidr: `${ipv6}/64` })
      await routeVia(place, `50.0.${number}.1`)
      await routeVia(place, `2a00:0:${number}::1`)
      relays.push({ place, ipv4, ipv6 })
    }
    return {
      relays,
      office: await home('office', 1, init.office),
      laptop: await home('laptop', 2, init.laptop),
      close: async () => {
        try {
          for (const line of lines) await line.close()
        } finally {
          namespaces.close()
        }
      }
    }

    async function home (role: string, number: number, family: Family): Promise<Namespace> {
      const [outside, inside] = family === 'ipv4' ? [`50.${number}.0.`, `10.${number}.0.`] : [`2a00:2:${number}::`, `2a00:1:${number}::`]
      const prefix = family === 'ipv4' ? 24 : 64
      const router = await namespaces.add(`${role}-router`, `${outside}2`)
      const machine = await namespaces.add(role, `${inside}2`)
      await makeRouter(router)
      await skipAddressDetection(router)
      await skipAddressDetection(machine)
      lines.push(await joinByDelay({ namespace: internet, name: role, cidr: `${outside}1/${prefix}` }, { namespace: router, name: 'wan', cidr: `${outside}2/${prefix}` }, init.line))
      await joinByCable({ namespace: router, name: 'lan', cidr: `${inside}1/${prefix}` }, { namespace: machine, name: 'eth0', cidr: `${inside}2/${prefix}` })
      await routeVia(router, `${outside}1`)
      await routeVia(machine, `${inside}1`)
      if (family === 'ipv6') await routeVia(internet, `${outside}2`, `${inside}/64`)
      // the filter is the same for both families; the table of the NAT is for IPv4 only
      await loadRuleset(router, natRuleset('eim', { wan: 'wan', lan: 'lan', insideAddress: `${inside}2` }))
      return machine
    }
  } catch (err) {
    namespaces.close()
    throw err
  }
}
