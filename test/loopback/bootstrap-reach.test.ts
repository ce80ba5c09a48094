/** A relay finds out whether what it announces can be reached, with the help of another one that both operators listed. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { TestContext } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { encodeFrame, LIMITS } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapConfig } from '../../src/bootstrap/index.ts'
import { decodeReachAnswer, encodeReachCheck, REACH_PROTOCOL } from '../../src/bootstrap/reach-messages.ts'
import { firstMessage } from '../support/raw-hop.ts'
import { metricOf } from '../support/splice-pair.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { systemClock } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import { PATIENT, waitFor } from '../support/wait.ts'

after(stopStockPeers)

/** How long this check waits, and nothing else does that matters here: a deadline of the same length would be over before a busy machine has answered. */
assert.deepEqual(Object.entries(LIMITS).filter(([, value]) => value === LIMITS.relayReachFirstMs).map(([name]) => name), ['relayReachFirstMs'])

/** Time goes as it does, but these two waits are short. */
const hasty: Clock = { ...systemClock, setTimer: (run, delayMs) => systemClock.setTimer(run, delayMs === LIMITS.relayReachFirstMs || delayMs === 2 * LIMITS.relayReachAgainMs ? 200 : delayMs) }

async function startRelay (t: TestContext, init: Partial<BootstrapConfig>, config: { value?: BootstrapConfig } = {}): Promise<Bootstrap> {
  config.value = { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], splice: 'off', ...init }
  const relay = await createBootstrap({ clock: hasty, readConfig: () => config.value ?? assert.fail('no configuration') }, config.value)
  t.after(async () => { await relay.stop() })
  await relay.start()
  return relay
}

test('a good address is verified, one where nobody and one where somebody else answers is told apart', { timeout: 120_000 }, async (t) => {
  const config: { value?: BootstrapConfig } = {}
  const helper = await startRelay(t, {}, config)
  const helperAddress = helper.addresses()[0] ?? ''
  const plain = await startRelay(t, { peers: [helperAddress] })
  // the helper does not list it yet
  await waitFor('the reason', () => /its "peers" must list this relay too/.test(plain.status().reach.reason ?? ''), PATIENT)
  assert.equal(plain.status().reach.addresses[0]?.result, 'unknown')
  assert.ok(config.value !== undefined)
  config.value = { ...config.value, peers: plain.addresses() }
  await helper.reload()
  await waitFor('the answer', () => plain.status().reach.addresses[0]?.result === 'reachable', PATIENT)
  assert.equal(plain.status().reach.reason, undefined)
  assert.equal(await metricOf(plain, 'carrier_relay_unreachable_addresses_count'), 0)

  const other = multiaddr(helperAddress).getComponents()[1]?.value
  const wrong = await startRelay(t, { peers: [helperAddress], announce: ['/ip4/127.0.0.1/tcp/1', `/ip4/127.0.0.1/tcp/${other}`] })
  config.value = { ...config.value, peers: [`/ip4/127.0.0.1/tcp/1/p2p/${wrong.peerId.toString()}`] }
  await helper.reload()
  await waitFor('the answer', () => wrong.status().reach.addresses[0]?.result === 'unreachable', PATIENT)
  // libp2p does not dial itself
  assert.ok(['other', 'unreachable'].includes(wrong.status().reach.addresses[1]?.result ?? ''), JSON.stringify(wrong.status().reach))
  assert.equal(await metricOf(wrong, 'carrier_relay_unreachable_addresses_count'), 2)
})

test('a relay without another one says why it cannot know', async (t) => {
  const relay = await startRelay(t, {})
  await waitFor('the reason', () => /no other relay is listed/.test(relay.status().reach.reason ?? ''), PATIENT)
})

test('I9: whoever is not listed makes a relay dial nothing', async (t) => {
  const relay = await startRelay(t, {})
  const stranger = await startStockPeer({ listen: ['/ip4/127.0.0.1/tcp/0'] })
  const connection = await stranger.dial(multiaddr(relay.addresses()[0] ?? ''))
  const stream = await connection.newStream(REACH_PROTOCOL)
  stream.send(encodeFrame(encodeReachCheck([multiaddr('/ip4/127.0.0.1/tcp/1').bytes])))
  assert.deepEqual(decodeReachAnswer(await firstMessage(stream)), { t: 'refused', code: 3 })
  assert.equal(await metricOf(relay, 'carrier_relay_reach_requests_total{result="ERR_NOT_AVAILABLE"}'), 1)
})
