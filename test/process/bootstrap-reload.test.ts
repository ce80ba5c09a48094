/** A relay whose operator changes its configuration again and again while everything runs over it: nothing is lost, and nothing wrong gets in. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { TestContext } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Libp2p, Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createTestAuthority } from '../support/certificate-authority.ts'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { startProgram } from '../support/program.ts'
import { quiet, readAll } from '../support/splice-pair.ts'
import { dialOverRelay, openStream, receiveAll, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, pause, waitFor, within } from '../support/wait.ts'

after(stopStockPeers)

const RELOAD_COUNT = 20
const SINK = '/carrier/test-sink/1.0.0'
const BLOCK_BYTES = 8 * 1024
const BLOCK_MS = 10
const AHEAD_BYTES = 256 * 1024
const CHANGEABLE = ['announce', 'peers', 'log_level', 'max_connections', 'connections', 'admission', 'quotas', 'drain_seconds', 'relay.circuit_…', 'relay.max_…', 'tls', 'announce_splice', 'relay.splice_bytes_per_second']

/** What there is at least all the time; probes of nodes are circuits too. */
const COUNTS = { connections: 6, reservations: 5, circuits: 3, splices: 1 }

interface ReloadState { at: number, result: 'ok' | 'refused', error?: string, changed: string[] }

/** A transfer that goes on until it is told to end: how many bytes of which hash came and went, and how it ended. */
interface Transfer { name: string, receivedBytes: () => number, finish: () => Promise<{ sent: string, received: string }> }

/** A source of blocks until `isOver`, not far ahead of what was received, so that the end is never far either; what it gave is hashed. */
async function * blocks (hash: Hash, receivedBytes: () => number, isOver: () => boolean): AsyncGenerator<Uint8Array> {
  const block = randomBytes(BLOCK_BYTES)
  for (let index = 0; !isOver(); await pause(BLOCK_MS)) {
    if (index * BLOCK_BYTES - receivedBytes() > AHEAD_BYTES) continue
    block.writeUInt32BE(index++, 0)
    hash.update(block)
    yield Uint8Array.from(block)
  }
}

/** Over a circuit between two stock peers. */
async function overStockCircuit (address: string, [office, laptop]: readonly [Libp2p, Libp2p]): Promise<Transfer & { closedCount: () => number }> {
  const received = Promise.withResolvers<Awaited<ReturnType<typeof receiveAll>>>()
  let receivedBytes = 0
  await office.handle(SINK, (stream) => {
    stream.addEventListener('message', ({ data }) => { receivedBytes += data.byteLength })
    receiveAll(stream).then(received.resolve, received.reject)
  }, { runOnLimitedConnection: true })
  const stream: Stream = await openStream(await dialOverRelay(laptop, address, office), SINK)
  let closedCount = 0
  for (const peer of [office, laptop]) peer.addEventListener('connection:close', () => { closedCount++ })
  let isOver = false
  const hash = createHash('sha256')
  const sending = (async () => {
    for await (const block of blocks(hash, () => receivedBytes, () => isOver)) if (!stream.send(block)) await drained(stream)
    await stream.close()
    return hash.digest('hex')
  })()
  sending.catch(() => { /* told by finish */ })
  return {
    name: 'a circuit of stock peers',
    closedCount: () => closedCount,
    receivedBytes: () => receivedBytes,
    finish: async () => {
      isOver = true
      const [sent, { sha256 }] = await Promise.all([sending, received.promise])
      return { sent, received: sha256 }
    }
  }
}

async function drained (stream: Stream): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onDrain = (): void => {
      stream.removeEventListener('close', onClose)
      resolve()
    }
    const onClose = (): void => { reject(new Error('the stream closed while it was written')) }
    stream.addEventListener('drain', onDrain, { once: true })
    stream.addEventListener('close', onClose, { once: true })
  })
}

/** Two friends at one relay; what comes to the office, and how often one of the two was not reserved since. */
interface Nodes { office: TestNode, laptop: TestNode, socket: Promise<Socket>, stream: { receivedBytes: () => number, sha256: Promise<string> }, lossCount: () => number }

