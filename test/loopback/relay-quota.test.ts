/** Whoever is over a quota of a relay is told which one and until when, and goes on over another relay when there is one. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { before, describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import type { BootstrapConfig, QuotaSettings } from '../../src/bootstrap/index.ts'
import { parseListEntry } from '../../src/bootstrap/admission-lists.ts'
import { CarrierError } from '../../src/base/index.ts'
import { createCarrier } from '../../src/index.ts'
import type { Carrier } from '../../src/index.ts'
import { befriend, makeIdentity, makeNode, reserved } from '../support/node-pair.ts'
import { metricOf, quiet, startSpliceRelay } from '../support/splice-pair.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, untilDayLasts, waitFor, within } from '../support/wait.ts'

const MB = 1_000_000
const NONE: QuotaSettings = { friend: {}, member: {}, stranger: {}, strangers: {} }
const UNTIL = String.raw`it is free again at \d\d:\d\d UTC`

// the bytes of a day end with it
before(async () => untilDayLasts(150_000), { timeout: 200_000 })

function sha256 (bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Two friends in a session, both on these relays. */
async function startFriends (t: TestContext, relays: string[], init: { resumeWindowMs?: number } = {}): Promise<{ office: Carrier, laptop: Carrier }> {
  const directory = makeTempDirectory('quota')
  const start = async (name: string): Promise<Carrier> => {
    const carrier = await createCarrier({ dataDirectory: join(directory, name), relays, ...init })
    t.after(async () => { await carrier.stop() })
    await carrier.start()
    return carrier
  }
  const [office, laptop] = [await start('office'), await start('laptop')]
  laptop.friends.add(office.addresses.current()?.address ?? '', { label: 'office' })
  await waitFor('the friend request', () => office.friends.requests().length > 0, PATIENT)
  office.friends.accept(laptop.identity.did, { label: 'laptop' })
  await waitFor('a session at both ends', () => office.sessions.list().length + laptop.sessions.list().length === 2, PATIENT)
  return { office, laptop }
}

/** A service of the office that keeps what it is sent; a forward of the laptop to it. */
async function startSink (t: TestContext, { office, laptop }: { office: Carrier, laptop: Carrier }): Promise<{ open: () => Socket, received: Promise<Buffer> }> {
  const received = Promise.withResolvers<Buffer>()
  received.promise.catch(() => { /* whoever waits for it is told */ })
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    quiet(socket)
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    socket.on('close', () => { if (!socket.readableEnded) received.reject(new Error('the service saw no end')) })
    socket.on('end', () => {
      const bytes = Buffer.concat(chunks)
      // the probe of the forward says nothing
      if (bytes.length > 0) received.resolve(bytes)
      socket.end(bytes.length > 0 ? sha256(bytes) : '')
    })
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.after(() => { server.close() })
  office.forwarding.serve('sink', String((server.address() as AddressInfo).port), { allow: ['laptop'] })
  const { listen } = await laptop.forwarding.openForward({ port: 0, to: 'office/sink' })
  return { open: () => quiet(connect({ port: Number(listen.split(':')[1]), host: '127.0.0.1', allowHalfOpen: true })), received: received.promise }
}

/** A question that a busy machine does not answer in time leaves the status alone; the next attempt asks again. */
async function told (device: Awaited<ReturnType<typeof makeNode>>, reason: string): Promise<void> {
  let seen: string | undefined
  await waitFor(`the refusal: ${reason}`, () => {
    const [status] = device.node.relays()
    seen = `${status?.state ?? ''} ${status?.reason ?? ''}`
    return seen === `refused ${reason}`
  }, PATIENT).catch((err: unknown) => { throw new Error(`${String(err)}; the last was: ${seen ?? ''}`, { cause: err }) })
}

