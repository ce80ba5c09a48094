import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { getEventListeners, once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import type { SecureVersion, TLSSocket } from 'node:tls'
import { CarrierError, LIMITS, systemClock } from '../../../src/base/index.ts'
import type { Link } from '../../../src/session/link.ts'
import { assertAgreement } from '../../../src/session/tls-handshake.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { der, forgeCertificate, time } from '../../support/forged-certificate.ts'
import type { ForgedParts } from '../../support/forged-certificate.ts'
import { pause, within } from '../../support/wait.ts'
import { certificateOf, controller, DEADLINE_MS, ignore, middle, openBoth, openEnd, other, perRecord, socketPair, watch } from './tls-support.ts'

const MIB = 1024 * 1024

/** Bytes that name their own position, so that nothing lost, doubled or moved goes unnoticed. */
function pattern (offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let index = 0; index < length; index += 4) bytes.writeUInt32BE((offset + index) / 4, index)
  return bytes
}

/** Sends so many bytes of the pattern as the link takes them. */
function sender (link: Link, totalBytes: number): { pump: () => void, sentBytes: () => number } {
  let sentBytes = 0
  return {
    sentBytes: () => sentBytes,
    pump: () => {
      while (sentBytes < totalBytes) {
        const message = pattern(sentBytes, Math.min(link.messageBytes, totalBytes - sentBytes))
        sentBytes += message.length
        if (!link.write(message)) return
      }
    }
  }
}

for (const isDialler of [true, false]) {
  test(`a link comes about when the controller ${isDialler ? 'dialled' : 'was dialled'}`, async (t) => {
    const [dialled, accepted] = await socketPair(t)
    const [a, b] = isDialler ? await openBoth(dialled, accepted) : await openBoth(accepted, dialled)
    assert.deepEqual([a.kind, a.path, a.relayPeerId], ['splice', 'spliced', 'relay'])
    const [atA, atB] = [watch(a), watch(b)]
    assert.equal(b.write(Buffer.from('first words of the server')), true)
    assert.equal((await atA.received(25)).toString(), 'first words of the server')
    a.write(Buffer.from('and an answer'))
    assert.equal((await atB.received(13)).toString(), 'and an answer')
    await within('both ends to close', DEADLINE_MS, Promise.all([a.close(), b.close(), a.closed, b.closed]))
    for (const end of [atA, atB]) assert.equal((await end.closed).code, 'ERR_LINK_LOST')
  })
}

test('64 MiB in both directions at once arrive as they were sent', async (t) => {
  const total = 64 * MIB
  const [near, far] = await socketPair(t)
  const links = await openBoth(near, far)
  const expected = createHash('sha256')
  for (let offset = 0; offset < total; offset += MIB) expected.update(pattern(offset, MIB))
  const digest = expected.digest('hex')
  const ends = links.map((link) => {
    const hash = createHash('sha256')
    const out = sender(link, total)
    const watched = watch(link, {
      onBytes: (chunk) => {
        hash.update(chunk)
      },
      onDrain: out.pump
    })
    return { hash, out, watched }
  })
  for (const { out } of ends) out.pump()
  await Promise.all(ends.map(async ({ watched }) => watched.received(total)))
  for (const { hash, watched } of ends) {
    assert.equal(watched.receivedBytes(), total)
    assert.equal(hash.digest('hex'), digest)
  }
})

test('a reader that pauses stops the writer after two messages and what the kernel holds', async (t) => {
  const total = 128 * MIB
  const [near, far] = await socketPair(t)
  const [a, b] = await openBoth(near, far)
  let drainCount = 0
  const out = sender(a, total)
  watch(a, {
    onDrain: () => {
      drainCount++
      out.pump()
    }
  })
  let receivedBytes = 0
  const atB = watch(b, { onBytes: (chunk) => { receivedBytes += chunk.length } })
  b.pause()
  b.pause()
  assert.equal(a.write(pattern(0, a.messageBytes)), true)
  assert.equal(a.write(pattern(0, a.messageBytes)), false)
  // true or false, it goes on from onDrain
  await pause(500)
  // holds however long it takes: the kernel has room for less than this
  assert.ok(out.sentBytes() < 48 * MIB, `${out.sentBytes()} bytes were taken from a writer whose reader sleeps`)
  assert.ok(receivedBytes < MIB, `${receivedBytes} bytes came although reading is paused`)
  b.resume()
  b.resume()
  await atB.received(total + 2 * a.messageBytes)
  assert.ok(drainCount > 0)
})

