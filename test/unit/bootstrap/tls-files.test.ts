/** Certificate and key of a relay: configured, read, or refused with a sentence that helps. */
import assert from 'node:assert/strict'
import { chmodSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LIMITS, silentLogger } from '../../../src/base/index.ts'
import { composeConfig, parseBootstrapConfig, parseListenAddress } from '../../../src/bootstrap/index.ts'
import { readTls, tlsFingerprint } from '../../../src/bootstrap/tls-files.ts'
import { createTlsWatch } from '../../../src/bootstrap/tls-watch.ts'
import { createTestAuthority } from '../../support/certificate-authority.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const WSS = '/ip4/0.0.0.0/tcp/443/tls/ws'

test('the files of [tls] are read, for addresses that end with /tls/ws', async () => {
  const directory = makeTempDirectory('tls')
  const { cert, key } = await (await createTestAuthority()).issue(['relay.example.org'])
  const [certificateFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')]
  writeFileSync(certificateFile, cert)
  writeFileSync(keyFile, key)
  const { tls, listen = [] } = parseBootstrapConfig(`listen = ["${WSS}"]\n[tls]\ncert_file = "${certificateFile}"\nkey_file = "${keyFile}"\n`, 'relay.toml')
  assert.deepEqual(tls, { certificateFile, keyFile, where: { cert: 'relay.toml:3', key: 'relay.toml:4' } })
  assert.deepEqual(readTls({ tls, listen }), { cert, key })
  assert.equal(readTls({ tls: undefined, listen: ['/ip4/0.0.0.0/tcp/80/ws'] }), undefined)

  const other = (await (await createTestAuthority()).issue(['x'])).key
  writeFileSync(keyFile, other)
  assert.throws(() => readTls({ tls, listen }), { code: 'ERR_CONFIG', message: /^relay\.toml:3: the certificate .* cannot be used/ })
  assert.throws(() => readTls({ tls: { certificateFile, keyFile: join(directory, 'none') }, listen }), { code: 'ERR_CONFIG', message: /cannot be read/ })
})

test('an address that asks for TLS without a certificate is refused', () => {
  assert.equal(parseListenAddress(WSS), WSS)
  assert.throws(() => readTls({ tls: undefined, listen: [WSS] }), { code: 'ERR_CONFIG', message: /^".* needs a certificate/ })
  const file = parseBootstrapConfig(`listen = [\n  "/ip4/127.0.0.1/tcp/1",\n  "${WSS}"\n]\n`, 'relay.toml')
  assert.throws(() => readTls(composeConfig('/data', [file])), { code: 'ERR_CONFIG', message: /^relay\.toml:3: ".* needs a certificate/ })
  assert.throws(() => readTls(composeConfig('/data', [file, { listen: [WSS] }])), { code: 'ERR_CONFIG', message: /^".* needs a certificate/ }, 'a flag has no line')
  assert.throws(() => parseBootstrapConfig('[tls]\ncert_file = "x"\n', 'relay.toml'), { code: 'ERR_CONFIG', message: /relay\.toml:\d: tls\.key_file/ })
})

test('the files are looked at now and then; a change is told once, one that is being replaced is waited for', async () => {
  const clock = createFakeClock()
  let fingerprint: string | undefined = 'one'
  let changeCount = 0
  const watch = createTlsWatch({ clock, log: silentLogger, fingerprint: () => fingerprint, renew: async () => { changeCount++; return true } })
  await watch.start()
  await clock.advance(3 * LIMITS.relayConfigPollMs)
  assert.equal(changeCount, 0)
  fingerprint = undefined
  await clock.advance(LIMITS.relayConfigPollMs)
  assert.equal(changeCount, 0)
  fingerprint = 'two'
  await clock.advance(3 * LIMITS.relayConfigPollMs)
  assert.equal(changeCount, 1)
  await watch.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a renewal that fails is tried again until it works, also when the files stay as they are', async () => {
  const clock = createFakeClock()
  const state = { fingerprint: 'one', isGood: false, tryCount: 0 }
  const watch = createTlsWatch({ clock, log: silentLogger, fingerprint: () => state.fingerprint, renew: async () => { state.tryCount++; return state.isGood } })
  await watch.start()
  await clock.advance(1)
  state.fingerprint = 'two'
  await clock.advance(2 * LIMITS.relayConfigPollMs)
  assert.equal(state.tryCount, 2)
  state.isGood = true
  await clock.advance(3 * LIMITS.relayConfigPollMs)
  assert.equal(state.tryCount, 3)
  await watch.stop()
})

test('another certificate has another fingerprint, also when only who may read it changed; a missing one has none', () => {
  const directory = makeTempDirectory('tls')
  const files = { certificateFile: join(directory, 'cert.pem'), keyFile: join(directory, 'key.pem') }
  assert.equal(tlsFingerprint(files), undefined)
  writeFileSync(files.certificateFile, 'one')
  writeFileSync(files.keyFile, 'key')
  const first = tlsFingerprint(files)
  assert.ok(first !== undefined)
  writeFileSync(files.certificateFile, 'another')
  assert.notEqual(tlsFingerprint(files), first)
  // its right to be read changes, its content and time do not
  utimesSync(files.keyFile, 1000, 1000)
  const [before, { ctimeMs }] = [tlsFingerprint(files), statSync(files.keyFile)]
  // the kernel's clock for files moves in steps
  while (statSync(files.keyFile).ctimeMs === ctimeMs) chmodSync(files.keyFile, 0o600)
  assert.notEqual(tlsFingerprint(files), before)
})
