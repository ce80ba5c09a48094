/** What strangers and hostile peers can do to a friend list: leave a request with a right address secret, and nothing else. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import * as fc from 'fast-check'
import { concatBytes, createLogger, encodeCbor, encodeFrame, fromHex, LIMITS, toHex, utf8Encode } from '../../../src/base/index.ts'
import { encodeFriendMessage } from '../../../src/friends/messages.ts'
import { parseAddress, peerIdFromDid } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { createWorld, didNumber } from '../../support/friends-world.ts'
import type { Person, World } from '../../support/friends-world.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const worlds: World[] = []
after(async () => { for (const world of worlds) await world.stop() })

async function one (logLines: string[] = []): Promise<{ world: World, bob: Person }> {
  const world = createWorld(makeTempDirectory('strangers'))
  worlds.push(world)
  return { world, bob: await world.createPerson(2, { log: createLogger('test', { level: 'debug', sink: { write: (line) => { logLines.push(line) } } }) }) }
}

let idCount = 0
function freshId (): string {
  return (idCount++).toString(16).padStart(32, '0')
}

function requestFrame (address: string, init: { hello?: string, id?: string } = {}): Uint8Array {
  return encodeFriendMessage({ notice: { kind: 'request', id: init.id ?? freshId() }, nospam: parseAddress(address).nospam, hello: init.hello ?? 'hi' })
}

/** Sends raw bytes on a fresh stream; gives the answer's bytes as hex, or "reset", and how long it took. */
async function send (world: World, from: Did, to: Person, bytes: Uint8Array): Promise<{ answer: string, ms: number }> {
  const startedAtMs = world.clock.monotonicMs()
  const { stream, handled, sent } = world.dialAs(from, to)
  const end: { atMs?: number } = {}
  void handled.then(() => { end.atMs = world.clock.monotonicMs() })
  await stream.sink((async function * () { yield bytes })()).catch(() => {})
  for (let step = 0; step < 40 && end.atMs === undefined; step++) await world.settle(5)
  await handled
  const answer = toHex(concatBytes(sent.far))
  stream.abort(new Error('done'))
  return { answer: answer === '' ? 'reset' : answer, ms: (end.atMs ?? 0) - startedAtMs }
}

test('I3: the answer to a stranger is the same bytes after the same time, whatever the address secret is worth', async () => {
  const { world, bob } = await one()
  const answers = new Map<string, { answer: string, ms: number }>()
  const spammer = didNumber(101)
  answers.set('wrong', await send(world, didNumber(100), bob, requestFrame(bob.wrongAddress)))
  answers.set('right', await send(world, spammer, bob, requestFrame(bob.address)))
  assert.equal(bob.friends.requests().length, 1)
  answers.set('right but pending', await send(world, spammer, bob, requestFrame(bob.address)))
  bob.isNospamRevoked = true
  answers.set('revoked', await send(world, didNumber(102), bob, requestFrame(bob.address)))
  bob.isNospamRevoked = false
  bob.friends.ignore(spammer)
  answers.set('right but ignored', await send(world, spammer, bob, requestFrame(bob.address)))
  for (let count = 0; count < LIMITS.wrongNospamPerDay; count++) await send(world, didNumber(103), bob, requestFrame(bob.wrongAddress))
  answers.set('over quota', await send(world, didNumber(103), bob, requestFrame(bob.address)))
  for (const [name, { answer, ms }] of answers) {
    assert.equal(answer, toHex(encodeFrame(encodeCbor({ ok: true }))), name)
    assert.ok(ms >= LIMITS.strangerAnswerMs && ms <= LIMITS.strangerAnswerMs + 5, `${name}: ${ms} ms`)
  }
  assert.deepEqual(bob.friends.requests().map((request) => request.did), [spammer])
})

