/** Whether what this relay announces can be reached: asked of the other relays that the operator listed, now and then. */
import type { Libp2p } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { CarrierError, ERRORS, LIMITS, createTaskOwner, errorMessage, sleep, startDeadline } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable } from '../base/index.ts'
import { closeSoon } from '../node/index.ts'
import { isRelayed } from './call-peer.ts'
import { peerIdOfAddress } from './mesh.ts'
import { readMessage, sendMessage } from './message-stream.ts'
import { REACH_ADDRESS_COUNT, REACH_PROTOCOL, decodeReachAnswer, encodeReachCheck } from './reach-messages.ts'
import type { ReachAnswer, ReachResult } from './reach-messages.ts'

/** What is known of one announced address. */
export interface ReachState { address: string, result: ReachResult | 'unknown' }

/** What the check found last; `reason` says why something is not known. */
export interface ReachReport { addresses: readonly ReachState[], at?: number, reason?: string }

/** What the check uses. */
export interface ReachCheckComponents {
  node: Pick<Libp2p, 'getConnections' | 'getMultiaddrs' | 'peerId'>
  clock: Clock
  log: Logger
  metrics: Metrics
  peers: () => readonly string[]
}

/** The check. */
export interface ReachCheck extends Startable {
  report: () => ReachReport
  /** Asks now, in place of waiting. Never rejects but with the signal's reason. */
  check: (signal: AbortSignal) => Promise<void>
}

/** Creates the check; it asks soon after its start, and again every quarter of an hour. */
export function createReachCheck ({ node, clock, log, metrics, peers }: ReachCheckComponents): ReachCheck {
  let tasks = createTaskOwner(log)
  const known = new Map<string, ReachResult>()
  let at: number | undefined
  let reason: string | undefined = 'it has not been asked yet'
  metrics.gauge('carrier_relay_unreachable_addresses_count', 'Announced addresses that another relay could not reach when it last tried.', [], () => {
    return report().addresses.filter(({ result }) => result === 'unreachable' || result === 'other').length
  })

  function announced (): string[] {
    const suffix = `/p2p/${node.peerId.toString()}`
    return node.getMultiaddrs().map((address) => address.toString().replace(suffix, ''))
  }

  function report (): ReachReport {
    const addresses = announced().map((address): ReachState => ({ address, result: known.get(address) ?? 'unknown' }))
    return { addresses, ...(at === undefined ? {} : { at }), ...(addresses.every(({ result }) => result !== 'unknown') || reason === undefined ? {} : { reason }) }
  }

  async function check (signal: AbortSignal): Promise<void> {
    const addresses = announced().slice(0, REACH_ADDRESS_COUNT)
    if (addresses.length === 0) { reason = 'nothing is announced' } else if (peers().length === 0) { reason = 'no other relay is listed in "peers" that could be asked' } else {
      for (const peer of peers()) {
        try {
          const results = await ask(peerIdOfAddress(peer), addresses, signal)
          for (const [index, result] of results.entries()) note(addresses[index] ?? '', result)
          at = clock.now()
          reason = undefined
          return
        } catch (err) {
          signal.throwIfAborted()
          reason = errorMessage(err)
          log.debug('a listed relay could not say whether this one is reached; the next is asked', { reason })
        }
      }
    }
  }

  function note (address: string, result: ReachResult): void {
    const before = known.get(address)
    known.set(address, result)
    for (const old of known.keys()) if (!announced().includes(old)) known.delete(old)
    if (before === result) return
    if (result === 'unreachable') log.warn('another relay cannot reach an announced address: look at the firewall, the forwarding of ports and "announce"', { announced: address })
    if (result === 'other') log.warn('at an announced address somebody else answers: another relay behind the same address, or a wrong "announce"', { announced: address })
    if (result === 'reachable') log.info('another relay reaches an announced address', { announced: address })
  }

  async function ask (peerId: string, addresses: readonly string[], signal: AbortSignal): Promise<ReachResult[]> {
    // the one that it made to look whether we are reached is younger, and is closed at once
    const connection = node.getConnections().find((candidate) => candidate.remotePeer.toString() === peerId && candidate.status === 'open' && !isRelayed(candidate))
    if (connection === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'no listed relay is connected that could be asked')
    using deadline = startDeadline(clock, LIMITS.relayHandshakeTimeoutMs, 'the listed relay did not answer whether this one is reached', signal)
    const stream = await connection.newStream(REACH_PROTOCOL, { signal: deadline.signal, runOnLimitedConnection: false })
    let answer: ReachAnswer
    try {
      sendMessage(stream, encodeReachCheck(addresses.map((address) => multiaddr(address).bytes)))
      answer = decodeReachAnswer(await readMessage(stream, LIMITS.relayMessageBytes, deadline.signal))
    } catch (err) {
      stream.abort(err instanceof Error ? err : new Error(errorMessage(err)))
      throw err
    }
    // an answer that came counts, however the stream ends
    closeSoon(stream)
    if (answer.t === 'refused') {
      throw answer.code === ERRORS.ERR_NOT_AVAILABLE.wire
        ? new CarrierError('ERR_NOT_AVAILABLE', 'the other relay does not check this one: its "peers" must list this relay too')
        : new CarrierError('ERR_LIMIT', 'the other relay was asked too often')
    }
    if (answer.results.length !== addresses.length) throw new CarrierError('ERR_PROTOCOL', 'the other relay answered about other addresses')
    return answer.results
  }

  return {
    report,
    check,
    start: async () => {
      tasks = createTaskOwner(log)
      tasks.run('reach check', async (signal) => {
        // the mesh connects meanwhile
        await sleep(clock, LIMITS.relayReachFirstMs, signal)
        while (!signal.aborted) {
          await check(signal)
          await sleep(clock, reason === undefined ? LIMITS.relayReachEveryMs : LIMITS.relayReachAgainMs * 2, signal)
        }
      })
    },
    stop: async () => { await tasks.stop() }
  }
}
