/** Two forwarding engines over joined sessions: an office that offers and a laptop that dials, with everything around them faked but sockets and SQLite. */
import { generateKeyPairSync } from 'node:crypto'
import { join } from 'node:path'
import type { AuditEntry, AuditLog } from '../../src/audit/index.ts'
import { CarrierError, createEmitter, createMetrics, openDatabase, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Clock, Database, Logger, Metrics } from '../../src/base/index.ts'
import { createForwarding, FORWARDING_MIGRATIONS } from '../../src/forwarding/index.ts'
import type { DeclaredForward, DeclaredService, Forwarding } from '../../src/forwarding/index.ts'
import { FRIENDS_MIGRATIONS } from '../../src/friends/index.ts'
import type { Friend, FriendEvents, Friends } from '../../src/friends/index.ts'
import { didFromPublicKey } from '../../src/identity/index.ts'
import type { Did } from '../../src/identity/index.ts'
import type { SessionManager } from '../../src/session/index.ts'
import { createFakeSessionPair, fakePeer } from './fake-sessions.ts'
import type { FakeSessionPair } from './fake-sessions.ts'
import { createRealSessionPair } from './real-sessions.ts'
import { makeTempDirectory } from './temp-directory.ts'

/** A new device's DID. */
export function randomDid (): Did {
  const { publicKey } = generateKeyPairSync('ed25519')
  return didFromPublicKey(new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)))
}

/** A friend list that does what a test says. */
export interface FakeFriends extends Pick<Friends, 'resolve' | 'get' | 'ownerOf' | 'on'> {
  add: (did: Did, label: string, state?: Friend['state']) => void
  relabel: (did: Did, label: string) => void
  remove: (did: Did) => void
  block: (did: Did) => void
}

/** Creates an empty friend list whose rows are in `database`, as the real one's. */
export function createFakeFriends (database: Database): FakeFriends {
  const list = new Map<Did, Friend>()
  const emitter = createEmitter<FriendEvents>(silentLogger)
  for (const row of database.all('SELECT owner_did, label, state FROM friend')) {
    const did = row['owner_did'] as Did
    list.set(did, { owner: did, devices: [did], label: String(row['label']), state: row['state'] as Friend['state'], addedAt: 0, lastSeenAt: undefined })
  }
  function drop (did: Did): void {
    database.run('DELETE FROM friend WHERE owner_did = ?', did)
    list.delete(did)
  }
  return {
    on: emitter.on,
    get: (owner) => list.get(owner),
    ownerOf: (device) => device,
    resolve: (who) => {
      const friend = [...list.values()].find((one) => one.owner === who || one.label === who)
      if (friend === undefined) throw new CarrierError('ERR_UNKNOWN_FRIEND', `nobody is called "${who}"`)
      return friend
    },
    add: (did, label, state = 'friend') => {
      database.run('INSERT INTO friend (owner_did, label, state, request_ids, added_at) VALUES (?, ?, ?, ?, 0) ON CONFLICT (owner_did) DO UPDATE SET state = excluded.state, label = excluded.label', did, label, state, new Uint8Array(0))
      list.set(did, { owner: did, devices: [did], label, state, addedAt: 0, lastSeenAt: undefined })
      emitter.emit('friend:added', { did, label })
    },
    relabel: (did, label) => {
      const friend = list.get(did)
      if (friend !== undefined) list.set(did, { ...friend, label })
      database.run('UPDATE friend SET label = ? WHERE owner_did = ?', label, did)
      emitter.emit('friend:labelled', { did, label })
    },
    remove: (did) => {
      drop(did)
      emitter.emit('friend:removed', { did, by: 'us' })
    },
    block: (did) => {
      drop(did)
      emitter.emit('friend:blocked', { did })
    }
  }
}

/** An audit log in memory that can be made to fail or to wait. */
export interface FakeAudit extends Pick<AuditLog, 'record' | 'recordRefusal'> {
  entries: AuditEntry[]
  refusals: AuditEntry[]
  /** Every `record` rejects while true. */
  isBroken: boolean
  /** Runs before an entry counts as durable. */
  before: (entry: AuditEntry) => Promise<void>
}