test('I3: a stranger\'s accept, reject and remove do nothing, and are answered alike with and without a pending request', async () => {
  const { world, bob } = await one()
  const mallory = didNumber(100)
  const id = freshId()
  const others = (['accept', 'reject'] as const).map((kind) => encodeFriendMessage({ notice: { kind, id: freshId() } }))
  const remove = encodeFriendMessage({ notice: { kind: 'remove', ids: [freshId()] } })
  const before = []
  for (const frame of [...others, remove]) before.push(await send(world, mallory, bob, frame))
  await send(world, mallory, bob, requestFrame(bob.address, { id }))
  const pending = []
  for (const frame of [...others, remove]) pending.push(await send(world, mallory, bob, frame))
  assert.deepEqual(pending.map(({ answer }) => answer), before.map(({ answer }) => answer))
  assert.deepEqual(pending.map(({ ms }) => ms), before.map(({ ms }) => ms))
  assert.equal(bob.friends.requests().length, 1)
  assert.deepEqual(bob.friends.list(), [])
  // its own request it may take back
  await send(world, mallory, bob, encodeFriendMessage({ notice: { kind: 'remove', ids: [id] } }))
  assert.equal(bob.friends.requests().length, 0)
})

test('I3: five wrong secrets a day and a peer is not heard any more, until the next day', async () => {
  const { world, bob } = await one()
  const guesser = didNumber(100)
  for (let count = 0; count < LIMITS.wrongNospamPerDay; count++) await send(world, guesser, bob, requestFrame(bob.wrongAddress))
  await send(world, guesser, bob, requestFrame(bob.address))
  assert.equal(bob.friends.requests().length, 0)
  await send(world, didNumber(101), bob, requestFrame(bob.address))
  assert.equal(bob.friends.requests().length, 1, 'others are')
  assert.deepEqual(bob.strangers, new Array(LIMITS.wrongNospamPerDay + 1).fill(peerIdFromDid(guesser).toString()))
  await world.settle(24 * 3_600_000)
  await send(world, guesser, bob, requestFrame(bob.address))
  assert.equal(bob.friends.requests().length, 2)
  assert.match(await bob.metrics.text(), /carrier_friends_requests_dropped_total\{reason="peer-quota"\} 1/)
})

test('I8: at most 100 requests wait; the oldest gives way', async () => {
  const { world, bob } = await one()
  for (let number = 0; number < LIMITS.pendingRequestCount + 3; number++) {
    // stays below the hourly quota
    if (number % 50 === 49) await world.settle(3_600_000)
    await send(world, didNumber(1000 + number), bob, requestFrame(bob.address))
  }
  const dids = bob.friends.requests().map((request) => request.did)
  assert.equal(dids.length, LIMITS.pendingRequestCount)
  assert.equal(dids[0], didNumber(1003))
  assert.equal(dids.at(-1), didNumber(1000 + LIMITS.pendingRequestCount + 2))
})

test('I8: a flood of right requests is cut at the hourly quota, friends and those whom we asked are not', async () => {
  const { world, bob } = await one()
  for (let number = 0; number < LIMITS.newRequestsPerHour + 5; number++) await send(world, didNumber(1000 + number), bob, requestFrame(bob.address))
  assert.equal(bob.audit.length, LIMITS.newRequestsPerHour, 'the audit log cannot be filled either')
  const asked = await world.createPerson(3, { isOnline: false })
  bob.friends.add(asked.address)
  asked.goOnline()
  await send(world, asked.did, bob, requestFrame(bob.wrongAddress))
  assert.equal(bob.friends.get(asked.did)?.state, 'friend')
})

