/** Homes with IPv6 only, and one with each family: who can see whom, and over what. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { it } from 'node:test'
import { buffer } from 'node:stream/consumers'
import { createControlClient } from '../../src/control/client/index.ts'
import type { BootstrapReport } from '../support/bootstrap.ts'
import { carrierFreeEnvironment, createDaemon, ROOT } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { befriend } from '../support/friends-pair.ts'
import { startProgram } from '../support/program.ts'
import { startTcpService } from '../support/tcp-load.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'
import { openIpv6Lab } from './ipv6-lab.ts'
import type { Family, Ipv6Lab } from './ipv6-lab.ts'
import { describeInLab } from './lab-obstacle.ts'

const CHECKED_BYTES = 4 << 20

describeInLab('IPv6, 80 ms of round trip', () => {
  it('two homes with IPv6 only, behind firewalls: punched through them', async () => {
    await withPair({ office: 'ipv6', laptop: 'ipv6' }, 'direct punched')
  })

  it('one home with IPv6 only and one with IPv4 only: the relay joins the two', async () => {
    await withPair({ office: 'ipv4', laptop: 'ipv6' }, 'splice spliced')
  })
})

/** Makes friends, waits for the route, and sends bytes over it. The office knows each relay by the address of its family, the laptop by both, the wrong one first. */
async function withPair (families: { office: Family, laptop: Family }, route: string): Promise<void> {
  const lab = await openIpv6Lab({ ...families, line: { delayMs: 20 } })
  try {
    const directory = makeTempDirectory('ipv6')
    const relays = await Promise.all(lab.relays.map(async (relay) => startRelay(relay, directory)))
    const [office, laptop] = (['office', 'laptop'] as const).map((name) => createDaemon({
      name, dataDirectory: join(directory, name), place: lab[name], relays: relays.flatMap(({ ipv4, ipv6 }) => name === 'laptop' ? [ipv4, ipv6] : [families.office === 'ipv4' ? ipv4 : ipv6])
    }))
    assert.ok(office !== undefined && laptop !== undefined)
    const service = await startTcpService({ place: lab.office })
    await Promise.all([office.start(), laptop.start()])
    await befriend(office, laptop)
    await office.json('serve', 'check', String(service.port), '--allow', 'laptop')
    await waitFor(route, async () => (await Promise.all([office, laptop].map(routeOf))).every((one) => one === route), { deadlineMs: PATIENCE_MS, intervalMs: 50 })
    const bytes = randomBytes(CHECKED_BYTES)
    const pipe = await createControlClient(laptop).pipe('office/check')
    pipe.end(Buffer.concat([Buffer.from('H'), bytes]))
    assert.equal((await buffer(pipe)).toString(), `${CHECKED_BYTES} ${createHash('sha256').update(bytes).digest('hex')}\n`)
    await Promise.all([office.stop(), laptop.stop()])
  } finally {
    // ends the programs inside too
    await lab.close()
  }
}

/** One relay with an address of each family. */
async function startRelay ({ place, ipv4, ipv6 }: Ipv6Lab['relays'][number], directory: string): Promise<{ ipv4: string, ipv6: string }> {
  const [four, six] = [`/ip4/${ipv4}/tcp/4001`, `/ip6/${ipv6}/tcp/4001`]
  const program = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--data-dir', join(directory, place.name), '--listen', four, '--listen', six, '--health', '127.0.0.1:0'], { place, env: carrierFreeEnvironment(), name: place.name })
  const { peerId } = JSON.parse(await program.line(0, PATIENCE_MS)) as BootstrapReport
  return { ipv4: `${four}/p2p/${peerId}`, ipv6: `${six}/p2p/${peerId}` }
}

async function routeOf (daemon: Daemon): Promise<string> {
  const [friend] = (await daemon.status()).friends
  return `${friend?.link ?? '-'} ${friend?.path ?? '-'}`
}
