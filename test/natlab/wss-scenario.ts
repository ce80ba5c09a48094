/** Networks that let little out: TLS on port 443, or nothing but a company's proxy. Friends behind them exchange bytes all the same. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { createControlClient } from '../../src/control/client/index.ts'
import { createDaemon } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import { printFigure } from '../support/statistics.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { assertWhole, startTransfer, startTransferService } from '../support/transfer.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { startCellRelays } from './matrix-relays.ts'
import { loadRuleset } from './namespace.ts'
import type { NatFlavour } from './nat-flavours.ts'

const MIB = 1024 * 1024
const TRANSFER_DEADLINE_MS = 240_000
const PROXY_PORT = 3128
const PROGRAM = join(import.meta.dirname, '..', 'support', 'connect-proxy-main.ts')
const CREDENTIALS = { user: 'office-user', password: 'lab-s3cret' }
/** What the router forwards for those inside: nothing. Only the proxy, which runs on it, gets out. */
const ONLY_THE_PROXY = 'table inet company { chain forward { type filter hook forward priority -10; iifname "lan" drop; }; }\n'

/** Both homes and how much they exchange, in each direction. */
export interface WssCell { home: NatFlavour, transferBytes: number, throughProxy?: boolean }

/** Registers the cells as one suite. */
export function describeNarrowNetworks (cells: readonly WssCell[]): void {
  describeInLab('networks that let little out, 80 ms of round trip', () => {
    for (const cell of cells) {
      it(`${cell.throughProxy === true ? `${cell.home}, and only an HTTP proxy gets out` : cell.home} on both sides: ${cell.transferBytes / MIB} MiB in each direction over WSS on port 443, every byte equal`, async () => {
        const lab = await openLab({ office: cell.home, laptop: cell.home, line: { delayMs: 20 } })
        try {
          await exchange(lab, cell)
        } finally {
          // ends the programs inside too
          await lab.close()
        }
      })
    }
  })
}

async function exchange (lab: Lab, cell: WssCell): Promise<void> {
  const directory = makeTempDirectory('narrow')
  const { addresses, settings = '' } = await startCellRelays(lab.relays, directory, 'wss443')
  assert.match(addresses.join(), /^\/ip4\/[\d.]+\/tcp\/443\/tls\/ws\/p2p\/\w+$/)
  const daemons = await Promise.all((['office', 'laptop'] as const).map(async (name): Promise<Daemon> => {
    const dataDirectory = join(directory, name)
    mkdirSync(dataDirectory, { mode: 0o700 })
    const proxyLines = cell.throughProxy === true ? await startProxy(lab, name, dataDirectory) : ''
    writeFileSync(join(dataDirectory, 'carrier.toml'), `${settings}${proxyLines}`)
    const daemon = createDaemon({ name, dataDirectory, place: lab[name], relays: addresses })
    await daemon.start()
    return daemon
  }))
  const [office, laptop] = daemons
  assert.ok(office !== undefined && laptop !== undefined)
  try {
    await befriend(office, laptop)
    const service = await startTransferService(lab.office)
    await office.json('serve', 'transfer', String(service.port), '--allow', 'laptop')
    const { listen } = await laptop.json<{ listen: string }>('forward', '0', 'office/transfer')
    const [host = '', port = ''] = listen.split(':')
    const startedAtMs = performance.now()
    const transfer = startTransfer(lab.laptop, service, { host, port: Number(port) }, { upBytes: cell.transferBytes, downBytes: cell.transferBytes })
    const ends = await transfer.ends(TRANSFER_DEADLINE_MS)
    const elapsedMs = performance.now() - startedAtMs
    assertWhole(ends)
    assert.deepEqual([ends.caller.receivedBytes, ends.service.receivedBytes], [cell.transferBytes, cell.transferBytes])
    printFigure(`natlab: ${cell.home}${cell.throughProxy === true ? ' and a proxy' : ''}: ${cell.transferBytes / MIB} MiB in each direction over WSS`, elapsedMs / 1000, 's')
    for (const daemon of daemons) {
      const [friend] = (await daemon.status()).friends
      assert.deepEqual([friend?.link, friend?.path], ['stream', 'relayed'], 'something went another way')
      assert.ok(!daemon.program().output().includes(CREDENTIALS.password), `the log of ${daemon.name} holds the password of the proxy`)
    }
  } catch (err) {
    throw new Error(`${err instanceof Error ? err.message : String(err)}\n${daemons.map((daemon) => `${daemon.name} said last: ${daemon.program().stderr().slice(-1500)}`).join('\n')}`, { cause: err })
  }
}

/** Closes the router but for the proxy on it. Gives further lines of [network] in carrier.toml. */
async function startProxy (lab: Lab, name: 'office' | 'laptop', dataDirectory: string): Promise<string> {
  const router = name === 'office' ? lab.officeNat : lab.laptopNat
  const inside = lab[name].address.replace(/\d+$/, '1')
  const secret = `${CREDENTIALS.user}:${CREDENTIALS.password}`
  await startProgram(process.execPath, [PROGRAM, inside, String(PROXY_PORT), secret], { place: router, name: `proxy of the ${name}` }).line(0)
  await loadRuleset(router, ONLY_THE_PROXY)
  const file = join(dataDirectory, 'proxy-credentials')
  writeFileSync(file, `${secret}\n`, { mode: 0o600 })
  return `proxy = "http://${inside}:${PROXY_PORT}"\nproxy_credentials_file = "proxy-credentials"\n`
}

async function befriend (office: Daemon, laptop: Daemon): Promise<void> {
  const [officeControl, laptopControl] = [createControlClient(office), createControlClient(laptop)]
  const startedAtMs = performance.now()
  for (const daemon of [office, laptop]) await waitFor(`${daemon.name} to hold a reservation`, async () => (await daemon.status()).relays.every((relay) => relay.state === 'reserved'), { deadlineMs: PATIENCE_MS })
  printFigure('natlab: both reachable over WSS after', performance.now() - startedAtMs, 'ms')
  const { address = '' } = await officeControl.call('identity.show', {})
  await laptopControl.call('friend.add', { address, label: 'office' })
  const request = await waitFor('the friend request', async () => (await officeControl.call('friend.requests', {})).requests[0], { deadlineMs: PATIENCE_MS })
  await officeControl.call('friend.accept', { who: request.did, label: 'laptop' })
  for (const daemon of [office, laptop]) await waitFor(`${daemon.name} to see the other online`, async () => (await daemon.status()).friends[0]?.presence === 'online', { deadlineMs: PATIENCE_MS })
}
