/**
 * Keeps our ports open at the router (listen = mapped): asked for, renewed at half of their time, made again in another
 * network, removed at the stop. A router that does not help is a sentence for people, never an error.
 */
import { isIPv4 } from 'node:net'
import { backoffMs, CarrierError, createTaskOwner, errorMessage, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, TaskOwner } from '../base/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import { isLocalHost, isUnicastHost } from './path.ts'
import type { Gateway, Mapping, RouterPort, RouterProbe } from './port-map-types.ts'

/** What the map needs. */
export interface PortMapComponents {
  clock: Clock
  log: Logger
  random: () => number
  interfaces: () => Interfaces
  findGateway: (interfaces: Interfaces) => Promise<Gateway | undefined>
  /** Ways to ask a router, the best first. */
  probes: readonly RouterProbe[]
  /** Our own ports now; undefined while we do not listen. */
  ports: () => { main: number, link: number | undefined } | undefined
  /** The outside address appeared, changed or went. */
  onChanged: () => void
  /** Counts rounds by how they ended. */
  results: CounterMetric
}

/** Where we are reached from outside. */
export interface Outside { host: string, main: number, link: number | undefined }

/** The map. */
export interface PortMap {
  /** Begins; never waits for the router. */
  start: () => void
  /** Ports or network are others: asked at once, whatever failed before. */
  refresh: () => void
  /** Removes what was mapped, within LIMITS.portMapEndMs. */
  stop: () => Promise<void>
  /** What the router granted; it may lie, so what is dialled there has to prove its key. */
  outside: () => Outside | undefined
  /** Why there is no outside address, in a plain sentence; undefined while all is well. */
  problem: () => string | undefined
}

/** A router that was found to help, and what it granted by inside port. */
interface Granted { gateway: Gateway, router: RouterPort, mappings: Map<number, Mapping> }

