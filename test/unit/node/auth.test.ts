import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import fc from 'fast-check'
import { CarrierError, createFrameReader, encodeCbor, encodeFrame, errorCode, LIMITS } from '../../../src/base/index.ts'
import { EMPTY_PRESENT, signAuthProof } from '../../../src/identity/index.ts'
import type { AuthRole, Did, Identity } from '../../../src/identity/index.ts'
import { initiateAuth, respondAuth } from '../../../src/node/auth.ts'
import type { AuthComponents } from '../../../src/node/auth.ts'
import type { ByteDuplex, PeerLevel } from '../../../src/node/index.ts'
import { identityOf } from '../../support/node-pair.ts'

interface Side { identity: Identity, components: AuthComponents, levels: Map<Did, PeerLevel> }

async function makeSide (): Promise<Side> {
  const identity = identityOf(await generateKeyPair('Ed25519'))
  const levels = new Map<Did, PeerLevel>()
  return {
    identity,
    levels,
    components: { identity, levelOf: (device) => levels.get(device) ?? 'stranger', random: (length) => new Uint8Array(randomBytes(length)), listenAddresses: () => ['/ip4/192.0.2.1/tcp/4001'] }
  }
}

/** Two joined pipes; `record` gets every chunk of each direction. */
function makePipe (record: { toB?: Uint8Array[], toA?: Uint8Array[] } = {}): [ByteDuplex, ByteDuplex] {
  const toB = makeQueue(record.toB)
  const toA = makeQueue(record.toA)
  return [{ source: toA.source(), sink: toB.sink }, { source: toB.source(), sink: toA.sink }]
}

function makeQueue (record: Uint8Array[] = []): { source: () => AsyncGenerator<Uint8Array>, sink: ByteDuplex['sink'] } {
  const chunks: Uint8Array[] = []
  let hasEnded = false
  let wake = (): void => {}
  return {
    source: async function * () {
      while (true) {
        const chunk = chunks.shift()
        if (chunk !== undefined) yield chunk
        else if (hasEnded) return
        else await new Promise<void>((resolve) => { wake = resolve })
      }
    },
    sink: async (source) => {
      for await (const chunk of source) {
        record.push(chunk)
        chunks.push(chunk)
        wake()
      }
      hasEnded = true
      wake()
    }
  }
}

/** Sends frames that were made by hand and gives what comes back, frame by frame. */
function speak (stream: ByteDuplex): { send: (value: unknown) => void, sendBytes: (bytes: Uint8Array) => void, read: () => Promise<Uint8Array | undefined>, end: () => void } {
  const frames: Uint8Array[] = []
  let hasEnded = false
  let wake = (): void => {}
  void stream.sink((async function * () {
    while (true) {
      const frame = frames.shift()
      if (frame !== undefined) yield frame
      else if (hasEnded) return
      else await new Promise<void>((resolve) => { wake = resolve })
    }
  })())
  const reader = createFrameReader(stream.source)
  return {
    send: (value) => {
      frames.push(encodeFrame(encodeCbor(value)))
      wake()
    },
    sendBytes: (bytes) => {
      frames.push(bytes)
      wake()
    },
    read: async () => reader.read(LIMITS.friendFrameBytes),
    end: () => {
      hasEnded = true
      wake()
    }
  }
}

async function handshake (initiator: Side, responder: Side, record: { toB?: Uint8Array[], toA?: Uint8Array[] } = {}): ReturnType<typeof both> {
  const [left, right] = makePipe(record)
  return both(initiateAuth(initiator.components, left, responder.identity.did), respondAuth(responder.components, right, initiator.identity.did))
}

async function both<A, B> (left: Promise<A>, right: Promise<B>): Promise<[PromiseSettledResult<A>, PromiseSettledResult<B>]> {
  return Promise.allSettled([left, right])
}

