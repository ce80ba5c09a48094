/** How soon somebody is reached when much of what is known is wrong, or was down: 80 ms of round trip between homes. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { it } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { LIMITS } from '../../src/base/index.ts'
import { parseDid, peerIdFromDid } from '../../src/identity/index.ts'
import { createDaemon } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { isReserved, startPair, waitOnline } from '../support/friends-pair.ts'
import type { Pair, PairInit } from '../support/friends-pair.ts'
import { pingFriend } from '../support/session-watch.ts'
import { printFigure } from '../support/statistics.ts'
import { PATIENCE_MS, pause, timed, waitFor } from '../support/wait.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { loadRuleset } from './namespace.ts'

/** What the issue names; a test fails at three times as much. */
const CONNECT_MS = 700
const DIAL_STALE_MS = 1_500
const UP_MS = 2_000
const REACHABLE_MS = 3_000
const TOLERANCE = 3
const SHORT_OUTAGE_MS = 3_000
/** Addresses of nobody (RFC 5737); the internet of the lab swallows what is sent there. */
const NOWHERE = '203.0.113'

describeInLab('reaching a friend, 80 ms of round trip', () => {
  it('the first relay of the list is a black hole: the friend is reached over the second soon', async () => {
    await withPair({}, async (pair, lab) => {
      await pair.befriend()
      await pair.laptop.stop()
      await swallow(lab, [lab.relays[0]?.address ?? ''])
      const connectMs = await connectedMs(pair.laptop)
      printFigure('natlab: dead first relay in the list: from the reservation at the second to the session', connectMs, 'ms', `${CONNECT_MS} ms`)
      assert.ok(connectMs <= TOLERANCE * CONNECT_MS)
    })
  })

  it('every remembered address is stale and two of three relays are dead: the friend is reached by its DID soon', async () => {
    await withPair({}, async (pair, lab) => {
      const { officeDid } = await pair.befriend()
      await pair.laptop.stop()
      const peerId = peerIdFromDid(parseDid(officeDid)).toString()
      rememberStale(pair.laptop, officeDid, Array.from({ length: LIMITS.rememberedAddressCount }, (_address, index) => `/ip4/${NOWHERE}.${10 + index}/tcp/4001/p2p/${peerId}`))
      await swallow(lab, [lab.relays[0]?.address ?? '', `${NOWHERE}.0/24`])
      const [first = '', second = ''] = pair.relays.map((relay) => relay.address())
      const laptop = createDaemon({ name: 'laptop', dataDirectory: pair.laptop.dataDirectory, place: lab.laptop, relays: [first, `/ip4/${NOWHERE}.9/tcp/4001/p2p/${peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()}`, second] })
      try {
        const connectMs = await connectedMs(laptop)
        printFigure('natlab: eight stale addresses and two dead relays: from the reservation at the third to the session', connectMs, 'ms', `${DIAL_STALE_MS} ms`)
        assert.ok(connectMs <= TOLERANCE * DIAL_STALE_MS)
      } finally {
        await laptop.stop()
      }
    })
  })

  it('all relays are down at boot: the node is up at once, and reachable soon after one appears', async () => {
    await withPair({ relaysDown: true }, async (pair) => {
      await pair.laptop.stop()
      const up = await timed(async () => pair.laptop.start())
      printFigure('natlab: all relays down at boot: up after', up.elapsedMs, 'ms', `${UP_MS} ms`)
      assert.ok(up.elapsedMs <= TOLERANCE * UP_MS)
      await waitFor('the relays to be seen as unreachable', async () => (await pair.laptop.status()).relays.every(({ state }) => state === 'unreachable'), { deadlineMs: PATIENCE_MS })
      await pair.relays[1]?.start()
      const reachable = await timed(async () => {
        for (const daemon of [pair.office, pair.laptop]) await waitFor(`${daemon.name} to be reachable`, async () => isReserved(daemon), { deadlineMs: PATIENCE_MS, intervalMs: 20 })
      })
      printFigure('natlab: the first relay appears: both nodes reachable after', reachable.elapsedMs, 'ms', `${REACHABLE_MS} ms`)
      // a reservation is a claim; a friendship made over it is the proof
      await pair.befriend()
      assert.ok(reachable.elapsedMs <= TOLERANCE * REACHABLE_MS)
    })
  })

  it('the only relay is down for 3 s: the friends reach each other soon after it is back', async () => {
    await withPair({ relayCount: 1 }, async (pair) => {
      await pair.befriend()
      await pair.relays[0]?.kill()
      for (const daemon of [pair.office, pair.laptop]) await waitFor(`${daemon.name} to notice the loss`, async () => !await isReserved(daemon), { deadlineMs: PATIENCE_MS, intervalMs: 20 })
      await pause(SHORT_OUTAGE_MS)
      await pair.relays[0]?.start()
      const { elapsedMs } = await timed(async () => {
        await waitOnline(pair.laptop, 'office')
        await pingFriend(pair.laptop, 'office')
      })
      printFigure('natlab: the only relay was down for 3 s: friends reach each other after', elapsedMs, 'ms', `${REACHABLE_MS} ms`)
      assert.ok(elapsedMs <= TOLERANCE * REACHABLE_MS)
    })
  })
})

/** Behind a router through which nobody punches: the relays have to do it. */
async function withPair (init: PairInit, run: (pair: Pair, lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab({ laptop: 'sym', relayCount: 2, line: { delayMs: 20 } })
  try {
    const pair = await startPair(lab, { relayCount: 2, ...init })
    await run(pair, lab)
    await pair.stop()
  } finally {
    // ends the programs inside too
    await lab.close()
  }
}

/**
 * Starts the daemon; gives the time from its first reservation to its first session, as its log has it: without the start of
 * a process, and without any polling.
 */
async function connectedMs (daemon: Daemon): Promise<number> {
  await daemon.start()
  const atMs = (msg: string): number | undefined => {
    const line = daemon.program().stderr().split('\n').find((text) => text.includes(`"msg":"${msg}"`))
    return line === undefined ? undefined : Date.parse((JSON.parse(line) as { time: string }).time)
  }
  const openedMs = await waitFor('the session', () => atMs('session opened'), { deadlineMs: PATIENCE_MS, intervalMs: 20 })
  const [startedMs, reservedMs] = [atMs('node started'), atMs('relay reserved')]
  assert.ok(startedMs !== undefined && reservedMs !== undefined)
  printFigure('natlab: from the start of the node to its first reservation', reservedMs - startedMs, 'ms')
  return openedMs - reservedMs
}

/** What is sent to these addresses vanishes without an answer. */
async function swallow (lab: Lab, destinations: readonly string[]): Promise<void> {
  await loadRuleset(lab.internet, `table ip hole { chain forward { type filter hook forward priority 0; ip daddr { ${destinations.join(', ')} } drop; }; }\n`)
}

/** What a friend's device said of itself long ago; the daemon must be stopped. */
function rememberStale (daemon: Daemon, did: string, multiaddrs: readonly string[]): void {
  const database = new DatabaseSync(join(daemon.dataDirectory, 'state.db'))
  try {
    for (const [index, multiaddr] of multiaddrs.entries()) database.prepare('INSERT INTO device_address (device_did, multiaddr, used) VALUES (?, ?, ?)').run(did, multiaddr, index + 1)
  } finally {
    database.close()
  }
}
