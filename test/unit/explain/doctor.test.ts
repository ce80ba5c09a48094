import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierError, LIMITS, sleep, systemClock } from '../../../src/base/index.ts'
import type { DoctorCheck } from '../../../src/carrier-types.ts'
import { examine, runJobs } from '../../../src/explain/doctor.ts'
import type { DoctorComponents } from '../../../src/explain/doctor.ts'
import type { Service } from '../../../src/forwarding/index.ts'
import { parseProxyUrl } from '../../../src/node/index.ts'
import type { RelayStatus } from '../../../src/node/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { freePort, startEcho } from '../../support/target-server.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const relay = (peerId: string, state: RelayStatus['state'], reason?: string): RelayStatus => ({ peerId, address: `/${peerId}`, state, rttMs: 5, loadPermille: undefined, isChosen: true, reason })
const service = (name: string, port: number): Service => ({ name, target: { kind: 'tcp', host: '127.0.0.1', port }, allow: ['did:key:z6Mkx'], source: { kind: 'state' }, connectionCount: 0 })

function components (change: Partial<DoctorComponents> = {}, node: Partial<DoctorComponents['node']> = {}): DoctorComponents {
  return {
    dataDirectory: makeTempDirectory('doctor'),
    clock: systemClock,
    judgeTime: () => ({ isSure: true, atMs: 1 }),
    steppedMs: () => 0,
    node: {
      relays: () => [relay('one', 'reserved')],
      isReachable: () => true,
      problems: () => [],
      listenAddresses: () => [],
      checkDataPort: async () => ({ kind: 'answered', port: 4002, ms: 3 }),
      ...node
    },
    netcheck: async () => ({ nat: 'independent', seenAs: [], reason: undefined, hasIpv4: true, hasIpv6: false, listen: [], relays: [], advice: [] }),
    listen: 'none',
    proxy: undefined,
    isDoubled: () => false,
    presence: () => [{ label: 'office', presence: 'online' }],
    friends: { requests: () => [] },
    forwarding: { services: () => [], forwards: () => [] },
    ...change
  }
}

async function find (name: string, change?: Partial<DoctorComponents>, node?: Partial<DoctorComponents['node']>): Promise<DoctorCheck[]> {
  const { checks } = await examine(components(change, node))
  return checks.filter((check) => check.name === name)
}

test('everything is looked at, in the order of a reader', async () => {
  const { checks } = await examine(components())
  assert.deepEqual(checks.map(({ name }) => name), [
    'runtime', 'memory', 'open files', 'routes', 'data directory', 'disk', 'identity', 'state', 'audit', 'audit log', 'clock', 'key', 'reachable', 'relay', 'proxy', 'listen', 'router', 'friends'])
  assert.deepEqual(checks.find(({ name }) => name === 'relay'), { name: 'relay', subject: '/one', result: 'ok', text: 'reserved, 5.0 ms there and back; data port 4002 answered in 3.0 ms', advice: undefined })
})

test('each thing that is wrong shows', async () => {
  assert.equal((await find('clock', { judgeTime: () => ({ isSure: false, atMs: 1, reason: 'too early' }) }))[0]?.result, 'fail')
  assert.equal((await find('key', { isDoubled: () => true }))[0]?.result, 'fail')
  assert.equal((await find('reachable', {}, { isReachable: () => false }))[0]?.result, 'fail')
  assert.equal((await find('listen', { listen: 'lan' }))[0]?.result, 'fail')
  assert.equal((await find('friends', { presence: () => [{ label: 'office', presence: 'offline' }] }))[0]?.result, 'warn')
  assert.equal((await find('audit log'))[0]?.result, 'fail', 'there is no audit log in the directory')
  const forwards = (): never[] => [{ state: 'refused', to: 'office/db', reason: 'no', listen: '127.0.0.1:1' }] as never[]
  assert.deepEqual((await find('forward', { forwarding: { services: () => [], forwards } })).map(({ subject, result }) => [subject, result]), [['127.0.0.1:1', 'fail']])
})

test('a dead relay beside one that works warns, alone it fails; a data port that keeps silent warns', async () => {
  const results = async (...relays: RelayStatus[]): Promise<Array<string | undefined>> => (await find('relay', {}, { relays: () => relays })).map(({ result }) => result)
  assert.deepEqual(await results(relay('one', 'unreachable', 'refused'), relay('two', 'reserved')), ['warn', 'ok'])
  assert.deepEqual(await results(relay('one', 'unreachable', 'refused')), ['fail'])
  const [silent] = await find('relay', {}, { checkDataPort: async () => { throw new CarrierError('ERR_TIMEOUT', 'no connection') } })
  assert.equal(silent?.result, 'warn')
  assert.match(silent.text, /data port does not answer \(no connection\)/)
})

test('services are tried, each by itself', async () => {
  const echo = await startEcho()
  try {
    const services = (): Service[] => [service('down', downPort), service('up', echo.port), { ...service('dark', echo.port), allow: [] }]
    const downPort = await freePort()
    const checks = await find('service', { forwarding: { services, forwards: () => [] } })
    assert.deepEqual(checks.map(({ subject, result }) => [subject, result]), [['down', 'fail'], ['up', 'ok'], ['dark', 'ok']])
    assert.match(checks[0]?.text ?? '', /cannot be reached/)
    assert.match(checks[2]?.advice ?? '', /carrier grant WHO dark/)
  } finally {
    await echo.close()
  }
})

test('the password of a proxy is not told', async () => {
  const { checks } = await examine(components({ proxy: parseProxyUrl('http://ann:hunter2@proxy.example.org:3128') }))
  assert.match(checks.find(({ name }) => name === 'proxy')?.text ?? '', /http:\/\/proxy\.example\.org:3128$/)
  assert.ok(!JSON.stringify(checks).includes('hunter2'))
})

test('a check that hangs is given up, one that throws is a failure, and neither holds the others up', async () => {
  const clock = createFakeClock()
  const done = { name: 'done', subject: undefined, result: 'ok' as const, text: 'here', advice: undefined }
  const running = runJobs(clock, [
    { name: 'hangs', run: async () => new Promise<never>(() => {}) },
    { name: 'obeys', run: async (signal) => { await sleep(clock, 10 * LIMITS.doctorCheckMs, signal); return [] } },
    { name: 'throws', run: () => { throw new Error('a bug') } },
    { name: 'done', run: () => [done] }
  ])
  await clock.advance(LIMITS.doctorCheckMs)
  const checks = await running
  assert.deepEqual(checks.map(({ name, result }) => [name, result]), [['hangs', 'warn'], ['obeys', 'warn'], ['throws', 'fail'], ['done', 'ok']])
  assert.match(checks[2]?.text ?? '', /a bug/)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('it ends when its caller goes away', async () => {
  const caller = new AbortController()
  const gone = new Error('gone')
  const running = runJobs(createFakeClock(), [{ name: 'hangs', run: async () => new Promise<never>(() => {}) }], caller.signal)
  caller.abort(gone)
  await assert.rejects(running, (err) => err === gone)
})
