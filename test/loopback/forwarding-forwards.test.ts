/** The life of forwards: opening, honest states, coming back by themselves, restarts. Real sockets, joined sessions in memory. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { LIMITS } from '../../src/base/index.ts'
import type { Forward } from '../../src/forwarding/index.ts'
import { createFakeClock } from '../support/fake-clock.ts'
import { startForwardingPair } from '../support/forwarding-pair.ts'
import type { ForwardingPair } from '../support/forwarding-pair.ts'
import { connectTo, endOf, freePort, readAll, startConnect, startEcho } from '../support/target-server.ts'
import type { TargetServer } from '../support/target-server.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const CONFIG = { kind: 'config', file: 'carrier.toml', line: 12 } as const

for (const sessionKind of ['fake', 'real'] as const) {
  describe(`forwards, on ${sessionKind} sessions`, () => {
    let pair: ForwardingPair
    let echo: TargetServer

    before(async () => { echo = await startEcho() })
    after(async () => { await echo.close() })
    beforeEach(async () => {
      pair = await startForwardingPair({ sessionKind })
      pair.office.forwarding.serve('echo', echo.target, { allow: ['laptop'] })
    })
    afterEach(async () => {
      await pair.stop()
      assert.equal(pair.sessions.alice.openChannelCount() + pair.sessions.bob.openChannelCount(), 0, 'no channel is left')
    })

    /** A clock that stands still from now on: what happens all the same waits for no timer of ours. */
    async function restartInStillTime (): Promise<void> {
      await pair.stop()
      pair = await startForwardingPair({ sessionKind, clock: createFakeClock() })
      pair.office.forwarding.serve('echo', echo.target, { allow: ['laptop'] })
    }

    const only = (): Forward => pair.laptop.forwarding.forwards()[0] ?? assert.fail('there is no forward')
    const stateIs = async (state: Forward['state']): Promise<Forward> => waitFor(`the forward to be ${state}`, () => only().state === state && only(), PATIENT)
    const storedCount = (): number => pair.laptop.database.all('SELECT * FROM forward').length

    async function echoes (listen: string): Promise<boolean> {
      const socket = await connectTo(listen)
      socket.end('ping')
      return (await readAll(socket)).toString() === 'ping'
    }

    async function isListening (port: number): Promise<boolean> {
      try {
        const socket = await connectTo(port)
        socket.destroy()
        return true
      } catch {
        return false // refused
      }
    }

    it('a forward is active only after a proof from end to end, on the port that was picked', async () => {
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      assert.equal(forward.state, 'active')
      assert.match(forward.listen, /^127\.0\.0\.1:[1-9][0-9]*$/)
      assert.equal(forward.to, 'office/echo')
      assert.equal(forward.friend, pair.office.did)
      assert.deepEqual([forward.path, forward.isPersistent, forward.bind.port, forward.reason], ['relayed', true, 0, undefined])
      assert.ok(forward.provenAt !== undefined)
      assert.ok(await echoes(forward.listen))
    })

    it('what is refused or does not exist is ERR_NOT_AVAILABLE, and nothing is kept', async () => {
      const port = await freePort()
      pair.office.forwarding.serve('dark', echo.target)
      for (const to of ['office/dark', 'office/missing']) {
        await assert.rejects(pair.laptop.forwarding.openForward({ port, to }), { code: 'ERR_NOT_AVAILABLE' })
      }
      await pair.sessions.loseLink()
      pair.sessions.setRefusal('ERR_NOT_AVAILABLE')
      await assert.rejects(pair.laptop.forwarding.openForward({ port, to: 'office/echo' }), { code: 'ERR_NOT_AVAILABLE' })
      assert.deepEqual(pair.laptop.forwarding.forwards(), [])
      assert.equal(storedCount(), 0)
      assert.equal(await isListening(port), false)
    })

    it('an offline friend is no error: the forward is kept, resets local connections, and comes back by itself', async () => {
      pair.sessions.setOffline(true)
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      assert.equal(forward.state, 'offline')
      assert.match(forward.reason ?? '', /office cannot be reached/)
      assert.equal(storedCount(), 1)
      assert.equal(await within('the reset', PATIENCE_MS, endOf(startConnect(forward.listen))), 'ECONNRESET')
      pair.sessions.setOffline(false)
      await stateIs('active')
      assert.ok(await echoes(forward.listen))
    })

    it('a session that the friend opens makes the forward active at once', async () => {
      await restartInStillTime()
      pair.sessions.setOffline(true)
      await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      pair.sessions.setOffline(false)
      await pair.sessions.alice.open(pair.laptop.did)
      // no retry helps: the clock stands still
      await stateIs('active')
    })

    it('target down: the client is reset at once', async () => {
      await restartInStillTime()
      const target = await startEcho({ port: await freePort() })
      pair.office.forwarding.serve('db', target.target, { allow: ['laptop'] })
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })
      await target.close()
      assert.equal(await within('the reset', PATIENCE_MS, endOf(startConnect(forward.listen))), 'ECONNRESET')
    })

    it('target down: the forward stays and is active again when the target is back', async () => {
      const target = await startEcho({ port: await freePort() })
      pair.office.forwarding.serve('db', target.target, { allow: ['laptop'] })
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })
      await target.close()
      assert.equal(await within('the reset', PATIENCE_MS, endOf(startConnect(forward.listen))), 'ECONNRESET')
      const down = await stateIs('target-down')
      assert.match(down.reason ?? '', /the program behind "db" did not/)
      const back = await startEcho({ port: target.port })
      await stateIs('active')
      assert.ok(await echoes(forward.listen))
      await back.close()
    })

    it('a target that is down from the start keeps the forward too', async () => {
      pair.office.forwarding.serve('db', String(await freePort()), { allow: ['laptop'] })
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/db' })
      assert.equal(forward.state, 'target-down')
      assert.equal(storedCount(), 1)
    })

    it('a passing connection is a proof: no probe is needed to be active again', async () => {
      await restartInStillTime()
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      pair.office.forwarding.revoke('laptop', 'echo')
      assert.equal(await endOf(startConnect(forward.listen)), 'ECONNRESET')
      const refused = await stateIs('refused')
      assert.match(refused.reason ?? '', /does not offer "echo" to you/)
      pair.office.forwarding.grant('laptop', 'echo')
      const probes = pair.sessions.alice.received.length
      assert.ok(await echoes(forward.listen))
      await stateIs('active')
      assert.equal(pair.sessions.alice.received.length, probes + 1)
    })

    it('revoking shows at the forward at once when a connection is open', async () => {
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      const socket = await connectTo(forward.listen)
      socket.write('x')
      await once(socket, 'data')
      pair.office.forwarding.revoke('laptop', 'echo')
      assert.equal(await within('the cut', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      await stateIs('refused')
    })

    it('a lost link makes it connect again by itself', async () => {
      const states: string[] = []
      const forward = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      pair.laptop.forwarding.on('forward:state', ({ state }) => { states.push(state) })
      await pair.sessions.loseLink()
      await waitFor('the forward to be active again', () => states.at(-1) === 'active', PATIENT)
      assert.deepEqual(states, ['connecting', 'active'], 'not active without a proof since the loss')
      assert.equal(only().state, 'active')
      assert.ok(await echoes(forward.listen))
    })

    it('it is never active on the word of a session alone', async () => {
      const patience = new AbortController()
      pair.sessions.alice.onChannel('tcp', async ({ signal }) => {
        const gone = once(signal, 'abort')
        // the session stands and the probe has come: now only the answer is missing, and it never comes
        patience.abort()
        await gone
      })
      await assert.rejects(pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' }, { signal: patience.signal }))
      assert.deepEqual(pair.laptop.forwarding.forwards(), [], 'a cancelled opening leaves nothing')
      assert.equal(storedCount(), 0)
    })

    it('a port that another program uses is named, with what to do', async () => {
      await assert.rejects(pair.laptop.forwarding.openForward({ port: echo.port, to: 'office/echo' }), {
        code: 'ERR_PORT_IN_USE', message: new RegExp(`port ${echo.port} on 127\\.0\\.0\\.1 is used by another program; choose another port .*carrier forward list`)
      })
      assert.deepEqual(pair.laptop.forwarding.forwards(), [])
    })

    it('the same command twice shows the forward, another service on its port is ERR_PORT_IN_USE', async () => {
      const { forwarding } = pair.laptop
      const port = await freePort()
      const first = await forwarding.openForward({ port, to: 'office/echo' })
      assert.equal((await forwarding.openForward({ port, to: `${pair.office.did}/echo` })).listen, first.listen)
      await assert.rejects(forwarding.openForward({ port, to: 'office/other' }), { code: 'ERR_PORT_IN_USE', message: /the forward to office\/echo/ })
      assert.equal(forwarding.forwards().length, 1)
    })

    it('two commands for one port at the same time: one wins', async () => {
      const port = await freePort()
      const results = await Promise.allSettled([1, 2].map(async () => pair.laptop.forwarding.openForward({ port, to: 'office/echo' })))
      assert.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'rejected'])
      assert.equal(pair.laptop.forwarding.forwards().length, 1)
      assert.equal(storedCount(), 1)
    })

    it('bad arguments are refused before anything happens', async () => {
      const { forwarding } = pair.laptop
      for (const given of [{ port: -1, to: 'office/echo' }, { port: 65_536, to: 'office/echo' }, { port: 1.5, to: 'office/echo' }, { port: 0, to: 'office' }, { port: 0, to: '/echo' }, { port: 0, to: 'office/list' }, { port: 0, host: 'example.org', to: 'office/echo' }]) {
        await assert.rejects(forwarding.openForward(given), { code: 'ERR_INVALID_ARGUMENT' }, JSON.stringify(given))
      }
      await assert.rejects(forwarding.openForward({ port: 0, to: 'nobody/echo' }), { code: 'ERR_UNKNOWN_FRIEND' })
      await assert.rejects(forwarding.openForward({ port: 0, host: '203.0.113.1', to: 'office/echo' }), { code: 'ERR_INVALID_ARGUMENT', message: /no address of this machine/ })
      assert.equal(pair.sessions.alice.received.length, 0)
    })

    it('listening beyond this machine happens only when asked for, and is logged', async () => {
      const forward = await pair.laptop.forwarding.openForward({ port: 0, host: '0.0.0.0', to: 'office/echo' })
      assert.match(forward.listen, /^0\.0\.0\.0:/)
      assert.equal(pair.laptop.logs.filter((line) => line.level === 'warn' && line.message.includes('beyond this machine')).length, 1)
    })

    it('close ends the connections and frees the port, and the forward does not come back', async () => {
      const { laptop } = pair
      const port = await freePort()
      const forward = await laptop.forwarding.openForward({ port, to: 'office/echo' })
      const socket = await connectTo(port)
      socket.write('x')
      await once(socket, 'data')
      const closed: string[] = []
      laptop.forwarding.on('forward:closed', ({ listen }) => { closed.push(listen) })
      assert.equal((await laptop.forwarding.closeForward(port)).listen, forward.listen)
      assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      assert.deepEqual(closed, [forward.listen])
      assert.equal(await isListening(port), false)
      await assert.rejects(laptop.forwarding.closeForward(port), { code: 'ERR_NOT_FOUND' })
      await laptop.restart()
      assert.deepEqual(laptop.forwarding.forwards(), [])
    })

    it('a forward is restored on the same port after a restart, unless it was for once', async () => {
      const { laptop } = pair
      const kept = await laptop.forwarding.openForward({ port: await freePort(), to: 'office/echo' })
      const once_ = await laptop.forwarding.openForward({ port: 0, to: 'office/echo', once: true })
      assert.equal(once_.isPersistent, false)
      await laptop.restart()
      assert.deepEqual(laptop.forwarding.forwards().map((forward) => forward.listen), [kept.listen])
      await stateIs('active')
      assert.ok(await echoes(kept.listen))
    })

    it('a restored forward whose port is taken says so, and takes it when it is free', async () => {
      const { laptop } = pair
      const port = await freePort()
      const { listen } = await laptop.forwarding.openForward({ port, to: 'office/echo' })
      await laptop.forwarding.stop()
      const squatter = await startEcho({ port })
      await laptop.restart()
      const broken = await stateIs('error')
      assert.match(broken.reason ?? '', new RegExp(`port ${port} .*used by another program.*tried again`))
      assert.equal(broken.listen, listen)
      await squatter.close()
      await stateIs('active')
      assert.ok(await echoes(listen))
    })

    it('a restored forward waits for an offline friend', async () => {
      const { laptop } = pair
      await laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      await pair.sessions.loseLink()
      pair.sessions.setOffline(true)
      await laptop.restart()
      await stateIs('offline')
      pair.sessions.setOffline(false)
      await stateIs('active')
    })

    it('forwards of carrier.toml win, wait for their friend, and cannot be closed by a command', async () => {
      const { laptop, office } = pair
      const port = await freePort()
      await laptop.forwarding.openForward({ port, to: 'office/other' }).catch(() => {})
      await laptop.forwarding.openForward({ port, to: 'office/echo' })
      await laptop.restart({ declaredForwards: [{ name: 'books', listen: String(port), to: 'work/echo', source: CONFIG }] })
      const waiting = await stateIs('error')
      assert.match(waiting.reason ?? '', /no friend is called "work"/)
      assert.deepEqual([waiting.friend, waiting.to, waiting.source], [undefined, 'work/echo', CONFIG])
      assert.equal(await within('the reset', PATIENCE_MS, endOf(startConnect(port))), 'ECONNRESET')
      laptop.friends.relabel(office.did, 'work')
      await stateIs('active')
      assert.ok(await echoes(`127.0.0.1:${port}`))
      await assert.rejects(laptop.forwarding.closeForward(port), { code: 'ERR_CONFIG_OWNED', message: /edit carrier\.toml:12/ })
      assert.equal(laptop.forwarding.forwards().length, 1, 'the stored one on that port rests')
      const socket = await connectTo(port)
      socket.write('x')
      await once(socket, 'data')
      laptop.friends.remove(office.did)
      assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      await stateIs('error')
      laptop.friends.add(office.did, 'work')
      await stateIs('active')
    })

    it('a broken declaration names its line', async () => {
      for (const [listen, to] of [['70000', 'office/echo'], ['5000', 'office'], ['example.org:5000', 'office/echo']] as const) {
        await assert.rejects(pair.laptop.restart({ declaredForwards: [{ name: 'x', listen, to, source: CONFIG }] }), { code: 'ERR_CONFIG', message: /^carrier\.toml:12: / })
      }
      await assert.rejects(pair.laptop.restart({ declaredForwards: [1, 2].map((number) => ({ name: `x${number}`, listen: '5000', to: 'office/echo', source: CONFIG })) }), { code: 'ERR_CONFIG', message: /declared twice/ })
    })

    for (const how of ['remove', 'block'] as const) {
      it(`forwards to a friend end when we ${how} it`, async () => {
        const { laptop, office } = pair
        const { listen } = await laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
        const socket = await connectTo(listen)
        socket.write('x')
        await once(socket, 'data')
        laptop.friends[how](office.did)
        assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
        await waitFor('the forward to be gone', () => laptop.forwarding.forwards().length === 0, PATIENT)
        assert.equal(storedCount(), 0)
      })
    }

    it('the number of forwards is bounded', async () => {
      for (let index = 0; index < LIMITS.forwardCount; index++) await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo', once: true })
      await assert.rejects(pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' }), { code: 'ERR_LIMIT' })
    })

    it('more local connections than the limit are reset, the others go on', async () => {
      // those that wait for a session wait a bounded time: it must not run out while a slow machine makes them
      await restartInStillTime()
      const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      await pair.sessions.loseLink()
      pair.sessions.setSilent(true)
      const held = await Promise.all(Array.from({ length: LIMITS.forwardConnectionCount }, async () => connectTo(listen)))
      await waitFor('all to wait', () => only().connectionCount === LIMITS.forwardConnectionCount, PATIENT)
      assert.equal(await within('the reset', PATIENCE_MS, endOf(startConnect(listen))), 'ECONNRESET')
      assert.ok(held.every((socket) => !socket.destroyed))
      for (const socket of held) socket.resetAndDestroy()
      await waitFor('none to be left', () => only().connectionCount === 0, PATIENT)
      pair.sessions.setSilent(false)
    })

    it('stop resets what is open and leaves no listener', async () => {
      const { laptop } = pair
      const { listen } = await laptop.forwarding.openForward({ port: await freePort(), to: 'office/echo' })
      const socket = await connectTo(listen)
      socket.write('x')
      await once(socket, 'data')
      await laptop.forwarding.stop()
      assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      assert.equal(await isListening(Number(listen.split(':')[1])), false)
      assert.deepEqual(laptop.forwarding.forwards(), [])
      await laptop.forwarding.stop()
    })

    it('stop of the serving side resets its connections and records their end', async () => {
      const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
      const socket = await connectTo(listen)
      socket.write('x')
      await once(socket, 'data')
      await pair.office.forwarding.stop()
      assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
      assert.equal(pair.office.audit.entries.filter((entry) => entry.event === 'conn.close').length, 1)
    })
  })
}

