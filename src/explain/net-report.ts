/** `carrier netcheck`: what kind of network this node is in, and what follows from it for its friends. */
import { errorMessage, formatHostPort, isSameHost, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { isGlobalIpv6Host, isLocalHost } from '../node/index.ts'
import type { CarrierNode, Interfaces } from '../node/index.ts'
import type { NetReport } from '../carrier-types.ts'

/** What the check asks. */
export interface NetReportComponents {
  node: Pick<CarrierNode, 'relays' | 'listenAddresses' | 'canPunch' | 'preparePunch'>
  interfaces: () => Interfaces
  clock: Clock
}

const CHECK_MS = 6_000

/** Asks the relays where they see a fresh port of ours. */
export async function reportNetwork ({ node, interfaces, clock }: NetReportComponents, options: { signal?: AbortSignal } = {}): Promise<NetReport> {
  const own = Object.values(interfaces()).flatMap((infos) => (infos ?? []).filter((info) => !info.internal))
  const facts = {
    relays: node.relays(),
    listen: node.listenAddresses(),
    hasIpv4: own.some((info) => info.family === 'IPv4'),
    hasIpv6: own.some((info) => isGlobalIpv6Host(info.address))
  }
  let router: Pick<NetReport, 'nat' | 'seenAs' | 'reason'>
  try {
    router = await askRouter(node, own.map((info) => info.address), clock, options.signal)
  } catch (err) {
    options.signal?.throwIfAborted()
    router = { nat: 'unknown', seenAs: [], reason: errorMessage(err) }
  }
  return { ...facts, ...router, advice: adviceFor({ ...facts, ...router }) }
}

async function askRouter (node: NetReportComponents['node'], own: readonly string[], clock: Clock, signal?: AbortSignal): Promise<Pick<NetReport, 'nat' | 'seenAs' | 'reason'>> {
  if (!node.canPunch()) return { nat: 'unknown', seenAs: [], reason: 'no relay that is connected tells where this node is seen' }
  using deadline = startDeadline(clock, CHECK_MS, `no relay answered within ${CHECK_MS / 1000} s`, signal)
  const port = await node.preparePunch(deadline.signal)
  port.close()
  const seenAs = port.observed.map(formatHostPort)
  const isOpen = port.observed.every(({ host }) => !isLocalHost(host) && own.some((address) => isSameHost(address, host)))
  const nat = isOpen ? 'none' as const : port.mapping
  return { nat, seenAs, reason: nat === 'unknown' ? 'one answer alone cannot tell it: it takes two relays that are reached over IPv4' : undefined }
}

function adviceFor (facts: Omit<NetReport, 'advice'>): string[] {
  const advice: string[] = []
  if (facts.relays.length === 0) advice.push('name a relay: carrier up --relay MULTIADDR')
  else if (facts.relays.every((relay) => relay.state !== 'reserved')) advice.push('no relay answers: look at your connection, and at "carrier status" for the reason of each')
  else if (facts.relays.length === 1) advice.push('name a second relay: a lost one is then no outage, and two together tell what kind of router this is')
  if (facts.nat === 'dependent' && facts.listen.length === 0) advice.push('this router gives every destination another port, so nobody can punch through it: let the other side listen, or forward a port here and use "--listen public"')
  return advice
}