test('I2: friends prove their keys and tell each other their instance and addresses', async () => {
  const [alice, bob] = [await makeSide(), await makeSide()]
  alice.levels.set(bob.identity.did, 'friend')
  bob.levels.set(alice.identity.did, 'friend')
  const [left, right] = await handshake(alice, bob)
  assert.ok(left.status === 'fulfilled' && right.status === 'fulfilled')
  const [atAlice, atBob] = [left.value as Awaited<ReturnType<typeof initiateAuth>>, right.value as Awaited<ReturnType<typeof initiateAuth>>]
  assert.equal(atAlice.device, bob.identity.did)
  assert.deepEqual(atAlice.hello.instance, bob.identity.instanceId)
  assert.deepEqual(atBob.hello.instance, alice.identity.instanceId)
  assert.deepEqual(atBob.hello.addrs, ['/ip4/192.0.2.1/tcp/4001'])
  assert.deepEqual(atAlice.present, EMPTY_PRESENT)
})

test('I3: to strangers and pending peers the answers have constant length and tell nothing', async () => {
  const bob = await makeSide()
  const lengths = new Set<string>()
  for (const level of ['stranger', 'stranger', 'pending'] as const) {
    const alice = await makeSide()
    alice.levels.set(bob.identity.did, 'friend')
    bob.levels.set(alice.identity.did, level)
    const toA: Uint8Array[] = []
    const [left] = await handshake(alice, bob, { toA })
    assert.ok(left.status === 'fulfilled')
    const result = left.value as Awaited<ReturnType<typeof initiateAuth>>
    assert.equal(result.hello.instance, undefined)
    assert.equal(result.hello.addrs, undefined)
    lengths.add(toA.map((chunk) => chunk.length).join(' '))
  }
  assert.equal(lengths.size, 1, [...lengths].join(' | '))
})

test('I2: a replayed proof is worthless, because the other nonce is fresh', async () => {
  const [alice, bob] = [await makeSide(), await makeSide()]
  const toB: Uint8Array[] = []
  await handshake(alice, bob, { toB })
  const [left, right] = makePipe()
  const answer = assert.rejects(respondAuth(bob.components, right, alice.identity.did), (err) => errorCode(err) === 'ERR_PROTOCOL')
  const thief = speak(left)
  for (const frame of toB) thief.sendBytes(frame)
  thief.end()
  await answer
})

test('I2: a proof of another key, for another peer, in the wrong role or over other credentials is refused', async () => {
  const [alice, bob, carol] = [await makeSide(), await makeSide(), await makeSide()]
  const ok = { initiator: alice.identity.did, responder: bob.identity.did, role: 'i' as AuthRole, signer: alice, present: EMPTY_PRESENT }
  const cases = [
    { name: 'honest', ...ok, passes: true },
    { name: 'other key', ...ok, initiator: carol.identity.did, signer: carol, passes: false },
    { name: 'other responder', ...ok, responder: carol.identity.did, passes: false },
    { name: 'wrong role', ...ok, initiator: bob.identity.did, responder: alice.identity.did, role: 'r' as AuthRole, passes: false },
    { name: 'other credentials', ...ok, present: { ...EMPTY_PRESENT, vcs: ['a.b.c'] }, passes: false }
  ]
  for (const item of cases) {
    const [left, right] = makePipe()
    const answer = respondAuth(bob.components, right, alice.identity.did)
    const outcome = answer.then(() => true, (err: unknown) => errorCode(err) === 'ERR_PROTOCOL' ? false : Promise.reject(err as Error))
    const peer = speak(left)
    const initiatorNonce = new Uint8Array(16).fill(7)
    peer.send({ v: 1, n: initiatorNonce })
    const second = await peer.read()
    assert.ok(second !== undefined)
    const responderNonce = nonceOf(second)
    const sig = await signAuthProof(item.signer.identity, { initiator: item.initiator, responder: item.responder, initiatorNonce, responderNonce, role: item.role, present: item.present })
    peer.send({ p: EMPTY_PRESENT, sig, h: { major: 1, features: [], limits: {} } })
    peer.send({ ok: true, exp: 0 })
    assert.equal(await outcome, item.passes, item.name)
    peer.end()
  }
})