async function startNodes (t: TestContext, address: string, init: Parameters<typeof makeNode>[0] = {}): Promise<Nodes> {
  const nodes = [await makeNode({ relays: [address], ...init }), await makeNode({ relays: [address], ...init })] as const
  const [office, laptop] = nodes
  befriend(office, laptop)
  t.after(async () => { for (const { node } of nodes) await node.stop() })
  const socket = Promise.withResolvers<Socket>()
  const received = Promise.withResolvers<string>()
  received.promise.catch(() => { /* told by the transfer */ })
  let [lossCount, receivedBytes] = [0, 0]
  office.node.handle(SINK, async (stream) => {
    try {
      const hash = createHash('sha256')
      for await (const chunk of stream.source) {
        receivedBytes += chunk.length
        hash.update(chunk)
      }
      received.resolve(hash.digest('hex'))
    } catch (err) {
      received.reject(err instanceof Error ? err : new Error(String(err)))
    }
  }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  for (const { node } of nodes) node.handleSplices({ admits: () => true, onSocket: (one) => { socket.resolve(quiet(one)) } })
  for (const { node } of nodes) await node.start()
  for (const node of nodes) await reserved(node, PATIENCE_MS)
  for (const { node } of nodes) node.on('relay:state', ({ state }) => { if (state !== 'reserved') lossCount++ })
  return { office, laptop, socket: socket.promise, stream: { receivedBytes: () => receivedBytes, sha256: received.promise }, lossCount: () => lossCount }
}

/** Over a circuit between two nodes of ours. */
async function overCircuit (name: string, { office, laptop, stream: inbound }: Nodes): Promise<Transfer> {
  const { stream } = await laptop.node.openStream(office.did, SINK)
  let isOver = false
  const hash = createHash('sha256')
  const sending = stream.sink(blocks(hash, inbound.receivedBytes, () => isOver)).then(() => hash.digest('hex'))
  sending.catch(() => { /* told by finish */ })
  return {
    name,
    receivedBytes: inbound.receivedBytes,
    finish: async () => {
      isOver = true
      const [sent, received] = await Promise.all([sending, inbound.sha256])
      return { sent, received }
    }
  }
}

/** Over a splice between two nodes of ours. */
async function overSplice (relayId: string, { office, laptop, socket }: Nodes): Promise<Transfer> {
  await waitFor('both to know the splice port', () => office.node.canSplice(relayId) && laptop.node.canSplice(relayId), PATIENT)
  const caller = quiet(await laptop.node.openSplice(office.did, relayId))
  const called = await within('the socket of the other end', PATIENCE_MS, socket)
  const reading = readAll(called)
  let isOver = false
  const hash = createHash('sha256')
  const sending = (async () => {
    for await (const block of blocks(hash, () => called.bytesRead, () => isOver)) if (!caller.write(block)) await once(caller, 'drain')
    caller.end()
    return hash.digest('hex')
  })()
  sending.catch(() => { /* told by finish */ })
  return {
    name: 'a splice',
    receivedBytes: () => called.bytesRead,
    finish: async () => {
      isOver = true
      const [sent, { sha256, how }] = await Promise.all([sending, reading])
      called.end()
      assert.equal(how, 'end')
      return { sent, received: sha256 }
    }
  }
}

test('I4: twenty reloads of everything that can change, and wrong ones between them, under transfers over circuits, WebSockets in TLS and splices: no byte and no connection is lost', { timeout: 300_000 }, async (t) => {
  const directory = makeTempDirectory('reload')
  const file = join(directory, 'relay.toml')
  const [allowFile, certFile, keyFile] = [join(directory, 'allow.txt'), join(directory, 'cert.pem'), join(directory, 'key.pem')]
  const authority = await createTestAuthority()
  const renew = async (): Promise<void> => {
    const { cert, key } = await authority.issue(['127.0.0.1'])
    writeFileSync(certFile, cert)
    writeFileSync(keyFile, key)
  }
  await renew()
  const fresh = async (): Promise<string> => peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
  /** Lines 1 to 4 are always the same. */
  const base = `data_dir = "${directory}"\nlisten = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/tls/ws"]\nhealth = "127.0.0.1:0"\ntls = { cert_file = "${certFile}", key_file = "${keyFile}" }\n`
  writeFileSync(file, base)
  const program = startProgram(process.execPath, ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--config', file], { env: carrierFreeEnvironment(), name: 'carrier-bootstrap' })
  t.after(async () => { await program.stop({ signal: 'SIGKILL' }) })
  const report = JSON.parse(await program.line(0)) as { peerId: string, addresses: string[], splice: number }
  const [tcp, wss] = [report.addresses.find((text) => !text.includes('/ws')), report.addresses.find((text) => text.includes('/tls/ws'))]
  assert.ok(tcp !== undefined && wss !== undefined)

  const stockPeers = [await startStockPeer({ relays: [tcp] }), await startStockPeer()] as const
  const inTls = await startNodes(t, wss, { upstream: { extraCertificates: authority.certificatePem } })
  const plain = await startNodes(t, tcp)
  const peerIds = [...stockPeers.map((peer) => peer.peerId.toString()), ...[inTls.office, inTls.laptop, plain.office, plain.laptop].map(({ identity }) => identity.peerId.toString())]
  const ask = async (method: string, path: string): Promise<unknown> => within(path, PATIENCE_MS, new Promise((resolve, reject) => {
    request({ socketPath: join(directory, 'control.sock'), method, path }, (response) => {
      let text = ''
      response.on('data', (part: Buffer) => { text += part.toString() })
      response.on('end', () => { resolve(JSON.parse(text)) })
    }).on('error', reject).end()
  }))
  const status = async (): Promise<{ lastReload?: ReloadState, connections: number, reservations: number, circuits: number, splices: number, admission: { allow: number } }> => await ask('GET', '/v1/status') as Awaited<ReturnType<typeof status>>
  /** By the control socket and by the signal in turn. */
  const reload = async (bySignal: boolean): Promise<ReloadState> => {
    if (!bySignal) return await ask('POST', '/v1/reload') as ReloadState
    const before = (await status()).lastReload
    process.kill(program.pid, 'SIGHUP')
    return waitFor('the reload', async () => {
      const { lastReload } = await status()
      return lastReload !== undefined && JSON.stringify(lastReload) !== JSON.stringify(before) ? lastReload : undefined
    }, PATIENT)
  }

  writeFileSync(allowFile, `${peerIds.join('\n')}\n`)
  const text = async (index: number): Promise<string> => `${base}announce = ["/ip4/192.0.2.7/tcp/${4000 + index}"]
peers = ["/ip4/127.0.0.1/tcp/1/p2p/${await fresh()}"]
log_level = "${index % 2 === 0 ? 'info' : 'warn'}"
max_connections = ${100 + index}
announce_splice = ${index === 0 ? report.splice : 20_000 + index}
drain_seconds = ${20 + index}
[connections]
per_source_per_second = ${500 + index}
max_pending = ${100 + index}
[admission]
mode = "${index % 2 === 0 ? 'open' : 'allow-list'}"
callers = "${index % 3 === 0 ? 'anyone' : 'listed'}"
allow_file = "${allowFile}"
friends = ["${peerIds[1] ?? ''}", "${await fresh()}"]
[quotas]
bytes_per_second = ${9_000_000 + index}
[quotas.member]
reservations = ${50 + index}
circuits = ${60 + index}
bytes_per_second = ${5_000_000 + index}
bytes_per_day = ${index % 2 === 0 ? 900_000_000_000 : 800_000_000_000}
[quotas.friend]
bytes_per_second = ${3_000_000 + index}
[quotas.stranger]
reservations = ${50 + index}
bytes_per_day = ${700_000_000_000 + index}
[relay]
max_reservations = ${10 + index}
reservation_ttl_seconds = ${3600 + index}
max_circuits = ${20 + index}
max_circuits_per_caller = ${10 + index}
max_circuits_per_called = ${10 + index}
max_buffered_bytes = ${64 * 1024 * 1024 + index}
circuit_duration_seconds = ${3600 + index}
circuit_data_bytes = ${1_000_000_000 + index}
splice_bytes_per_second = ${4_000_000 + index}
`
  const stock = await overStockCircuit(tcp, stockPeers)
  writeFileSync(file, await text(0))
  assert.equal((await reload(false)).result, 'ok')
  // the one circuit counts to the class of strangers, what is opened now to those that they keep
  const transfers: Transfer[] = [stock, await overCircuit('a circuit over WebSockets in TLS', inTls), await overCircuit('a circuit', plain), await overSplice(report.peerId, plain)]
  await waitFor('bytes in all of them', () => transfers.every(({ receivedBytes }) => receivedBytes() > BLOCK_BYTES), PATIENT)
  const beganAt = transfers.map(({ receivedBytes }) => receivedBytes())

  /** Each with what the operator is told; they are undone by the next right one. */
  const wrong: Array<{ write: () => void, expected: RegExp }> = [
    { write: () => { writeFileSync(file, `${base}max_connections = 0\n`) }, expected: /relay\.toml:5: max_connections: / },
    { write: () => { writeFileSync(file, `${base}drain_seconds = 5\n\n[quotas.member]\nbytes_per_weekk = 5000\n`) }, expected: /relay\.toml:8: quotas\.member\.bytes_per_weekk: unknown key/ },
    { write: () => { writeFileSync(file, `${base}announce = ["/ip4/192.0.2.7/udp/4001"]\n`) }, expected: /relay\.toml:5: announce\.0: "\/ip4\/192\.0\.2\.7\/udp\/4001" cannot be announced/ },
    { write: () => { writeFileSync(file, `${base}[admission\nmode = "open"\n`) }, expected: /relay\.toml:5: / },
    { write: () => { writeFileSync(file, `${base}[admission]\nmode = "some"\n`) }, expected: /relay\.toml:6: admission\.mode: / },
    {
      write: () => {
        writeFileSync(allowFile, `${peerIds.join('\n')}\nnobody\n`)
        writeFileSync(file, `${base}[admission]\nallow_file = "${allowFile}"\n`)
      },
      expected: new RegExp(`allow\\.txt:${peerIds.length + 1}: "nobody" is neither a DID`)
    },
    { write: () => { writeFileSync(keyFile, 'no key\n') }, expected: /relay\.toml:4: the certificate .*cert\.pem and the key .*key\.pem cannot be used/ }
  ]
  const changed = new Set<string>()
  for (let index = 1; index <= RELOAD_COUNT; index++) {
    const bad = index % 2 === 0 ? wrong[(index / 2 - 1) % wrong.length] : undefined
    if (bad !== undefined) {
      bad.write()
      const refused = await reload(index % 4 === 0)
      assert.equal(refused.result, 'refused', `${index}: it was taken`)
      assert.match(refused.error ?? '', bad.expected)
    }
    writeFileSync(allowFile, `${[...peerIds, ...await Promise.all(Array.from({ length: index }, fresh))].join('\n')}\n`)
    await renew()
    writeFileSync(file, await text(index))
    const state = await reload(index % 3 === 0)
    assert.equal(state.result, 'ok', `${index}: ${state.error ?? ''}`)
    for (const name of state.changed) changed.add(name)
    const now = await status()
    assert.equal(now.admission.allow, peerIds.length + index)
    for (const name of ['connections', 'reservations', 'circuits', 'splices'] as const) assert.ok(now[name] >= COUNTS[name], `reload ${index} lost ${name}: ${now[name]}`)
  }
  assert.deepEqual([...changed].toSorted(), [...CHANGEABLE].toSorted(), 'not everything that can change was changed')
  for (const [index, { name, receivedBytes }] of transfers.entries()) assert.ok(receivedBytes() > (beganAt[index] ?? 0), `nothing moved over ${name} meanwhile: it proves nothing`)
  for (const { name, receivedBytes, finish } of transfers) {
    const { sent, received } = await within(`the end of the transfer over ${name}`, PATIENCE_MS, finish())
    assert.equal(received, sent, `I4: other bytes came over ${name}`)
    console.log(`${name}: ${(receivedBytes() / 1e6).toFixed(1)} MB`)
  }
  assert.equal(stock.closedCount(), 0, 'a stock peer lost a connection')
  assert.equal(inTls.lossCount() + plain.lossCount(), 0, 'a node lost its relay')
})
