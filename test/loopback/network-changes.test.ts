/** Real nodes whose network changes: what died silently is noticed at once, and 500 changes leave nothing behind. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { NetworkInterfaceInfo } from 'node:os'
import test from 'node:test'
import { LIMITS, systemClock } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
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

test('500 moves of a node that listens: its ports follow, on the same numbers, and nothing is left behind', async (t) => {
  const { clock, hasten } = sleepyClock()
  // where it ends is not where it began
  let host = '127.0.0.4'
  const office = await makeNode({ listen: 'lan', loopback: true }, { clock, interfaces: () => ({ eth0: [interfaceAt(host)] }) })
  const laptop = await makeNode({ loopback: true })
  befriend(office, laptop)
  office.node.handleLinkSockets((socket) => { socket.destroy() })
  t.after(async () => { await Promise.all([office.node.stop(), laptop.node.stop()]) })
  let changeCount = 0
  office.node.on('node:network-changed', () => {
    if (++changeCount < 500) host = host === '127.0.0.2' ? '127.0.0.3' : '127.0.0.2'
  })
  await Promise.all([office.node.start(), laptop.node.start()])
  const port = portOf(office.node.listenAddresses()[0])
  const linkPort = office.node.issueLinkTicket(laptop.did)?.port
  assert.ok(linkPort !== undefined)
  assert.deepEqual(office.node.listenAddresses(), [`/ip4/127.0.0.4/tcp/${port}`])
  const before = resources()
  host = '127.0.0.3'
  hasten(10)
  await waitFor('500 changes', () => changeCount >= 500, { deadlineMs: 2 * PATIENCE_MS, intervalMs: 20 })
  hasten(undefined)
  await waitFor('the last move', () => office.node.listenAddresses().join() === `/ip4/${host}/tcp/${port}`, PATIENT)
  assert.equal(office.node.issueLinkTicket(laptop.did)?.port, linkPort)
  assert.ok(host !== '127.0.0.4')
  const other = host === '127.0.0.2' ? '127.0.0.3' : '127.0.0.2'
  await waitFor('both ports, here and not there', async () => {
    const [here, linkHere, there, linkThere] = await Promise.all([answers(host, port), answers(host, linkPort), answers(other, port), answers(other, linkPort)])
    return here && linkHere && !there && !linkThere
  }, PATIENT)
  await waitFor(`the end of what the changes began; before: ${JSON.stringify(before)}`, () => {
    const now = resources()
    return now.sockets <= before.sockets && now.timers <= before.timers + 4
  }, PATIENT)
  assert.deepEqual(office.node.problems(), [])
})

test('a friend with a connection is told where this node listens now', async (t) => {
  const relay = await prepareStockRelay('moving')
  await relay.start()
  const { clock, hasten } = sleepyClock()
  const place: { host?: string } = {}
  const office = await makeNode({ listen: 'lan', loopback: true, relays: [relay.address] }, { clock, interfaces: () => place.host === undefined ? {} : { eth0: [interfaceAt(place.host)] } })
  const laptop = await makeNode({ loopback: true, relays: [relay.address] })
  befriend(office, laptop)
  t.after(async () => {
    await Promise.all([office.node.stop(), laptop.node.stop()])
    await relay.kill()
  })
  await Promise.all([office.node.start(), laptop.node.start()])
  await Promise.all([reserved(office, PATIENCE_MS), reserved(laptop, PATIENCE_MS)])
  assert.match(office.node.problems().join(), /no address to listen on/)
  await laptop.node.ping(office.did)
  assert.equal(laptop.node.canDialLink(office.did), false)
  place.host = '127.0.0.2'
  hasten(10)
  await waitFor('the direct connection', () => laptop.node.canDialLink(office.did), PATIENT)
  assert.deepEqual(office.node.problems(), [])
})

function interfaceAt (address: string): NetworkInterfaceInfo {
  return { address, family: 'IPv4', internal: false, netmask: '255.0.0.0', mac: '', cidr: `${address}/8` }
}

function portOf (address: string | undefined): number {
  return Number(address?.split('/').at(-1))
}

/** True when something listens there. */
async function answers (host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port })
  try {
    await once(socket, 'connect')
    return true
  } catch {
    // refused
    return false
  } finally {
    socket.destroy()
  }
}

/** What this process holds open. */
function resources (): { sockets: number, timers: number } {
  const names = process.getActiveResourcesInfo()
  return { sockets: names.filter((name) => /TCP|Pipe/.test(name)).length, timers: names.filter((name) => name === 'Timeout').length }
}
