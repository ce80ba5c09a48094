/**
 * The lab: an internet of namespaces on one machine. Public addresses exist only inside.
 *
 *   office 10.1.0.2 ─ officeNat 50.1.0.2 ─┐            ┌─ relay1 50.0.1.2
 *                                          ├─ internet ─┼─ relay2 50.0.2.2
 *   laptop 10.2.0.2 ─ laptopNat 50.2.0.2 ─┘            └─ cafe   50.0.9.2 (a public host: the stranger)
 *
 * A home whose provider has a NAT too: laptop 10.2.0.2 ─ laptopNat 100.64.2.2 ─ provider 50.2.0.2 ─ internet
 * Both in one home: office 10.1.0.2 and laptop 10.1.0.3 ─ officeNat 50.1.0.2 ─ internet
 */
import type { TestNetwork } from '../support/network.ts'
import { joinByDelay } from './delay.ts'
import type { DelayedLink, LinkShape } from './delay.ts'
import { NAT_FLAVOURS, natRuleset } from './nat-flavours.ts'
import type { NatFlavour, Unasked } from './nat-flavours.ts'
import { createNamespaces, joinByCable, joinBySwitch, loadRuleset, makeRouter, routeVia } from './namespace.ts'
import type { LinkEnd, Namespace } from './namespace.ts'

/** The lab as a network, with its routers. */
export interface Lab extends TestNetwork {
  readonly name: 'natlab'
  readonly internet: Namespace
  readonly office: Namespace
  readonly officeNat: Namespace
  readonly laptop: Namespace
  readonly laptopNat: Namespace
  /** The router of each home that has the public address: its own, or its provider's. */
  readonly edges: { readonly office: Namespace, readonly laptop: Namespace }
  readonly cafe: Namespace
  readonly relays: readonly Namespace[]
  /** The emulated access lines of the homes, when asked for. */
  readonly lines: { office?: DelayedLink, laptop?: DelayedLink }
}

/** What a lab looks like. */
export interface LabInit {
  office?: NatFlavour
  laptop?: NatFlavour
  /** How all routers treat packets that nobody inside asked for; default: reset. */
  unasked?: Unasked
  relayCount?: 1 | 2
  /** The laptop is in the home of the office, in the same local network; its own flavour is of no account. */
  isSameHome?: boolean
  /** Gives each home's access line a delay, loss and rate. */
  line?: LinkShape
}

/** What a router is joined to: an interface to make, whose network's `.1` it gets. */
interface Upstream { namespace: Namespace, name: string, network: string }

/** The interface of a machine that has one. */
export const UPLINK = 'eth0'

/** Builds a lab; the caller closes it, and it is removed with the test process in any case. */
export async function openLab (init: LabInit = {}): Promise<Lab> {
  const namespaces = createNamespaces()
  const lines: Array<['office' | 'laptop', DelayedLink]> = []
  try {
    const internet = await namespaces.add('internet', '50.0.0.1')
    await makeRouter(internet)
    const relays: Namespace[] = []
    for (let number = 1; number <= (init.relayCount ?? 1); number++) relays.push(await publicHost(`relay${number}`, `50.0.${number}`))
    const cafe = await publicHost('cafe', '50.0.9')
    const { machines: [officeHost, guest], ...officeHome } = await home('office', 1, init.office ?? 'eim', init.isSameHome === true ? ['office', 'laptop'] : ['office'])
    const { machines: [laptopHost], ...laptopHome } = guest === undefined ? await home('laptop', 2, init.laptop ?? 'eim', ['laptop']) : { ...officeHome, machines: [guest] }
    if (officeHost === undefined || laptopHost === undefined) throw new Error('a home without a machine')
    return {
      name: 'natlab',
      internet,
      relays,
      cafe,
      office: officeHost,
      officeNat: officeHome.nat,
      laptop: laptopHost,
      laptopNat: laptopHome.nat,
      edges: { office: officeHome.edge, laptop: laptopHome.edge },
      lines: Object.fromEntries(lines),
      close: async () => {
        try {
          for (const [, line] of lines) await line.close()
        } finally {
          namespaces.close()
        }
      }
    }

    async function publicHost (role: string, network: string): Promise<Namespace> {
      const host = await namespaces.add(role, `${network}.2`)
      await joinByCable({ namespace: internet, name: role, cidr: `${network}.1/24` }, { namespace: host, name: UPLINK, cidr: `${network}.2/24` })
      await routeVia(host, `${network}.1`)
      return host
    }

    async function home (role: 'office' | 'laptop', number: number, flavour: NatFlavour, names: readonly string[]): Promise<{ machines: Namespace[], nat: Namespace, edge: Namespace }> {
      const { provider } = NAT_FLAVOURS[flavour]
      const outside: Upstream = { namespace: internet, name: role, network: `50.${number}.0` }
      const shared: Upstream | undefined = provider === undefined ? undefined : { namespace: await router(`${role}-provider`, provider, outside, `100.64.${number}`), name: 'lan', network: `100.64.${number}` }
      const nat = await router(`${role}-nat`, flavour, shared ?? outside, `10.${number}.0`)
      const machines: Namespace[] = []
      for (const [index, name] of names.entries()) machines.push(await namespaces.add(name, `10.${number}.0.${index + 2}`))
      await joinBySwitch({ namespace: nat, name: 'lan', cidr: `10.${number}.0.1/24` }, machines.map((namespace) => ({ namespace, name: UPLINK, cidr: `${namespace.address}/24` })))
      for (const machine of machines) await routeVia(machine, `10.${number}.0.1`)
      return { machines, nat, edge: shared?.namespace ?? nat }

      async function router (name: string, kind: NatFlavour, upstream: Upstream, inside: string): Promise<Namespace> {
        const machine = await namespaces.add(name, `${upstream.network}.2`)
        await makeRouter(machine)
        const outer: LinkEnd = { namespace: upstream.namespace, name: upstream.name, cidr: `${upstream.network}.1/24` }
        const wan: LinkEnd = { namespace: machine, name: 'wan', cidr: `${upstream.network}.2/24` }
        if (init.line === undefined || upstream !== outside) await joinByCable(outer, wan)
        else lines.push([role, await joinByDelay(outer, wan, init.line)])
        await routeVia(machine, `${upstream.network}.1`)
        await loadRuleset(machine, natRuleset(kind, { wan: 'wan', lan: 'lan', insideAddress: `${inside}.2`, ...(init.unasked === undefined ? {} : { unasked: init.unasked }) }))
        return machine
      }
    }
  } catch (err) {
    namespaces.close()
    throw err
  }
}
