/**
 * The service side of channel kind `tcp`. The order is the promise: parse, decide, refuse cheaply; then the audit entry
 * on disk, then the target, then the channel (I3, I6, I9).
 */
import type { AuditEntry, AuditLog } from '../audit/index.ts'
import { CarrierError, errorCode, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, ErrorCode, Logger, TaskOwner } from '../base/index.ts'
import type { Friends } from '../friends/index.ts'
import type { Did } from '../identity/index.ts'
import type { ChannelHandler, ChannelRequest } from '../session/index.ts'
import { join } from './join.ts'
import type { ForwardingMetrics } from './metrics.ts'
import { judgeAccess, notAvailable } from './policy.ts'
import type { RegisteredService, ServiceRegistry } from './service-registry.ts'
import { connectTarget } from './target-connector.ts'
import { decodeTcpOpening } from './wire.ts'

/** What the handler needs. */
export interface ServiceConnectionsComponents {
  registry: Pick<ServiceRegistry, 'find'>
  friends: Pick<Friends, 'ownerOf'>
  audit: Pick<AuditLog, 'record' | 'recordRefusal'>
  clock: Clock
  log: Logger
  metrics: ForwardingMetrics
  /** Owns the joined connections; whoever stops it cuts them first. */
  tasks: TaskOwner
  onChange: (connection: { name: string, owner: Did, state: 'open' | 'closed' }) => void
}

/** Whom and what a live connection belongs to. */
export interface ServiceConnectionFacts { service: string, owner: Did }

/** All connections of friends to services of this node. */
export interface ServiceConnections {
  handle: ChannelHandler
  /** Cuts those that match, at once; the friend sees the error's code. Gives their number. */
  cut: (matches: (facts: ServiceConnectionFacts) => boolean, error: CarrierError) => number
  count: (service: string) => number
}

interface LiveConnection extends ServiceConnectionFacts { cut: (error: CarrierError) => void }

