/** `carrier doctor` inside a running engine: every check has its own deadline, and none waits for another one. */
import { abortable, CarrierError, errorCode, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { connectTarget, formatTarget } from '../forwarding/index.ts'
import type { Forwarding, Service } from '../forwarding/index.ts'
import type { Friends } from '../friends/index.ts'
import type { ClockVerdict } from '../identity/index.ts'
import { describeProxy } from '../node/index.ts'
import type { Node, UpstreamProxy } from '../node/index.ts'
import type { DoctorCheck, DoctorReport, ListenMode, NetReport, Presence } from '../carrier-types.ts'
import { checkAuditWritable, checkDataDirectory, checkMachine } from './doctor-machine.ts'
import { joinFindings, judgeClock, judgeDataPort, judgeForward, judgeFriends, judgeListen, judgeReachable, judgeRelay, judgeRouter, toCheck } from './doctor-words.ts'
import type { Finding } from './doctor-words.ts'

/** What is looked at. */
export interface DoctorComponents {
  dataDirectory: string
  clock: Clock
  judgeTime: () => ClockVerdict
  /** How far the wall clock moved against the monotonic one since the start, milliseconds. */
  steppedMs: () => number
  node: Pick<Node, 'relays' | 'isReachable' | 'problems' | 'listenAddresses' | 'checkDataPort'>
  netcheck: (options: { signal: AbortSignal }) => Promise<NetReport>
  listen: ListenMode
  proxy: UpstreamProxy | undefined
  /** Another live process presents our key. */
  isDoubled: () => boolean
  presence: () => Array<{ label: string, presence: Presence }>
  friends: Pick<Friends, 'requests'>
  forwarding: Pick<Forwarding, 'services' | 'forwards'>
}

/** One check, or several of a kind. */
export interface DoctorJob { name: string, run: (signal: AbortSignal) => Promise<DoctorCheck[]> | DoctorCheck[] }

/** Looks at everything. @throws only the signal's reason */
export async function examine (components: DoctorComponents, options: { signal?: AbortSignal } = {}): Promise<DoctorReport> {
  const { clock, node, dataDirectory } = components
  return {
    checks: await runJobs(clock, [
      { name: 'machine', run: checkMachine },
      { name: 'data directory', run: async () => checkDataDirectory(dataDirectory, clock, true) },
      one('audit log', () => checkAuditWritable(dataDirectory)),
      one('clock', () => judgeClock(components.judgeTime(), components.steppedMs())),
      one('key', () => judgeKey(components.isDoubled())),
      one('reachable', () => judgeReachable(node.isReachable(), node.problems(), countReserved(node))),
      ...node.relays().map(({ peerId }): DoctorJob => ({ name: 'relay', run: async (signal) => checkRelay(node, peerId, signal) })),
      one('proxy', () => ({ result: 'ok', text: components.proxy === undefined ? 'none' : `relays are reached through ${describeProxy(components.proxy)}` })),
      one('listen', () => judgeListen(components.listen, node.listenAddresses())),
      one('router', async (signal) => judgeRouter(await components.netcheck({ signal }))),
      one('friends', () => judgeFriends(components.presence(), components.friends.requests().filter(({ state }) => state === 'pending').length)),
      { name: 'service', run: async (signal) => checkTargets(components.forwarding.services(), clock, signal) },
      { name: 'forward', run: () => components.forwarding.forwards().map((forward) => toCheck('forward', judgeForward(forward), forward.listen)) }
    ], options.signal)
  }
}

/** Runs all at once; the answers keep the order of the jobs. One that throws or is late is a check of its own. */
export async function runJobs (clock: Clock, jobs: readonly DoctorJob[], signal?: AbortSignal): Promise<DoctorCheck[]> {
  const answers = await Promise.all(jobs.map(async ({ name, run }) => {
    using deadline = startDeadline(clock, LIMITS.doctorCheckMs, `it was not done after ${LIMITS.doctorCheckMs / 1000} s and was given up`, signal)
    try {
      return await abortable(Promise.resolve(run(deadline.signal)), deadline.signal)
    } catch (err) {
      signal?.throwIfAborted()
      return [toCheck(name, errorCode(err) === 'ERR_TIMEOUT'
        ? { result: 'warn', text: errorMessage(err), advice: 'run carrier doctor again; a machine or disk that is very busy makes it late' }
        : { result: 'fail', text: `it could not be looked at: ${errorMessage(err)}`, advice: 'see the log of the daemon' })]
    }
  }))
  return answers.flat()
}

function one (name: string, run: (signal: AbortSignal) => Promise<Finding> | Finding): DoctorJob {
  return { name, run: async (signal) => [toCheck(name, await run(signal))] }
}

function judgeKey (isDoubled: boolean): Finding {
  if (!isDoubled) return { result: 'ok', text: 'no other live process was seen with it' }
  return { result: 'fail', text: 'another live process uses this identity: friends reach now one, now the other', advice: 'stop it, or give it an identity of its own' }
}

function countReserved (node: Pick<Node, 'relays'>): { count: number, of: number } {
  const relays = node.relays()
  return { count: relays.filter(({ state }) => state === 'reserved').length, of: relays.length }
}

async function checkRelay (node: DoctorComponents['node'], peerId: string, signal: AbortSignal): Promise<DoctorCheck[]> {
  const relays = node.relays()
  const relay = relays.find((item) => item.peerId === peerId)
  if (relay === undefined) return []
  const finding = judgeRelay(relay, relays.some((other) => other.peerId !== peerId && other.state === 'reserved'))
  if (relay.state !== 'reserved') return [toCheck('relay', finding, relay.address)]
  try {
    return [toCheck('relay', joinFindings(finding, judgeDataPort(await node.checkDataPort(peerId, signal))), relay.address)]
  } catch (err) {
    signal.throwIfAborted()
    return [toCheck('relay', joinFindings(finding, judgeDataPort({ kind: 'failed', reason: errorMessage(err) })), relay.address)]
  }
}

/** Connects to each target once, as a probe of a friend does, and passes no byte. */
async function checkTargets (services: readonly Service[], clock: Clock, signal: AbortSignal): Promise<DoctorCheck[]> {
  const checks: DoctorCheck[] = []
  const waiting = [...services.entries()]
  await Promise.all(Array.from({ length: LIMITS.doctorTargetCount }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, service] = next
      checks[index] = toCheck('service', await tryTarget(service, clock, signal), service.name)
    }
  }))
  return checks
}

async function tryTarget (service: Service, clock: Clock, signal: AbortSignal): Promise<Finding> {
  const target = formatTarget(service.target)
  try {
    using deadline = startDeadline(clock, LIMITS.doctorTargetMs, `no answer within ${LIMITS.doctorTargetMs / 1000} s`, signal)
    const socket = await connectTarget(service.target, deadline.signal)
    socket.destroy()
    if (service.allow.length === 0) return { result: 'ok', text: `${target} answers; dark: nobody may dial it`, advice: `let a friend in: carrier grant WHO ${service.name}` }
    return { result: 'ok', text: `${target} answers` }
  } catch (err) {
    signal.throwIfAborted()
    return { result: 'fail', text: err instanceof CarrierError ? err.message : `${target}: ${errorMessage(err)}`, advice: `to name another one: carrier serve ${service.name} TARGET` }
  }
}
