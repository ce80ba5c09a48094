/** A relay process under a client that pushes and a reader that does not read. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { join } from 'node:path'
import type { Libp2p, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { encodeFrame } from '../../src/base/index.ts'
import { createRelay } from '../support/bootstrap.ts'
import type { Relay } from '../support/bootstrap.ts'
import { ROOT } from '../support/daemon.ts'
import { startProgram } from '../support/program.ts'
import { askStatus, connectTo, firstMessage, openHop, STOP } from '../support/raw-hop.ts'
import { dialOverRelay, openStream, receiveAll, sendRandom, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, untilStill, within } from '../support/wait.ts'

const MIB = 1024 * 1024
// a relay without back-pressure holds all of it: 600 MiB measured for 300 MB pushed
const GROWTH_LIMIT_BYTES = 96 * MIB
const PUSHED_BYTES = 300 * MIB

describe('I8: a pusher at a reader that never reads', () => {
  let relay: Relay
  let attacker: Libp2p

  before(async () => {
    relay = await createRelay({ dataDirectory: makeTempDirectory('relay') })
    await relay.start()
    attacker = await startStockPeer()
  })
  after(async () => {
    await stopStockPeers()
    await relay.stop()
  })

  async function metric (name: string): Promise<number> {
    const body = await (await fetch(`http://${relay.report().health}/metrics`)).text()
    return Number(body.split('\n').find((line) => line.startsWith(`${name} `))?.split(' ').at(-1))
  }

  /** Pushes until nothing moves any more. */
  async function push (streams: readonly Stream[]): Promise<{ forwardedBytes: number, growthBytes: number }> {
    const rssBefore = await metric('carrier_relay_resident_bytes')
    const forwardedBefore = await metric('carrier_relay_forwarded_bytes_total')
    const block = new Uint8Array(MIB)
    // one shared block: the pusher itself needs no memory, and does not care for back-pressure
    for (let sent = 0; sent < PUSHED_BYTES; sent += block.length) streams[(sent / block.length) % streams.length]?.send(block)
    const forwardedBytes = await untilStill('the pusher', async () => await metric('carrier_relay_forwarded_bytes_total') - forwardedBefore, 1_000)
    return { forwardedBytes, growthBytes: await metric('carrier_relay_resident_bytes') - rssBefore }
  }

  async function honestTransfer (): Promise<void> {
    const office = await startStockPeer({ relays: [relay.address()] })
    const laptop = await startStockPeer()
    const received = Promise.withResolvers<{ bytes: number, sha256: string }>()
    await office.handle('/test/sink/1.0.0', (stream) => { receiveAll(stream).then(received.resolve, received.reject) }, { runOnLimitedConnection: true })
    const sent = await sendRandom(await openStream(await dialOverRelay(laptop, relay.address(), office), '/test/sink/1.0.0'), 64 * MIB)
    const result = await within('the honest transfer', 2 * PATIENCE_MS, received.promise)
    assert.equal(result.sha256, sent)
    await Promise.all([office.stop(), laptop.stop()])
  }

  test('one that takes the circuit and opens no window: memory stays bounded and an honest transfer beside it is whole', async () => {
    const reader = await startStockPeer({ relays: [relay.address()] })
    await reader.unhandle(STOP)
    await reader.handle(STOP, async (stream) => {
      await firstMessage(stream)
      stream.send(encodeFrame(Uint8Array.from([0x08, 0x01, 0x20, 0x64])))
      stream.pause()
    }, { maxInboundStreams: 100 })
    const streams: Stream[] = []
    for (let count = 0; count < 8; count++) {
      const { stream } = await openHop(attacker, relay.address())
      assert.equal(await askStatus(stream, connectTo(reader.peerId)), 100)
      streams.push(stream)
    }
    const { forwardedBytes, growthBytes } = await push(streams)
    console.log(`pushed ${PUSHED_BYTES / MIB} MiB at a shut window: ${(forwardedBytes / MIB).toFixed(1)} MiB forwarded, relay memory ${(growthBytes / MIB).toFixed(1)} MiB more`)
    assert.ok(forwardedBytes < 48 * MIB, `forwarded ${forwardedBytes}`)
    assert.ok(growthBytes < GROWTH_LIMIT_BYTES, `grew by ${growthBytes}`)
    await honestTransfer()
    for (const stream of streams) stream.abort(new Error('done'))
    await reader.stop()
  })

  test('one whose machine stands still: memory stays bounded and an honest transfer beside it is whole', async () => {
    const frozen = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'test/support/stock-peer-main.ts'), relay.address()], { name: 'the frozen reader' })
    const peerId = await frozen.line(0)
    const { stream } = await openHop(attacker, relay.address())
    assert.equal(await askStatus(stream, connectTo(peerIdFromString(peerId))), 100)
    process.kill(frozen.pid, 'SIGSTOP')
    const { forwardedBytes, growthBytes } = await push([stream])
    console.log(`pushed ${PUSHED_BYTES / MIB} MiB at a frozen process: ${(forwardedBytes / MIB).toFixed(1)} MiB forwarded, relay memory ${(growthBytes / MIB).toFixed(1)} MiB more`)
    assert.ok(growthBytes < GROWTH_LIMIT_BYTES, `grew by ${growthBytes}`)
    await honestTransfer()
    stream.abort(new Error('done'))
    await frozen.stop({ signal: 'SIGKILL' })
  })
})