/** Creates the map; nothing is asked before `start`. */
export function createPortMap (components: PortMapComponents): PortMap {
  const { clock, log } = components
  let tasks: TaskOwner | undefined
  let granted: Granted | undefined
  let outside: Outside | undefined
  let problem: string | undefined
  let failureCount = 0
  let wake = new AbortController()

  function tell (now: Outside | undefined, why: string | undefined): void {
    const isSame = JSON.stringify(now) === JSON.stringify(outside)
    if (why !== undefined && why !== problem) log.warn('no port is open at the router', { reason: why })
    if (!isSame && now !== undefined) log.info('ports are open at the router', { way: granted?.router.name, host: now.host, port: now.main })
    outside = now
    problem = why
    if (!isSame) components.onChanged()
  }

  /** One round. Resolves with the time to the next. */
  async function round (parent: AbortSignal): Promise<number> {
    using deadline = startDeadline(clock, LIMITS.portMapRoundMs, 'the router took too long', parent)
    const ports = components.ports()
    const hadRouter = granted !== undefined
    if (ports === undefined) {
      tell(undefined, undefined)
      return LIMITS.portMapRetryMaxMs
    }
    try {
      const { host, main, link, lifetimeSeconds } = await mapAll(ports, deadline.signal)
      components.results.add(1, { result: 'ok' })
      failureCount = 0
      tell({ host, main, link }, undefined)
      return Math.max(LIMITS.portMapLeastSeconds, lifetimeSeconds) * 500
    } catch (err) {
      parent.throwIfAborted()
      components.results.add(1, { result: 'failed' })
      // the next round looks for a router anew, at once if the one that failed had helped before: it may be another network
      granted = undefined
      if (hadRouter) return 0
      tell(undefined, errorMessage(err))
      return backoffMs({ firstMs: LIMITS.portMapRetryFirstMs, maxMs: LIMITS.portMapRetryMaxMs, factor: 2 }, failureCount++, components.random)
    }
  }

  async function mapAll (ports: { main: number, link: number | undefined }, signal: AbortSignal): Promise<Outside & { lifetimeSeconds: number }> {
    const gateway = await components.findGateway(components.interfaces())
    if (gateway === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'no router is in front of this machine that could map a port')
    if (granted?.gateway.router !== gateway.router || granted.gateway.own !== gateway.own) granted = { gateway, router: await findRouter(gateway, ports.main, signal), mappings: new Map() }
    const { router, mappings } = granted
    for (const [insidePort, mapping] of [...mappings]) {
      if (insidePort === ports.main || insidePort === ports.link) continue
      mappings.delete(insidePort)
      await router.unmap({ insidePort, outsidePort: mapping.outsidePort }, signal)
    }
    const main = await mapOne(granted, ports.main, signal)
    if (!isIPv4(main.outsideHost) || isLocalHost(main.outsideHost) || !isUnicastHost(main.outsideHost)) {
      mappings.delete(ports.main)
      await router.unmap({ insidePort: ports.main, outsidePort: main.outsidePort }, signal)
      throw new CarrierError('ERR_NOT_AVAILABLE', `the router has no public address itself (${main.outsideHost}): another router or the provider is in front of it, and a port that is open here is not open there`)
    }
    let link: Mapping | undefined
    try {
      link = ports.link === undefined ? undefined : await mapOne(granted, ports.link, signal)
    } catch (err) {
      signal.throwIfAborted()
      // friends then have the direct connection without the faster links
      log.warn('the router mapped one of two ports only', { reason: errorMessage(err) })
    }
    const lifetimes = [main, ...link === undefined ? [] : [link]].map(({ lifetimeSeconds }) => lifetimeSeconds === 0 ? LIMITS.portMapLifetimeSeconds : lifetimeSeconds)
    return { host: main.outsideHost, main: main.outsidePort, link: link?.outsidePort, lifetimeSeconds: Math.min(LIMITS.portMapLifetimeSeconds, ...lifetimes) }
  }

  async function findRouter (gateway: Gateway, port: number, signal: AbortSignal): Promise<RouterPort> {
    for (const probe of components.probes) {
      try {
        const router = await probe(gateway, signal)
        if (router !== undefined) return router
      } catch (err) {
        signal.throwIfAborted()
        log.debug('a router was asked in vain', { reason: errorMessage(err) })
      }
    }
    throw new CarrierError('ERR_NOT_AVAILABLE', `the router ${gateway.router} answers neither PCP, NAT-PMP nor UPnP: switch one of them on there, or forward TCP ports ${port} and ${port + 1} to ${gateway.own} by hand and use "--listen public"`)
  }

  async function mapOne ({ router, mappings }: Granted, insidePort: number, signal: AbortSignal): Promise<Mapping> {
    const mapping = await router.map({ insidePort, outsidePort: mappings.get(insidePort)?.outsidePort ?? insidePort, lifetimeSeconds: LIMITS.portMapLifetimeSeconds }, signal)
    if (mapping.outsidePort === 0) throw new CarrierError('ERR_NOT_AVAILABLE', 'the router granted no port')
    mappings.set(insidePort, mapping)
    return mapping
  }

  async function unmapAll (): Promise<void> {
    const last = granted
    granted = undefined
    if (last === undefined) return
    using deadline = startDeadline(clock, LIMITS.portMapEndMs, 'the router did not answer in time')
    for (const [insidePort, { outsidePort }] of last.mappings) {
      try {
        await last.router.unmap({ insidePort, outsidePort }, deadline.signal)
      } catch (err) {
        // it ends by itself
        log.debug('a mapping was not removed', { insidePort, reason: errorMessage(err) })
      }
    }
  }

  return {
    outside: () => outside,
    problem: () => problem,
    start: () => {
      tasks = createTaskOwner(log)
      tasks.run('map ports', async (signal) => {
        for (;;) {
          const own = wake
          const waitMs = await round(signal)
          await sleep(clock, waitMs, AbortSignal.any([signal, own.signal])).catch(() => { /* woken, or stopped: see below */ })
          signal.throwIfAborted()
        }
      })
    },
    refresh: () => {
      failureCount = 0
      wake.abort()
      wake = new AbortController()
    },
    stop: async () => {
      await tasks?.stop()
      tasks = undefined
      await unmapAll()
      outside = undefined
      problem = undefined
    }
  }
}