test('pause before open holds everything back', async (t) => {
  const [near, far] = await socketPair(t)
  const [a, b] = await openBoth(near, far)
  b.pause()
  const atB = watch(b)
  watch(a)
  a.write(Buffer.from('x'))
  await pause(50)
  assert.equal(atB.receivedBytes(), 0)
  b.resume()
  await atB.received(1)
})

test('what arrives before open waits for it, and so does a loss', async (t) => {
  const [near, far] = await socketPair(t)
  const [a, b] = await openBoth(near, far)
  watch(a)
  a.write(Buffer.from('early'))
  const atB = watch(b)
  assert.equal((await atB.received(5)).toString(), 'early')
  const [near2, far2] = await socketPair(t)
  const [c, d] = await openBoth(near2, far2)
  c.abort(new CarrierError('ERR_CLOSED', 'enough'))
  far2.resetAndDestroy()
  await within('the end', DEADLINE_MS, d.closed)
  const atD = watch(d)
  assert.equal((await atD.closed).code, 'ERR_LINK_LOST')
  assert.equal((await watch(c).closed).code, 'ERR_CLOSED')
})

// --- refusals ---

interface PeerTls { certificate?: { keyPem: string, certificatePem: string } | undefined, alpn?: string[], maxVersion?: SecureVersion }

/** The other end as a stranger would build it from node:tls; what becomes of it does not matter. */
function foreignPeer (socket: Socket, isClient: boolean, { certificate, alpn = ['carrier-link/1'], maxVersion = 'TLSv1.3' }: PeerTls): void {
  const options = { key: certificate?.keyPem, cert: certificate?.certificatePem, maxVersion, minVersion: 'TLSv1.2' as const, rejectUnauthorized: false, ...(alpn.length === 0 ? {} : { ALPNProtocols: alpn }) }
  if (isClient) {
    const tls = connectTls({ ...options, socket })
    tls.on('error', ignore)
    // an eager client: what it sends with its proof must not be looked at
    tls.on('secureConnect', () => { tls.write('too early') })
    return
  }
  const server = createTlsServer({ ...options, requestCert: true })
  server.on('tlsClientError', ignore)
  server.on('secureConnection', (tls) => {
    tls.on('error', ignore)
    tls.write('too early')
  })
  server.emit('connection', socket)
}

/** Our end refuses: with this code and reason, and nothing of it stays. */
async function refuses (t: TestContext, isController: boolean, code: string, reason: RegExp, act: (peer: Socket) => void): Promise<void> {
  const [near, far] = await socketPair(t)
  const clock = createFakeClock()
  const abort = new AbortController()
  const gone = once(near, 'close')
  act(far)
  await assert.rejects(within('the refusal', DEADLINE_MS, openEnd(near, isController, { clock, signal: abort.signal })), (err: CarrierError) => {
    assert.equal(err.code, code, err.message)
    assert.match(err.message, reason)
    return true
  })
  await within('the socket to close', DEADLINE_MS, gone)
  assert.equal(near.destroyed, true)
  assert.equal(clock.pendingTimerCount(), 0)
  assert.equal(getEventListeners(abort.signal, 'abort').length, 0)
  near.emit('error', new Error('an error after the end must not end the process'))
}

