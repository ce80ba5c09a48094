/** All forwards of this node: those of carrier.toml, those that were stored, and those that last as long as the process. */
import { CarrierError, formatHostPort, LIMITS } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import type { Friend, Friends } from '../friends/index.ts'
import type { Did } from '../identity/index.ts'
import type { SessionManager } from '../session/index.ts'
import { createForward } from './forward.ts'
import type { ForwardInit, LiveForward } from './forward.ts'
import { checkListenAddress, isLoopback, parseListenAddress } from './host-port.ts'
import type { HostPort } from './host-port.ts'
import { portInUse } from './local-listener.ts'
import type { ForwardingMetrics } from './metrics.ts'
import { parseServiceReference } from './service-name.ts'
import { atSource, describeSource } from './service-registry.ts'
import type { ForwardingStore } from './store.ts'
import type { DeclaredForward, Forward } from './types.ts'

/** What the forwards need. */
export interface ForwardsComponents {
  store: ForwardingStore
  sessions: Pick<SessionManager, 'open' | 'get'>
  friends: Pick<Friends, 'resolve' | 'get'>
  clock: Clock
  random: () => number
  log: Logger
  metrics: ForwardingMetrics
  onState: (forward: Forward) => void
  onClosed: (forward: Forward) => void
}

/** The forwards of this node. */
export interface Forwards {
  /** Brings declared and stored forwards up; does not wait for any. @throws CarrierError ERR_CONFIG for a broken declaration */
  start: () => void
  /** Ends everything. Idempotent. */
  stop: () => Promise<void>
  /** See Forwarding.openForward. */
  open: (given: { host?: string, port: number, to: string, once?: boolean }, signal?: AbortSignal) => Promise<Forward>
  /** See Forwarding.closeForward. */
  close: (port: number) => Promise<Forward>
  list: () => Forward[]
  /** A session with this device came up or went away. */
  sessionOpened: (device: Did) => void
  sessionClosed: (device: Did) => void
  /** Labels or members of the friend list changed. */
  friendsChanged: () => void
  /** Somebody is no friend any more: their forwards end; those of carrier.toml wait for them to come back. */
  forgetFriend: (owner: Did) => Promise<void>
}