/** Creates it. */
export function createFakeAudit (): FakeAudit {
  const audit: FakeAudit = {
    entries: [],
    refusals: [],
    isBroken: false,
    before: async () => {},
    record: async (entry) => {
      await audit.before(entry)
      if (audit.isBroken) throw new CarrierError('ERR_AUDIT', 'the disk is full')
      audit.entries.push(entry)
    },
    recordRefusal: (entry) => { audit.refusals.push(entry) }
  }
  return audit
}

/** One side. */
export interface Party {
  did: Did
  forwarding: Forwarding
  friends: FakeFriends
  audit: FakeAudit
  database: Database
  metrics: Metrics
  logs: Array<{ level: string, message: string, fields: Record<string, unknown> | undefined }>
  /** Stops and starts again on the same database, like a new process. */
  restart: (init?: PartyInit) => Promise<void>
}

/** What carrier.toml of one side declares. */
export interface PartyInit { declaredServices?: DeclaredService[], declaredForwards?: DeclaredForward[] }

/** Both sides, started and friends. */
export interface ForwardingPair {
  office: Party
  laptop: Party
  /** alice is the office, bob the laptop. */
  sessions: FakeSessionPair
  stop: () => Promise<void>
}

/** Whether sessions are the contract in memory or the session layer itself. */
export type SessionKind = 'fake' | 'real'

/** Builds, befriends and starts both. */
export async function startForwardingPair (init: { office?: PartyInit, laptop?: PartyInit, clock?: Clock, sessionKind?: SessionKind } = {}): Promise<ForwardingPair> {
  const directory = makeTempDirectory('forwarding')
  const real = init.sessionKind === 'real' ? createRealSessionPair(init.clock ?? systemClock) : undefined
  const officeDid = real?.aliceDid ?? randomDid()
  const laptopDid = real?.bobDid ?? randomDid()
  const sessions = real ?? createFakeSessionPair({ alice: fakePeer(officeDid), bob: fakePeer(laptopDid) })
  await real?.start()
  const office = await createParty({ did: officeDid, path: join(directory, 'office.db'), sessions: sessions.alice, clock: init.clock ?? systemClock, friend: { did: laptopDid, label: 'laptop' }, declared: init.office ?? {} })
  const laptop = await createParty({ did: laptopDid, path: join(directory, 'laptop.db'), sessions: sessions.bob, clock: init.clock ?? systemClock, friend: { did: officeDid, label: 'office' }, declared: init.laptop ?? {} })
  return {
    office,
    laptop,
    sessions,
    stop: async () => {
      await laptop.forwarding.stop()
      await office.forwarding.stop()
      await sessions.alice.stop()
      await sessions.bob.stop()
      laptop.database.close()
      office.database.close()
    }
  }
}

/** What a side is built from. */
export interface CreatePartyInit {
  did: Did
  path: string
  sessions: Pick<SessionManager, 'open' | 'get' | 'onChannel' | 'on'>
  clock: Clock
  friend: { did: Did, label: string }
  declared: PartyInit
}

/** Builds and starts one side. */
export async function createParty (init: CreatePartyInit): Promise<Party> {
  const database = openDatabase({ path: init.path, name: 'state', migrations: [[...FRIENDS_MIGRATIONS, ...FORWARDING_MIGRATIONS].join('\n')], synchronous: 'NORMAL' })
  const audit = createFakeAudit()
  const logs: Party['logs'] = []
  const first = createFakeFriends(database)
  first.add(init.friend.did, init.friend.label)
  async function build (friends: FakeFriends, declared: PartyInit): Promise<{ forwarding: Forwarding, metrics: Metrics }> {
    const metrics = createMetrics()
    const forwarding = createForwarding({ database, sessions: init.sessions, friends, audit, clock: init.clock, log: recordingLogger(logs), metrics, random: () => 0.5 }, {
      declaredServices: declared.declaredServices ?? [], declaredForwards: declared.declaredForwards ?? []
    })
    await forwarding.start()
    return { forwarding, metrics }
  }
  const party: Party = {
    did: init.did,
    friends: first,
    audit,
    database,
    logs,
    ...await build(first, init.declared),
    restart: async (declared = {}) => {
      await party.forwarding.stop()
      party.friends = createFakeFriends(database)
      Object.assign(party, await build(party.friends, declared))
    }
  }
  return party
}

function recordingLogger (logs: Party['logs']): Logger {
  const at = (level: string) => (message: string, fields?: Record<string, unknown>): void => { logs.push({ level, message, fields }) }
  const log: Logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: () => log }
  return log
}
