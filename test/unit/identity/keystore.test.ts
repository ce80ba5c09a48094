import assert from 'node:assert/strict'
import { argon2Sync, createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { argon2id } from '@noble/hashes/argon2.js'
import { createLogger, encodeCbor, equalBytes, utf8Encode } from '../../../src/base/index.ts'
import { didFromPeerId, KEY_FILE_NAME, loadPublicIdentity, openKeystore, signAuthProof, verifyAuthProof, EMPTY_PRESENT } from '../../../src/identity/index.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const PASSPHRASE = 'correct horse battery staple'

function makeStore (): { directory: string, path: string } {
  const directory = join(makeTempDirectory('keystore'), 'data')
  return { directory, path: join(directory, KEY_FILE_NAME) }
}

/** Gives a changed file the checksum that fits, as a person with the file in hand would. */
function forge (path: string, change: (file: Record<string, unknown>) => void): void {
  edit(path, (file) => {
    delete file['check']
    change(file)
    file['check'] = createHash('sha256').update(encodeCbor(file)).digest('base64')
  })
}

function edit (path: string, change: (file: Record<string, unknown>) => void): void {
  const file = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  change(file)
  writeFileSync(path, JSON.stringify(file))
}

test('first use makes an identity, later uses open the same one', async () => {
  const { directory, path } = makeStore()
  const first = await openKeystore({ directory })
  const second = await openKeystore({ directory })
  assert.equal(second.did, first.did)
  assert.equal(didFromPeerId(first.peerId), first.did)
  assert.ok(second.privateKey.equals(first.privateKey))
  assert.ok(equalBytes(second.nospamSecret, first.nospamSecret))
  assert.ok(!equalBytes(first.instanceId, second.instanceId), 'each opening is an instance of its own')
  assert.equal(first.instanceId.length, 16)
  assert.deepEqual(readdirSync(directory), [KEY_FILE_NAME])
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.equal(statSync(directory).mode & 0o777, 0o700)
})

test('two devices have different keys and secrets', async () => {
  const [a, b] = await Promise.all([openKeystore(makeStore()), openKeystore(makeStore())])
  assert.notEqual(a.did, b.did)
  assert.ok(!equalBytes(a.nospamSecret, b.nospamSecret))
})

test('the identity signs proofs that verify under its DID, and nothing without a domain', async () => {
  const identity = await openKeystore(makeStore())
  const other = await openKeystore(makeStore())
  const transcript = { initiator: identity.did, responder: other.did, initiatorNonce: new Uint8Array(16), responderNonce: new Uint8Array(16), role: 'i', present: EMPTY_PRESENT } as const
  assert.equal(verifyAuthProof(transcript, await signAuthProof(identity, transcript)), true)
  for (const message of [new Uint8Array(32), utf8Encode('noise-libp2p-static-key:x'), new Uint8Array(0)]) await assert.rejects(identity.sign(message), { code: 'ERR_INTERNAL' })
})

test('a sealed keystore opens with its passphrase only, and holds no plain secret', async () => {
  const { directory, path } = makeStore()
  const identity = await openKeystore({ directory, passphrase: PASSPHRASE })
  const content = readFileSync(path)
  const seed = identity.privateKey.raw.subarray(0, 32)
  for (const secret of [seed, identity.nospamSecret]) {
    for (const spelling of ['base64', 'base64url', 'hex'] as const) {
      // the first 20 bytes: base64 of a part does not depend on what follows
      assert.ok(!content.includes(Buffer.from(secret.subarray(0, 18)).toString(spelling)), spelling)
    }
  }
  assert.equal((await openKeystore({ directory, passphrase: PASSPHRASE })).did, identity.did)
  await assert.rejects(openKeystore({ directory, passphrase: `${PASSPHRASE}.` }), { code: 'ERR_PASSPHRASE', message: /does not open/ })
  await assert.rejects(openKeystore({ directory }), { code: 'ERR_PASSPHRASE', message: /CARRIER_PASSPHRASE_FILE/ })
  assert.ok(content.equals(readFileSync(path)), 'nothing was written by the failures')
})

test('the same passphrase in another Unicode spelling opens the keystore', async () => {
  const { directory } = makeStore()
  const identity = await openKeystore({ directory, passphrase: 'Gr\u00fc\u00dfe' })
  assert.equal((await openKeystore({ directory, passphrase: 'Gru\u0308\u00dfe' })).did, identity.did)
})

test('a passphrase seals a keystore that was not sealed, and says so', async () => {
  const { directory, path } = makeStore()
  const lines: string[] = []
  const before = await openKeystore({ directory })
  const sealed = await openKeystore({ directory, passphrase: PASSPHRASE, log: createLogger('test', { level: 'info', sink: { write: (line) => { lines.push(line) } } }) })
  assert.equal(sealed.did, before.did)
  assert.ok(lines.some((line) => line.includes('now sealed')))
  assert.ok(lines.every((line) => !line.includes(PASSPHRASE)))
  assert.equal(statSync(path).mode & 0o777, 0o600)
  await assert.rejects(openKeystore({ directory }), { code: 'ERR_PASSPHRASE' })
  const again = await openKeystore({ directory, passphrase: PASSPHRASE })
  assert.ok(equalBytes(again.nospamSecret, before.nospamSecret))
})

test('an empty or enormous passphrase is refused before anything is made', async () => {
  const { directory } = makeStore()
  await assert.rejects(openKeystore({ directory, passphrase: '' }), { code: 'ERR_PASSPHRASE', message: /empty/ })
  await assert.rejects(openKeystore({ directory, passphrase: 'x'.repeat(2000) }), { code: 'ERR_PASSPHRASE', message: /longer/ })
  assert.equal(existsSync(directory), false)
})

test('I7: a damaged key file is refused with a clear message and left as it is', async () => {
  const damages: Array<[what: string, damage: (path: string) => void]> = [
    ['empty', (path) => { writeFileSync(path, '') }],
    ['cut off', (path) => { writeFileSync(path, readFileSync(path).subarray(0, 100)) }],
    ['no JSON', (path) => { writeFileSync(path, Buffer.alloc(300, 0xff)) }],
    ['another JSON', (path) => { writeFileSync(path, '{"hello":1}') }],
    ['a list', (path) => { writeFileSync(path, '[]') }],
    ['too long', (path) => { writeFileSync(path, ' '.repeat(17 * 1024)) }],
    ['other secrets', (path) => { edit(path, (file) => { file['secrets'] = Buffer.alloc(64, 1).toString('base64') }) }],
    ['another DID', (path) => { edit(path, (file) => { file['did'] = 'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp' }) }],
    ['a member more', (path) => { edit(path, (file) => { file['more'] = 1 }) }]
  ]
  for (const [what, damage] of damages) {
    const { directory, path } = makeStore()
    await openKeystore({ directory })
    damage(path)
    const content = readFileSync(path)
    const expected = { name: 'CarrierError', code: 'ERR_KEYSTORE', message: /is damaged .*left as it is/ }
    await assert.rejects(openKeystore({ directory }), expected, what)
    await assert.rejects(openKeystore({ directory, passphrase: PASSPHRASE }), expected, what)
    await assert.rejects(loadPublicIdentity(directory), expected, what)
    assert.ok(content.equals(readFileSync(path)), `${what}: the file was changed`)
  }
})

test('I7: a key file of a newer release is refused and left as it is', async () => {
  const { directory, path } = makeStore()
  await openKeystore({ directory })
  edit(path, (file) => { file['version'] = 2 })
  const content = readFileSync(path)
  await assert.rejects(openKeystore({ directory }), { code: 'ERR_KEYSTORE', message: /newer release/ })
  assert.ok(content.equals(readFileSync(path)))
})

test('I8: a sealed file that asks for absurd amounts of memory or time is refused before any work', async () => {
  const { directory, path } = makeStore()
  await openKeystore({ directory, passphrase: PASSPHRASE })
  for (const change of [{ memoryKib: 1024 * 1024 + 1 }, { memoryKib: 1024 }, { passes: 17 }, { passes: 0 }, { lanes: 9 }, { kdf: 'none' }]) {
    forge(path, (file) => { file['seal'] = { ...file['seal'] as object, ...change } })
    await assert.rejects(openKeystore({ directory, passphrase: PASSPHRASE }), { code: 'ERR_KEYSTORE', message: /out of range/ }, JSON.stringify(change))
    edit(path, (file) => { file['seal'] = { ...file['seal'] as object, memoryKib: 65536, passes: 3, lanes: 1, kdf: 'argon2id' } })
  }
})

test('a sealed file with another DID or other parameters does not open, even with the right checksum', async () => {
  const { directory, path } = makeStore()
  const identity = await openKeystore({ directory, passphrase: PASSPHRASE })
  forge(path, (file) => { file['did'] = 'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp' })
  await assert.rejects(openKeystore({ directory, passphrase: PASSPHRASE }), { code: 'ERR_PASSPHRASE' })
  forge(path, (file) => { file['did'] = identity.did })
  assert.equal((await openKeystore({ directory, passphrase: PASSPHRASE })).did, identity.did)
  forge(path, (file) => { file['seal'] = { ...file['seal'] as object, passes: 1 } })
  await assert.rejects(openKeystore({ directory, passphrase: PASSPHRASE }), { code: 'ERR_PASSPHRASE' })
})

test('I7: what a crash left while the file was written is removed, and the key file stays', async () => {
  const { directory, path } = makeStore()
  const identity = await openKeystore({ directory })
  writeFileSync(`${path}.0123456789ab.tmp`, 'half a key file')
  writeFileSync(join(directory, 'state.db.0123456789ab.tmp'), 'not ours to remove')
  assert.equal((await openKeystore({ directory })).did, identity.did)
  assert.deepEqual(readdirSync(directory).sort(), [KEY_FILE_NAME, 'state.db.0123456789ab.tmp'])
})

test('I7: a crash before the rename leaves no identity, and the next start makes one', async () => {
  const { directory, path } = makeStore()
  mkdirSync(directory, { recursive: true })
  writeFileSync(`${path}.0123456789ab.tmp`, '{"format":"carrier-keystore"')
  const identity = await openKeystore({ directory })
  assert.equal((await openKeystore({ directory })).did, identity.did)
  assert.deepEqual(readdirSync(directory), [KEY_FILE_NAME])
})

test('a key file and directory that others may read are closed to them with a warning', async () => {
  const { directory, path } = makeStore()
  const lines: string[] = []
  await openKeystore({ directory })
  chmodSync(path, 0o644)
  chmodSync(directory, 0o755)
  await openKeystore({ directory, log: createLogger('test', { level: 'warn', sink: { write: (line) => { lines.push(line) } } }) })
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.equal(statSync(directory).mode & 0o777, 0o700)
  assert.match(lines.join(''), /readable for other users/)
})

test('a directory that cannot be used gives a keystore error that names it', async () => {
  const { directory } = makeStore()
  writeFileSync(directory, 'a file stands here')
  await assert.rejects(openKeystore({ directory }), (err: Error & { code?: string }) => err.code === 'ERR_KEYSTORE' && err.message.includes(directory))
  const looped = makeStore()
  mkdirSync(looped.directory)
  symlinkSync(KEY_FILE_NAME, looped.path)
  await assert.rejects(openKeystore(looped), { code: 'ERR_KEYSTORE' })
})

test('who the owner is can be read without the passphrase; what addresses are made of cannot', async () => {
  const open = makeStore()
  assert.equal(await loadPublicIdentity(open.directory), undefined)
  assert.equal(existsSync(open.directory), false, 'reading makes nothing')
  const identity = await openKeystore(open)
  const publicIdentity = await loadPublicIdentity(open.directory)
  assert.equal(publicIdentity?.did, identity.did)
  assert.equal(publicIdentity.peerId.toString(), identity.peerId.toString())
  assert.ok(equalBytes(publicIdentity.publicKey, identity.publicKey))
  assert.ok(equalBytes(publicIdentity.nospamSecret ?? new Uint8Array(), identity.nospamSecret))
  assert.equal(publicIdentity.isSealed, false)

  const sealed = makeStore()
  const hidden = await openKeystore({ directory: sealed.directory, passphrase: PASSPHRASE })
  const seen = await loadPublicIdentity(sealed.directory)
  assert.deepEqual([seen?.did, seen?.isSealed, seen?.nospamSecret], [hidden.did, true, undefined])
})

test('both implementations of Argon2id give the same key', () => {
  const message = utf8Encode(PASSPHRASE)
  const salt = new Uint8Array(16).fill(5)
  const native = argon2Sync('argon2id', { message, nonce: salt, parallelism: 1, tagLength: 32, memory: 8192, passes: 1 })
  assert.ok(equalBytes(new Uint8Array(native), argon2id(message, salt, { t: 1, m: 8192, p: 1, dkLen: 32 })))
})
