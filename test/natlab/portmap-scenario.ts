/** A home router that opens ports on request (miniupnpd): a node behind it is dialled directly from a network in which nothing can be punched. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { startPair } from '../support/friends-pair.ts'
import { mustRun, runProgram, startProgram } from '../support/program.ts'
import { requirement } from '../support/requirement.ts'
import { printFigure } from '../support/statistics.ts'
import { PATIENCE_MS, timed, waitFor } from '../support/wait.ts'
import { openLab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { loadRuleset } from './namespace.ts'
import type { Namespace } from './namespace.ts'

const PORT = 4501
const DIRECT_TARGET_MS = 2_000

/** Debian package miniupnpd-nftables. */
const PROGRAM = 'miniupnpd'

/** What the router offers. */
export type MapKind = 'pcp' | 'upnp'

/** Registers one test per kind. */
export function describePortMaps (kinds: readonly MapKind[]): void {
  describeInLab('a router that maps ports', () => {
    for (const kind of kinds) {
      it(`${kind}: with listen = mapped a friend behind a symmetric NAT dials the office directly, and nothing stays open at the end`, async (t) => {
        const isMissing = (await runProgram('which', [PROGRAM])).exitCode !== 0
        const { skip } = requirement('lab', isMissing ? `missing ${PROGRAM} (Debian: miniupnpd-nftables)` : undefined)
        if (skip !== false) {
          t.skip(skip)
          return
        }
        await reachedThrough(kind)
      })
    }

    it('a router that maps nothing: the office says what to do, and is reached over the relay', async () => {
      const lab = await openLab({ laptop: 'sym' })
      const stops: Array<() => Promise<void>> = [async () => { await lab.close() }]
      try {
        const pair = await startPair(lab, { office: { listen: 'mapped', port: PORT } })
        stops.push(pair.stop)
        await pair.befriend()
        await waitFor('the reason', async () => (await pair.office.status()).problems.some((text) => text.includes('answers neither PCP, NAT-PMP nor UPnP')), { deadlineMs: PATIENCE_MS })
      } finally {
        for (const stop of stops.reverse()) await stop()
      }
    })
  })
}

async function reachedThrough (kind: MapKind): Promise<void> {
  const lab = await openLab({ laptop: 'sym' })
  const stops: Array<() => Promise<void>> = [async () => { await lab.close() }]
  try {
    stops.push(await startRouterDaemon(lab.officeNat, kind))
    const pair = await startPair(lab, { office: { listen: 'mapped', port: PORT } })
    stops.push(pair.stop)
    const outside = `/ip4/${lab.officeNat.address}/tcp/${PORT}`
    await waitFor('the outside address', async () => (await pair.office.status()).listen.includes(outside), { deadlineMs: PATIENCE_MS })
    await pair.befriend()
    const isDirect = async (): Promise<boolean> => (await pair.laptop.json<{ path: string, link: string }>('ping', 'office')).path === 'direct'
    const { elapsedMs } = await timed(async () => { await waitFor('the direct path', isDirect, { deadlineMs: PATIENCE_MS, intervalMs: 100 }) })
    printFigure(`natlab: direct through a mapped port (${kind}) after`, elapsedMs, 'ms', `${DIRECT_TARGET_MS} ms`)
    const mapped = await rulesOf(lab.officeNat)
    for (const port of [PORT, PORT + 1]) assert.match(mapped, new RegExp(`dnat ip to 10\\.1\\.0\\.2:${port}\\b`))
    await pair.office.stop()
    assert.doesNotMatch(await rulesOf(lab.officeNat), /dnat ip to/)
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
}

async function rulesOf (router: Namespace): Promise<string> {
  return mustRun('nft', ['list', 'table', 'inet', 'miniupnpd'], { place: router })
}

/** Starts the daemon of a home router. Its chains are in a table of their own; the router lets through what was mapped. */
async function startRouterDaemon (router: Namespace, kind: MapKind): Promise<() => Promise<void>> {
  await loadRuleset(router, `
insert rule inet filter forward ct status dnat accept
table inet miniupnpd {
  chain forward { type filter hook forward priority 10; policy accept; jump allowed; }
  chain allowed { }
  chain prerouting { type nat hook prerouting priority -90; policy accept; jump mapped; }
  chain mapped { }
  chain postrouting { type nat hook postrouting priority 110; policy accept; jump unmapped; }
  chain unmapped { }
}
`)
  const directory = mkdtempSync(join(tmpdir(), 'carrier-router-'))
  const config = join(directory, 'miniupnpd.conf')
  writeFileSync(config, [
    'ext_ifname=wan', 'listening_ip=lan', 'http_port=5000', `enable_natpmp=${kind === 'pcp' ? 'yes' : 'no'}`, `enable_upnp=${kind === 'upnp' ? 'yes' : 'no'}`, 'secure_mode=yes',
    'upnp_table_name=miniupnpd', 'upnp_nat_table_name=miniupnpd', 'upnp_forward_chain=allowed', 'upnp_nat_chain=mapped', 'upnp_nat_postrouting_chain=unmapped',
    'uuid=00000000-0000-4000-8000-000000000001', 'allow 1024-65535 10.1.0.0/24 1024-65535', 'deny 0-65535 0.0.0.0/0 0-65535', ''
  ].join('\n'))
  const daemon = startProgram(PROGRAM, ['-d', '-f', config, '-P', join(directory, 'pid')], { place: router, name: PROGRAM })
  return async () => {
    await daemon.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}
