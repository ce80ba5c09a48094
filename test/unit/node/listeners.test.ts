import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Listener } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { errorCode, silentLogger } from '../../../src/base/index.ts'
import { createListeners } from '../../../src/node/listeners.ts'
import type { Listeners } from '../../../src/node/listeners.ts'

/** A machine on which `failures` name hosts that cannot be listened on, and why. */
function setUp (failures: Record<string, string> = {}): { listeners: Listeners, opened: string[], closed: string[] } {
  const opened: string[] = []
  const closed: string[] = []
  let nextPort = 5000
  const createListener = (): Listener => {
    let address: Multiaddr | undefined
    return Object.assign(new EventTarget(), {
      listen: async (wanted: Multiaddr) => {
        const [, , host = '', , port] = wanted.toString().split('/')
        const failure = failures[host]
        if (failure !== undefined) throw new Error(failure)
        address = multiaddr(wanted.toString().replace(/\/0$/, `/${nextPort++}`))
        opened.push(`${host} ${port}`)
      },
      getAddrs: () => address === undefined ? [] : [address],
      close: async () => { closed.push(String(address)) },
      updateAnnounceAddrs: () => {}
    }) as unknown as Listener
  }
  return { listeners: createListeners({ log: silentLogger, createListener }), opened, closed }
}

test('one port on every address, kept while addresses come and go', async () => {
  const { listeners, opened, closed } = setUp()
  await listeners.set(['192.168.1.5', 'fd00::5'], 0)
  assert.deepEqual(opened, ['192.168.1.5 0', 'fd00::5 5000'], 'the second takes the port of the first')
  assert.deepEqual(listeners.listening(), ['/ip4/192.168.1.5/tcp/5000', '/ip6/fd00::5/tcp/5000'])
  // two changes at once: the second waits for the first
  await Promise.all([listeners.set(['10.0.0.7'], 0), listeners.set(['10.0.0.7', 'fd00::5'], 0)])
  assert.deepEqual(listeners.listening(), ['/ip4/10.0.0.7/tcp/5000', '/ip6/fd00::5/tcp/5000'])
  await listeners.set(['10.0.0.7', 'fd00::5'], 0)
  assert.equal(opened.length, 4, 'what listens already is left alone')
  assert.equal(closed.length, 2)
  await listeners.close()
  assert.equal(closed.length, 4)
  await listeners.set(['10.0.0.7'], 0)
  assert.deepEqual(listeners.listening(), [], 'closed for good')
})

test('an address that is taken is an error that names it, and the others listen', async () => {
  const { listeners } = setUp({ '10.0.0.7': 'listen EADDRINUSE: address already in use' })
  await assert.rejects(listeners.set(['192.168.1.5', '10.0.0.7'], 4001), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE' && /10\.0\.0\.7.*EADDRINUSE/.test(String(err)))
  assert.deepEqual(listeners.listening(), ['/ip4/192.168.1.5/tcp/4001'])
})

test('a machine without IPv6 listens on IPv4', async () => {
  const { listeners } = setUp({ '::': 'listen EAFNOSUPPORT: address family not supported' })
  await listeners.set(['0.0.0.0', '::'], 4001)
  assert.deepEqual(listeners.listening(), ['/ip4/0.0.0.0/tcp/4001'])
  const taken = setUp({ '::': 'listen EADDRINUSE' })
  await assert.rejects(taken.listeners.set(['0.0.0.0', '::'], 4001), /EADDRINUSE/)
})