for (const isController of [true, false]) {
  const role = isController ? 'client' : 'server'
  const peer = isController ? other : controller
  const octets = (length: number): Uint8Array => der(0x04, new Uint8Array(length))

  const certificates: Array<[what: string, reason: RegExp, parts: ForgedParts]> = [
    ['another key', /another device/, { device: isController ? controller : other }],
    ['a missing extension', /extension is missing/, { device: peer, tail: new Uint8Array() }],
    ['an extension that is no sequence', /wrong kind/, { device: peer, signedKey: octets(3) }],
    ['an extension without a signature', /ends too early/, { device: peer, signedKey: der(0x30, octets(36)) }],
    ['an extension with something behind', /follows its end/, { device: peer, signedKey: der(0x30, octets(36), octets(64), octets(0)) }],
    ['a bad signature', /not signed by the device/, { device: peer, signature: new Uint8Array(64) }],
    ['an expired certificate', /has expired/, { device: peer, validity: Buffer.concat([time('19750101000000Z'), time('20270101000000Z')]) }],
    ['a certificate over 8 KiB', /longer than 8192/, { device: peer, extensions: (libp2p) => [libp2p, der(0x30, Buffer.from('06032a0304', 'hex'), octets(9000))] }]
  ]
  for (const [what, reason, parts] of certificates) {
    test(`I2: a ${role} refuses ${what}`, async (t) => {
      await refuses(t, isController, 'ERR_PROTOCOL', reason, (socket) => { foreignPeer(socket, !isController, { certificate: forgeCertificate(parts) }) })
    })
  }

  const right = forgeCertificate({ device: peer })
  const peers: Array<[what: string, reason: RegExp, peer: PeerTls]> = [
    ['TLS 1.2', /ERR_SSL_|TLSv1.3/, { certificate: right, maxVersion: 'TLSv1.2' }],
    ['another application protocol', /ERR_SSL_|carrier-link/, { certificate: right, alpn: ['carrier-link/2', 'h2'] }],
    ['no application protocol', /did not agree to carrier-link\/1/, { certificate: right, alpn: [] }]
  ]
  for (const [what, reason, options] of peers) {
    test(`a ${role} refuses ${what}`, async (t) => {
      await refuses(t, isController, 'ERR_PROTOCOL', reason, (socket) => { foreignPeer(socket, !isController, options) })
    })
  }

  test(`a ${role} takes a stock TLS 1.3 peer with the right certificate: the refusals above are not luck`, async (t) => {
    const [near, far] = await socketPair(t)
    foreignPeer(far, !isController, { certificate: right })
    const end = watch(await within('the link', DEADLINE_MS, openEnd(near, isController)))
    assert.equal((await end.received(9)).toString(), 'too early')
  })

  const garbage: Array<[what: string, bytes: Uint8Array]> = [
    ['plain text', Buffer.from('GET / HTTP/1.1\r\nHost: example\r\n\r\n')],
    ['zeros', new Uint8Array(100_000)],
    ['a handshake message of 16 MiB', Buffer.concat([Buffer.from('1603014000', 'hex'), Buffer.from(isController ? '02ffffff' : '01ffffff', 'hex'), new Uint8Array(0x4000 - 4)])]
  ]
  for (const [what, bytes] of garbage) {
    test(`a ${role} refuses ${what}`, async (t) => {
      await refuses(t, isController, 'ERR_PROTOCOL', /ERR_SSL_/, (socket) => { socket.write(bytes) })
    })
  }

  test(`a ${role} gives up on silence after ten seconds of its clock, not before`, async (t) => {
    const [near] = await socketPair(t)
    const clock = createFakeClock()
    const gone = once(near, 'close')
    let isSettled = false
    const opening = openEnd(near, isController, { clock }).finally(() => { isSettled = true })
    const refused = assert.rejects(opening, { code: 'ERR_TIMEOUT' })
    await certificateOf(controller)
    await certificateOf(other)
    await clock.advance(LIMITS.linkTlsTimeoutMs - 1)
    assert.equal(isSettled, false)
    await clock.advance(1)
    await within('the end of waiting', DEADLINE_MS, refused)
    await within('the socket to close', DEADLINE_MS, gone)
    assert.equal(clock.pendingTimerCount(), 0)
  })

  for (const keptBytes of [0, 1, 5, 300]) {
    test(`a ${role} whose peer is cut off after ${keptBytes} bytes says that the link is lost`, async (t) => {
      const { near, far, legs, tamper } = await middle(t)
      let left = keptBytes
      const cut = (bytes: Uint8Array): Uint8Array[] => {
        const kept = bytes.subarray(0, left)
        left -= kept.length
        if (left === 0) legs[isController ? 0 : 1].end(kept)
        return left === 0 ? [] : [kept]
      }
      if (isController) tamper.fromFar = cut
      else tamper.fromNear = cut
      const [ours, theirs] = isController ? [near, far] : [far, near]
      const gone = once(ours, 'close')
      openEnd(theirs, !isController).then((link) => { watch(link) }, ignore)
      await assert.rejects(within('the loss', DEADLINE_MS, openEnd(ours, isController)), { code: 'ERR_LINK_LOST' })
      await within('the socket to close', DEADLINE_MS, gone)
    })
  }

  test(`a ${role} stops when it is told to, before and in the middle`, async (t) => {
    const reason = new CarrierError('ERR_SUPERSEDED', 'another link was faster')
    const [early] = await socketPair(t)
    await assert.rejects(openEnd(early, isController, { signal: AbortSignal.abort(reason) }), reason)
    assert.equal(early.destroyed, true)
    const [near, far] = await socketPair(t)
    const clock = createFakeClock()
    const abort = new AbortController()
    const opening = openEnd(near, isController, { clock, signal: abort.signal })
    const refused = assert.rejects(opening, reason)
    if (isController) {
      far.resume()
      await once(far, 'data')
    } else {
      await certificateOf(other)
    }
    abort.abort(reason)
    await within('the end', DEADLINE_MS, refused)
    assert.equal(near.destroyed, true)
    assert.equal(clock.pendingTimerCount(), 0)
    assert.equal(getEventListeners(abort.signal, 'abort').length, 0)
  })

  test(`a ${role} refuses a socket that is gone`, async (t) => {
    const [near] = await socketPair(t)
    near.destroy()
    await assert.rejects(openEnd(near, isController), { code: 'ERR_LINK_LOST' })
  })
}

