/** The services that this node offers: those of carrier.toml first, then those that commands made. Who may dial what. */
import { CarrierError, errorMessage, LIMITS } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import type { Friend, Friends } from '../friends/index.ts'
import type { Did } from '../identity/index.ts'
import { parseServiceName } from './service-name.ts'
import { parseTarget, formatTarget } from './service-target.ts'
import type { ForwardingStore } from './store.ts'
import type { DeclaredService, ItemSource, ServiceTarget } from './types.ts'

/** One service in memory. */
export interface RegisteredService { name: string, target: ServiceTarget, allow: ReadonlySet<Did>, source: ItemSource }

/** What the registry needs. */
export interface ServiceRegistryComponents {
  store: ForwardingStore
  friends: Pick<Friends, 'resolve' | 'get'>
  clock: Clock
  log: Logger
}

/** The services of this node. Reads are from memory; every change is on disk before it is seen. */
export interface ServiceRegistry {
  /** Reads what is stored. Call once, before anything else. @throws CarrierError ERR_CONFIG for a broken declaration */
  load: () => void
  find: (name: string) => RegisteredService | undefined
  /** By name. */
  list: () => RegisteredService[]
  /** Creates a service or replaces its target, and adds `who` to those who may dial it. @throws see Forwarding.serve */
  put: (name: string, target: string, who: readonly string[]) => RegisteredService
  /** @throws CarrierError ERR_NOT_FOUND, ERR_CONFIG_OWNED */
  remove: (name: string) => RegisteredService
  /** @throws CarrierError ERR_NOT_FOUND, ERR_CONFIG_OWNED, ERR_UNKNOWN_FRIEND */
  grant: (who: string, name: string) => { service: RegisteredService, owner: Did }
  /**
   * Takes one service, or all that commands granted, from an owner; names those that were really taken.
   *
   * @throws CarrierError ERR_NOT_FOUND, ERR_CONFIG_OWNED
   */
  revoke: (owner: Did, name?: string) => string[]
  /** Services of carrier.toml that `owner` may dial. */
  declaredFor: (owner: Did) => RegisteredService[]
  /** Looks labels of carrier.toml up again, after the friend list changed. */
  refreshDeclared: () => void
  /** Drops what somebody was granted who is no friend any more. */
  forgetFriend: (owner: Did) => void
}

