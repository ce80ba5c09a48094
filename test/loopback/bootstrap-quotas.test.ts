/** Admission and quotas of a relay as its clients meet them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { errorCode, errorMessage } from '../../src/base/index.ts'
import type { CarrierError } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, composeConfig, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapConfig, QuotaSettings } from '../../src/bootstrap/index.ts'
import { peerKey } from '../../src/bootstrap/reservation-table.ts'
import { askStatus, connectTo, openHop, RESERVE } from '../support/raw-hop.ts'
import { metricOf, readAll, startSplicePair } from '../support/splice-pair.ts'
import { dialOverRelay, openStream, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { pause, untilDayLasts, waitFor, within } from '../support/wait.ts'

const MB = 1_000_000
const NONE: QuotaSettings = { friend: {}, member: {}, stranger: {}, strangers: {} }
const STATUS = { OK: 100, RESERVATION_REFUSED: 200, RESOURCE_LIMIT_EXCEEDED: 201, PERMISSION_DENIED: 202 }

// the bytes of a day end with it
before(async () => untilDayLasts(150_000), { timeout: 200_000 })
after(stopStockPeers)

async function startRelay (t: TestContext, init: Partial<BootstrapConfig>): Promise<{ relay: Bootstrap, address: string, config: BootstrapConfig }> {
  const config = { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], ...init }
  const relay = await createBootstrap({}, config)
  t.after(async () => { await relay.stop() })
  await relay.start()
  return { relay, address: relay.addresses()[0] ?? '', config }
}

/** Writes as much as goes until the socket is gone; counts what the other end reads. */
function pump (from: Socket, to: Socket): { readBytes: () => number } {
  let count = 0
  to.on('data', (chunk: Buffer) => { count += chunk.length })
  to.resume()
  const block = Buffer.alloc(64 * 1024, 7)
  const gone = new AbortController()
  from.on('close', () => { gone.abort() })
  void (async () => {
    while (!from.destroyed) if (!from.write(block)) await once(from, 'drain', { signal: gone.signal })
  })().catch(() => { /* it is gone */ })
  return { readBytes: () => count }
}

describe('whom a relay serves', () => {
  test('by list: only who is on it may reserve, anyone may call; with listed callers a stranger may not', async (t) => {
    const [listed, stranger] = [await startStockPeer(), await startStockPeer()]
    const lists = { allow: new Set([peerKey(listed.peerId.toMultihash().bytes)]), members: new Set<string>(), friends: new Set<string>() }
    const open = await startRelay(t, { admission: { mode: 'allow-list', callers: 'anyone', lists, files: {} } })
    const ask = async (peer: typeof listed, address: string, question: Uint8Array): Promise<number> => askStatus((await openHop(peer, address)).stream, question)
    assert.equal(await ask(listed, open.address, RESERVE), STATUS.OK)
    assert.equal(await ask(stranger, open.address, RESERVE), STATUS.PERMISSION_DENIED)
    assert.equal(await ask(stranger, open.address, connectTo(listed.peerId)), STATUS.OK)
    const closed = await startRelay(t, { admission: { mode: 'allow-list', callers: 'listed', lists, files: {} } })
    assert.equal(await ask(listed, closed.address, RESERVE), STATUS.OK)
    assert.equal(await ask(stranger, closed.address, connectTo(listed.peerId)), STATUS.PERMISSION_DENIED)
  })
})

