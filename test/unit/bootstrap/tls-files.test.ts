/** Certificate and key of a relay: configured, read, or refused with a sentence that helps. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseBootstrapConfig, parseListenAddress } from '../../../src/bootstrap/index.ts'
import { readTls } from '../../../src/bootstrap/tls-files.ts'
import { createTestAuthority } from '../../support/certificate-authority.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const WSS = '/ip4/0.0.0.0/tcp/443/tls/ws'

test('the files of [tls] are read, for addresses that end with /tls/ws', async () => {
  const directory = makeTempDirectory('tls')
  const { cert, key } = await (await createTestAuthority()).issue(['relay.example.org'])
  const [certificateFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')]
  writeFileSync(certificateFile, cert)
  writeFileSync(keyFile, key)
  const { tls, listen = [] } = parseBootstrapConfig(`listen = ["${WSS}"]\n[tls]\ncert_file = "${certificateFile}"\nkey_file = "${keyFile}"\n`, 'relay.toml')
  assert.deepEqual(tls, { certificateFile, keyFile })
  assert.deepEqual(readTls({ tls, listen }), { cert, key })
  assert.equal(readTls({ tls: undefined, listen: ['/ip4/0.0.0.0/tcp/80/ws'] }), undefined)

  const other = (await (await createTestAuthority()).issue(['x'])).key
  writeFileSync(keyFile, other)
  assert.throws(() => readTls({ tls, listen }), { code: 'ERR_CONFIG', message: /cannot be used/ })
  assert.throws(() => readTls({ tls: { certificateFile, keyFile: join(directory, 'none') }, listen }), { code: 'ERR_CONFIG', message: /cannot be read/ })
})

test('an address that asks for TLS without a certificate is refused', () => {
  assert.equal(parseListenAddress(WSS), WSS)
  assert.throws(() => readTls({ tls: undefined, listen: [WSS] }), { code: 'ERR_CONFIG', message: /needs a certificate/ })
  assert.throws(() => parseBootstrapConfig('[tls]\ncert_file = "x"\n', 'relay.toml'), { code: 'ERR_CONFIG', message: /relay\.toml:\d: tls\.key_file/ })
})