/** Creates the handler. */
export function createServiceConnections (components: ServiceConnectionsComponents): ServiceConnections {
  const { registry, friends, audit, clock, log, metrics, tasks } = components
  const live = new Set<LiveConnection>()
  const targetsDown = new Set<string>()

  function count (service: string, owner?: Did): number {
    let found = 0
    for (const connection of live) if (connection.service === service && (owner === undefined || connection.owner === owner)) found++
    return found
  }

  async function handle (request: ChannelRequest): Promise<void> {
    const owner = friends.ownerOf(request.peer.device)
    let opening
    try {
      opening = decodeTcpOpening(request.message)
    } catch (err) {
      deny(request, owner, undefined, errorCode(err), toCarrierError(err))
      return
    }
    const service = registry.find(opening.service)
    const verdict = judgeAccess({ owner, allow: service?.allow })
    if (!verdict.allow || service === undefined) {
      deny(request, owner, opening.service, verdict.allow ? 'no-such-service' : verdict.why, notAvailable())
      return
    }
    if (opening.probe) await answerProbe(request, service, owner)
    else await connect(request, service, owner)
  }

  /** I3: the same steps for hidden, missing and not allowed. The log of this machine alone knows the difference. */
  function deny (request: ChannelRequest, owner: Did, service: string | undefined, why: string, error: CarrierError): void {
    audit.recordRefusal({ ...factsOf(request, owner), event: 'conn.deny', decision: 'deny', why, ...(service === undefined ? {} : { service }) })
    metrics.serviceConnections.add(1, { result: 'refused' })
    request.refuse(error)
  }

  /** Shows whether a connection would come about; passes no byte, so it is counted and not an access. */
  async function answerProbe (request: ChannelRequest, service: RegisteredService, owner: Did): Promise<void> {
    let failure: unknown
    try {
      using deadline = targetDeadline(request.signal)
      const socket = await connectTarget(service.target, deadline.signal)
      socket.destroy()
    } catch (err) {
      failure = err
    }
    noteTarget(service, failure)
    // the answer is about now, and the target took its time
    const verdict = judgeAccess({ owner, allow: registry.find(service.name)?.allow })
    if (!verdict.allow) {
      deny(request, owner, service.name, verdict.why, notAvailable())
      return
    }
    if (failure !== undefined) {
      metrics.serviceProbes.add(1, { result: 'failed' })
      request.refuse(toCarrierError(failure))
      return
    }
    metrics.serviceProbes.add(1, { result: 'passed' })
    const channel = request.accept()
    // the prober learns of trouble itself; here nothing hangs on it
    channel.on('error', () => {})
    channel.resume()
    channel.end()
  }

  async function connect (request: ChannelRequest, service: RegisteredService, owner: Did): Promise<void> {
    if (count(service.name, owner) >= LIMITS.serviceConnectionCount) {
      audit.recordRefusal({ ...factsOf(request, owner), event: 'conn.deny', decision: 'deny', why: 'ERR_LIMIT', service: service.name })
      metrics.serviceConnections.add(1, { result: 'limit' })
      request.refuse(new CarrierError('ERR_LIMIT', `this friend has ${LIMITS.serviceConnectionCount} connections to "${service.name}" already`))
      return
    }
    const cutter = new AbortController()
    const connection: LiveConnection = { service: service.name, owner, cut: (error) => { cutter.abort(error) } }
    live.add(connection)
    const facts = factsOf(request, owner)
    const startedMs = clock.monotonicMs()
    try {
      await audit.record({ ...facts, event: 'conn.open', decision: 'allow', service: service.name })
    } catch (err) {
      live.delete(connection)
      log.error('an access could not be recorded, so it was refused; check the disk of the data directory', { service: service.name, err })
      metrics.serviceConnections.add(1, { result: 'audit_failed' })
      request.refuse(new CarrierError('ERR_INTERNAL', 'the access cannot be recorded', { cause: err }))
      return
    }

    // From here on an open entry is in the log, so a close entry follows whatever happens.
    const finish = async (bytes: { bytesIn: number, bytesOut: number }, why: ErrorCode | undefined): Promise<void> => {
      live.delete(connection)
      const durationMs = Math.round(clock.monotonicMs() - startedMs)
      try {
        await audit.record({ ...facts, event: 'conn.close', service: service.name, ...bytes, durationMs, ...(why === undefined ? {} : { why }) })
      } catch (err) {
        log.error('the end of an access could not be recorded', { service: service.name, err })
      }
    }

    let socket
    const onGone = (): void => { cutter.abort(toCarrierError(request.signal.reason, 'ERR_CANCELLED', 'the friend gave up')) }
    request.signal.addEventListener('abort', onGone, { once: true })
    if (request.signal.aborted) onGone()
    try {
      using deadline = targetDeadline(cutter.signal)
      socket = await connectTarget(service.target, deadline.signal)
    } catch (err) {
      const error = toCarrierError(err)
      noteTarget(service, error)
      metrics.serviceConnections.add(1, { result: error.code === 'ERR_TARGET_UNREACHABLE' ? 'target_unreachable' : 'cut' })
      request.refuse(error)
      await finish({ bytesIn: 0, bytesOut: 0 }, error.code)
      return
    } finally {
      request.signal.removeEventListener('abort', onGone)
    }
    noteTarget(service, undefined)
    metrics.serviceConnections.add(1, { result: 'opened' })
    const channel = request.accept()
    connection.cut = (error) => { channel.destroy(error) }
    const joined = join(socket, channel)
    // it may have been cut in the moment in which the target answered
    if (cutter.signal.aborted) channel.destroy(toCarrierError(cutter.signal.reason))
    tasks.run('service connection', async () => {
      metrics.serviceConnectionsOpen.add(1)
      components.onChange({ name: service.name, owner, state: 'open' })
      const outcome = await joined
      const bytes = { bytesIn: channel.bytesRead, bytesOut: channel.bytesWritten }
      metrics.serviceConnectionsOpen.add(-1)
      metrics.serviceBytes.add(bytes.bytesIn, { direction: 'in' })
      metrics.serviceBytes.add(bytes.bytesOut, { direction: 'out' })
      await finish(bytes, outcome.error?.code)
      components.onChange({ name: service.name, owner, state: 'closed' })
    })
  }

  function targetDeadline (signal: AbortSignal): ReturnType<typeof startDeadline> {
    return startDeadline(clock, LIMITS.targetConnectTimeoutMs, `no answer within ${LIMITS.targetConnectTimeoutMs} ms`, signal)
  }

  /** One line when a target goes away and one when it is back, however many friends try meanwhile. */
  function noteTarget (service: RegisteredService, err: unknown): void {
    const isDown = err !== undefined && errorCode(err) === 'ERR_TARGET_UNREACHABLE'
    if (isDown && !targetsDown.has(service.name)) {
      targetsDown.add(service.name)
      log.warn('the target of a service does not answer; friends are told so until it does', { service: service.name, err })
    } else if (err === undefined && targetsDown.delete(service.name)) {
      log.info('the target of a service answers again', { service: service.name })
    }
  }

  return {
    handle,
    cut: (matches, error) => {
      const chosen = [...live].filter((connection) => matches(connection))
      for (const connection of chosen) connection.cut(error)
      return chosen.length
    },
    count
  }
}

/** What every audit entry about this channel says. */
function factsOf (request: ChannelRequest, owner: Did): Omit<AuditEntry, 'event'> & { device: Did } {
  return {
    sessionId: request.sessionId,
    direction: 'in',
    device: request.peer.device,
    owner,
    path: request.path,
    ...(request.relayPeerId === undefined ? {} : { relayPeerId: request.relayPeerId })
  }
}
