import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  formatBytes, joinFindings, judgeClock, judgeDataPort, judgeDirectory, judgeDisk, judgeForward, judgeFriends, judgeListen, judgeMemory,
  judgeOpenFiles, judgeReachable, judgeRelay, judgeRouter, judgeRoutes, judgeRuntime, toCheck
} from '../../../src/explain/doctor-words.ts'
import type { DirectoryFacts, Finding } from '../../../src/explain/doctor-words.ts'
import type { RelayStatus } from '../../../src/node/index.ts'

/** Result and text of a finding; whatever is no "ok" must say what to do. */
function seen (finding: Finding): [string, string] {
  if (finding.result !== 'ok') assert.ok((finding.advice ?? '').length > 10, `${finding.text}: no advice`)
  return [finding.result, finding.text]
}

test('the runtime: old Node fails, an untested system warns', () => {
  assert.deepEqual(seen(judgeRuntime({ version: 'v26.1.0', platform: 'linux', arch: 'x64' })), ['ok', 'Node 26.1.0 on linux x64'])
  assert.equal(judgeRuntime({ version: 'v24.0.0', platform: 'linux', arch: 'x64' }).result, 'ok')
  assert.equal(seen(judgeRuntime({ version: 'v22.9.0', platform: 'linux', arch: 'x64' }))[0], 'fail')
  assert.equal(seen(judgeRuntime({ version: 'v26.1.0', platform: 'darwin', arch: 'arm64' }))[0], 'warn')
})

test('memory and open files warn when little is left', () => {
  assert.deepEqual(seen(judgeMemory({ availableBytes: 2e9, residentBytes: 9e7 })), ['ok', '2.0 GB free, this process holds 90 MB'])
  assert.equal(seen(judgeMemory({ availableBytes: 1e8, residentBytes: 9e7 }))[0], 'warn')
  assert.equal(judgeOpenFiles(undefined).result, 'ok')
  assert.deepEqual(seen(judgeOpenFiles({ limit: 1024, used: 40 })), ['ok', '40 of 1024 in use'])
  assert.equal(seen(judgeOpenFiles({ limit: 1024, used: 900 }))[0], 'warn')
  assert.equal(seen(judgeOpenFiles({ limit: 256, used: 40 }))[0], 'warn')
})

test('the data directory: missing, something else, of another account, open to others', () => {
  const good: DirectoryFacts = { path: '/d', kind: 'directory', reason: undefined, mode: 0o40700, isOwn: true, openFiles: [] }
  assert.deepEqual(seen(judgeDirectory(good)), ['ok', '/d, for its owner only'])
  assert.equal(seen(judgeDirectory({ ...good, kind: 'missing' }))[0], 'warn')
  assert.equal(seen(judgeDirectory({ ...good, kind: 'other' }))[0], 'fail')
  assert.match(seen(judgeDirectory({ ...good, kind: 'unreadable', reason: 'EACCES' }))[1], /EACCES/)
  assert.equal(seen(judgeDirectory({ ...good, isOwn: false }))[0], 'fail')
  assert.deepEqual(seen(judgeDirectory({ ...good, mode: 0o40755 })), ['warn', 'other accounts may enter /d (mode 0755)'])
  // the directory still keeps them out
  assert.equal(seen(judgeDirectory({ ...good, openFiles: ['identity.key'] }))[0], 'warn')
  const exposed = judgeDirectory({ ...good, mode: 0o40755, openFiles: ['identity.key'] })
  assert.equal(seen(exposed)[0], 'fail')
  assert.equal(exposed.advice, 'close it: chmod 700 /d && chmod 600 /d/identity.key')
})

test('the disk: full and not writable fail, little room and slow writes warn', () => {
  assert.deepEqual(seen(judgeDisk({ freeBytes: 83e9, writeMs: 3.21, reason: undefined })), ['ok', '83 GB free, a durable write took 3.2 ms'])
  assert.equal(judgeDisk({ freeBytes: undefined, writeMs: 3, reason: undefined }).result, 'ok')
  assert.equal(seen(judgeDisk({ freeBytes: 50e6, writeMs: 3, reason: undefined }))[0], 'warn')
  assert.equal(seen(judgeDisk({ freeBytes: 83e9, writeMs: 1500, reason: undefined }))[0], 'warn')
  assert.equal(seen(judgeDisk({ freeBytes: 4096, writeMs: 3, reason: undefined }))[0], 'fail')
  assert.deepEqual(seen(judgeDisk({ freeBytes: 0, writeMs: undefined, reason: 'ENOSPC' })), ['fail', 'nothing can be written: ENOSPC (0 bytes free)'])
})

test('the clock: only one that cannot be right fails', () => {
  assert.deepEqual(seen(judgeClock({ isSure: true, atMs: 1 }, 500)), ['ok', 'nothing speaks against it'])
  assert.match(judgeClock({ isSure: true, atMs: 1 }, -7_200_000).text, /moved by -7200 s against/)
  assert.deepEqual(seen(judgeClock({ isSure: false, atMs: 1, reason: 'it is 1970' }, 0)), ['fail', 'it is 1970'])
})

