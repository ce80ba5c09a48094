/** The operator's lists: what they may look like, and who is served by them. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { readAdmission } from '../../../src/bootstrap/admission-files.ts'
import { admitByLists, classOf, parseAdmissionList, parseListEntry } from '../../../src/bootstrap/admission-lists.ts'
import type { AdmissionMode, AdmissionPolicy } from '../../../src/bootstrap/admission-lists.ts'
import { parseBootstrapConfig } from '../../../src/bootstrap/index.ts'
import { peerKey } from '../../../src/bootstrap/reservation-table.ts'
import { didFromPeerId } from '../../../src/identity/index.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const [anna, ben, carl, dora] = await Promise.all([1, 2, 3, 4].map(async (seed) => peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(seed)))))
assert.ok(anna !== undefined && ben !== undefined && carl !== undefined && dora !== undefined)
const keyOf = (peerId: typeof anna): string => peerKey(peerId.toMultihash().bytes)
const where = multiaddr('/ip4/192.0.2.1/tcp/1')

describe('a list', () => {
  test('has a DID or PeerId per line, comments and labels beside them', () => {
    const text = `# people\n\n${didFromPeerId(anna)}\n  ${ben.toString()}  the office # since May\r\n`
    assert.deepEqual(parseAdmissionList(text, 'list'), new Set([keyOf(anna), keyOf(ben)]))
  })

  test('may be what carrier friend list --json prints; who has not answered yet is no friend', () => {
    const text = JSON.stringify([{ did: didFromPeerId(anna), label: 'anna', state: 'friend' }, { did: didFromPeerId(ben), label: 'ben', state: 'requested' }])
    assert.deepEqual(parseAdmissionList(text, 'list'), new Set([keyOf(anna)]))
  })

  test('a DID and the PeerId of one key are one entry', () => {
    assert.equal(parseListEntry(didFromPeerId(anna)), parseListEntry(anna.toString()))
  })

  test('what is wrong is named with file and line', () => {
    assert.throws(() => parseAdmissionList(`${anna.toString()}\nnobody\n`, 'list.txt'), { code: 'ERR_CONFIG', message: /^list\.txt:2: "nobody" is neither a DID/ })
    assert.throws(() => parseAdmissionList('[{"name": "x"}]', 'list.txt'), { code: 'ERR_CONFIG', message: /^list\.txt:1: it is no list of friends/ })
    assert.throws(() => parseAdmissionList('[', 'list.txt'), { code: 'ERR_CONFIG', message: /no JSON/ })
    assert.throws(() => parseBootstrapConfig('[admission]\nmode = "members"\nmembers = ["x"]\n', 'relay.toml'), { code: 'ERR_CONFIG', message: /^relay\.toml:3: admission\.members\.0: / })
  })

  test('the file is put to the entries of the configuration; a mode that serves nobody is refused', () => {
    const file = join(makeTempDirectory('lists'), 'members.txt')
    writeFileSync(file, `${ben.toString()}\n`)
    const { admission } = parseBootstrapConfig(`[admission]\nmode = "members"\nmembers = ["${didFromPeerId(anna)}"]\nmembers_file = "${file}"\n`, 'relay.toml')
    assert.ok(admission !== undefined)
    assert.deepEqual(readAdmission(admission).lists.members, new Set([keyOf(anna), keyOf(ben)]))
    assert.throws(() => readAdmission({ ...admission, mode: 'friends' }), { code: 'ERR_CONFIG', message: /serve nobody/ })
    assert.throws(() => readAdmission({ ...admission, files: { allow: `${file}.absent` } }), { code: 'ERR_CONFIG', message: /cannot be read/ })
    writeFileSync(file, 'wrong\n')
    assert.throws(() => readAdmission(admission), { code: 'ERR_CONFIG', message: /members\.txt:1: / })
  })
})

describe('who is served', () => {
  const lists = { allow: new Set([keyOf(anna)]), members: new Set([keyOf(ben)]), friends: new Set([keyOf(carl)]) }
  const served = (mode: AdmissionMode): string[] => [anna, ben, carl, dora].map((peerId, index) => admitByLists(() => ({ mode, callers: 'listed', lists }), () => undefined)({ action: 'reserve', peerId, remoteAddress: where }).allow ? 'abcd'[index] ?? '' : '')

  test('by mode', () => {
    assert.deepEqual(served('open').join(''), 'abcd')
    assert.deepEqual(served('allow-list').join(''), 'abc')
    assert.deepEqual(served('members').join(''), 'b')
    assert.deepEqual(served('friends').join(''), 'c')
  })

  test('anyone may call those that are served, unless callers must be on the list too', () => {
    const ask = (callers: AdmissionPolicy['callers']): boolean => admitByLists(() => ({ mode: 'members', callers, lists }), () => undefined)({ action: 'connect', peerId: dora, remoteAddress: where, called: ben }).allow
    assert.equal(ask('anyone'), true)
    assert.equal(ask('listed'), false)
  })

  test('the class decides whose quotas count', () => {
    assert.deepEqual([anna, ben, carl, dora].map((peerId) => classOf({ lists }, keyOf(peerId))), ['member', 'member', 'friend', 'stranger'])
  })
})
