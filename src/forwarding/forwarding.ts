/** The facade of port forwarding: both halves, their start and stop, and what happens when the friend list changes. */
import type { AuditEntry, AuditLog } from '../audit/index.ts'
import { abortable, CarrierError, createEmitter, createTaskOwner, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, Database, Logger, Metrics } from '../base/index.ts'
import type { Friends } from '../friends/index.ts'
import type { Did } from '../identity/index.ts'
import type { ChannelHandler, ChannelRequest, SessionManager } from '../session/index.ts'
import { createForwards } from './forwards.ts'
import { openFriendSession } from './friend-session.ts'
import { createForwardingMetrics } from './metrics.ts'
import { createServiceConnections } from './service-connections.ts'
import type { ServiceConnectionFacts } from './service-connections.ts'
import { createServiceListHandler, requestServiceList } from './service-list.ts'
import { parseServiceReference } from './service-name.ts'
import { createServiceRegistry, describeSource } from './service-registry.ts'
import type { RegisteredService } from './service-registry.ts'
import { createForwardingStore } from './store.ts'
import type { DeclaredForward, DeclaredService, Forwarding, ForwardingEvents, Service } from './types.ts'
import { CHANNEL_KIND, encodeTcpOpening } from './wire.ts'

/** What forwarding needs. */
export interface ForwardingComponents {
  /** state.db with FORWARDING_MIGRATIONS applied; the caller owns it. */
  database: Database
  sessions: Pick<SessionManager, 'open' | 'get' | 'onChannel' | 'on'>
  friends: Pick<Friends, 'resolve' | 'get' | 'ownerOf' | 'on'>
  audit: Pick<AuditLog, 'record' | 'recordRefusal'>
  clock: Clock
  log: Logger
  metrics: Metrics
  /** For the jitter of retries; Math.random unless a test wants to know. */
  random?: () => number
}

/** What carrier.toml declares. */
export interface ForwardingInit { declaredServices: readonly DeclaredService[], declaredForwards: readonly DeclaredForward[] }

/**
 * Creates both halves of port forwarding and registers their channel kinds, so call it before the session manager starts.
 * `start` reads what is stored and brings forwards up without waiting for any of them.
 */
