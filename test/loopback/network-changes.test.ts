/** Real nodes whose network changes: what died silently is noticed at once, and 500 changes leave nothing behind. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { LIMITS, systemClock } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import { makeNode, reserved } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, PATIENT, timed, waitFor } from '../support/wait.ts'

/** The machine's clock, on which a test makes the machine sleep. */
function sleepyClock (): { clock: Clock, sleep: (ms: number) => void, hasten: (watchMs: number | undefined) => void } {
  let sleptMs = 0
  let watchMs: number | undefined
  return {
    clock: {
      now: () => systemClock.now() + sleptMs,
      monotonicMs: systemClock.monotonicMs,
      // the look at the network
      setTimer: (run, delayMs) => systemClock.setTimer(run, delayMs === LIMITS.networkWatchMs && watchMs !== undefined ? watchMs : delayMs)
    },
    sleep: (ms) => { sleptMs += ms },
    hasten: (ms) => { watchMs = ms }
  }
}

test('a relay that is dead after a sleep is noticed sooner than by its silence, and reserved again when it answers', async (t) => {
  const relay = await prepareStockRelay('asleep')
  await relay.start()
  const { clock, sleep } = sleepyClock()
  const office = await makeNode({ relays: [relay.address], keepalive: 'saver' }, { clock })
  t.after(async () => {
    relay.thaw()
    await office.node.stop()
    await relay.kill()
  })
  const changes: string[] = []
  office.node.on('node:network-changed', ({ kind }) => { changes.push(kind) })
  await office.node.start()
  await reserved(office, PATIENCE_MS)
  relay.freeze()
  sleep(3_600_000)
  const { elapsedMs } = await timed(async () => { await waitFor('the loss', () => office.node.relays()[0]?.state !== 'reserved', { deadlineMs: LIMITS.saverSilenceMs - 5_000, intervalMs: 10 }) })
  console.log(`noticed ${Math.round(elapsedMs)} ms after the wake-up (aim ${LIMITS.networkWatchMs + LIMITS.networkCheckMs})`)
  assert.deepEqual(changes, ['woke'])
  relay.thaw()
  await reserved(office, PATIENCE_MS)
})

test('500 changes of the network in a row: no listener, socket or timer more than before', async (t) => {
  const relay = await prepareStockRelay('restless')
  await relay.start()
  const { clock, sleep, hasten } = sleepyClock()
  const office = await makeNode({ relays: [relay.address] }, { clock })
  t.after(async () => {
    await office.node.stop()
    await relay.kill()
  })
  const warnings: string[] = []
  const onWarning = (warning: Error): void => { warnings.push(warning.message) }
  process.on('warning', onWarning)
  t.after(() => { process.off('warning', onWarning) })
  let changeCount = 0
  office.node.on('node:network-changed', () => {
    changeCount++
    sleep(3_600_000)
  })
  await office.node.start()
  await reserved(office, PATIENCE_MS)
  const before = resources()
  sleep(3_600_000)
  // the first look is at its usual time; each of the others makes the next
  hasten(10)
  await waitFor('500 changes', () => changeCount >= 500, { deadlineMs: 2 * PATIENCE_MS, intervalMs: 20 })
  hasten(undefined)
  await reserved(office, PATIENCE_MS)
  await waitFor(`the end of what the changes began; before: ${JSON.stringify(before)}, now: ${JSON.stringify(resources())}`, () => {
    const now = resources()
    return now.sockets <= before.sockets && now.timers <= before.timers + 4
  }, PATIENT)
  assert.deepEqual(warnings, [])
})

/** What this process holds open. */
function resources (): { sockets: number, timers: number } {
  const names = process.getActiveResourcesInfo()
  return { sockets: names.filter((name) => /TCP|Pipe/.test(name)).length, timers: names.filter((name) => name === 'Timeout').length }
}
