/** What happens while something else is on its way: revocation during a probe, a listener that breaks, names that change hands. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Server } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { LIMITS } from '../../src/base/index.ts'
import type { Forward } from '../../src/forwarding/index.ts'
import { randomDid, startForwardingPair } from '../support/forwarding-pair.ts'
import type { ForwardingPair } from '../support/forwarding-pair.ts'
import { connectTo, freePort, readAll, startEcho } from '../support/target-server.ts'
import type { TargetServer } from '../support/target-server.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const CONFIG = { kind: 'config', file: 'carrier.toml', line: 12 } as const

describe('forwarding while something else is on its way', () => {
  let pair: ForwardingPair
  let echo: TargetServer

  beforeEach(async () => {
    echo = await startEcho()
    pair = await startForwardingPair()
    pair.office.forwarding.serve('echo', echo.target, { allow: ['laptop'] })
  })
  afterEach(async () => {
    await pair.stop()
    await echo.close()
  })

  const only = (): Forward => pair.laptop.forwarding.forwards()[0] ?? assert.fail('there is no forward')
  const stateIs = async (state: Forward['state']): Promise<Forward> => waitFor(`the forward to be ${state}`, () => only().state === state && only(), PATIENT)

  it('I3: a probe whose grant was withdrawn while the target was dialled proves nothing', async () => {
    const dialling = Promise.withResolvers<undefined>()
    // told from within net.connect: the dial has begun, and its outcome takes at least another turn of the event loop
    const onDial = (): void => {
      unsubscribe('net.client.socket', onDial)
      pair.office.forwarding.revoke('laptop')
      dialling.resolve(undefined)
    }
    subscribe('net.client.socket', onDial)
    const refused = assert.rejects(pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' }), { code: 'ERR_NOT_AVAILABLE' })
    await within('the target to be dialled', PATIENCE_MS, dialling.promise)
    await refused
    assert.equal(pair.office.audit.refusals.at(-1)?.why, 'not-granted')
  })

  it('a listener that broke is bound again on the port that was picked, and closing it forgets it', async () => {
    const { listen } = await pair.laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
    const port = Number(listen.slice(listen.lastIndexOf(':') + 1))
    breakListener(port)
    assert.deepEqual([only().state, only().listen], ['error', listen])
    await stateIs('active')
    assert.equal(only().listen, listen)
    const socket = await connectTo(listen)
    socket.end('ping')
    assert.equal((await readAll(socket)).toString(), 'ping')
    await pair.laptop.forwarding.closeForward(port)
    assert.deepEqual(pair.laptop.database.all('SELECT port FROM forward'), [])
  })

  it('a forward that was opened for once and then without that survives a restart', async () => {
    const port = await freePort()
    const { listen } = await pair.laptop.forwarding.openForward({ port, to: 'office/echo', once: true })
    const again = await pair.laptop.forwarding.openForward({ port, to: 'office/echo' })
    assert.equal(again.isPersistent, true)
    await pair.laptop.restart()
    assert.equal(only().listen, listen)
    await pair.laptop.forwarding.closeForward(port)
    assert.deepEqual(pair.laptop.database.all('SELECT port FROM forward'), [])
  })

  it('a forward of carrier.toml whose name changed hands is not called active on the proof of another friend', async () => {
    await pair.laptop.restart({ declaredForwards: [{ name: 'echo', listen: '0', to: 'office/echo', source: CONFIG }] })
    await stateIs('active')
    pair.laptop.friends.relabel(pair.office.did, 'old-office')
    await stateIs('error')
    pair.laptop.friends.add(randomDid(), 'office')
    assert.match((await stateIs('offline')).reason ?? '', /office cannot be reached/)
  })

  it('I8: what carrier.toml and commands offer and forward together stays within the limits', async () => {
    const declaredServices = Array.from({ length: LIMITS.serviceCount }, (_, index) => ({ name: `s${index}`, target: '1', allow: [], source: CONFIG }))
    await assert.rejects(pair.office.restart({ declaredServices }), { code: 'ERR_CONFIG', message: /256 services, commands made 1 others/ })
    const declaredForwards = Array.from({ length: LIMITS.forwardCount + 1 }, (_, index) => ({ name: `f${index}`, listen: '0', to: 'office/echo', source: CONFIG }))
    await assert.rejects(pair.laptop.restart({ declaredForwards }), { code: 'ERR_CONFIG', message: /257 forwards/ })
  })
})

/** What the kernel does to a listener when it runs out of descriptors. */
function breakListener (port: number): void {
  const { _getActiveHandles: handles } = process as unknown as { _getActiveHandles: () => unknown[] }
  const server = handles.call(process).find((handle): handle is Server => handle instanceof Server && (handle.address() as AddressInfo | null)?.port === port)
  assert.ok(server !== undefined)
  server.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' }))
}
