import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { errorCode, fromHex, toHex } from '../../../src/base/index.ts'
import { decodeHopRequest, decodeStopStatus, encodeHopStatus, encodeStopConnect, STATUS } from '../../../src/bootstrap/hop-messages.ts'

const isProtocolError = (err: unknown): boolean => errorCode(err) === 'ERR_PROTOCOL'
const PEER = fromHex('0024080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c')

describe('circuit relay v2 messages', () => {
  // recorded between a stock client and a stock relay (circuit-relay-v2 4.2.13); test/loopback/bootstrap-wire.test.ts compares live bytes
  test('recorded requests are understood', () => {
    assert.deepEqual(decodeHopRequest(fromHex('0800')), { type: 'reserve' })
    assert.deepEqual(decodeHopRequest(fromHex(`0801122a0a26${toHex(PEER)}1200`)), { type: 'connect', peerId: PEER })
    assert.deepEqual(decodeHopRequest(fromHex('0802')), { type: 'unexpected' })
    assert.equal(decodeStopStatus(fromHex('08012064')), STATUS.OK)
    assert.equal(decodeStopStatus(fromHex('080120ca01')), STATUS.PERMISSION_DENIED)
  })

  test('answers have the bytes of the specification', () => {
    assert.equal(toHex(encodeHopStatus('OK')), '08022864')
    assert.equal(toHex(encodeHopStatus('NO_RESERVATION')), '080228cc01')
    assert.equal(toHex(encodeStopConnect(PEER, undefined)), `080012280a26${toHex(PEER)}`)
  })

  test('a limit is sent in seconds and bytes, and not at all when there is none', () => {
    assert.equal(toHex(encodeHopStatus('OK', { limits: { durationSeconds: 120, dataBytes: 131_072n } })), '08022206087810808008' + '2864')
    assert.equal(toHex(encodeHopStatus('OK', { limits: { durationSeconds: 120 } })), '080222020878' + '2864')
    assert.equal(toHex(encodeHopStatus('OK', { limits: {} })), '08022864')
  })

  test('any bytes are a request or ERR_PROTOCOL', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const decode of [decodeHopRequest, decodeStopStatus]) {
        try {
          decode(bytes)
        } catch (err) {
          assert.ok(isProtocolError(err), String(err))
        }
      }
    }), { numRuns: 2000 })
  })

  test('a status that is no status number is refused', () => {
    assert.throws(() => decodeStopStatus(fromHex('0801')), isProtocolError)
    assert.throws(() => decodeStopStatus(fromHex('08002064')), isProtocolError)
    assert.throws(() => decodeStopStatus(fromHex('080120ffffffff0f')), isProtocolError)
  })
})