test('malformed messages are reset and change nothing', async () => {
  const lines: string[] = []
  const { world, bob } = await one(lines)
  const ns = parseAddress(bob.address).nospam
  const id = fromHex(freshId())
  const hello = utf8Encode('hi')
  const good = { v: 1, t: 'request', id, ns, hello }
  const bodies: Record<string, Uint8Array> = {
    'not CBOR': Uint8Array.of(0xff, 0xff),
    'trailing bytes': concatBytes([encodeCbor(good), Uint8Array.of(0)]),
    'unknown message': encodeCbor({ ...good, t: 'befriend' }),
    'newer version': encodeCbor({ ...good, v: 2 }),
    'short id': encodeCbor({ ...good, id: id.subarray(1) }),
    'long nospam': encodeCbor({ ...good, ns: new Uint8Array(9) }),
    'oversized hello': encodeCbor({ ...good, hello: new Uint8Array(LIMITS.helloBytes + 1).fill(97) }),
    'hello as text': encodeCbor({ ...good, hello: 'hi' }),
    'invalid UTF-8': encodeCbor({ ...good, hello: Uint8Array.of(0xc3, 0x28) }),
    'overlong UTF-8': encodeCbor({ ...good, hello: Uint8Array.of(0xc0, 0x80) }),
    'escape sequence': encodeCbor({ ...good, hello: utf8Encode('\u001b]0;owned\u0007') }),
    'line end': encodeCbor({ ...good, hello: utf8Encode('a\nb') }),
    'C1 control': encodeCbor({ ...good, hello: utf8Encode('\u009b31m') }),
    'reversed text': encodeCbor({ ...good, hello: utf8Encode('\u202etxt') }),
    'no members': encodeCbor({}),
    'a number': encodeCbor(1),
    'too many ids': encodeCbor({ v: 1, t: 'remove', ids: new Array(LIMITS.requestIdCount + 1).fill(id) }),
    'ids of the wrong size': encodeCbor({ v: 1, t: 'remove', ids: [new Uint8Array(3)] })
  }
  for (const [name, body] of Object.entries(bodies)) {
    assert.equal((await send(world, didNumber(100), bob, encodeFrame(body))).answer, 'reset', name)
  }
  assert.equal((await send(world, didNumber(100), bob, Uint8Array.of(0x85, 0x08))).answer, 'reset', 'frame over the limit, refused by its length')
  assert.equal((await send(world, didNumber(100), bob, Uint8Array.of(0x20, 1, 2))).answer, 'reset', 'end inside a frame')
  assert.equal((await send(world, didNumber(100), bob, new Uint8Array(0))).answer, 'reset', 'nothing at all')
  assert.deepEqual(bob.friends.requests(), [])
  assert.ok(lines.some((line) => line.includes('malformed friend message')))
  assert.ok(!lines.some((line) => line.includes('"level":"error"')), 'a hostile peer is not our fault')
  assert.ok(!lines.some((line) => line.includes('owned')), 'its words do not reach the log')
})

test('unknown members of a message are skipped', async () => {
  const { world, bob } = await one()
  const body = encodeCbor({ v: 1, t: 'request', id: fromHex(freshId()), ns: parseAddress(bob.address).nospam, hello: utf8Encode('Grüße 👋'), later: [1] })
  await send(world, didNumber(100), bob, encodeFrame(body))
  assert.equal(bob.friends.requests()[0]?.hello, 'Grüße 👋')
})

test('a peer that says nothing is reset in time', async () => {
  const { world, bob } = await one()
  const { handled } = world.dialAs(didNumber(100), bob)
  await world.settle(LIMITS.friendExchangeMs)
  await handled
  assert.match(await bob.metrics.text(), /kind="invalid",result="ERR_LINK_LOST"\} 1/)
})

test('any bytes at all: the handler never throws, and nobody becomes a friend or gets known as one', async () => {
  const { world, bob } = await one()
  const asked = didNumber(500)
  bob.database.run("INSERT INTO friend VALUES (?, 'asked', 'requested', ?, 1, NULL)", asked, new Uint8Array(16).fill(0xee))
  bob.database.run('INSERT INTO device VALUES (?, ?)', asked, asked)
  await bob.restart()
  const bytes16 = fc.uint8Array({ minLength: 14, maxLength: 18 })
  const message = fc.record({
    v: fc.constantFrom(1, 1, 1, 2),
    t: fc.constantFrom('request', 'accept', 'reject', 'remove', 'x'),
    id: bytes16,
    ids: fc.array(bytes16, { maxLength: 10 }),
    ns: fc.uint8Array({ minLength: 7, maxLength: 9 }),
    hello: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string())
  }, { requiredKeys: [] }).map((value) => encodeFrame(encodeCbor(value)))
  const from = fc.constantFrom(didNumber(501), didNumber(502), asked)
  await fc.assert(fc.asyncProperty(from, fc.oneof(message, fc.uint8Array({ maxLength: 64 })), async (peer, bytes) => {
    await send(world, peer, bob, bytes)
    assert.ok(bob.friends.list().every((friend) => friend.owner === asked))
    assert.equal(bob.friends.levelOf(didNumber(501)), 'stranger')
  }), { numRuns: 300 })
})