describe('how much', () => {
  test('reservations of one source are bounded, a holder may refresh, and each refusal is counted', async (t) => {
    const { relay, address } = await startRelay(t, { quotas: { ...NONE, stranger: { reservations: 2 } } })
    const peers = [await startStockPeer(), await startStockPeer(), await startStockPeer()]
    const reserve = async (peer: typeof peers[number] | undefined): Promise<number> => {
      assert.ok(peer !== undefined)
      return askStatus((await openHop(peer, address)).stream, RESERVE)
    }
    assert.deepEqual([await reserve(peers[0]), await reserve(peers[1]), await reserve(peers[2])], [STATUS.OK, STATUS.OK, STATUS.RESERVATION_REFUSED])
    assert.equal(await reserve(peers[0]), STATUS.OK)
    assert.equal(await metricOf(relay, 'carrier_relay_quota_refusals_total{quota="reservations",class="stranger"}'), 1)
    await peers[1]?.stop()
    await waitFor('the place to be free', async () => await reserve(peers[2]) === STATUS.OK, { deadlineMs: 30_000 })
  })

  test('strangers cannot take all places of a relay that has members', async (t) => {
    const [member, one, other] = [await startStockPeer(), await startStockPeer(), await startStockPeer()]
    const lists = { allow: new Set<string>(), members: new Set([peerKey(member.peerId.toMultihash().bytes)]), friends: new Set<string>() }
    const { admission, relay: bounds, quotas } = composeConfig('', [{ admission: { mode: 'open', callers: 'anyone', lists, files: {} }, relay: { maxReservations: 2 } }])
    const { relay, address } = await startRelay(t, { admission, relay: bounds, quotas })
    const reserve = async (peer: typeof member): Promise<number> => askStatus((await openHop(peer, address)).stream, RESERVE)
    assert.deepEqual([await reserve(one), await reserve(other), await reserve(member)], [STATUS.OK, STATUS.RESERVATION_REFUSED, STATUS.OK])
    assert.equal(await metricOf(relay, 'carrier_relay_quota_refusals_total{quota="reservations",class="strangers"}'), 1)
  })

  test('over the bytes of the day a splice is cut, and the next question names the quota and when it is free again', { timeout: 180_000 }, async (t) => {
    const pair = await startSplicePair(t, { quotas: { ...NONE, stranger: { bytesPerDay: 4 * MB } } })
    const { caller, called } = await pair.splice()
    const { readBytes } = pump(caller, called)
    await within('the cut', 60_000, new Promise((resolve) => { caller.on('close', resolve) }))
    // the piece that brings it over the limit may have been handed on
    assert.ok(readBytes() <= 4 * MB + 256 * 1024, `${readBytes()} bytes went through`)
    assert.equal(await metricOf(pair.relay, 'carrier_relay_ended_splices_total{reason="quota"}'), 1)
    const error = await pair.laptop.node.openSplice(pair.office.did, pair.relayId).then(() => assert.fail('a splice'), (err: unknown) => err as CarrierError)
    assert.equal(errorCode(error), 'ERR_QUOTA')
    assert.match(errorMessage(error), /what you may send in a day is used up at this relay; it is free again in \d+ minutes/)
    assert.equal(error.detail?.['quota'], 'bytes_per_day')
    const retryMs = Number(error.detail?.['retryMs'])
    assert.ok(retryMs > 0 && retryMs <= 86_400_000, `${retryMs} ms`)
    assert.equal(await metricOf(pair.relay, 'carrier_relay_quota_refusals_total{quota="bytes_per_day",class="stranger"}'), 1)
  })

  test('the bytes of the day of a circuit survive a restart', { timeout: 180_000 }, async (t) => {
    const dataDirectory = makeTempDirectory('relay')
    const quotas: QuotaSettings = { ...NONE, stranger: { bytesPerDay: 500_000 } }
    const first = await startRelay(t, { dataDirectory, quotas })
    const [office, laptop] = [await startStockPeer({ relays: [first.address] }), await startStockPeer()]
    await office.handle('/test/sink/1.0.0', (stream) => { stream.addEventListener('message', () => { /* taken */ }) }, { runOnLimitedConnection: true })
    const stream = await openStream(await dialOverRelay(laptop, first.address, office), '/test/sink/1.0.0')
    const ended = new Promise((resolve) => { stream.addEventListener('close', resolve) })
    const timer = setInterval(() => { if (stream.status === 'open') stream.send(new Uint8Array(50_000)) }, 20).unref()
    await within('the cut', 60_000, ended)
    clearInterval(timer)
    await waitFor('the end to be counted', async () => await metricOf(first.relay, 'carrier_relay_ended_circuits_total{reason="quota"}') === 1, { deadlineMs: 30_000 })
    await first.relay.stop()
    const second = await startRelay(t, { dataDirectory, quotas })
    const [holder, caller] = [await startStockPeer(), await startStockPeer()]
    assert.equal(await askStatus((await openHop(holder, second.address)).stream, RESERVE), STATUS.RESERVATION_REFUSED)
    assert.equal(await metricOf(second.relay, 'carrier_relay_quota_refusals_total{quota="bytes_per_day",class="stranger"}'), 1)
    await caller.stop()
  })

  for (const kind of ['splice', 'circuit'] as const) {
    test(`bytes per second of a ${kind} keep to the limit, and a reload lets it go faster`, { timeout: 180_000 }, async (t) => {
      const limit = 1.5 * MB
      const settings = { bytesPerSecond: limit as number | undefined }
      const init = (): Partial<BootstrapConfig> => ({ quotas: { ...NONE, stranger: settings.bytesPerSecond === undefined ? {} : { bytesPerSecond: settings.bytesPerSecond } } })
      const read = { config: (): BootstrapConfig => { throw new Error('not yet') } }
      const { relay, readBytes } = await (kind === 'splice' ? spliced() : circuited())
      await waitFor('the first bytes', () => readBytes() > 0, { deadlineMs: 60_000, intervalMs: 5 })
      const [startedAtMs, before] = [performance.now(), readBytes()]
      await pause(4_000)
      const rate = (readBytes() - before) / (performance.now() - startedAtMs) * 1000
      console.log(`${kind}: ${(rate / MB).toFixed(3)} MB/s of ${limit / MB}`)
      // the exact bound is tested with a fake clock; a machine that stands still makes it less
      assert.ok(rate < 1.35 * limit && rate > 0.3 * limit, `${rate} bytes per second`)
      settings.bytesPerSecond = undefined
      assert.equal((await relay.reload()).result, 'ok')
      const fast = { atMs: performance.now(), bytes: readBytes() }
      await waitFor('it to go faster', () => (readBytes() - fast.bytes) / (performance.now() - fast.atMs) * 1000 > 1.4 * limit, { deadlineMs: 60_000 })

      async function spliced (): Promise<{ relay: Bootstrap, readBytes: () => number }> {
        const pair = await startSplicePair(t, init(), { readConfig: () => read.config() })
        // what the pair was made with, with other quotas
        read.config = () => ({ ...BOOTSTRAP_DEFAULTS, dataDirectory: '', ...init() })
        const { caller, called } = await pair.splice()
        t.after(() => {
          caller.destroy()
          called.destroy()
        })
        void readAll(caller)
        return { relay: pair.relay, ...pump(caller, called) }
      }
      async function circuited (): Promise<{ relay: Bootstrap, readBytes: () => number }> {
        const config = { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'] }
        const started = await createBootstrap({ readConfig: () => ({ ...config, ...init() }) }, { ...config, ...init() })
        t.after(async () => { await started.stop() })
        await started.start()
        const address = started.addresses()[0] ?? ''
        const [office, laptop] = [await startStockPeer({ relays: [address] }), await startStockPeer()]
        let count = 0
        await office.handle('/test/sink/1.0.0', (stream) => { stream.addEventListener('message', (event) => { count += event.data.byteLength }) }, { runOnLimitedConnection: true })
        const stream = await openStream(await dialOverRelay(laptop, address, office), '/test/sink/1.0.0')
        const block = new Uint8Array(32 * 1024)
        const timer = setInterval(() => { while (stream.status === 'open' && stream.send(block)) { /* as much as goes */ } }, 5).unref()
        t.after(() => { clearInterval(timer) })
        return { relay: started, readBytes: () => count }
      }
    })
  }

  test('one heavy sender leaves a light one its rate when all share one', { timeout: 180_000 }, async (t) => {
    const limit = 4 * MB
    const wanted = MB / 2
    const read = { config: (): BootstrapConfig => BOOTSTRAP_DEFAULTS as BootstrapConfig }
    const pair = await startSplicePair(t, { quotas: { ...NONE, bytesPerSecond: limit } }, { readConfig: () => read.config() })
    // on one machine all strangers are one source: the light one is made a member
    const members = new Set([peerKey(pair.laptop.identity.peerId.toMultihash().bytes)])
    read.config = () => ({ ...BOOTSTRAP_DEFAULTS, dataDirectory: '', quotas: { ...NONE, bytesPerSecond: limit }, admission: { mode: 'open', callers: 'anyone', lists: { allow: new Set(), members, friends: new Set() }, files: {} } })
    assert.equal((await pair.relay.reload()).result, 'ok')

    const light = await pair.splice()
    let lightBytes = 0
    light.called.on('data', (chunk: Buffer) => { lightBytes += chunk.length })
    light.called.resume()
    const block = Buffer.alloc(wanted / 50)
    const timer = setInterval(() => { if (!light.caller.writableNeedDrain) light.caller.write(block) }, 20).unref()
    t.after(() => { clearInterval(timer) })
    const measure = async (): Promise<number> => {
      const [startedAtMs, before] = [performance.now(), lightBytes]
      await pause(3_000)
      return (lightBytes - before) / (performance.now() - startedAtMs) * 1000
    }
    const alone = await measure()
    const heavy: Array<ReturnType<typeof pump>> = []
    for (let index = 0; index < 6; index++) {
      const { caller, called } = await pair.splice()
      // what the office sends counts to the strangers of this machine
      heavy.push(pump(called, caller))
      t.after(() => { called.destroy() })
    }
    const heavyBytes = (): number => heavy.reduce((sum, one) => sum + one.readBytes(), 0)
    await waitFor('the heavy one to be there', () => heavyBytes() > MB, { deadlineMs: 60_000 })
    const [startedAtMs, before] = [performance.now(), heavyBytes()]
    const beside = await measure()
    const heavyRate = (heavyBytes() - before) / (performance.now() - startedAtMs) * 1000
    console.log(`light alone ${(alone / MB).toFixed(3)} MB/s, beside the heavy one ${(beside / MB).toFixed(3)}; the heavy one ${(heavyRate / MB).toFixed(3)} of ${limit / MB}`)
    // 90 % is the figure, tested with a fake clock; here more may be missing for the machine's sake
    assert.ok(beside >= 0.6 * alone, `${beside} of ${alone}`)
    assert.ok(heavyRate + beside < 1.35 * limit, `${heavyRate + beside} together`)
    light.caller.destroy()
  })
})
