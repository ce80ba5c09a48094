/** How home routers behave, as nftables rule sets. A new kind of router is one more row. */

/** The routers that the lab can build. */
export type NatFlavour = 'eim' | 'fullcone' | 'sym' | 'corp443'

/** What a rule set needs to know about its router. */
export interface NatRouter {
  wan: string
  lan: string
  /** The machine behind the router. */
  insideAddress: string
}

interface FlavourRow {
  /** Words for a report. */
  meaning: string
  /** How sources are rewritten. */
  masquerade: string
  /** What may go out, as one rule of the forward chain; everything, when absent. */
  outbound?: (router: NatRouter) => string
  /** Sends unasked packets to the machine inside. */
  isOpenToAll?: boolean
}

/** Every flavour and what it means. Linux keeps the source port of a masqueraded connection while it is free: that is the endpoint-independent mapping. */
export const NAT_FLAVOURS: Record<NatFlavour, FlavourRow> = {
  eim: { meaning: 'endpoint-independent mapping, port-restricted filter', masquerade: 'masquerade' },
  fullcone: { meaning: 'endpoint-independent mapping, no filter', masquerade: 'masquerade', isOpenToAll: true },
  sym: { meaning: 'another random port for each destination', masquerade: 'masquerade fully-random' },
  corp443: { meaning: 'only TCP to port 443 goes out', masquerade: 'masquerade', outbound: ({ lan }) => `iifname "${lan}" tcp dport != 443 drop; iifname "${lan}" meta l4proto != tcp drop` }
}

/**
 * The rule set of one router. Unasked packets from outside are answered as closed ports are (TCP reset): a scan then
 * gets a verdict for each port, and what it could find it finds at once.
 */
export function natRuleset (flavour: NatFlavour, router: NatRouter): string {
  const row = NAT_FLAVOURS[flavour]
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
    meta l4proto tcp reject with tcp reset
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ${row.outbound?.(router) ?? ''}
    iifname "${router.lan}" oifname "${router.wan}" accept
    ${row.isOpenToAll === true ? `iifname "${router.wan}" oifname "${router.lan}" accept` : ''}
    meta l4proto tcp reject with tcp reset
  }
}
`
}
