import assert from 'node:assert/strict'
import test from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { encodeCbor, errorCode } from '../../../src/base/index.ts'
import { createRelayEndpoints } from '../../../src/node/relay-endpoints.ts'
import { sourcePrefix } from '../../../src/node/source-prefix.ts'
import { decodeSpliceAnswer, decodeRelayCall, decodeSpliceAsk, decodeSpliceResult, encodeSpliceAnswer, encodeSpliceObserve, encodeSpliceOffer, encodeSpliceOpen, encodeSpliceResult } from '../../../src/node/splice-messages.ts'
import { createTicketTable } from '../../../src/node/ticket-table.ts'

/** Tickets that can be told apart. */
function numbered (): (byteCount: number) => Uint8Array {
  let count = 0
  return (byteCount) => new Uint8Array(byteCount).fill(++count)
}

test('a ticket is good once, for a while, for what it was issued for', () => {
  const table = createTicketTable<string>({ random: numbered() }, { ttlMs: 100, maxCount: 10 })
  const one = table.issue('one', 0)
  const two = table.issue('two', 50)
  assert.equal(table.redeem(new Uint8Array(32), 50), undefined)
  assert.equal(table.redeem(new Uint8Array(31).fill(1), 50), undefined)
  assert.equal(table.redeem(one, 99), 'one')
  assert.equal(table.redeem(one, 99), undefined)
  assert.equal(table.redeem(two, 150), undefined, 'its time is over')
  assert.equal(table.size, 0)
})

test('I8: the oldest ticket makes room, what is over is swept, what is cancelled is void', () => {
  const gone: string[] = []
  const table = createTicketTable<string>({ random: numbered() }, { ttlMs: 100, maxCount: 2, onVoid: (use) => { gone.push(use) } })
  const one = table.issue('one', 0)
  const two = table.issue('two', 10)
  table.issue('three', 20)
  assert.deepEqual(gone, ['one'])
  assert.equal(table.redeem(one, 20), undefined)
  table.cancel(two)
  assert.equal(table.redeem(two, 20), undefined)
  assert.deepEqual(table.sweep(119), [])
  assert.deepEqual(table.sweep(120), ['three'])
  assert.equal(table.size, 0)
})

test('places at a port are shared among IPv4 addresses and IPv6 /56 networks', () => {
  const same = [
    ['192.0.2.1', '::ffff:192.0.2.1'],
    ['2001:db8:1:2200::1', '2001:db8:1:22ff:ffff::9'],
    ['2001:db8::1', '2001:db8:0:00ff::1'],
    ['::1', '::2'],
    ['fe80::1%eth0', 'fe80::2']
  ]
  for (const [one, other] of same) assert.equal(sourcePrefix(one), sourcePrefix(other), `${one} and ${other}`)
  const different = [['192.0.2.1', '192.0.2.2'], ['2001:db8:1:2200::1', '2001:db8:1:2300::1'], ['2001:db8:1::1', '2001:db8:2::1'], ['192.0.2.1', '2001:db8::1']]
  for (const [one, other] of different) assert.notEqual(sourcePrefix(one), sourcePrefix(other), `${one} and ${other}`)
  for (const unknown of [undefined, '', 'relay.example']) assert.equal(sourcePrefix(unknown), '')
})

test('splice messages are what PROTOCOL.md says, and nothing else is', () => {
  const key = new Uint8Array(32).fill(7)
  assert.deepEqual(decodeSpliceAsk(encodeSpliceOpen(key)), { t: 'open', to: key })
  assert.deepEqual(decodeSpliceAsk(encodeSpliceObserve()), { t: 'observe' })
  assert.deepEqual(decodeRelayCall(encodeSpliceOffer(key)), { t: 'offer', from: key })
  assert.equal(decodeSpliceAnswer(encodeSpliceAnswer(true)), true)
  assert.equal(decodeSpliceAnswer(encodeSpliceAnswer(false)), false)
  const ticket = { t: 'ticket', port: 4002, ticket: key, ttlMs: 15_000 } as const
  assert.deepEqual(decodeSpliceResult(encodeSpliceResult(ticket)), ticket)
  const refused = (decode: (bytes: Uint8Array) => unknown, value: unknown): void => { assert.throws(() => decode(encodeCbor(value)), (err) => errorCode(err) === 'ERR_PROTOCOL', JSON.stringify(value)) }
  for (const port of [0, 65_536, 1.5, '22']) refused(decodeSpliceResult, { ...ticket, port })
  // I10: nobody names an address
  for (const extra of [{ host: '192.0.2.1' }, { addr: '/ip4/192.0.2.1' }]) refused(decodeSpliceResult, { ...ticket, ...extra })
  refused(decodeSpliceResult, { ...ticket, ticket: new Uint8Array(31) })
  refused(decodeSpliceResult, { t: 'offer', from: key })
  refused(decodeSpliceAsk, { t: 'open', to: new Uint8Array(33) })
  refused(decodeSpliceAsk, { t: 'offer', from: key })
  refused(decodeSpliceAnswer, { t: 'maybe' })
})

test('I10: the endpoint of a splice is the address that the connection to the relay uses', async () => {
  const relay = { toString: () => 'relay' }
  const friend = { toString: () => 'friend' }
  const endpoints = createRelayEndpoints({ isRelay: (peer) => peer.toString() === 'relay' })
  const connect = async (address: string, peer: typeof relay, below: object = {}): Promise<void> => {
    const encrypter = endpoints.observe(() => ({ protocol: '/noise', secureOutbound: async (connection: unknown) => ({ connection, remotePeer: peer }), secureInbound: async () => { throw new Error('not here') } }) as never)(undefined as never)
    await encrypter.secureOutbound({ remoteAddr: multiaddr(address), ...below } as never, {})
  }
  assert.equal(endpoints.ipOf('relay'), undefined)
  await connect('/ip4/192.0.2.1/tcp/4001', relay)
  assert.equal(endpoints.ipOf('relay'), '192.0.2.1')
  await connect('/dns4/relay.example/tcp/4001', relay, { socket: { remoteAddress: '192.0.2.9' } })
  assert.equal(endpoints.ipOf('relay'), '192.0.2.9')
  await connect('/dns4/relay.example/tcp/443/wss', relay)
  assert.equal(endpoints.ipOf('relay'), undefined)
  await connect('/ip6/2001:db8::1/tcp/4001', relay)
  assert.equal(endpoints.ipOf('relay'), '2001:db8::1')
  await connect('/ip4/192.0.2.7/tcp/1', friend)
  assert.equal(endpoints.ipOf('friend'), undefined)
})