/** Creates the registry; nothing is read before `load`. */
export function createServiceRegistry (components: ServiceRegistryComponents, init: { declared: readonly DeclaredService[] }): ServiceRegistry {
  const { store, friends, clock, log } = components
  const stored = new Map<string, RegisteredService>()
  const declared = new Map<string, { service: RegisteredService, who: readonly string[] }>()

  function find (name: string): RegisteredService | undefined {
    return declared.get(name)?.service ?? stored.get(name)
  }

  function list (): RegisteredService[] {
    const names = new Set([...declared.keys(), ...stored.keys()])
    return [...names].sort().flatMap((name) => find(name) ?? [])
  }

  /** The service that a command wants to change. */
  function changeable (name: string): RegisteredService {
    const service = find(name)
    if (service === undefined) throw new CarrierError('ERR_NOT_FOUND', `there is no service "${name}" here; "carrier services" lists them, "carrier serve ${name} TARGET" makes one`)
    assertState(service)
    return service
  }

  function resolveFriend (who: string): Friend {
    const friend = friends.resolve(who)
    if (friend.state !== 'friend') {
      throw new CarrierError('ERR_UNKNOWN_FRIEND', `${friend.label} has not accepted your friend request yet; grant again when "carrier friend list" shows a friend`)
    }
    return friend
  }

  /** DIDs of those in an allow-list of carrier.toml who are friends now; the others count when they become friends. */
  function resolveDeclared (name: string, who: readonly string[]): Set<Did> {
    const allow = new Set<Did>()
    for (const entry of who) {
      try {
        allow.add(resolveFriend(entry).owner)
      } catch (err) {
        log.info('an allowed name of carrier.toml is no friend yet', { service: name, who: entry, reason: errorMessage(err) })
      }
    }
    return allow
  }

  function refreshDeclared (): void {
    for (const [name, { service, who }] of declared) {
      declared.set(name, { service: { ...service, allow: resolveDeclared(name, who) }, who })
    }
  }

  function withAllow (service: RegisteredService, allow: ReadonlySet<Did>): RegisteredService {
    const next = { ...service, allow }
    stored.set(service.name, next)
    return next
  }

  return {
    load: () => {
      for (const row of store.services()) {
        // a friend who left while no one listened left grants behind only if the tables were edited by hand
        const allow = new Set(row.allow.filter((owner) => friends.get(owner)?.state === 'friend'))
        stored.set(row.name, { name: row.name, target: parseTarget(row.target), allow, source: { kind: 'state' } })
      }
      for (const item of init.declared) {
        const name = atSource(item.source, () => parseServiceName(item.name))
        const target = atSource(item.source, () => parseTarget(item.target))
        if (declared.has(name)) throw new CarrierError('ERR_CONFIG', `${describeSource(item.source)}: the service "${name}" is declared twice`)
        if (stored.has(name)) log.warn('carrier.toml declares a service that a command made too; carrier.toml wins', { service: name })
        declared.set(name, { service: { name, target, allow: new Set(), source: item.source }, who: item.allow })
      }
      // together, because a friend's list of names holds no more
      const allCount = list().length
      if (allCount > LIMITS.serviceCount) throw new CarrierError('ERR_CONFIG', `carrier.toml declares ${declared.size} services, commands made ${allCount - declared.size} others, and the limit is ${LIMITS.serviceCount}: declare fewer`)
      refreshDeclared()
    },
    find,
    list,
    put: (givenName, givenTarget, who) => {
      const name = parseServiceName(givenName)
      const target = parseTarget(givenTarget)
      const existing = find(name)
      if (existing !== undefined) assertState(existing)
      else if (list().length >= LIMITS.serviceCount) throw new CarrierError('ERR_LIMIT', `${LIMITS.serviceCount} services are offered already; "carrier unserve NAME" makes room`)
      const owners = who.map((entry) => resolveFriend(entry).owner)
      store.putService({ name, target: formatTarget(target), allow: owners }, clock.now())
      const service: RegisteredService = { name, target, allow: new Set([...existing?.allow ?? [], ...owners]), source: { kind: 'state' } }
      stored.set(name, service)
      return service
    },
    remove: (givenName) => {
      const service = changeable(givenName.toLowerCase())
      store.removeService(service.name)
      stored.delete(service.name)
      return service
    },
    grant: (who, givenName) => {
      const { owner } = resolveFriend(who)
      const service = changeable(givenName.toLowerCase())
      store.addGrant(service.name, owner, clock.now())
      return { service: withAllow(service, new Set([...service.allow, owner])), owner }
    },
    revoke: (owner, givenName) => {
      const candidates = givenName === undefined ? [...stored.values()] : [changeable(givenName.toLowerCase())]
      const granted = candidates.filter((service) => service.allow.has(owner))
      store.removeGrants(owner, granted.map((service) => service.name))
      for (const service of granted) withAllow(service, without(service.allow, owner))
      return granted.map((service) => service.name)
    },
    declaredFor: (owner) => [...declared.values()].map((item) => item.service).filter((service) => service.allow.has(owner)),
    refreshDeclared,
    forgetFriend: (owner) => {
      store.forgetFriend(owner)
      for (const service of stored.values()) if (service.allow.has(owner)) withAllow(service, without(service.allow, owner))
      refreshDeclared()
    }
  }
}

/** `carrier.toml:12`, or "a command". */
export function describeSource (source: ItemSource): string {
  return source.kind === 'config' ? `${source.file}:${source.line}` : 'a command'
}

/** Runs a check of something declared; a complaint names the line. @throws CarrierError ERR_CONFIG */
export function atSource<T> (source: ItemSource, check: () => T): T {
  try {
    return check()
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `${describeSource(source)}: ${errorMessage(err)}`, { cause: err })
  }
}

/** @throws CarrierError ERR_CONFIG_OWNED when carrier.toml owns the service */
function assertState (service: RegisteredService): void {
  if (service.source.kind !== 'config') return
  throw new CarrierError('ERR_CONFIG_OWNED', `the service "${service.name}" is declared in carrier.toml, so commands cannot change it: edit ${describeSource(service.source)}`)
}

function without (allow: ReadonlySet<Did>, owner: Did): Set<Did> {
  return new Set([...allow].filter((entry) => entry !== owner))
}