test('a server refuses a client without a certificate', async (t) => {
  await refuses(t, false, 'ERR_PROTOCOL', /no certificate/, (socket) => { foreignPeer(socket, true, {}) })
})

test('a client that was refused by the server after its own success sees a loss and no bytes', async (t) => {
  const [near, far] = await socketPair(t)
  const opening = openEnd(near, true)
  await assert.rejects(within('the refusal', DEADLINE_MS, openEnd(far, false, { expects: other })), { code: 'ERR_PROTOCOL' })
  const end = await opening.then(watch, (err: CarrierError) => err)
  const err = end instanceof CarrierError ? end : await end.closed
  assert.equal(err.code, 'ERR_LINK_LOST')
  if (!(end instanceof CarrierError)) assert.equal(end.receivedBytes(), 0)
})

test('a session is never resumed: a client that offers one gets a full handshake, and one that was would be refused', async (t) => {
  const certificate = forgeCertificate({ device: controller })
  const dial = async (session?: Buffer): Promise<{ tls: TLSSocket, link: Link, session: Promise<[Buffer]> }> => {
    const [near, far] = await socketPair(t)
    const tls = connectTls({ socket: far, key: certificate.keyPem, cert: certificate.certificatePem, rejectUnauthorized: false, ALPNProtocols: ['carrier-link/1'], session })
    tls.on('error', ignore)
    const offered = once(tls, 'session') as Promise<[Buffer]>
    const [link] = await within('the handshake', DEADLINE_MS, Promise.all([openEnd(near, false), once(tls, 'secureConnect')]))
    watch(link)
    link.write(Buffer.from('x'))
    return { tls, link, session: offered }
  }
  const first = await dial()
  const [session] = await within('a session', DEADLINE_MS, first.session)
  first.tls.destroy()
  const second = await dial(session)
  assert.equal(second.tls.isSessionReused(), false)
  // stock clients prefer AES-256: the server's order counts
  assert.match(second.tls.getCipher().name, /^TLS_(AES_128_GCM|CHACHA20)/)
  assert.throws(() => { assertAgreement({ protocol: 'TLSv1.3', alpn: 'carrier-link/1', isSessionReused: true }) }, { code: 'ERR_PROTOCOL', message: /resumed/ })
  assert.throws(() => { assertAgreement({ protocol: 'TLSv1.2', alpn: 'carrier-link/1', isSessionReused: false }) }, { code: 'ERR_PROTOCOL', message: /TLSv1.3/ })
  assert.doesNotThrow(() => { assertAgreement({ protocol: 'TLSv1.3', alpn: 'carrier-link/1', isSessionReused: false }) })
})

