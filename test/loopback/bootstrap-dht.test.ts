/** The private DHT: our servers, asked by the stock client. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import type { KadDHT } from '@libp2p/kad-dht'
import type { Libp2p } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { decodeProtobuf, encodeFrame, encodeProtobuf } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { freePort } from '../support/free-port.ts'
import { firstMessage } from '../support/raw-hop.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'

const KAD = '/carrier/kad/1.0.0'

describe('the private DHT', () => {
  const servers: Bootstrap[] = []
  const clients: Libp2p[] = []
  after(async () => {
    await stopStockPeers()
    await Promise.all(clients.map(async (client) => { await client.stop() }))
    await Promise.all(servers.map(async (server) => { await server.stop() }))
  })

  async function startServer (peers: string[] = [], dataDirectory = makeTempDirectory('relay'), listen = '/ip4/127.0.0.1/tcp/0'): Promise<{ server: Bootstrap, address: string }> {
    const server = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory, listen: [listen], peers })
    servers.push(server)
    await server.start()
    return { server, address: server.addresses()[0] ?? '' }
  }

  async function startDhtClient (): Promise<Libp2p<{ dht: KadDHT }>> {
    const client = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), ping: ping(), dht: kadDHT({ protocol: KAD, clientMode: true, peerInfoMapper: passthroughMapper, allowQueryWithZeroPeers: true }) }
    })
    clients.push(client)
    return client
  }

  async function ask (client: Libp2p, address: string, type: number, key: Uint8Array): Promise<Array<{ id: Uint8Array | undefined, addresses: string[] }>> {
    const stream = await (await client.dial(multiaddr(address))).newStream(KAD)
    const answer = firstMessage(stream)
    stream.send(encodeFrame(encodeProtobuf([[1, type], [2, key]])))
    const message = decodeProtobuf(await answer, 64)
    await stream.close()
    return message.repeated(8).map((bytes) => decodeProtobuf(bytes, 64)).map((peer) => ({ id: peer.bytes(1), addresses: peer.repeated(2).map((each) => multiaddr(each).toString()) }))
  }

  test('a stock client walks from one listed server to another that it was never told of', async () => {
    const first = await startServer()
    const second = await startServer([first.address])
    await waitFor('the servers to know each other', async () => (await first.server.metrics.text()).includes('carrier_relay_dht_servers_count 1'), { deadlineMs: PATIENCE_MS })
    const client = await startDhtClient()
    await client.dial(multiaddr(first.address))
    const found = await waitFor('the second server', async () => {
      for await (const event of client.services.dht.findPeer(second.server.peerId, { signal: AbortSignal.timeout(10_000) })) {
        if (event.name === 'FINAL_PEER') return event.peer
      }
      return undefined
    }, { deadlineMs: PATIENCE_MS })
    assert.ok(second.address.startsWith(found.multiaddrs[0]?.toString() ?? 'none'))
  })

  test('I3: it names DHT servers only, never a node that is connected or reserved', async () => {
    const { server, address } = await startServer()
    const node = await startStockPeer({ relays: [address] })
    const stranger = await startStockPeer()
    const answer = await ask(stranger, address, 4, node.peerId.toMultihash().bytes)
    assert.deepEqual(answer.map(({ id }) => Buffer.from(id ?? []).toString('hex')), [Buffer.from(server.peerId.toMultihash().bytes).toString('hex')])
    for (const name of answer.flatMap(({ addresses }) => addresses)) assert.ok(!name.includes('p2p-circuit'), name)
  })

  test('PING is answered; values and providers are refused with a reset and counted', async () => {
    const { server, address } = await startServer()
    const client = await startStockPeer()
    assert.deepEqual(await ask(client, address, 5, new Uint8Array(0)), [])
    for (const [type, name] of [[0, 'put-value'], [2, 'add-provider'], [3, 'get-providers']] as const) {
      await assert.rejects(ask(client, address, type, new Uint8Array(32)), name)
      assert.match(await server.metrics.text(), new RegExp(`carrier_relay_dht_requests_total{type="${name}",outcome="refused"} 1`))
    }
  })

  test('a relay that lists a server which is down finds it once it is up', async () => {
    const dataDirectory = makeTempDirectory('relay')
    const listen = `/ip4/127.0.0.1/tcp/${await freePort()}`
    const { server: early, address } = await startServer([], dataDirectory, listen)
    await early.stop()
    const late = await startServer([address])
    assert.match(await late.server.metrics.text(), /carrier_relay_dht_servers_count 0/)
    await startServer([], dataDirectory, listen)
    await waitFor('the connection', async () => (await late.server.metrics.text()).includes('carrier_relay_dht_servers_count 1'), { deadlineMs: PATIENCE_MS })
  })
})
