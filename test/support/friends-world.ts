/** Friend lists that talk to one another in memory: a network that tests switch on and off, and processes that die. */
import { join } from 'node:path'
import { createMetrics, openDatabase, silentLogger, CarrierError } from '../../src/base/index.ts'
import type { Database, Logger, Metrics } from '../../src/base/index.ts'
import type { AuditEntry } from '../../src/audit/index.ts'
import { createFriends, FRIENDS_MIGRATIONS } from '../../src/friends/index.ts'
import type { FriendEvents, Friends } from '../../src/friends/index.ts'
import { didFromPublicKey, formatAddress, publicKeyFromDid } from '../../src/identity/index.ts'
import type { Did } from '../../src/identity/index.ts'
import type { NodeEvents, Peer, PeerLevel, PeerStream, StreamHandler } from '../../src/node/index.ts'
import { ed25519 } from '@noble/curves/ed25519.js'
import { createFakeClock } from './fake-clock.ts'
import type { FakeClock } from './fake-clock.ts'

/** A DID whose key is made from a number. */
export function didNumber (number: number): Did {
  const seed = new Uint8Array(32)
  new DataView(seed.buffer).setUint32(28, number)
  return didFromPublicKey(ed25519.getPublicKey(seed))
}

/** One direction of a stream. */
function createPipe (): { push: (bytes: Uint8Array) => void, end: () => void, fail: (err: Error) => void, source: AsyncGenerator<Uint8Array> } {
  const chunks: Uint8Array[] = []
  let isEnded = false
  let failure: Error | undefined
  let wake = (): void => {}
  async function * read (): AsyncGenerator<Uint8Array> {
    while (true) {
      if (failure !== undefined) throw failure
      const chunk = chunks.shift()
      if (chunk !== undefined) yield chunk
      else if (isEnded) return
      else await new Promise<void>((resolve) => { wake = resolve })
    }
  }
  return {
    push: (bytes) => { chunks.push(bytes); wake() },
    end: () => { isEnded = true; wake() },
    fail: (err) => { failure ??= err; wake() },
    source: read()
  }
}

/** Two joined streams. `fail` is what a lost connection does to both. */
export function createStreamPair (): { near: PeerStream, far: PeerStream, fail: (err: Error) => void, sent: { near: Uint8Array[], far: Uint8Array[] } } {
  const toFar = createPipe()
  const toNear = createPipe()
  const sent = { near: [] as Uint8Array[], far: [] as Uint8Array[] }
  let openSides = 2
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  const lost = new CarrierError('ERR_LINK_LOST', 'the other side reset the stream')
  let isDead = false

  function fail (err: Error): void {
    if (openSides === 0) return
    isDead = true
    toFar.fail(err)
    toNear.fail(err)
    resolve()
  }

  function side (out: ReturnType<typeof createPipe>, source: AsyncGenerator<Uint8Array>, record: Uint8Array[]): PeerStream {
    let isWriting = true
    return {
      source,
      sink: async (bytes) => {
        for await (const chunk of bytes) {
          if (isDead) throw lost
          record.push(chunk)
          out.push(chunk)
        }
        if (isDead) throw lost
        if (!isWriting) return
        isWriting = false
        out.end()
        openSides--
        if (openSides === 0) resolve()
      },
      abort: () => { fail(lost) },
      closed
    }
  }
  return { near: side(toFar, toNear.source, sent.near), far: side(toNear, toFar.source, sent.far), fail, sent }
}

type Listeners = { [Name in keyof NodeEvents]: Set<(payload: NodeEvents[Name]) => void> }

interface Host {
  did: Did
  isOnline: boolean
  handler: StreamHandler | undefined
  levels: readonly PeerLevel[]
  levelOf: (did: Did) => PeerLevel
  listeners: Listeners
  connections: Set<Did>
  streams: Set<{ peer: Did, fail: (err: Error) => void }>
}

/** A person with a friend list, in a process that may die. */
export interface Person {
  did: Did
  /** Becomes another object after a restart. */
  friends: Friends
  audit: AuditEntry[]
  strangers: string[]
  events: Array<{ name: string, payload: unknown }>
  metrics: Metrics
  database: Database
  /** The address that carries a right nospam (until `revoke`). */
  address: string
  wrongAddress: string
  disconnected: Did[]
  /** Fails every audit record while true. */
  isAuditBroken: boolean
  isNospamRevoked: boolean
  goOnline: () => void
  goOffline: () => void
  /** Stops and starts again over the same file. */
  restart: () => Promise<void>
  /** Dies without a goodbye and starts again over the same file. */
  crash: () => Promise<void>
  stop: () => Promise<void>
}

