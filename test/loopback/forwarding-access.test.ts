/** Who may dial what: refusals, the audit log, revocation. Real sockets, joined sessions in memory. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import type { CarrierError } from '../../src/base/index.ts'
import { encodeCbor, LIMITS } from '../../src/base/index.ts'
import type { AuditEntry } from '../../src/audit/index.ts'
import type { Channel } from '../../src/session/index.ts'
import { createFakeClock } from '../support/fake-clock.ts'
import { randomDid, startForwardingPair } from '../support/forwarding-pair.ts'
import type { ForwardingPair } from '../support/forwarding-pair.ts'
import { connectTo, endOf, freePort, readAll, startConnect, startEcho } from '../support/target-server.ts'
import type { TargetServer } from '../support/target-server.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

for (const sessionKind of ['fake', 'real'] as const) {
  describe(`access to services, on ${sessionKind} sessions`, () => {
    let pair: ForwardingPair
    let echo: TargetServer

    // a target for each test: a connection that is still being accepted for one is not counted for the next
    beforeEach(async () => {
      echo = await startEcho()
      pair = await startForwardingPair({ sessionKind })
    })
    afterEach(async () => {
      await pair.stop()
      await echo.close()
      assert.equal(pair.sessions.alice.openChannelCount() + pair.sessions.bob.openChannelCount(), 0, 'no channel is left')
    })

    async function openRaw (message: unknown, kind = 'tcp'): Promise<Channel> {
      const session = await pair.sessions.bob.open(pair.office.did)
      const channel = session.openChannel(kind, message instanceof Uint8Array ? message : encodeCbor(message))
      channel.on('error', () => {})
      return channel
    }

    async function refusalOf (message: unknown, kind?: string): Promise<string> {
      const channel = await openRaw(message, kind)
      await within('the channel to close', PATIENCE_MS, closeOf(channel))
      return (channel.errored as CarrierError | null)?.code ?? 'none'
    }

    /** Opens a forward whose probe the target has seen: how many connections it has is known from then on. */
    async function openCounted (service: string): Promise<{ listen: string, before: number }> {
      const before = echo.connectionCount() + 1
      const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: `office/${service}` })
      await waitFor('the probe at the target', () => echo.connectionCount() === before, PATIENT)
      return { listen, before }
    }

    /** A clock that stands still from now on: what happens all the same waits for no timer of ours. */
    async function restartInStillTime (): Promise<void> {
      await pair.stop()
      pair = await startForwardingPair({ sessionKind, clock: createFakeClock() })
    }

    async function openLive (service: string): Promise<{ socket: Socket, ending: Promise<string> }> {
      const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: `office/${service}` })
      const socket = await connectTo(listen)
      socket.write('x')
      await once(socket, 'data')
      return { socket, ending: endOf(socket) }
    }

    it('I3: hidden, missing and not allowed get the same answer, and so does a probe', async () => {
      const { forwarding, friends } = pair.office
      const other = randomDid()
      friends.add(other, 'other')
      forwarding.serve('dark', echo.target)
      forwarding.serve('for-others', echo.target, { allow: ['other'] })
      const connectionsBefore = echo.connectionCount()
      for (const service of ['dark', 'for-others', 'missing']) {
        for (const probe of [false, true]) {
          assert.equal(await refusalOf({ v: 1, service, probe }), 'ERR_NOT_AVAILABLE')
        }
      }
      assert.equal(await refusalOf({ v: 1 }, 'no-such-kind'), 'ERR_NOT_AVAILABLE')
      const answers = new Set(pair.sessions.alice.received.map((entry) => entry.answer))
      assert.deepEqual([...answers], [3], 'the same wire number for all')
      assert.equal(echo.connectionCount(), connectionsBefore, 'no target was touched')
      assert.deepEqual(new Set(pair.office.audit.refusals.map((entry) => entry.why)), new Set(['not-granted', 'no-such-service']))
      assert.equal(pair.office.audit.refusals.length, 6, 'every attempt is recorded')
    })

    it('I3: a friend is told the names that it may dial and no others', async () => {
      const { forwarding } = pair.office
      forwarding.serve('beta', echo.target, { allow: ['laptop'] })
      forwarding.serve('alpha', echo.target, { allow: ['laptop'] })
      forwarding.serve('dark', echo.target)
      assert.deepEqual(await pair.laptop.forwarding.remoteServices('office'), ['alpha', 'beta'])
      forwarding.revoke('laptop', 'alpha')
      assert.deepEqual(await pair.laptop.forwarding.remoteServices('office'), ['beta'])
    })

    it('256 long names fit into one answer', async () => {
      for (let index = 0; index < LIMITS.serviceCount; index++) pair.office.forwarding.serve(`s${index}-`.padEnd(62, 'x') + 'z', '1', { allow: ['laptop'] })
      assert.throws(() => pair.office.forwarding.serve('one-more', '1'), { code: 'ERR_LIMIT' })
      assert.equal((await pair.laptop.forwarding.remoteServices('office')).length, LIMITS.serviceCount)
    })

    it('asking an offline friend for its services says so', async () => {
      pair.sessions.setOffline(true)
      await assert.rejects(pair.laptop.forwarding.remoteServices('office'), { code: 'ERR_PEER_OFFLINE' })
      await assert.rejects(pair.laptop.forwarding.dial('office/x'), { code: 'ERR_PEER_OFFLINE' })
      await assert.rejects(pair.laptop.forwarding.remoteServices('nobody'), { code: 'ERR_UNKNOWN_FRIEND' })
    })

    it('I6: the access is durable in the log before the target sees a connection', async () => {
      const { forwarding, audit } = pair.office
      forwarding.serve('db', echo.target, { allow: ['laptop'] })
      const { listen, before } = await openCounted('db')
      let release = (): void => {}
      let waiting: AuditEntry | undefined
      audit.before = async (entry) => {
        if (entry.event !== 'conn.open') return
        waiting = entry
        await new Promise<void>((resolve) => { release = resolve })
      }
      const socket = await connectTo(listen)
      socket.write('first byte')
      await waitFor('the log to be asked', () => waiting, PATIENT)
      assert.equal(echo.connectionCount(), before, 'the target waits for the log')
      audit.before = async () => {}
      release()
      await once(socket, 'data')
      assert.equal(echo.connectionCount(), before + 1)
      socket.end()
      await readAll(socket)
      await waitFor('the end to be recorded', () => audit.entries.find((entry) => entry.event === 'conn.close'), PATIENT)
      const [open, close] = audit.entries.filter((entry) => entry.event.startsWith('conn.'))
      assert.equal(open?.owner, pair.laptop.did)
      assert.equal(open?.service, 'db')
      assert.equal(open?.sessionId?.length, 16)
      assert.deepEqual([close?.bytesIn, close?.bytesOut, close?.why], [10, 10, undefined])
      assert.equal(typeof close?.durationMs, 'number')
    })

    it('I6: an access that cannot be recorded is refused, and the target sees nothing', async () => {
      const { forwarding, audit } = pair.office
      forwarding.serve('db', echo.target, { allow: ['laptop'] })
      const { listen, before } = await openCounted('db')
      audit.isBroken = true
      const socket = startConnect(listen)
      socket.write('x')
      assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      assert.equal(echo.connectionCount(), before)
      audit.isBroken = false
    })

    it('a probe is counted and is no access in the log', async () => {
      pair.office.forwarding.serve('db', echo.target, { allow: ['laptop'] })
      await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })
      assert.deepEqual(pair.office.audit.entries.filter((entry) => entry.event.startsWith('conn.')), [])
      assert.match(await pair.office.metrics.text(), /carrier_service_probes_total\{result="passed"\} 1/)
    })

    it('revoke cuts the live connections of that friend and service at once, and counts them', async () => {
      await restartInStillTime()
      const { forwarding } = pair.office
      forwarding.serve('db', echo.target, { allow: ['laptop'] })
      forwarding.serve('web', echo.target, { allow: ['laptop'] })
      const db = await openLive('db')
      const web = await openLive('web')
      assert.deepEqual(forwarding.revoke('laptop', 'db'), { services: ['db'], closedConnections: 1 })
      assert.equal(await within('the cut', PATIENCE_MS, db.ending), 'ECONNRESET')
      web.socket.write('still there')
      await once(web.socket, 'data')
      assert.equal(await refusalOf({ v: 1, service: 'db' }), 'ERR_NOT_AVAILABLE')
      assert.deepEqual(forwarding.revoke('laptop'), { services: ['web'], closedConnections: 1 })
      assert.equal(await within('the cut', PATIENCE_MS, web.ending), 'ECONNRESET')
      assert.deepEqual(pair.office.forwarding.services().map((service) => service.allow), [[], []])
      await waitFor('the changes to be recorded', () => pair.office.audit.entries.filter((entry) => entry.event === 'grant.revoke').length === 2, PATIENT)
    })

    it('revoke also cuts a connection whose target is still being dialled or whose access is still being recorded', async () => {
      const { forwarding, audit } = pair.office
      forwarding.serve('db', echo.target, { allow: ['laptop'] })
      const { listen, before } = await openCounted('db')
      let release: (() => void) | undefined
      audit.before = async (entry) => { if (entry.event === 'conn.open') await new Promise<void>((resolve) => { release = resolve }) }
      const socket = await connectTo(listen)
      const ending = endOf(socket)
      await waitFor('the log to be asked', () => release, PATIENT)
      assert.equal(forwarding.revoke('laptop', 'db').closedConnections, 1)
      release?.()
      assert.equal(await within('the reset', PATIENCE_MS, ending), 'ECONNRESET')
      assert.equal(echo.connectionCount(), before)
      await waitFor('the close entry', () => audit.entries.find((entry) => entry.event === 'conn.close' && entry.why === 'ERR_REVOKED'), PATIENT)
    })

    for (const [what, act] of [
      ['unserve', () => { pair.office.forwarding.unserve('db') }],
      ['removing the friend', () => { pair.office.friends.remove(pair.laptop.did) }],
      ['blocking the friend', () => { pair.office.friends.block(pair.laptop.did) }]
    ] as const) {
      it(`${what} cuts live connections at once, and the friend learns no reason`, async () => {
        await restartInStillTime()
        pair.office.forwarding.serve('db', echo.target, { allow: ['laptop'] })
        const channel = await openRaw({ v: 1, service: 'db' })
        channel.write('x')
        await once(channel, 'data')
        const closed = closeOf(channel)
        act()
        await within('the cut', PATIENCE_MS, closed)
        assert.equal((channel.errored as CarrierError | null)?.code, 'ERR_REVOKED')
        assert.equal(await refusalOf({ v: 1, service: 'db' }), 'ERR_NOT_AVAILABLE')
      })
    }

    it('a removed friend who comes back has no grant any more, also after a restart', async () => {
      const { office, laptop } = pair
      office.forwarding.serve('db', echo.target, { allow: ['laptop'] })
      office.friends.remove(laptop.did)
      office.friends.add(laptop.did, 'laptop')
      assert.equal(await refusalOf({ v: 1, service: 'db' }), 'ERR_NOT_AVAILABLE')
      await office.restart()
      assert.deepEqual(office.forwarding.services().map((service) => service.allow), [[]])
    })

    it('services and grants survive a restart', async () => {
      const { office } = pair
      office.forwarding.serve('db', echo.target, { allow: ['laptop'] })
      office.forwarding.serve('sock', 'unix:/run/app.sock')
      await office.restart()
      assert.deepEqual(office.forwarding.services().map(({ name, target, allow }) => ({ name, target, allow })), [
        { name: 'db', target: { kind: 'tcp', host: '127.0.0.1', port: echo.port }, allow: [pair.laptop.did] },
        { name: 'sock', target: { kind: 'unix', path: '/run/app.sock' }, allow: [] }
      ])
      assert.equal((await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })).state, 'active')
    })

    it('serving again replaces the target and adds to those allowed', async () => {
      const { forwarding, friends } = pair.office
      friends.add(randomDid(), 'other')
      forwarding.serve('db', '1111', { allow: ['laptop'] })
      const service = forwarding.serve('DB', echo.target, { allow: ['other'] })
      assert.equal(service.name, 'db')
      assert.equal(service.allow.length, 2)
      assert.equal(forwarding.services().length, 1)
      assert.equal((await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })).state, 'active')
    })

    it('grants go to friends only', () => {
      const { forwarding, friends } = pair.office
      forwarding.serve('db', echo.target)
      friends.add(randomDid(), 'asked', 'requested')
      assert.throws(() => forwarding.grant('stranger', 'db'), { code: 'ERR_UNKNOWN_FRIEND' })
      assert.throws(() => forwarding.grant('asked', 'db'), { code: 'ERR_UNKNOWN_FRIEND', message: /has not accepted/ })
      assert.throws(() => forwarding.grant('laptop', 'nothing'), { code: 'ERR_NOT_FOUND' })
      assert.throws(() => forwarding.serve('x', echo.target, { allow: ['stranger'] }), { code: 'ERR_UNKNOWN_FRIEND' })
      assert.deepEqual(forwarding.services().map((service) => service.name), ['db'], 'nothing was stored half-way')
      assert.throws(() => { forwarding.unserve('nothing') }, { code: 'ERR_NOT_FOUND' })
      assert.throws(() => forwarding.revoke('laptop', 'nothing'), { code: 'ERR_NOT_FOUND' })
      for (const name of ['list', 'close', 'did-x', 'cr1abc', '#ops', 'a_b', '-a', '', 'x'.repeat(64)]) {
        assert.throws(() => forwarding.serve(name, '5432'), { code: 'ERR_INVALID_ARGUMENT' }, name)
      }
    })

    it('services of carrier.toml win and cannot be changed by commands', async () => {
      const { office } = pair
      office.forwarding.serve('db', '1')
      const source = { kind: 'config', file: 'carrier.toml', line: 7 } as const
      await office.restart({ declaredServices: [{ name: 'db', target: echo.target, allow: ['laptop', 'not-yet'], source }] })
      const { forwarding } = office
      assert.deepEqual(forwarding.services().map(({ name, allow, source: from }) => ({ name, allow, from })), [{ name: 'db', allow: [pair.laptop.did], from: source }])
      for (const change of [
        () => forwarding.serve('db', '2'), () => { forwarding.unserve('db') }, () => forwarding.grant('laptop', 'db'), () => forwarding.revoke('laptop', 'db'), () => forwarding.revoke('laptop')
      ]) assert.throws(change, { code: 'ERR_CONFIG_OWNED', message: /carrier\.toml:7/ })
      const late = randomDid()
      office.friends.add(late, 'not-yet')
      assert.deepEqual(forwarding.services()[0]?.allow, [pair.laptop.did, late], 'a name counts from when it is a friend')
      const live = await openLive('db')
      office.friends.relabel(pair.laptop.did, 'renamed')
      assert.equal(await within('the cut', PATIENCE_MS, live.ending), 'ECONNRESET', 'the label of carrier.toml stands for nobody now')
      await office.restart()
      assert.deepEqual(forwarding.services().length, 1)
      assert.deepEqual(office.forwarding.services()[0]?.source, { kind: 'state' }, 'the stored one is still there without the declaration')
    })

    it('revoking everything says so when carrier.toml still lets the friend in', async () => {
      const { office } = pair
      const source = { kind: 'config', file: 'carrier.toml', line: 3 } as const
      await office.restart({ declaredServices: [{ name: 'web', target: echo.target, allow: ['laptop'], source }] })
      office.forwarding.serve('db', echo.target, { allow: ['laptop'] })
      assert.throws(() => office.forwarding.revoke('laptop'), { code: 'ERR_CONFIG_OWNED', message: /withdrawn: db; .*"web" \(edit carrier\.toml:3\)/ })
      assert.equal(await refusalOf({ v: 1, service: 'db' }), 'ERR_NOT_AVAILABLE')
    })

    it('one connection more than a friend may have to a service is refused, the others go on', async () => {
      const { forwarding } = pair.office
      forwarding.serve('db', echo.target, { allow: ['laptop'] })
      const open = await Promise.all(Array.from({ length: LIMITS.serviceConnectionCount }, async () => openRaw({ v: 1, service: 'db' })))
      await waitFor('all to be there', () => forwarding.services()[0]?.connectionCount === LIMITS.serviceConnectionCount, PATIENT)
      assert.equal(await refusalOf({ v: 1, service: 'db' }), 'ERR_LIMIT')
      assert.equal(pair.office.audit.refusals.at(-1)?.why, 'ERR_LIMIT')
      open[0]?.write('x')
      await once(open[0] ?? assert.fail(), 'data')
      for (const channel of open) channel.destroy()
      await waitFor('all to be gone', () => forwarding.services()[0]?.connectionCount === 0, PATIENT)
    })

    it('opening messages of any content are refused, and the next good one works', async () => {
      const target = await startEcho()
      pair.office.forwarding.serve('db', target.target, { allow: ['laptop'] })
      assert.equal(await refusalOf({ v: 2, service: 'db' }), 'ERR_UNSUPPORTED_VERSION')
      assert.equal(await refusalOf({ v: 1, service: 'db', extra: 1 }), 'ERR_PROTOCOL')
      assert.equal(await refusalOf({ v: 1, service: 'DB' }), 'ERR_PROTOCOL')
      assert.equal(await refusalOf({ v: 1, service: 'x'.repeat(64) }), 'ERR_PROTOCOL')
      assert.equal(await refusalOf({ v: 1, service: 'db', probe: 1 }), 'ERR_PROTOCOL')
      assert.equal(await refusalOf(Uint8Array.of(0xff, 0xfe), 'services'), 'ERR_PROTOCOL')
      await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        assert.match(await refusalOf(bytes), /^ERR_(PROTOCOL|UNSUPPORTED_VERSION|NOT_AVAILABLE)$/)
      }), { numRuns: 200 })
      await fc.assert(fc.asyncProperty(fc.anything(), async (value) => {
        let message: Uint8Array
        try {
          message = encodeCbor({ v: 1, service: value })
        } catch {
          return // what cannot be encoded cannot be sent
        }
        if (value === 'db') return
        assert.match(await refusalOf(message), /^ERR_(PROTOCOL|UNSUPPORTED_VERSION|NOT_AVAILABLE)$/)
      }), { numRuns: 200 })
      assert.equal(target.connectionCount(), 0)
      assert.equal((await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })).state, 'active')
      await target.close()
    })

    it('a friend that answers with nonsense about its services is an error, not a crash', async () => {
      const answers = [Uint8Array.of(), Uint8Array.of(5, 1, 2), Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x07), Uint8Array.of(3, 0xff, 0xff, 0xff)]
      for (const answer of answers) {
        pair.sessions.alice.onChannel('services', async (request) => {
          const channel = request.accept()
          channel.on('error', () => {})
          channel.resume()
          channel.end(answer)
        })
        await assert.rejects(pair.laptop.forwarding.remoteServices('office'), { code: 'ERR_PROTOCOL' })
      }
      const patience = new AbortController()
      pair.sessions.alice.onChannel('services', async (request) => {
        request.accept().on('error', () => {}).resume()
        // it was asked and says nothing: time to give up
        patience.abort()
      })
      await assert.rejects(pair.laptop.forwarding.remoteServices('office', { signal: patience.signal }), { code: 'ERR_CANCELLED' })
    })

    it('the log of a target that is down has one line for many attempts, and one when it is back', async () => {
      const { office } = pair
      const port = await freePort()
      office.forwarding.serve('db', String(port), { allow: ['laptop'] })
      for (let index = 0; index < 5; index++) assert.equal(await refusalOf({ v: 1, service: 'db' }), 'ERR_TARGET_UNREACHABLE')
      assert.equal(office.logs.filter((line) => line.level === 'warn').length, 1)
      const back = await startEcho({ port })
      const channel = await openRaw({ v: 1, service: 'db', probe: true })
      channel.end()
      await once(channel.resume(), 'end')
      assert.equal(office.logs.filter((line) => line.message.includes('answers again')).length, 1)
      // written after the friend was told
      await waitFor('the ends to be recorded', () => office.audit.entries.filter((entry) => entry.event === 'conn.close' && entry.why === 'ERR_TARGET_UNREACHABLE').length === 5, PATIENT)
      await back.close()
    })
  })
}

/** Resolves when the channel is gone, however (events.once would reject with its error). */
async function closeOf (channel: Channel): Promise<void> {
  if (channel.closed) return
  await new Promise<void>((resolve) => { channel.once('close', resolve) })
}
