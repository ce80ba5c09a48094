/** Relays that are down, come back, or die: the same sentences on loopback and in the lab. Each scenario cleans up after itself. */
import assert from 'node:assert/strict'
import { isReserved, startPair, waitOnline } from './friends-pair.ts'
import type { Pair } from './friends-pair.ts'
import type { TestNetwork } from './network.ts'
import { printFigure } from './statistics.ts'
import { startLoadGenerator, startTcpService } from './tcp-load.ts'
import type { LoadGenerator } from './tcp-load.ts'
import { PATIENCE_MS, pause, timed, waitFor } from './wait.ts'

/** A figure may be three times its target before the test fails; the printed figure is what is reported. */
const TOLERANCE = 3
const REACHABLE_AFTER_START_MS = 3000
const REACHABLE_AFTER_RESTART_MS = 15_000
/** A node that has been without a relay for longer looks for it less often. */
const LONG_OUTAGE_MS = 60_000
const CONNECT_WITH_DEAD_RELAY_MS = 1000

/** The relay is down when the nodes boot and is started later: both are reachable soon after. */
export async function relayStartedLater (network: TestNetwork, downMs: number): Promise<void> {
  const pair = await startPair(network, { relaysDown: true })
  try {
    for (const node of [pair.office, pair.laptop]) {
      await waitFor(`${node.name} to say that its relay is unreachable`, async () => (await node.status()).relays.every((relay) => relay.state === 'unreachable'), { deadlineMs: PATIENCE_MS })
      assert.ok((await node.status()).problems.length > 0, 'a node without a relay names no problem')
    }
    await pause(downMs)
    const targetMs = downMs < LONG_OUTAGE_MS ? REACHABLE_AFTER_START_MS : REACHABLE_AFTER_RESTART_MS
    const elapsedMs = await untilReachable(pair, targetMs)
    printFigure(`${network.name}: both nodes reachable after the relay came up`, elapsedMs, 'ms', `${targetMs} ms`)
    // a reservation is a claim; a friendship made over it is the proof
    await pair.befriend()
    assert.ok(elapsedMs <= TOLERANCE * targetMs)
  } finally {
    await pair.stop()
  }
}

/** The relay is killed and started again after `outageMs`: friends find each other again. */
export async function relayRestart (network: TestNetwork, outageMs: number): Promise<void> {
  const pair = await startPair(network)
  try {
    await pair.befriend()
    await pair.relays[0]?.kill()
    await waitFor('the office to notice the loss', async () => !await isReserved(pair.office), { deadlineMs: PATIENCE_MS })
    await pause(outageMs)
    const elapsedMs = await untilReachable(pair, REACHABLE_AFTER_RESTART_MS, async () => {
      await waitOnline(pair.laptop, 'office', TOLERANCE * REACHABLE_AFTER_RESTART_MS)
      await pair.laptop.json('ping', 'office')
    })
    printFigure(`${network.name}: friends reach each other again after a relay outage of ${Math.round(outageMs / 1000)} s`, elapsedMs, 'ms', `${REACHABLE_AFTER_RESTART_MS} ms`)
    assert.ok(elapsedMs <= TOLERANCE * REACHABLE_AFTER_RESTART_MS)
  } finally {
    await pair.stop()
  }
}

/**
 * One of two relays dies while a forward is in use: new connections through it succeed at once again, and a laptop that
 * boots with the dead relay in its list connects as fast. `makeDead` is a kill, or worse: a black hole.
 */
export async function oneOfTwoRelaysDead (network: TestNetwork, makeDead: (pair: Pair, index: number) => Promise<void>): Promise<void> {
  const pair = await startPair(network, { relayCount: 2 })
  const service = await startTcpService({ place: network.office })
  const load = startLoadGenerator({ place: network.laptop })
  try {
    await pair.befriend()
    await pair.office.json('serve', 'echo', String(service.port), '--allow', 'laptop')
    // the same command on the same machine, with both relays alive: what starting a process costs here and now
    const { value: target, elapsedMs: usualMs } = await timed(async () => openForward(pair))
    assert.equal(await load.exchange(target, 'E1'), '1')
    const { relayPeerId } = await pair.laptop.json<{ relayPeerId?: string }>('ping', 'office')
    const used = pair.relays.findIndex((relay) => relay.report().peerId === relayPeerId)
    assert.ok(used >= 0, `the ping names no relay of ours: ${String(relayPeerId)}`)

    await makeDead(pair, used)
    const { elapsedMs } = await timed(async () => { await echoUntilItWorks(load, target) })
    printFigure(`${network.name}: first connection through the forward after its relay died (detection included)`, elapsedMs, 'ms')

    await pair.laptop.stop()
    await pair.laptop.start()
    await waitFor('the laptop to hold the other relay', async () => isReserved(pair.laptop), { deadlineMs: PATIENCE_MS })
    const { value: fresh, elapsedMs: connectMs } = await timed(async () => openForward(pair))
    assert.equal(await load.exchange(fresh, 'E2'), '2')
    printFigure(`${network.name}: forward opened by a laptop that booted with one of two relays dead (command start included)`, connectMs, 'ms', `${CONNECT_WITH_DEAD_RELAY_MS} ms`)
    assert.ok(connectMs <= usualMs + TOLERANCE * CONNECT_WITH_DEAD_RELAY_MS, `${Math.round(connectMs)} ms, with both relays alive ${Math.round(usualMs)} ms`)
  } finally {
    await load.stop()
    await service.stop()
    await pair.stop()
  }
}

async function untilReachable (pair: Pair, targetMs: number, proof?: () => Promise<void>): Promise<number> {
  await pair.relays[0]?.start()
  const { elapsedMs } = await timed(async () => {
    for (const node of [pair.office, pair.laptop]) {
      await waitFor(`${node.name} to hold a reservation`, async () => isReserved(node), { deadlineMs: 2 * TOLERANCE * targetMs })
    }
    await proof?.()
  })
  return elapsedMs
}

async function openForward (pair: Pair): Promise<{ host: string, port: number }> {
  const { listen } = await pair.laptop.json<{ listen: string }>('forward', '0', 'office/echo')
  const [host = '', port = ''] = listen.split(':')
  return { host, port: Number(port) }
}

async function echoUntilItWorks (load: LoadGenerator, target: { host: string, port: number }): Promise<void> {
  await waitFor('an echo through the forward', async () => await load.exchange(target, 'E1') === '1', { deadlineMs: 60_000 })
}