test('a relay: a dead one fails when it is the only one', () => {
  const relay: RelayStatus = { peerId: 'p', address: '/a', state: 'reserved', rttMs: 12.34, loadPermille: undefined, isChosen: true, reason: undefined }
  assert.deepEqual(seen(judgeRelay(relay, false)), ['ok', 'reserved, 12 ms there and back'])
  assert.deepEqual(seen(judgeRelay({ ...relay, reason: 'it stops soon' }, false)), ['warn', 'reserved, 12 ms there and back, but it stops soon'])
  assert.equal(judgeRelay({ ...relay, state: 'standby' }, true).result, 'ok')
  assert.deepEqual(seen(judgeRelay({ ...relay, state: 'unreachable', reason: 'connection refused' }, false)), ['fail', 'unreachable: connection refused'])
  assert.equal(seen(judgeRelay({ ...relay, state: 'refused', reason: 'full' }, true))[0], 'warn')
  assert.equal(seen(judgeRelay({ ...relay, state: 'connecting' }, false))[0], 'warn')
  assert.equal(judgeDataPort({ kind: 'none' }).result, 'ok')
  assert.deepEqual(seen(judgeDataPort({ kind: 'answered', port: 4002, ms: 40 })), ['ok', 'data port 4002 answered in 40 ms'])
  assert.equal(seen(judgeDataPort({ kind: 'failed', reason: 'refused' }))[0], 'warn')
})

test('two findings about one thing: the worse result, both texts', () => {
  assert.deepEqual(joinFindings({ result: 'ok', text: 'a' }, { result: 'warn', text: 'b', advice: 'do b' }), { result: 'warn', text: 'a; b', advice: 'do b' })
  assert.deepEqual(joinFindings({ result: 'warn', text: 'a', advice: 'do a' }, { result: 'fail', text: 'b', advice: 'do b' }), { result: 'fail', text: 'a; b', advice: 'do a' })
  assert.deepEqual(joinFindings({ result: 'ok', text: 'a' }, { result: 'ok', text: 'b' }), { result: 'ok', text: 'a; b' })
})

test('the network: no route at all and a dependent router warn', () => {
  assert.deepEqual(seen(judgeRoutes({ ipv4: '10.0.0.2', ipv6: undefined })), ['ok', 'IPv4 from 10.0.0.2, IPv6 no'])
  assert.equal(seen(judgeRoutes({ ipv4: undefined, ipv6: undefined }))[0], 'warn')
  assert.match(judgeRouter({ nat: 'independent', reason: undefined, seenAs: ['1.2.3.4:5'] }).text, /punch through; seen as 1\.2\.3\.4:5$/)
  assert.equal(judgeRouter({ nat: 'none', reason: undefined, seenAs: [] }).result, 'ok')
  assert.match(judgeRouter({ nat: 'unknown', reason: 'because', seenAs: [] }).text, /because/)
  assert.equal(seen(judgeRouter({ nat: 'dependent', reason: undefined, seenAs: [] }))[0], 'warn')
})

test('listeners and reachability', () => {
  assert.equal(judgeListen('none', []).result, 'ok')
  assert.equal(seen(judgeListen('lan', []))[0], 'fail')
  assert.match(judgeListen('lan', ['/ip4/10.0.0.2/tcp/9']).text, /\/ip4\/10\.0\.0\.2/)
  assert.deepEqual(seen(judgeReachable(true, [], { count: 1, of: 2 })), ['ok', '1 of 2 relays hold a place for this node'])
  // the sentences of a node say themselves what to do
  assert.deepEqual(judgeReachable(true, ['the port is not mapped'], { count: 1, of: 1 }), { result: 'warn', text: 'the port is not mapped' })
  assert.equal(seen(judgeReachable(false, [], { count: 0, of: 1 }))[0], 'fail')
  assert.match(judgeReachable(false, ['no relay'], { count: 0, of: 0 }).advice ?? '', /carrier up --relay/)
})

test('friends: one who is away is no warning, all of them are', () => {
  assert.deepEqual(seen(judgeFriends([], 0)), ['ok', 'none yet'])
  const away = (label: string): { label: string, presence: 'offline' } => ({ label, presence: 'offline' })
  assert.deepEqual(seen(judgeFriends([{ label: 'a', presence: 'online' }, away('b')], 0)), ['ok', '1 of 2 online; away: b'])
  assert.equal(seen(judgeFriends([away('b')], 0))[0], 'warn')
  assert.equal(judgeFriends(['b', 'c', 'd', 'e', 'f', 'g', 'h'].map(away), 0).text, '0 of 7 online; away: b, c, d, e, f and 2 more')
  assert.deepEqual(seen(judgeFriends([{ label: 'a', presence: 'requested' }], 1)), ['ok', 'not answered yet: a; 1 wait for your answer'])
})

test('a forward: a friend who is away warns, what is refused or down fails', () => {
  const results = (['active', 'connecting', 'offline', 'refused', 'target-down', 'error'] as const).map((state) => seen(judgeForward({ state, to: 'office/db', reason: 'so' })))
  assert.deepEqual(results.map(([result]) => result), ['ok', 'warn', 'warn', 'fail', 'fail', 'fail'])
  assert.deepEqual(results[3], ['fail', 'office/db is refused: so'])
})

test('a check has all its members, bytes have a unit', () => {
  assert.deepEqual(toCheck('disk', { result: 'ok', text: 't' }), { name: 'disk', subject: undefined, result: 'ok', text: 't', advice: undefined })
  assert.deepEqual([0, 999, 1000, 9_960, 83_400_000_000, 5e15].map(formatBytes), ['0 bytes', '999 bytes', '1.0 kB', '10.0 kB', '83 GB', '5000 TB'])
})