/** Creates the collection; nothing listens before `start`. */
export function createForwards (components: ForwardsComponents, init: { declared: readonly DeclaredForward[] }): Forwards {
  const { store, friends, clock, log } = components
  const forwards = new Set<LiveForward>()
  /** Ports with an open on its way, so that two commands cannot both win. */
  const opening = new Set<number>()
  /** Counts down: stands in `opening` for a port that the system is still to pick. */
  let pickedCount = 0
  let hasStopped = false

  function create (forwardInit: ForwardInit): LiveForward {
    if (!isLoopback(forwardInit.bind.host)) {
      log.warn('a forward listens beyond this machine: everybody who reaches the address gets what the friend granted to you', { listen: formatHostPort(forwardInit.bind) })
    }
    return createForward(components, forwardInit)
  }

  function add (forwardInit: ForwardInit): void {
    const forward = create(forwardInit)
    forwards.add(forward)
    forward.supervise()
  }

  function byPort (port: number): LiveForward | undefined {
    return [...forwards].find((forward) => forward.port() === port)
  }

  function declaredInit (item: DeclaredForward): ForwardInit {
    const { bind, reference } = atSource(item.source, () => ({ bind: parseListenAddress(item.listen), reference: parseServiceReference(item.to) }))
    return {
      bind,
      friend: () => resolveOrUndefined(friends, reference.who),
      owner: undefined,
      who: reference.who,
      service: reference.service,
      isPersistent: true,
      source: item.source
    }
  }

  async function open (given: { host?: string, port: number, to: string, once?: boolean }, signal?: AbortSignal): Promise<Forward> {
    const bind = checkListenAddress(given)
    const { who, service } = parseServiceReference(given.to)
    const { owner } = friends.resolve(who)
    if (hasStopped) throw new CarrierError('ERR_CLOSED', 'this Carrier is stopping')

    const existing = bind.port === 0 ? undefined : byPort(bind.port)
    if (existing !== undefined) return openAgain(existing, { bind, owner, service, isPersistent: given.once !== true }, signal)
    if (forwards.size + opening.size >= LIMITS.forwardCount) throw new CarrierError('ERR_LIMIT', `there are ${LIMITS.forwardCount} forwards already; "carrier forward close PORT" makes room`)
    if (bind.port !== 0 && opening.has(bind.port)) throw portInUse(bind, 'a forward that is just being opened')

    const isPersistent = given.once !== true
    const forward = create({ bind, friend: () => friends.get(owner), owner, who, service, isPersistent, source: { kind: 'state' } })
    const reserved = bind.port === 0 ? --pickedCount : bind.port
    opening.add(reserved)
    try {
      await forward.bind()
      if (byPort(forward.port()) !== undefined) throw portInUse({ host: bind.host, port: forward.port() }, 'a forward that waits for it')
      await forward.probe(signal)
      throwIfRefused(forward.snapshot())
      if (hasStopped) throw new CarrierError('ERR_CLOSED', 'this Carrier is stopping')
      // the friend may have left while we probed
      friends.resolve(owner)
      if (isPersistent) store.putForward({ host: bind.host, port: forward.port(), owner, service }, clock.now())
    } catch (err) {
      await forward.close(new CarrierError('ERR_CANCELLED', 'the forward was not opened'))
      throw err
    } finally {
      opening.delete(reserved)
    }
    forwards.add(forward)
    forward.supervise()
    return forward.snapshot()
  }

  /** The same command twice is no mistake: it shows that the forward (still) works. Another target on its port is one. */
  async function openAgain (existing: LiveForward, wanted: { bind: HostPort, owner: Did, service: string, isPersistent: boolean }, signal?: AbortSignal): Promise<Forward> {
    const { init: has } = existing
    const isSame = has.bind.host === wanted.bind.host && has.service === wanted.service && has.friend()?.owner === wanted.owner
    if (!isSame) throw portInUse({ host: has.bind.host, port: wanted.bind.port }, `the forward to ${existing.snapshot().to}`)
    if (existing.snapshot().state !== 'error') await existing.probe(signal)
    throwIfRefused(existing.snapshot())
    // asked for once before, and to stay now
    if (wanted.isPersistent && !existing.snapshot().isPersistent && forwards.has(existing)) {
      store.putForward({ host: has.bind.host, port: existing.port(), owner: wanted.owner, service: wanted.service }, clock.now())
      existing.keep()
    }
    return existing.snapshot()
  }

  async function remove (forward: LiveForward): Promise<Forward> {
    const last = forward.snapshot()
    forwards.delete(forward)
    if (last.source.kind === 'state' && last.isPersistent) store.removeForward(forward.port())
    await forward.close(new CarrierError('ERR_CANCELLED', 'the forward was closed'))
    components.onClosed(last)
    return last
  }

  return {
    start: () => {
      const declared = init.declared.map(declaredInit)
      const ports = new Set<number>()
      for (const item of declared) {
        if (item.bind.port !== 0 && ports.has(item.bind.port)) throw new CarrierError('ERR_CONFIG', `${describeSource(item.source)}: port ${item.bind.port} is declared twice`)
        ports.add(item.bind.port)
      }
      const stored = store.forwards().filter(({ port }) => {
        if (!ports.has(port)) return true
        log.warn('carrier.toml declares a forward on a port that a command used; carrier.toml wins', { port })
        return false
      })
      if (declared.length + stored.length > LIMITS.forwardCount) {
        throw new CarrierError('ERR_CONFIG', `carrier.toml declares ${declared.length} forwards, commands made ${stored.length} others, and the limit is ${LIMITS.forwardCount}: declare fewer`)
      }
      for (const item of declared) add(item)
      for (const item of stored) {
        const { owner } = item
        add({ bind: { host: item.host, port: item.port }, friend: () => friends.get(owner), owner, who: owner, service: item.service, isPersistent: true, source: { kind: 'state' } })
      }
    },
    stop: async () => {
      hasStopped = true
      const all = [...forwards]
      forwards.clear()
      await Promise.all(all.map(async (forward) => { await forward.close(new CarrierError('ERR_CLOSED', 'this Carrier is stopping')) }))
    },
    open,
    close: async (port) => {
      const forward = byPort(port)
      if (forward === undefined) throw new CarrierError('ERR_NOT_FOUND', `no forward listens on port ${port}; "carrier forward list" shows them`)
      const { source } = forward.init
      if (source.kind === 'config') throw new CarrierError('ERR_CONFIG_OWNED', `the forward on port ${port} is declared in carrier.toml, so commands cannot close it: edit ${describeSource(source)}`)
      return remove(forward)
    },
    list: () => [...forwards].map((forward) => forward.snapshot()),
    sessionOpened: (device) => {
      for (const forward of forwards) if (isDeviceOf(forward, device)) forward.wake()
    },
    sessionClosed: (device) => {
      for (const forward of forwards) if (isDeviceOf(forward, device)) forward.lost()
    },
    friendsChanged: () => {
      for (const forward of forwards) forward.friendsChanged()
    },
    forgetFriend: async (owner) => {
      store.forgetFriend(owner)
      const waiting = [...forwards].filter((forward) => forward.init.owner === undefined && forward.init.friend() === undefined)
      for (const forward of waiting) {
        forward.cutConnections(new CarrierError('ERR_CANCELLED', 'the friendship ended'))
        forward.lost()
        forward.wake()
      }
      await Promise.all([...forwards].filter((forward) => forward.init.owner === owner).map(remove))
    }
  }
}

/** @throws CarrierError ERR_NOT_AVAILABLE with what the person can do */
function throwIfRefused (forward: Forward): void {
  if (forward.state === 'refused') throw new CarrierError('ERR_NOT_AVAILABLE', forward.reason ?? 'not offered to you, or not there')
}

function isDeviceOf (forward: LiveForward, device: Did): boolean {
  return forward.init.friend()?.devices.includes(device) === true
}

function resolveOrUndefined (friends: Pick<Friends, 'resolve'>, who: string): Friend | undefined {
  try {
    return friends.resolve(who)
  } catch {
    // not in the list yet; the forward says so in its state
    return undefined
  }
}