test('I2: reflecting the initiator\'s own frames back does not make a responder', async () => {
  const [alice, bob] = [await makeSide(), await makeSide()]
  const [left, right] = makePipe()
  const asked = assert.rejects(initiateAuth(alice.components, left, bob.identity.did), (err) => errorCode(err) === 'ERR_PROTOCOL')
  const mirror = speak(right)
  for (let count = 0; count < 2; count++) {
    const frame = await mirror.read()
    assert.ok(frame !== undefined)
    mirror.sendBytes(encodeFrame(frame))
  }
  mirror.end()
  await asked
})

test('I9: a stranger\'s frame over 4 KiB is refused before it is buffered; a friend may send 64 KiB', async () => {
  for (const [level, passes] of [['stranger', false], ['friend', true]] as const) {
    const [alice, bob] = [await makeSide(), await makeSide()]
    bob.levels.set(alice.identity.did, level)
    const [left, right] = makePipe()
    const outcome = respondAuth(bob.components, right, alice.identity.did).then(() => 'passed', (err: unknown) => err instanceof CarrierError ? err.message : 'other')
    const peer = speak(left)
    const initiatorNonce = new Uint8Array(16)
    peer.send({ v: 1, n: initiatorNonce })
    const second = await peer.read()
    assert.ok(second !== undefined)
    const sig = await signAuthProof(alice.identity, { initiator: alice.identity.did, responder: bob.identity.did, initiatorNonce, responderNonce: nonceOf(second), role: 'i', present: EMPTY_PRESENT })
    peer.send({ p: EMPTY_PRESENT, sig, h: { major: 1, features: [], limits: {}, padding: 'x'.repeat(5000) } })
    peer.send({ ok: true, exp: 0 })
    peer.end()
    assert.match(await outcome, passes ? /^passed$/ : /over the limit of 4096/)
  }
})

test('a refusal is the constant frame and nothing else', async () => {
  const [alice, bob] = [await makeSide(), await makeSide()]
  const refusals = new Set<string>()
  for (const bytes of [encodeFrame(new Uint8Array(3)), encodeFrame(encodeCbor({ v: 2, n: new Uint8Array(16) })), encodeFrame(encodeCbor({ v: 1, n: new Uint8Array(15) }))]) {
    const [left, right] = makePipe()
    const answer = assert.rejects(respondAuth(bob.components, right, alice.identity.did))
    const peer = speak(left)
    peer.sendBytes(bytes)
    refusals.add(Buffer.from(await peer.read() ?? []).toString('hex'))
    await answer
    peer.end()
  }
  assert.deepEqual([...refusals], [Buffer.from(encodeCbor({ ok: false, err: 'refused' })).toString('hex')])
})

test('another major version is told in a plain sentence', async () => {
  const [alice, bob] = [await makeSide(), await makeSide()]
  const [left, right] = makePipe()
  const outcome = assert.rejects(respondAuth(bob.components, right, alice.identity.did), (err) => errorCode(err) === 'ERR_UNSUPPORTED_VERSION')
  const peer = speak(left)
  const initiatorNonce = new Uint8Array(16)
  peer.send({ v: 1, n: initiatorNonce })
  const second = await peer.read()
  assert.ok(second !== undefined)
  const sig = await signAuthProof(alice.identity, { initiator: alice.identity.did, responder: bob.identity.did, initiatorNonce, responderNonce: nonceOf(second), role: 'i', present: EMPTY_PRESENT })
  peer.send({ p: EMPTY_PRESENT, sig, h: { major: 2, features: ['new'], limits: {} } })
  peer.send({ ok: true, exp: 0 })
  peer.end()
  await outcome
})

test('no bytes from the network make the responder hang or throw anything but a CarrierError', async () => {
  const [alice, bob] = [await makeSide(), await makeSide()]
  await fc.assert(fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 }), async (chunks) => {
    const [left, right] = makePipe()
    const peer = speak(left)
    const answer = respondAuth(bob.components, right, alice.identity.did)
    for (const chunk of chunks) peer.sendBytes(chunk)
    peer.end()
    await assert.rejects(answer, (err) => err instanceof CarrierError)
  }), { numRuns: 100 })
})

/** The nonce of frame 1 or 2: {n: bytes16, v: 1} has it behind "a2 61 6e 50". */
function nonceOf (frame: Uint8Array): Uint8Array {
  return frame.slice(4, 20)
}
