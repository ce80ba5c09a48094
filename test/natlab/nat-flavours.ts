/** How home, provider and office routers behave, as nftables rule sets. A new kind of access is one more row. */

/** The kinds of access that the lab can build. */
export type NatFlavour = 'fullcone' | 'eim' | 'sym' | 'cgnat' | 'udpblock' | 'corp443' | 'corpdpi'

/** What a router does with packets that nobody inside asked for: answer like a closed port, or nothing at all. */
export type Unasked = 'reset' | 'drop'

/** What a rule set needs to know about its router. */
export interface NatRouter {
  wan: string
  lan: string
  /** The machine behind the router. */
  insideAddress: string
  /** Default: reset. A scan then gets a verdict for each port, and what it could find it finds at once. */
  unasked?: Unasked
}

interface FlavourRow {
  /** Words for a report. */
  meaning: string
  /** How sources are rewritten. */
  masquerade: string
  /** What may not go out, as rules of the forward chain; nothing, when absent. */
  outbound?: (router: NatRouter) => string
  /** Rules for every packet, those of running connections included. */
  inspection?: string
  /** Sends unasked packets to the machine inside. */
  isOpenToAll?: boolean
  /** The router of the provider, between this one and the internet. */
  provider?: NatFlavour
}

/** What libp2p says first on a connection in the clear, as far as one register of nftables can compare. */
const GREETING = '/multistream/1.0'
/** In front of it: nothing when its length went ahead, its length, and the head of a short or longer frame of a WebSocket without TLS. */
const GREETING_OFFSETS_BYTES = [0, 1, 3, 5]

/** Every flavour and what it means. Linux keeps the source port of a masqueraded connection while it is free: that is the endpoint-independent mapping. */
export const NAT_FLAVOURS: Readonly<Record<NatFlavour, FlavourRow>> = {
  fullcone: { meaning: 'endpoint-independent mapping, no filter', masquerade: 'masquerade', isOpenToAll: true },
  eim: { meaning: 'endpoint-independent mapping, port-restricted filter', masquerade: 'masquerade' },
  sym: { meaning: 'another random port for each destination', masquerade: 'masquerade fully-random' },
  cgnat: { meaning: 'a home router behind its provider\'s router, both endpoint-independent', masquerade: 'masquerade', provider: 'eim' },
  udpblock: { meaning: 'UDP does not go out; else endpoint-independent', masquerade: 'masquerade', outbound: ({ lan }) => `iifname "${lan}" meta l4proto udp drop` },
  corp443: { meaning: 'only TCP to port 443 goes out', masquerade: 'masquerade', outbound: only443 },
  corpdpi: { meaning: 'only TCP to port 443 goes out, and libp2p in the clear is reset', masquerade: 'masquerade', outbound: only443, inspection: greetingResets() }
}

/** The rule set of one router. */
export function natRuleset (flavour: NatFlavour, router: NatRouter): string {
  const row = NAT_FLAVOURS[flavour]
  const verdictOnUnasked = router.unasked === 'drop' ? '' : 'meta l4proto tcp reject with tcp reset'
  return `
table ip nat {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ${row.isOpenToAll === true ? `iifname "${router.wan}" dnat to ${router.insideAddress}` : ''}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "${router.wan}" ${row.masquerade}
  }
}
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    iifname "${router.lan}" accept
    ct state established,related accept
    icmp type echo-request accept
    # neighbours of IPv6 find each other by these
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ${verdictOnUnasked}
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    # neighbours: a switch, no router, though some kernels ask the rules for it too
    iifname "${router.lan}" oifname "${router.lan}" accept
    ${row.inspection ?? ''}
    ct state established,related accept
    ${row.outbound?.(router) ?? ''}
    iifname "${router.lan}" oifname "${router.wan}" accept
    ${row.isOpenToAll === true ? `iifname "${router.wan}" oifname "${router.lan}" accept` : ''}
    ${verdictOnUnasked}
  }
}
`
}

function only443 ({ lan }: NatRouter): string {
  return `iifname "${lan}" tcp dport != 443 drop; iifname "${lan}" meta l4proto != tcp drop`
}

/** Looks at the beginning of every payload: who sends the greeting gets a reset. */
function greetingResets (): string {
  const greeting = Buffer.from(GREETING)
  return GREETING_OFFSETS_BYTES.map((offset) => `meta l4proto tcp @ih,${offset * 8},${greeting.length * 8} 0x${greeting.toString('hex')} reject with tcp reset`).join('\n    ')
}