test('a client names no server and offers TLS 1.3 with one application protocol', async (t) => {
  const certificate = forgeCertificate({ device: other })
  const [near, far] = await socketPair(t)
  const server = createTlsServer({ key: certificate.keyPem, cert: certificate.certificatePem, requestCert: true, rejectUnauthorized: false, honorCipherOrder: false, ALPNProtocols: ['carrier-link/1'] })
  const accepted = once(server, 'secureConnection') as Promise<[TLSSocket]>
  server.emit('connection', far)
  watch(await within('the link', DEADLINE_MS, openEnd(near, true)))
  const [tls] = await accepted
  tls.on('error', ignore)
  assert.ok(tls.servername === false || tls.servername === null, 'a server name was sent')
  assert.equal(tls.getProtocol(), 'TLSv1.3')
  assert.match(tls.getCipher().name, /^TLS_(AES_128_GCM|CHACHA20)/)
})

// --- losses ---

const TAMPERINGS: Array<[what: string, change: () => (record: Buffer, index: number) => Uint8Array[]]> = [
  ['flips a bit', () => (record, index) => {
    if (index === 5) record[record.length - 20] = (record[record.length - 20] ?? 0) ^ 1
    return [record]
  }],
  ['flips a bit of a header', () => (record, index) => {
    if (index === 5) record[0] = (record[0] ?? 0) ^ 1
    return [record]
  }],
  ['drops a record', () => (record, index) => index === 5 ? [] : [record]],
  ['repeats a record', () => (record, index) => index === 5 ? [record, record] : [record]],
  ['swaps two records', () => {
    let held: Buffer | undefined
    return (record, index) => {
      if (index === 5) {
        held = Buffer.from(record)
        return []
      }
      const out = index === 6 && held !== undefined ? [record, held] : [record]
      return out
    }
  }],
  ['injects plain data', () => (record, index) => index === 5 ? [Buffer.from('170303000568656c6c6f', 'hex'), record] : [record]],
  ['injects garbage', () => (record, index) => index === 5 ? [Buffer.alloc(64, 0xa5), record] : [record]],
  ['injects an alert', () => (record, index) => index === 5 ? [Buffer.from('15030300020100', 'hex'), record] : [record]],
  ['injects a byte within a record', () => (record, index) => index === 5 ? [record.subarray(0, 100), Uint8Array.of(0), record.subarray(100)] : [record]]
]

for (const [what, change] of TAMPERINGS) {
  for (const direction of ['fromNear', 'fromFar'] as const) {
    test(`I1: somebody in between ${what} (${direction === 'fromNear' ? 'client to server' : 'server to client'}): the end notices and no wrong byte is delivered`, async (t) => {
      const { near, far, tamper } = await middle(t)
      const [a, b] = await openBoth(near, far)
      const [from, to] = direction === 'fromNear' ? [a, b] : [b, a]
      const out = sender(from, 16 * MIB)
      const atSender = watch(from, { onDrain: out.pump })
      const atReader = watch(to)
      // a first exchange, so that records of the handshake are not among those that are changed
      to.write(Buffer.from('ready'))
      await atSender.received(0)
      from.write(pattern(0, 4))
      await atReader.received(4)
      tamper[direction] = perRecord(change())
      out.pump()
      const err = await atReader.closed
      assert.equal(err.code, 'ERR_LINK_LOST')
      assert.match(err.message, /tampered or broken/)
      const received = Buffer.concat(atReader.chunks).subarray(4)
      assert.ok(received.length < out.sentBytes())
      assert.equal(Buffer.compare(received, pattern(0, Math.ceil(received.length / 4) * 4).subarray(0, received.length)), 0)
      assert.ok(received.length > 0, 'what came before the change arrived')
      assert.equal((await atSender.closed).code, 'ERR_LINK_LOST')
      await within('both ends to be gone', DEADLINE_MS, Promise.all([a.closed, b.closed]))
      assert.deepEqual([atReader.closedCount(), atSender.closedCount()], [1, 1])
    })
  }
}

