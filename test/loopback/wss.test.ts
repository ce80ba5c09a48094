/** Relays reached over WebSocket in TLS and through proxies: a private authority, names, refusals that help, and friends who meet there. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pipe } from 'it-pipe'
import { multiaddr } from '@multiformats/multiaddr'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { parseProxyUrl } from '../../src/node/index.ts'
import type { UpstreamInit } from '../../src/node/index.ts'
import { webSocketTarget } from '../../src/node/web-socket-transport.ts'
import { createTestAuthority } from '../support/certificate-authority.ts'
import type { TestAuthority, TestCertificate } from '../support/certificate-authority.ts'
import { startConnectProxy } from '../support/connect-proxy.ts'
import type { TestProxy } from '../support/test-proxy.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { startSocksProxy } from '../support/socks-proxy.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const ECHO = '/carrier/test-echo/1.0.0'
const MIB = 1024 * 1024
/** A name that only the proxies of this test know. */
const RELAY_NAME = 'relay.carrier.test'
const TIMEOUT = { timeout: 240_000 }

let authority: TestAuthority
let certificate: TestCertificate
let relay: Bootstrap
let trusted: UpstreamInit
const nodes: TestNode[] = []
const proxies: TestProxy[] = []

before(async () => {
  authority = await createTestAuthority()
  trusted = { extraCertificates: authority.certificatePem }
  certificate = await authority.issue(['localhost', '127.0.0.1', RELAY_NAME])
  const directory = makeTempDirectory('wss-relay')
  const tls = { certificateFile: join(directory, 'cert.pem'), keyFile: join(directory, 'key.pem') }
  writeFileSync(tls.certificateFile, certificate.cert)
  writeFileSync(tls.keyFile, certificate.key, { mode: 0o600 })
  relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: directory, listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/tls/ws'], tls })
  await relay.start()
})

after(async () => {
  for (const { node } of nodes) await node.stop()
  for (const proxy of proxies) await proxy.close()
  await relay.stop()
})

/** An address of the relay: its host part replaced, its transport chosen. */
function relayAddress (kind: 'tcp' | 'wss', host = '/ip4/127.0.0.1', transport = kind === 'wss' ? '/tls/ws' : ''): string {
  const parts = relay.addresses().map((text) => multiaddr(text).getComponents()).find((components) => components.some((part) => part.name === 'ws') === (kind === 'wss'))
  const port = parts?.find((part) => part.name === 'tcp')?.value
  assert.ok(port !== undefined)
  return `${host}/tcp/${port}${transport}/p2p/${relay.peerId.toString()}`
}