describe('the error of who is over a quota', () => {
  test('a reservation: the state of the relay names the quota, and the place is taken when it is free', { timeout: 180_000 }, async (t) => {
    const { relay, address } = await startSpliceRelay(t, { quotas: { ...NONE, stranger: { reservations: 1 } } })
    const [first, second] = [await makeNode({ relays: [address] }), await makeNode({ relays: [address] })]
    t.after(async () => { await Promise.all([first.node.stop(), second.node.stop()]) })
    await first.node.start()
    await reserved(first, PATIENCE_MS)
    await second.node.start()
    await told(second, 'the number of reservations that you may have is used up at this relay; it is free again when one of them ends, or use another relay')
    assert.ok(await metricOf(relay, 'carrier_relay_quota_questions_total{result="used_up"}') >= 1)
    await first.node.stop()
    await reserved(second, 2 * PATIENCE_MS)
  })

  test('a reservation at a relay that is merely full: no quota is named', { timeout: 180_000 }, async (t) => {
    const { address } = await startSpliceRelay(t, { quotas: NONE, relay: { maxReservations: 1 } })
    const [first, second] = [await makeNode({ relays: [address] }), await makeNode({ relays: [address] })]
    t.after(async () => { await Promise.all([first.node.stop(), second.node.stop()]) })
    await first.node.start()
    await reserved(first, PATIENCE_MS)
    await second.node.start()
    await told(second, 'the relay is full or about to stop; use another one, or ask its operator')
  })

  test('a circuit: ERR_QUOTA with the quota and its time, also in the state of the relay; the other end does not learn whose quota it was', { timeout: 180_000 }, async (t) => {
    // on one machine all strangers are one source: the laptop has an account of its own
    const identity = await makeIdentity()
    const { relay, address, peerId: relayId } = await startSpliceRelay(t, { quotas: { ...NONE, member: { bytesPerDay: MB } }, admission: { mode: 'open', callers: 'anyone', lists: { allow: new Set(), members: new Set([parseListEntry(identity.did)]), friends: new Set() }, files: {} } })
    const [office, laptop] = [await makeNode({ relays: [address] }), await makeNode({ relays: [address] }, { identity })]
    befriend(office, laptop)
    const called = Promise.withResolvers<Socket>()
    office.node.handleSplices({ admits: () => true, onSocket: (socket) => { called.resolve(quiet(socket)) } })
    t.after(async () => { await Promise.all([office.node.stop(), laptop.node.stop()]) })
    await Promise.all([office.node.start(), laptop.node.start()])
    await Promise.all([reserved(office, PATIENCE_MS), reserved(laptop, PATIENCE_MS)])
    await waitFor('both to know the splice port', () => office.node.canSplice(relayId) && laptop.node.canSplice(relayId), PATIENT)
    const caller = quiet(await laptop.node.openSplice(office.did, relayId))
    const reader = await within('the other end', PATIENCE_MS, called.promise)
    reader.resume()
    const cut = new Promise((resolve) => { caller.on('close', resolve) })
    const timer = setInterval(() => { if (caller.writable && !caller.writableNeedDrain) caller.write(Buffer.alloc(64 * 1024)) }, 5).unref()
    await within('the cut', PATIENCE_MS, cut)
    clearInterval(timer)
    reader.destroy()

    const refusal = async (work: Promise<unknown>): Promise<CarrierError> => work.then(() => assert.fail('it went through'), (err: unknown) => {
      assert.ok(err instanceof CarrierError)
      return err
    })
    const own = await waitFor('the quota in the error', async () => {
      const err = await refusal(laptop.node.openStream(office.did, '/carrier/friend/1.0.0'))
      return err.code === 'ERR_QUOTA' ? err : undefined
    }, PATIENT)
    assert.match(own.message, new RegExp(`what you may send in a day is used up at this relay; ${UNTIL}, or use another relay`))
    assert.deepEqual([own.detail?.['quota'], own.detail?.['relay']], ['bytes_per_day', relayId])
    assert.ok(Number(own.detail?.['retryMs']) > 0 && Number(own.detail?.['retryMs']) <= 86_400_000)
    const status = laptop.node.relays()[0]
    assert.equal(status?.state, 'reserved')
    assert.match(status?.reason ?? '', new RegExp(`^what you may send in a day is used up at this relay; ${UNTIL}$`))
    assert.ok(laptop.node.isLeavingRelay(relayId), 'what runs over it would go on over another relay')

    const others = await waitFor('what the relay says to the other end', async () => {
      const err = await refusal(office.node.openStream(laptop.did, '/carrier/friend/1.0.0'))
      return /the relay takes no further circuit/.test(err.message) ? err : undefined
    }, PATIENT)
    assert.equal(others.code, 'ERR_PEER_OFFLINE')
    assert.equal(others.detail, undefined)
    assert.match(others.message, /the relay takes no further circuit to the device now/)
    assert.equal(office.node.relays()[0]?.reason, undefined)
    assert.ok(await metricOf(relay, 'carrier_relay_quota_questions_total{result="free"}') >= 1)
  })
})