/** The network between persons. */
export interface World {
  clock: FakeClock
  createPerson: (number: number, init?: { isOnline?: boolean, log?: Logger }) => Promise<Person>
  /** Opens a raw friend stream to `to` as a peer that plays by its own rules. */
  dialAs: (from: Did, to: Person) => { stream: PeerStream, handled: Promise<void>, sent: { near: Uint8Array[], far: Uint8Array[] } }
  /** Loses the answer of the next n messages: the other side has handled them, the sender does not know. */
  loseAnswers: (count: number) => void
  /** Messages that reached a handler. */
  readonly messageCount: number
  /** Simulates a relay that becomes reserved at `person`. */
  announceRelay: (person: Person) => void
  /** Lets deliveries happen for a while. */
  settle: (ms?: number) => Promise<void>
  stop: () => Promise<void>
}

/** Creates a world whose databases live in `directory`. */
export function createWorld (directory: string): World {
  const clock = createFakeClock()
  const hosts = new Map<Did, Host>()
  const persons: Person[] = []
  let answersToLose = 0
  let messageCount = 0

  function disconnect (one: Host, otherDid: Did): void {
    const other = hosts.get(otherDid)
    for (const [host, peer] of [[one, otherDid], [other, one.did]] as const) {
      if (host === undefined) continue
      for (const stream of [...host.streams]) {
        if (stream.peer === peer) stream.fail(new CarrierError('ERR_LINK_LOST', 'the connection is gone'))
      }
      if (host.connections.delete(peer)) for (const listener of host.listeners['peer:disconnected']) listener({ device: peer })
    }
  }

  function peerOf (host: Host, device: Did): Peer {
    return { device, owner: device, level: host.levelOf(device), instanceId: undefined, path: 'relayed', relayPeerId: undefined }
  }

  function connect (from: Host, to: Host): void {
    if (from.connections.has(to.did)) return
    from.connections.add(to.did)
    to.connections.add(from.did)
    for (const listener of to.listeners['peer:authenticated']) listener({ peer: peerOf(to, from.did), direction: 'inbound' })
    for (const listener of from.listeners['peer:authenticated']) listener({ peer: peerOf(from, to.did), direction: 'outbound' })
  }

  function openStream (from: Host, toDid: Did): { stream: PeerStream, handled: Promise<void>, sent: { near: Uint8Array[], far: Uint8Array[] } } {
    const to = hosts.get(toDid)
    if (to === undefined || !from.isOnline || !to.isOnline || to.handler === undefined || to.levelOf(from.did) === 'blocked' || from.levelOf(toDid) === 'blocked') {
      throw new CarrierError('ERR_PEER_OFFLINE', `${toDid} cannot be reached`)
    }
    connect(from, to)
    if (!to.levels.includes(to.levelOf(from.did))) throw new CarrierError('ERR_NOT_AVAILABLE', 'refused')
    const pair = createStreamPair()
    const entries = [{ host: from, entry: { peer: toDid, fail: pair.fail } }, { host: to, entry: { peer: from.did, fail: pair.fail } }]
    for (const { host, entry } of entries) host.streams.add(entry)
    void pair.near.closed.then(() => { for (const { host, entry } of entries) host.streams.delete(entry) })
    messageCount++
    let far = pair.far
    if (answersToLose > 0) {
      answersToLose--
      far = { ...pair.far, sink: async () => { pair.fail(new CarrierError('ERR_LINK_LOST', 'the connection is gone')) } }
    }
    const handled = to.handler(far, peerOf(to, from.did))
    handled.catch(() => {})
    return { stream: pair.near, handled, sent: pair.sent }
  }

  async function createPerson (number: number, init: { isOnline?: boolean, log?: Logger } = {}): Promise<Person> {
    const did = didNumber(number)
    const rightNospam = Uint8Array.of(0, 1, number & 0xff, number >> 8, 5, 6, 7, 8)
    const path = join(directory, `person-${number}.db`)
    const host: Host = {
      did,
      isOnline: init.isOnline ?? true,
      handler: undefined,
      levels: [],
      levelOf: () => 'stranger',
      connections: new Set(),
      streams: new Set(),
      listeners: { 'relay:state': new Set(), 'peer:authenticated': new Set(), 'peer:disconnected': new Set() } as Listeners
    }
    hosts.set(did, host)

    const person = {
      did,
      audit: [] as AuditEntry[],
      strangers: [] as string[],
      events: [] as Array<{ name: string, payload: unknown }>,
      disconnected: [] as Did[],
      address: formatAddress({ publicKey: publicKeyFromDid(did), nospam: rightNospam }),
      wrongAddress: formatAddress({ publicKey: publicKeyFromDid(did), nospam: new Uint8Array(8).fill(9) }),
      isAuditBroken: false,
      isNospamRevoked: false
    } as Person
    persons.push(person)

    async function open (): Promise<void> {
      person.database = openDatabase({ path, name: 'state', migrations: FRIENDS_MIGRATIONS, synchronous: 'NORMAL' })
      person.metrics = createMetrics()
      for (const set of Object.values(host.listeners)) set.clear()
      person.friends = createFriends({
        database: person.database,
        identity: { did },
        addressBook: { accepts: (nospam) => !person.isNospamRevoked && Buffer.compare(nospam, rightNospam) === 0 },
        node: {
          handle: (_protocol, handler, options) => {
            host.handler = handler
            host.levels = options.levels
          },
          on: (name, listener) => {
            const set = host.listeners[name] as Set<typeof listener>
            set.add(listener)
            return () => { set.delete(listener) }
          },
          openStream: async (device) => ({ stream: openStream(host, device).stream, peer: peerOf(host, device) }),
          disconnect: async (device) => {
            person.disconnected.push(device)
            disconnect(host, device)
          }
        },
        audit: {
          record: async (entry) => {
            if (person.isAuditBroken) throw new CarrierError('ERR_AUDIT', 'the disk is full')
            person.audit.push(entry)
          },
          countStranger: (peerId) => { person.strangers.push(peerId) }
        },
        clock,
        random: () => 0.5,
        log: init.log ?? silentLogger,
        metrics: person.metrics
      })
      host.levelOf = person.friends.levelOf
      for (const name of ['friend:requested', 'friend:added', 'friend:rejected', 'friend:removed', 'friend:blocked', 'friend:labelled'] as const) {
        person.friends.on(name, (payload: FriendEvents[typeof name]) => { person.events.push({ name, payload }) })
      }
      await person.friends.start()
    }

    function cutAll (): void {
      for (const peer of [...host.connections]) disconnect(host, peer)
    }

    person.goOnline = () => { host.isOnline = true }
    person.goOffline = () => {
      host.isOnline = false
      cutAll()
    }
    person.stop = async () => {
      host.handler = undefined
      cutAll()
      await person.friends.stop()
      person.database.close()
    }
    person.restart = async () => {
      await person.stop()
      await open()
    }
    person.crash = async () => {
      host.handler = undefined
      // what the dead process still had under way finds a closed database
      person.database.close()
      cutAll()
      await person.friends.stop().catch(() => {})
      await open()
    }
    await open()
    return person
  }

  return {
    clock,
    createPerson,
    dialAs: (from, to) => {
      const known = hosts.get(from)
      const host = known ?? {
        did: from,
        isOnline: true,
        handler: undefined,
        levels: [],
        levelOf: () => 'friend' as const,
        connections: new Set<Did>(),
        streams: new Set(),
        listeners: { 'relay:state': new Set(), 'peer:authenticated': new Set(), 'peer:disconnected': new Set() } as Listeners
      }
      return openStream(host, to.did)
    },
    loseAnswers: (count) => { answersToLose = count },
    get messageCount () { return messageCount },
    announceRelay: (person) => {
      for (const listener of hosts.get(person.did)?.listeners['relay:state'] ?? []) {
        listener({ peerId: 'relay', address: '/dns4/relay', state: 'reserved', rttMs: undefined, loadPermille: undefined, isChosen: true, reason: undefined })
      }
    },
    settle: async (ms = 200) => { await clock.advance(ms) },
    stop: async () => { for (const person of persons) await person.stop().catch(() => {}) }
  }
}
