/** The link port of a node that listens: tickets for one device each, at an address where it was reached already. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { errorCode } from '../../src/base/index.ts'
import type { Did } from '../../src/identity/index.ts'
import { createAddressMemory } from '../../src/node/address-memory.ts'
import { befriend, makeNode } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { quiet, readAll, readBytes, say } from '../support/splice-pair.ts'
import { waitFor, within } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

interface Taken { socket: Socket, device: Did, path: string }

/** An office that listens and a laptop that has dialled it. */
async function start (t: TestContext): Promise<{ office: TestNode, laptop: TestNode, next: () => Promise<Taken> }> {
  const addressStore = createAddressMemory()
  const office = await makeNode({ listen: 'lan', loopback: true })
  const laptop = await makeNode({ loopback: true }, { addressStore })
  befriend(office, laptop)
  const taken: Taken[] = []
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  office.node.handleLinkSockets((socket, device, path) => {
    quiet(socket)
    taken.push({ socket, device, path })
  })
  t.after(async () => {
    for (const { socket } of taken) socket.destroy()
    await Promise.all([office.node.stop(), laptop.node.stop()])
  })
  await Promise.all([office.node.start(), laptop.node.start()])
  const loopback = office.node.listenAddresses().find((one) => one.includes('127.0.0.1')) ?? office.node.listenAddresses()[0]
  assert.ok(loopback !== undefined)
  addressStore.remember(office.did, [`${loopback}/p2p/${office.identity.peerId.toString()}`])
  await laptop.node.openStream(office.did, HOLD)
  return { office, laptop, next: async () => waitFor('a link', () => taken.shift(), { deadlineMs: 30_000, intervalMs: 5 }) }
}

test('a friend that dialled us connects to our link port with a ticket, once', async (t) => {
  const { office, laptop, next } = await start(t)
  assert.equal(laptop.node.canDialLink(office.did), true)
  // it did not dial the laptop, so there is no address of the laptop to dial
  assert.equal(office.node.canDialLink(laptop.did), false)
  assert.equal(laptop.node.issueLinkTicket(office.did), undefined, 'a node that does not listen has no link port')
  const ticket = office.node.issueLinkTicket(laptop.did)
  assert.ok(ticket !== undefined)
  const { socket, path } = await laptop.node.dialLink(office.did, ticket)
  quiet(socket).write('hello')
  const link = await next()
  assert.equal(link.device, laptop.did)
  assert.equal(link.path, 'lan')
  assert.equal(path, 'lan')
  assert.equal((await readBytes(link.socket, 5)).toString(), 'hello')
  link.socket.write('world')
  assert.equal((await readBytes(socket, 5)).toString(), 'world')
  const again = quiet((await laptop.node.dialLink(office.did, ticket)).socket)
  assert.equal((await within('the end of the second', 30_000, readAll(again))).byteCount, 0)
  for (const one of [socket, again]) one.destroy()
})

test('I3: wrong tickets, other prefaces and devices that are no friends any more get nothing', async (t) => {
  const { office, laptop } = await start(t)
  const issued = office.node.issueLinkTicket(laptop.did)
  assert.ok(issued !== undefined)
  const wrong = quiet((await laptop.node.dialLink(office.did, { port: issued.port, ticket: new Uint8Array(randomBytes(32)) })).socket)
  assert.equal((await within('its end', 30_000, readAll(wrong))).byteCount, 0)
  const splice = await say(issued.port, Buffer.concat([Buffer.from('carrier-splice/1\n'), issued.ticket]))
  assert.equal((await within('its end', 30_000, readAll(splice))).byteCount, 0)
  office.levels.set(laptop.did, 'stranger')
  const late = quiet((await laptop.node.dialLink(office.did, issued)).socket)
  assert.equal((await within('its end', 30_000, readAll(late))).byteCount, 0)
  for (const one of [wrong, splice, late]) one.destroy()
})

test('a device has four unused tickets at most: the oldest is void', async (t) => {
  const { office, laptop, next } = await start(t)
  const tickets = Array.from({ length: 5 }, () => office.node.issueLinkTicket(laptop.did))
  const [first, second] = tickets
  assert.ok(first !== undefined && second !== undefined)
  const old = quiet((await laptop.node.dialLink(office.did, first)).socket)
  assert.equal((await within('its end', 30_000, readAll(old))).byteCount, 0)
  const good = quiet((await laptop.node.dialLink(office.did, second)).socket)
  assert.equal((await next()).device, laptop.did)
  for (const one of [old, good]) one.destroy()
})

test('I10: without a connection that we dialled nothing is dialled, whatever the friend names', async (t) => {
  const { office, laptop } = await start(t)
  await assert.rejects(office.node.dialLink(laptop.did, { port: 22, ticket: new Uint8Array(32) }), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
  for (const port of [0, 65_536, 1.5]) await assert.rejects(laptop.node.dialLink(office.did, { port, ticket: new Uint8Array(32) }), (err) => errorCode(err) === 'ERR_PROTOCOL')
})