describe('forwards in time', () => {
  it('a local connection waits a bounded time for a silent friend, then it is reset', async () => {
    const clock = createFakeClock()
    const pair = await startForwardingPair({ clock })
    pair.sessions.setOffline(true)
    const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
    pair.sessions.setSilent(true)
    const socket = await connectTo(listen)
    await waitFor('the connection to arrive', () => pair.laptop.forwarding.forwards()[0]?.connectionCount === 1, PATIENT)
    await clock.advance(LIMITS.forwardSessionWaitMs - 1)
    assert.equal(socket.errored, null)
    await clock.advance(1)
    assert.equal(await within('the reset', PATIENCE_MS, endOf(socket)), 'ECONNRESET')
    await pair.stop()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left')
  })

  it('probes of an offline friend grow rarer up to the limit, and never stop', async () => {
    const clock = createFakeClock()
    const pair = await startForwardingPair({ clock })
    pair.sessions.setOffline(true)
    await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
    const failed = async (): Promise<number> => Number(/carrier_forward_probes_total\{result="failed"\} (\d+)/.exec(await pair.laptop.metrics.text())?.[1] ?? 0)
    for (let second = 0; second < 60; second++) await clock.advance(1000)
    const firstMinute = await failed()
    for (let second = 0; second < 60; second++) await clock.advance(1000)
    const secondMinute = await failed() - firstMinute
    assert.ok(firstMinute >= 9 && firstMinute <= 14, `${firstMinute} probes in the first minute`)
    assert.ok(secondMinute >= 7 && secondMinute <= 8, `${secondMinute} probes in the second minute`)
    await pair.stop()
    assert.equal(clock.pendingTimerCount(), 0)
  })
})
