/** Splices for tests: a relay, two nodes on it, and sockets that are read to their end. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapComponents, BootstrapConfig } from '../../src/bootstrap/index.ts'
import type { Did } from '../../src/identity/index.ts'
import { befriend, makeNode, reserved } from './node-pair.ts'
import type { TestNode } from './node-pair.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENCE_MS, waitFor, within } from './wait.ts'

/** A relay in this process with a splice port. */
export async function startSpliceRelay (t: Pick<TestContext, 'after'>, init: Partial<BootstrapConfig> = {}, components: BootstrapComponents = {}): Promise<{ relay: Bootstrap, address: string, peerId: string }> {
  const relay = await createBootstrap(components, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], ...init })
  t.after(async () => { await relay.stop() })
  await relay.start()
  const address = relay.addresses()[0]
  assert.ok(address !== undefined)
  return { relay, address, peerId: relay.peerId.toString() }
}

/** Two friends at one relay; what comes in at `office` is taken with `nextSocket`. */
export interface SplicePairNodes {
  relay: Bootstrap
  relayId: string
  address: string
  office: TestNode
  laptop: TestNode
  /** Whether `office` takes splices; true at first. */
  isAdmitting: { value: boolean }
  /** Who was asked about by `admits`. */
  asked: Did[]
  /** The next socket that the office is handed. */
  nextSocket: () => Promise<Socket>
  /** Both ends of a fresh splice. */
  splice: () => Promise<{ caller: Socket, called: Socket }>
}

/** Starts relay and nodes and waits until both can splice. */
export async function startSplicePair (t: Pick<TestContext, 'after'>, init: Partial<BootstrapConfig> = {}, components: BootstrapComponents = {}): Promise<SplicePairNodes> {
  const { relay, address, peerId: relayId } = await startSpliceRelay(t, init, components)
  const office = await makeNode({ relays: [address] })
  const laptop = await makeNode({ relays: [address] })
  befriend(office, laptop)
  const isAdmitting = { value: true }
  const asked: Did[] = []
  const arrived: Socket[] = []
  office.node.handleSplices({
    admits: (device) => {
      asked.push(device)
      return isAdmitting.value
    },
    onSocket: (socket) => {
      quiet(socket)
      arrived.push(socket)
    }
  })
  t.after(async () => { await Promise.all([office.node.stop(), laptop.node.stop()]) })
  await Promise.all([office.node.start(), laptop.node.start()])
  await Promise.all([reserved(office, 30_000), reserved(laptop, 30_000)])
  await waitFor('both to know the splice port', () => office.node.canSplice(relayId) && laptop.node.canSplice(relayId), { deadlineMs: PATIENCE_MS, intervalMs: 10 })
  const nextSocket = async (): Promise<Socket> => waitFor('the socket of the called end', () => arrived.shift(), { deadlineMs: PATIENCE_MS, intervalMs: 5 })
  return {
    relay,
    relayId,
    address,
    office,
    laptop,
    isAdmitting,
    asked,
    nextSocket,
    splice: async () => {
      const caller = quiet(await laptop.node.openSplice(office.did, relayId))
      return { caller, called: await nextSocket() }
    }
  }
}

/** A socket whose errors are told by its end only. */
export function quiet<One extends Socket> (socket: One): One {
  return socket.on('error', () => { /* 'close' follows */ })
}

/** Everything that comes until the socket ends or is gone. */
export async function readAll (socket: Socket): Promise<{ sha256: string, byteCount: number, how: 'end' | 'close' }> {
  const hash = createHash('sha256')
  let byteCount = 0
  return new Promise((resolve) => {
    // an end without bytes before it is told also to a socket that nobody reads
    if (socket.readableEnded || socket.destroyed) {
      resolve({ sha256: hash.digest('hex'), byteCount, how: socket.readableEnded ? 'end' : 'close' })
      return
    }
    socket.on('data', (chunk: Buffer) => {
      hash.update(chunk)
      byteCount += chunk.length
    })
    socket.once('end', () => { resolve({ sha256: hash.digest('hex'), byteCount, how: 'end' }) })
    socket.once('close', () => { if (!socket.readableEnded) resolve({ sha256: hash.digest('hex'), byteCount, how: 'close' }) })
    socket.resume()
  })
}

/** Reads exactly `byteCount` bytes. */
export async function readBytes (socket: Socket, byteCount: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let missing = byteCount
  return within(`${byteCount} bytes`, 60_000, new Promise<Buffer>((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk)
      missing -= chunk.length
      if (missing > 0) return
      socket.pause()
      if (missing < 0) {
        chunks.push((chunks.pop() ?? chunk).subarray(0, missing))
        socket.unshift(chunk.subarray(missing))
      }
      socket.removeListener('data', onData)
      socket.removeListener('close', onClose)
      resolve(Buffer.concat(chunks))
    }
    const onClose = (): void => { reject(new Error(`closed ${missing} bytes too early`)) }
    socket.on('data', onData)
    socket.on('close', onClose)
    socket.resume()
  }))
}

/** Writes random bytes of this length, as fast as they go; gives their hash when all are handed to the socket. */
export async function writeRandom (socket: Socket, byteCount: number): Promise<string> {
  const hash = createHash('sha256')
  for (let left = byteCount; left > 0;) {
    const chunk = randomBytes(Math.min(left, 100_000))
    left -= chunk.length
    hash.update(chunk)
    if (!socket.write(chunk)) await once(socket, 'drain')
  }
  return hash.digest('hex')
}

/** A TCP connection of this machine as two sockets; both are paused. */
export async function tcpPair (t: Pick<TestContext, 'after'>): Promise<{ outside: Socket, accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  const accepting = once(server, 'connection') as Promise<[Socket]>
  const outside = quiet(connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true }))
  const [accepted] = await accepting
  await once(outside, 'connect')
  t.after(() => {
    outside.destroy()
    accepted.destroy()
    server.close()
  })
  return { outside, accepted: quiet(accepted) }
}

/** A socket to a port of this machine that has said `bytes`. */
export async function say (port: number, bytes: Uint8Array): Promise<Socket> {
  const socket = quiet(connect({ port, host: '127.0.0.1', allowHalfOpen: true }))
  await once(socket, 'connect')
  if (bytes.length > 0) socket.write(bytes)
  return socket
}

/** The value of one line of the metrics; 0 when it is not there. */
export async function metricOf (source: { metrics: { text: () => Promise<string> } }, line: string): Promise<number> {
  const found = (await source.metrics.text()).split('\n').find((candidate) => candidate.startsWith(`${line} `))
  return found === undefined ? 0 : Number(found.split(' ').at(-1))
}
