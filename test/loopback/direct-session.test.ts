/** One end listens, the other does not: their session gets a direct link, whichever of them is the controller and whoever began. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'
import { createSessionManager } from '../../src/session/index.ts'
import type { SessionManager } from '../../src/session/index.ts'
import { befriend, makeIdentity, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, PATIENT, waitFor } from '../support/wait.ts'

interface Device extends TestNode { sessions: SessionManager }

async function device (relay: string, listen: 'none' | 'lan', identity: TestNode['identity']): Promise<Device> {
  const made = await makeNode({ relays: [relay], listen, loopback: true }, { identity })
  const sessions = createSessionManager({ node: made.node, identity, clock: systemClock, log: silentLogger, metrics: createMetrics(), random: Math.random })
  sessions.onChannel('echo', async (request) => {
    const channel = request.accept()
    channel.pipe(channel)
  })
  return { ...made, sessions }
}

for (const listener of ['controller', 'other end'] as const) {
  test(`only the ${listener} listens: the session moves to a direct link`, async (t) => {
    const relay = await prepareStockRelay(`reversal-${listener === 'controller' ? 'c' : 'o'}`)
    await relay.start()
    // the lower key is the controller
    const identities = (await Promise.all([makeIdentity(), makeIdentity()])).sort((one, other) => Buffer.compare(one.publicKey, other.publicKey))
    const [first, second] = identities
    assert.ok(first !== undefined && second !== undefined)
    const controller = await device(relay.address, listener === 'controller' ? 'lan' : 'none', first)
    const other = await device(relay.address, listener === 'controller' ? 'none' : 'lan', second)
    befriend(controller, other)
    t.after(async () => {
      await Promise.all([controller.sessions.stop(), other.sessions.stop()])
      await Promise.all([controller.node.stop(), other.node.stop()])
      await relay.kill()
    })
    for (const { node, sessions } of [controller, other]) {
      await sessions.start()
      await node.start()
    }
    await Promise.all([reserved(controller, PATIENCE_MS), reserved(other, PATIENCE_MS)])
    const session = await controller.sessions.open(other.did)
    assert.equal(session.link, 'stream')
    // in use
    const channel = session.openChannel('echo', new Uint8Array(0))
    channel.write('hello')
    await waitFor('a direct link', () => session.link === 'direct', PATIENT)
    assert.equal(session.path, 'lan')
    const isEchoed = new Promise<string>((resolve) => { channel.on('data', (chunk: Buffer) => { if (chunk.toString().endsWith('again')) resolve(chunk.toString()) }) })
    channel.write('again')
    assert.match(await isEchoed, /again$/)
    channel.destroy()
  })
}