describe('a transfer whose relay says that enough was sent today', () => {
  const daily = (bytesPerDay: number): Partial<BootstrapConfig> => ({ quotas: { ...NONE, stranger: { bytesPerDay } } })

  test('I4 I5: goes on over the other relay, and arrives whole', { timeout: 240_000 }, async (t) => {
    const relays = [await startSpliceRelay(t, daily(6 * MB)), await startSpliceRelay(t, daily(6 * MB))]
    const friends = await startFriends(t, relays.map(({ address }) => address))
    const { open, received } = await startSink(t, friends)
    const sent = randomBytes(8 * MB)
    const socket = open()
    socket.end(sent)
    const answer = await within('the answer', 3 * PATIENCE_MS, buffer(socket))
    assert.equal(sha256(await received), sha256(sent), 'I4: the service has other bytes than were sent')
    assert.equal(answer.toString(), sha256(sent))
    const cuts = await Promise.all(relays.map(async ({ relay }) => await metricOf(relay, 'carrier_relay_ended_splices_total{reason="quota"}') + await metricOf(relay, 'carrier_relay_ended_circuits_total{reason="quota"}')))
    assert.ok(Math.max(...cuts) > 0, 'no relay cut anything: the quota was never reached')
    const { laptop } = friends
    await waitFor('the quota in the state of the one relay', () => laptop.status().relays.some(({ reason }) => new RegExp(`what you may send in a day is used up at this relay; ${UNTIL}`).test(reason ?? '')), PATIENT)
  })

  test('I4: without another relay it fails, never as if complete; the forward and the relay say why', { timeout: 240_000 }, async (t) => {
    const { address } = await startSpliceRelay(t, daily(3 * MB))
    const friends = await startFriends(t, [address], { resumeWindowMs: 2_000 })
    const { open, received } = await startSink(t, friends)
    const { laptop } = friends
    const pipe = await laptop.forwarding.dial('office/sink')
    pipe.resume()
    const pipeFailure = new Promise<CarrierError>((resolve) => { pipe.once('error', (err) => { resolve(err as CarrierError) }) })
    const socket = open()
    const failure = new Promise<NodeJS.ErrnoException>((resolve) => { socket.once('error', resolve) })
    socket.end(randomBytes(8 * MB))
    socket.resume()
    await waitFor('the reason in the state of the relay', () => /what you may send in a day/.test(laptop.status().relays[0]?.reason ?? ''), PATIENT)
    assert.match((await within('the reset', PATIENCE_MS, failure)).code ?? '', /ECONNRESET|EPIPE/)
    await assert.rejects(within('the end at the service', PATIENCE_MS, received), /the service saw no end/)
    const { code, message, detail } = await within('the end of the pipe', PATIENCE_MS, pipeFailure)
    assert.equal(code, 'ERR_LINK_LOST')
    assert.match(message, new RegExp(`no way to the other side was found within 2 s after the link was lost: .*what you may send in a day is used up at this relay; ${UNTIL}`))
    assert.equal(detail?.['quota'], 'bytes_per_day')
    const forward = await waitFor('the forward to be off', () => laptop.forwarding.forwards().find(({ state }) => state === 'offline'), PATIENT)
    await waitFor('the reason of the forward', () => /what you may send in a day/.test(forward.reason ?? '') || /what you may send in a day/.test(laptop.forwarding.forwards()[0]?.reason ?? ''), PATIENT)
    assert.match(laptop.forwarding.forwards()[0]?.reason ?? '', new RegExp(`^office cannot be reached: .*what you may send in a day is used up at this relay; ${UNTIL}, or use another relay$`))
  })
})