const LOSSES: Array<[what: string, act: (leg: Socket, peer: Link) => void]> = [
  ['a FIN', (leg) => { leg.end() }],
  ['a reset', (leg) => { leg.resetAndDestroy() }],
  ['a clean end', (_leg, peer) => { void peer.close() }],
  ['an abort of the other side', (_leg, peer) => { peer.abort(new CarrierError('ERR_CLOSED', 'enough')) }]
]
for (const [what, act] of LOSSES) {
  test(`I4: ${what} is a loss, told once`, async (t) => {
    const { near, far, legs } = await middle(t)
    const [a, b] = await openBoth(near, far)
    const atA = watch(a)
    watch(b)
    act(legs[0], b)
    assert.equal((await atA.closed).code, 'ERR_LINK_LOST')
    await within('the link to be gone', DEADLINE_MS, a.closed)
    near.emit('error', new Error('an error after the end must not end the process'))
    a.abort(new CarrierError('ERR_CLOSED', 'again'))
    assert.equal(a.write(Buffer.from('x')), true)
    await within('close', DEADLINE_MS, a.close())
    assert.equal(atA.closedCount(), 1)
  })
}

test('close sends what was written before it; no timer stays', async (t) => {
  const [near, far] = await socketPair(t)
  const clock = createFakeClock({ nowMs: systemClock.now() })
  const [a, b] = await openBoth(near, far, { clock })
  const [atA, atB] = [watch(a), watch(b)]
  const message = pattern(0, a.messageBytes)
  a.write(message)
  a.write(message)
  const closing = a.close()
  assert.equal(a.write(Buffer.from('too late')), true)
  assert.equal((await atB.received(2 * message.length)).length, 2 * message.length)
  await within('close', DEADLINE_MS, closing)
  await atA.closed
  assert.equal(atB.receivedBytes(), 2 * message.length)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a link that the other side does not close is cut after a while; no timer stays', async (t) => {
  const [near, far] = await socketPair(t)
  const clock = createFakeClock({ nowMs: systemClock.now() })
  const [a, b] = await openBoth(near, far, { clock })
  const atA = watch(a)
  b.pause()
  await within('close', DEADLINE_MS, a.close())
  assert.equal(atA.closedCount(), 0)
  assert.equal(clock.pendingTimerCount(), 1)
  await clock.advance(LIMITS.linkLingerMs)
  assert.equal((await atA.closed).code, 'ERR_LINK_LOST')
  await within('the link to be gone', DEADLINE_MS, a.closed)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('abort tells our side why, at once, and the other side of a loss', async (t) => {
  const [near, far] = await socketPair(t)
  const clock = createFakeClock({ nowMs: systemClock.now() })
  const [a, b] = await openBoth(near, far, { clock })
  const [atA, atB] = [watch(a), watch(b)]
  const err = new CarrierError('ERR_REVOKED', 'no longer a friend')
  a.abort(err)
  assert.equal(atA.closedCount(), 1)
  assert.equal(await atA.closed, err)
  assert.equal((await atB.closed).code, 'ERR_LINK_LOST')
  await within('both ends to be gone', DEADLINE_MS, Promise.all([a.closed, b.closed]))
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a reader that throws ends its own link only', async (t) => {
  const [near, far] = await socketPair(t)
  const [a, b] = await openBoth(near, far)
  watch(a)
  const atB = watch(b, { onBytes: () => { throw new CarrierError('ERR_PROTOCOL', 'not a frame') } })
  a.write(Buffer.from('x'))
  assert.equal((await atB.closed).code, 'ERR_PROTOCOL')
})