export function createForwarding (components: ForwardingComponents, init: ForwardingInit): Forwarding {
  const { sessions, friends, audit, clock, log } = components
  const store = createForwardingStore(components.database)
  const emitter = createEmitter<ForwardingEvents>(log)
  const tasks = createTaskOwner(log)
  const ready = Promise.withResolvers<undefined>()
  const removers: Array<() => void> = []
  let phase: 'new' | 'running' | 'stopped' = 'new'

  const metrics = createForwardingMetrics(components.metrics, {
    services: () => registry.list().length,
    forwards: () => forwards.list().length,
    activeForwards: () => forwards.list().filter((forward) => forward.state === 'active').length
  })
  const registry = createServiceRegistry({ store, friends, clock, log }, { declared: init.declaredServices })
  const connections = createServiceConnections({
    registry,
    friends,
    audit,
    clock,
    log,
    metrics,
    tasks,
    onChange: (connection) => { emitter.emit('service:connection', connection) }
  })
  const forwards = createForwards({
    store,
    sessions,
    friends,
    clock,
    random: components.random ?? Math.random,
    log,
    metrics,
    onState: (forward) => { emitter.emit('forward:state', forward) },
    onClosed: ({ listen, to }) => { emitter.emit('forward:closed', { listen, to }) }
  }, { declared: init.declaredForwards })

  sessions.onChannel(CHANNEL_KIND.tcp, whenReady(connections.handle))
  sessions.onChannel(CHANNEL_KIND.services, whenReady(createServiceListHandler({ registry, friends, metrics })))

  /** A friend that is faster than our start waits for it: without the stored services the answer would be wrong. */
  function whenReady (handler: ChannelHandler): ChannelHandler {
    return async (request: ChannelRequest) => {
      if (phase === 'new') await abortable(ready.promise, request.signal)
      if (phase === 'stopped') request.refuse(stopping())
      else await handler(request)
    }
  }

  function assertRunning (): void {
    if (phase === 'new') throw new CarrierError('ERR_NOT_RUNNING', 'port forwarding has not started yet')
    if (phase === 'stopped') throw stopping()
  }

  function toService (service: RegisteredService): Service {
    return { name: service.name, target: service.target, allow: [...service.allow], source: service.source, connectionCount: connections.count(service.name) }
  }

  function recordGrant (event: 'grant.issue' | 'grant.revoke', owner: Did, service: string): void {
    const entry: AuditEntry = { event, owner, service }
    tasks.run('record a grant', async () => { await audit.record(entry) })
  }

  /** One code for revoked, unserved, removed and blocked: the friend learns that it is over, and no reason. */
  function cut (matches: (facts: ServiceConnectionFacts) => boolean): number {
    return connections.cut(matches, new CarrierError('ERR_REVOKED', 'access to the service ended'))
  }

  function listen (): void {
    removers.push(
      sessions.on('session:opened', ({ session }) => { forwards.sessionOpened(session.peer.device) }),
      sessions.on('session:closed', ({ peer }) => { forwards.sessionClosed(peer.device) }),
      friends.on('friend:added', friendsChanged),
      friends.on('friend:labelled', friendsChanged),
      friends.on('friend:removed', ({ did }) => { forgetFriend(did) }),
      friends.on('friend:blocked', ({ did }) => { forgetFriend(did) })
    )
  }

  function friendsChanged (): void {
    registry.refreshDeclared()
    // a label of carrier.toml may stand for somebody else now
    cut((facts) => registry.find(facts.service)?.allow.has(facts.owner) !== true)
    forwards.friendsChanged()
  }

  function forgetFriend (owner: Did): void {
    cut((facts) => facts.owner === owner)
    registry.forgetFriend(owner)
    tasks.run('end the forwards of a former friend', async () => { await forwards.forgetFriend(owner) })
  }

  return {
    on: emitter.on,
    start: async () => {
      if (phase !== 'new') return
      registry.load()
      forwards.start()
      listen()
      phase = 'running'
      ready.resolve(undefined)
    },
    stop: async () => {
      phase = 'stopped'
      ready.resolve(undefined)
      for (const remove of removers.splice(0)) remove()
      connections.cut(() => true, stopping())
      await forwards.stop()
      await tasks.stop()
    },

    serve: (name, target, options = {}) => {
      assertRunning()
      const before = registry.find(name.toLowerCase())?.allow
      const service = registry.put(name, target, options.allow ?? [])
      for (const owner of service.allow) if (before?.has(owner) !== true) recordGrant('grant.issue', owner, service.name)
      log.info('a service is offered', { service: service.name, allowed: service.allow.size })
      emitter.emit('service:changed', { name: service.name })
      return toService(service)
    },
    unserve: (name) => {
      assertRunning()
      const service = registry.remove(name)
      const closedCount = cut((facts) => facts.service === service.name)
      for (const owner of service.allow) recordGrant('grant.revoke', owner, service.name)
      log.info('a service is offered no more', { service: service.name, closedCount })
      emitter.emit('service:changed', { name: service.name })
    },
    grant: (who, name) => {
      assertRunning()
      const { service, owner } = registry.grant(who, name)
      recordGrant('grant.issue', owner, service.name)
      emitter.emit('service:changed', { name: service.name })
      return toService(service)
    },
    revoke: (who, name) => {
      assertRunning()
      const { owner, label } = friends.resolve(who)
      const services = registry.revoke(owner, name)
      const closedConnections = cut((facts) => facts.owner === owner && services.includes(facts.service))
      for (const service of services) {
        recordGrant('grant.revoke', owner, service)
        emitter.emit('service:changed', { name: service })
      }
      log.info('access was withdrawn', { owner, services, closedConnections })
      const declared = name === undefined ? registry.declaredFor(owner) : []
      if (declared.length > 0) {
        // said loudly: who revokes everything must not believe that nothing is left
        throw new CarrierError('ERR_CONFIG_OWNED',
          `${services.length === 0 ? 'nothing was withdrawn' : `withdrawn: ${services.join(', ')}`}; carrier.toml still lets ${label} dial ${declared.map((service) => `"${service.name}" (edit ${describeSource(service.source)})`).join(', ')}`)
      }
      return { services, closedConnections }
    },
    services: () => registry.list().map(toService),
    remoteServices: async (who, options = {}) => {
      assertRunning()
      const friend = friends.resolve(who)
      using deadline = startDeadline(clock, LIMITS.forwardSessionWaitMs, `${friend.label} did not answer within ${LIMITS.forwardSessionWaitMs} ms`, options.signal)
      const session = await openFriendSession(sessions, friend, deadline.signal)
      return await requestServiceList(session, clock, options.signal)
    },

    openForward: async (given, options = {}) => {
      assertRunning()
      return forwards.open(given, options.signal)
    },
    closeForward: async (port) => {
      assertRunning()
      return forwards.close(port)
    },
    forwards: () => forwards.list(),
    dial: async (to, options = {}) => {
      assertRunning()
      const { who, service } = parseServiceReference(to)
      const friend = friends.resolve(who)
      using deadline = startDeadline(clock, LIMITS.forwardSessionWaitMs, `${friend.label} did not answer within ${LIMITS.forwardSessionWaitMs} ms`, options.signal)
      const session = await openFriendSession(sessions, friend, deadline.signal)
      metrics.forwardDials.add()
      const channel = session.openChannel(CHANNEL_KIND.tcp, encodeTcpOpening({ service, probe: false }))
      // the caller listens too; this only keeps a refusal in the first moment from ending the process
      channel.on('error', () => {})
      return channel
    }
  }
}

function stopping (): CarrierError {
  return new CarrierError('ERR_CLOSED', 'this Carrier is stopping')
}