async function startNode (address: string, upstream: UpstreamInit): Promise<TestNode> {
  const made = await makeNode({ relays: [address], upstream })
  nodes.push(made)
  made.node.handle(ECHO, async (stream) => { await pipe(stream.source, stream.sink) }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  made.node.handleSplices({ admits: () => false, onSocket: (socket) => { socket.destroy() } })
  await made.node.start()
  return made
}

/** Two friends; bytes go there and back. */
async function assertMeets (one: TestNode, other: TestNode, byteCount: number): Promise<void> {
  befriend(one, other)
  await Promise.all([reserved(one, PATIENCE_MS), reserved(other, PATIENCE_MS)])
  const { stream } = await within('a stream', PATIENCE_MS, one.node.openStream(other.did, ECHO))
  const sent = randomBytes(byteCount)
  const received = createHash('sha256')
  let bytes = 0
  await within('the echo', 2 * PATIENCE_MS, Promise.all([
    pipe((async function * () { for (let at = 0; at < sent.length; at += 65_536) yield new Uint8Array(sent.subarray(at, at + 65_536)) })(), stream.sink),
    (async () => {
      for await (const chunk of stream.source) {
        received.update(chunk)
        bytes += chunk.byteLength
      }
    })()
  ]))
  assert.equal(bytes, byteCount)
  assert.equal(received.digest('hex'), createHash('sha256').update(sent).digest('hex'))
}

async function assertUnreachable (test: TestNode, reason: RegExp): Promise<void> {
  await waitFor(`the reason ${String(reason)}; it says ${JSON.stringify(test.node.relays())}`, () => {
    const [relay] = test.node.relays()
    return relay?.state === 'unreachable' && reason.test(relay.reason ?? '')
  }, PATIENT)
}

async function stopNodes (...some: TestNode[]): Promise<void> {
  for (const { node } of some) await node.stop()
}

describe('a relay over WebSocket in TLS, certificate of a private authority', () => {
  test('friends meet there, by address, by name and by a name that is told (sni)', TIMEOUT, async () => {
    const [one, other, third] = [await startNode(relayAddress('wss'), trusted), await startNode(relayAddress('wss', '/dns/localhost'), trusted), await startNode(relayAddress('wss', '/ip4/127.0.0.1', `/tls/sni/${RELAY_NAME}/ws`), trusted)]
    await assertMeets(one, other, 8 * MIB)
    await assertMeets(third, one, 100_000)
    // the control for the nodes behind proxies below
    await waitFor('splices to be offered', () => one.node.canSplice(relay.peerId.toString()), PATIENT)
    await stopNodes(one, other, third)
  })

  test('an authority that is not trusted, and a name that is not in the certificate, are refused with a sentence that helps', TIMEOUT, async () => {
    const stranger = await createTestAuthority()
    const [without, wrong, misnamed] = [await startNode(relayAddress('wss'), {}), await startNode(relayAddress('wss'), { extraCertificates: stranger.certificatePem }), await startNode(relayAddress('wss', '/ip4/127.0.0.1', '/tls/sni/other.carrier.test/ws'), trusted)]
    await assertUnreachable(without, /^the TLS certificate of 127\.0\.0\.1 is signed by nobody whom this machine trusts; .* ca_file in \[network\] of carrier\.toml/)
    await assertUnreachable(wrong, /signed by nobody whom this machine trusts/)
    await assertUnreachable(misnamed, /^the TLS certificate of other\.carrier\.test is for another name/)
    await stopNodes(without, wrong, misnamed)
    await assert.rejects(makeNode({ upstream: { extraCertificates: 'no certificate' } }), { code: 'ERR_CONFIG', message: /ca_file/ })
  })

  test('a port that speaks no TLS, or no WebSocket, is told apart', TIMEOUT, async () => {
    const tcpPort = multiaddr(relayAddress('tcp')).getComponents().find((part) => part.name === 'tcp')?.value ?? ''
    const [plain, health] = [await startNode(relayAddress('wss').replace(/tcp\/\d+/, `tcp/${tcpPort}`), trusted), await startNode(`/ip4/127.0.0.1/tcp/${relay.healthAddress()?.split(':')[1] ?? ''}/ws/p2p/${relay.peerId.toString()}`, {})]
    await waitFor('both to be unreachable', () => [plain, health].every(({ node }) => node.relays()[0]?.state === 'unreachable' && node.relays()[0]?.reason !== 'no attempt yet'), PATIENT)
    await assertUnreachable(health, /answers, but not as a WebSocket/)
    await stopNodes(plain, health)
  })
})

describe('a relay through a proxy, which alone knows its name', () => {
  const resolve = (host: string): string => host === RELAY_NAME ? '127.0.0.1' : host
  const credentials = { user: 'user', password: 's3cret' }

  async function startProxies (): Promise<Record<string, { proxy: TestProxy, url: string }>> {
    const http = await startConnectProxy({ resolve, credentials: 'user:s3cret' })
    const https = await startConnectProxy({ resolve, tls: certificate })
    const socks5 = await startSocksProxy({ resolve, credentials })
    proxies.push(http, https, socks5)
    return {
      http: { proxy: http, url: `http://user:s3cret@127.0.0.1:${http.port}` },
      https: { proxy: https, url: `https://localhost:${https.port}` },
      socks5: { proxy: socks5, url: `socks5://user:s3cret@127.0.0.1:${socks5.port}` }
    }
  }

  test('HTTP CONNECT, the same in TLS, SOCKS5: friends meet over plain TCP and over WebSocket in TLS, and nothing goes past the proxy', TIMEOUT, async () => {
    const all = await startProxies()
    const direct = await startNode(relayAddress('tcp'), {})
    for (const [name, { proxy, url }] of Object.entries(all)) {
      for (const kind of ['tcp', 'wss'] as const) {
        const node = await startNode(relayAddress(kind, `/dns4/${RELAY_NAME}`), { ...trusted, proxy: parseProxyUrl(url) })
        await assertMeets(node, direct, 2 * MIB)
        assert.equal(node.node.canSplice(relay.peerId.toString()), false, 'the data port would be dialled past the proxy')
        await stopNodes(node)
        await waitFor(`${name}: no connection to be left`, () => proxy.connections().open === 0, PATIENT)
      }
      assert.deepEqual([...new Set(proxy.targets.map((target) => target.split(':')[0]))], [RELAY_NAME])
    }
    // the address is known here, and still it is not used
    const byIp = await startNode(relayAddress('tcp'), { proxy: parseProxyUrl(all['http']?.url ?? '') })
    await assertMeets(byIp, direct, 1000)
    assert.equal(byIp.node.canSplice(relay.peerId.toString()), false)
    await stopNodes(byIp, direct)
  })

  test('what goes past the proxy does not touch it', TIMEOUT, async () => {
    const proxy = await startConnectProxy()
    proxies.push(proxy)
    const url = `http://127.0.0.1:${proxy.port}`
    const [excepted, loopback] = [await startNode(relayAddress('tcp'), { proxy: parseProxyUrl(url, { exceptions: ['127.0.0.0/8'] }) }), await startNode(relayAddress('wss'), { ...trusted, proxy: parseProxyUrl(url, { skipsLoopback: true }) })]
    await assertMeets(excepted, loopback, 1000)
    assert.equal(proxy.connections().count, 0)
    await stopNodes(excepted, loopback)
  })

  test('its refusal is the reason in the status, without the password', TIMEOUT, async () => {
    const proxy = await startConnectProxy({ credentials: 'user:right', allows: () => false })
    proxies.push(proxy)
    const [unnamed, wrong, forbidden] = [await startNode(relayAddress('wss'), { ...trusted, proxy: parseProxyUrl(`http://127.0.0.1:${proxy.port}`) }), await startNode(relayAddress('tcp'), { proxy: parseProxyUrl(`http://user:s3cret@127.0.0.1:${proxy.port}`) }), await startNode(relayAddress('tcp'), { proxy: parseProxyUrl(`http://user:right@127.0.0.1:${proxy.port}`) })]
    await assertUnreachable(unnamed, /^the proxy http:\/\/127\.0\.0\.1:\d+: it wants a user name and password \(407\)/)
    await assertUnreachable(wrong, /does not accept the user name and password/)
    await assertUnreachable(forbidden, /does not allow connections to 127\.0\.0\.1:\d+ \(403\)/)
    assert.doesNotMatch(JSON.stringify([wrong.node.relays(), wrong.node.problems()]), /s3cret/)
    await stopNodes(unnamed, wrong, forbidden)
  })

  test('a proxy that cuts everything: the loss is noticed and the reservation made again', TIMEOUT, async () => {
    const proxy = await startConnectProxy()
    proxies.push(proxy)
    for (const kind of ['tcp', 'wss'] as const) {
      const node = await startNode(relayAddress(kind), { ...trusted, proxy: parseProxyUrl(`http://127.0.0.1:${proxy.port}`) })
      await reserved(node, PATIENCE_MS)
      const states: string[] = []
      node.node.on('relay:state', (status) => { states.push(`${status.state} ${status.reason ?? ''}`) })
      proxy.cut()
      await waitFor(`${kind}: the loss and the new reservation, so far ${states.join(', ')}`, () => states.length > 1 && states.at(-1)?.startsWith('reserved') === true, PATIENT)
      assert.match(states[0] ?? '', /^connecting /)
      await stopNodes(node)
    }
  })
})

test('what a WebSocket address says', () => {
  const of = (text: string): unknown => {
    const target = webSocketTarget(multiaddr(text))
    return target === undefined ? undefined : [target.isTls, target.name, target.port, target.path, target.family]
  }
  assert.deepEqual(of('/ip4/192.0.2.1/tcp/80/ws'), [false, '192.0.2.1', 80, '/', undefined])
  assert.deepEqual(of('/dns4/relay.example.org/tcp/443/wss'), [true, 'relay.example.org', 443, '/', 4])
  assert.deepEqual(of('/dns6/relay.example.org/tcp/443/tls/ws/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi'), [true, 'relay.example.org', 443, '/', 6])
  assert.deepEqual(of('/ip6/2001:db8::1/tcp/443/tls/sni/relay.example.org/ws'), [true, 'relay.example.org', 443, '/', undefined])
  assert.deepEqual(of('/dns/relay.example.org/tcp/443/tls/ws/http-path/a%2Fb'), [true, 'relay.example.org', 443, '/a/b', undefined])
  for (const text of ['/ip4/192.0.2.1/tcp/80', '/ip4/192.0.2.1/udp/80', '/ip4/192.0.2.1/tcp/80/tls', '/ip4/192.0.2.1/tcp/80/ws/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi/p2p-circuit']) assert.equal(of(text), undefined, text)
})
