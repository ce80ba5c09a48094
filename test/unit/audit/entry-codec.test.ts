import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex, toHex } from '../../../src/base/index.ts'
// the codec is private to audit/; its bytes are frozen, so its test goes past the door
import { commitBody, decodeBody, decodeLeaf, encodeBody, encodeLeaf } from '../../../src/audit/entry-codec.ts'
import type { AuditEntry } from '../../../src/audit/index.ts'
import { readVectors } from '../../support/vectors.ts'

interface Row { about: string, seq: number, at: number, salt: string, entry: Omit<AuditEntry, 'sessionId'> & { sessionId?: string }, body: string, bodyHash: string, leaf: string, leafHash: string }
const vectors = readVectors<{ entries: Row[] }>('audit-leaf')

function toEntry (row: Row): AuditEntry {
  const { sessionId, ...rest } = row.entry
  return sessionId === undefined ? rest : { ...rest, sessionId: fromHex(sessionId) }
}

for (const row of vectors.entries) {
  test(`body and leaf of an audit entry are those of the vector: ${row.about}`, () => {
    const entry = toEntry(row)
    const body = encodeBody(entry)
    assert.equal(toHex(body), row.body)
    const bodyHash = commitBody(fromHex(row.salt), body)
    assert.equal(toHex(bodyHash), row.bodyHash)
    const leaf = encodeLeaf({ seq: row.seq, at: row.at, event: entry.event, bodyHash })
    assert.equal(toHex(leaf), row.leaf)
    assert.equal(createHash('sha256').update(Uint8Array.of(0)).update(leaf).digest('hex'), row.leafHash)
    assert.deepEqual(decodeLeaf(leaf), { seq: row.seq, at: row.at, event: entry.event, bodyHash })
    assert.deepEqual({ event: entry.event, ...decodeBody(body) }, entry)
  })
}

test('every path with and without a relay reads back as it was written', () => {
  for (const path of ['lan', 'direct', 'punched', 'relayed', 'spliced']) {
    assert.deepEqual(decodeBody(encodeBody({ event: 'conn.open', path })), { path })
    assert.deepEqual(decodeBody(encodeBody({ event: 'conn.open', path, relayPeerId: '12D3KooW' })), { path, relayPeerId: '12D3KooW' })
  }
})

test('what is not an entry is refused with a code', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    for (const decode of [decodeBody, decodeLeaf]) {
      try {
        decode(bytes)
      } catch (err) {
        assert.equal((err as { code: string }).code, 'ERR_PROTOCOL')
      }
    }
  }))
})
