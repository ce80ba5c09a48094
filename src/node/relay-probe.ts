/**
 * Does a relay forward? A circuit to ourselves: it ends at "can not dial self" only after Noise has proven our own key at its
 * far end, so the relay called us and carried bytes both ways. No relay can feign that.
 */
import type { ConnectionGater } from '@libp2p/interface'
import { errorMessage } from '../base/index.ts'
import type { Host } from './host.ts'
import type { RelayAddress } from './relay-address.ts'

/**
 * `forwards`: proven. `forgotten`: the relay says that it holds no reservation of ours. `silent`: no circuit came to us.
 * `broken`: we were called, and then nothing was carried (or we were too busy to answer). `unknown`: the relay is full or
 * does not allow it, which says nothing.
 */
export type ProbeResult = 'forwards' | 'forgotten' | 'silent' | 'broken' | 'unknown'

/** Probes relays, one at a time each. */
export interface RelayProbe {
  /** @throws the signal's reason when it fires and nobody can say why; a relay that merely does not answer in `signal`'s time is `silent` or `broken` */
  probe: (relay: RelayAddress, signal: AbortSignal, parent: AbortSignal) => Promise<ProbeResult>
  /** The same gater, which lets one circuit from ourselves in while its relay is probed: it must not share the places of strangers. */
  letSelfIn: (gater: ConnectionGater) => ConnectionGater
}

/** Creates the probe. */
export function createRelayProbe (host: () => Pick<Host, 'dialAddress' | 'libp2p'>): RelayProbe {
  /** Relays that are being probed, and whether their call has come. */
  const calls = new Map<string, { hasCome: boolean }>()

  return {
    probe: async (relay, signal, parent) => {
      const self = host().libp2p.peerId.toString()
      const call = { hasCome: false }
      calls.set(relay.peerId, call)
      try {
        const connection = await host().dialAddress(relay.circuit.encapsulate(`/p2p/${self}`), signal)
        await connection.close()
        return 'forwards'
      } catch (err) {
        parent.throwIfAborted()
        return judgeSelfDial(errorMessage(err), call.hasCome)
      } finally {
        calls.delete(relay.peerId)
      }
    },
    letSelfIn: (gater) => ({
      ...gater,
      denyInboundRelayedConnection: (relay, peer) => {
        const call = calls.get(relay.toString())
        if (call === undefined || call.hasCome || !peer.equals(host().libp2p.peerId)) return gater.denyInboundRelayedConnection?.(relay, peer) ?? false
        call.hasCome = true
        return false
      }
    })
  }
}

/** What the failure of a dial of ourselves means. */
export function judgeSelfDial (failure: string, hasCome: boolean): ProbeResult {
  if (/dial self/i.test(failure)) return 'forwards'
  if (/NO_RESERVATION/.test(failure)) return 'forgotten'
  if (/RESOURCE_LIMIT_EXCEEDED|PERMISSION_DENIED|MALFORMED_MESSAGE|UNEXPECTED_MESSAGE|RESERVATION_REFUSED/.test(failure)) return 'unknown'
  return hasCome ? 'broken' : 'silent'
}

/** What the last probes of one relay mean together. */
export interface RelayTrust {
  /** Why it is avoided; undefined while it is believed. */
  readonly lie: string | undefined
  /** Notes a result; true when the verdict changed. */
  note: (result: ProbeResult) => boolean
  /** The next probe should not wait for the usual interval. */
  readonly isInDoubt: boolean
  /** Probes that failed since it was found lying. */
  readonly lieCount: number
}

/** Failures in a row that make a liar: a relay that is flooded, or a node that is busy, may miss one or two. */
const LIE_COUNT = 3

/** A relay that is believed. */
export function createRelayTrust (): RelayTrust {
  let failures: Array<Exclude<ProbeResult, 'forwards' | 'unknown'>> = []
  let lie: string | undefined
  let lieCount = 0

  function verdict (): string | undefined {
    if (failures.length < LIE_COUNT) return undefined
    return failures.every((failure) => failure === 'forgotten') ? 'it takes reservations but forgets them at once' : 'it takes reservations but does not forward'
  }

  return {
    get lie () { return lie },
    get isInDoubt () { return lie === undefined && failures.length > 0 },
    get lieCount () { return lieCount },
    note: (result) => {
      const before = lie
      if (result === 'forwards') {
        failures = []
        lie = undefined
        lieCount = 0
      } else if (result !== 'unknown') {
        if (lie !== undefined) lieCount++
        failures = [...failures, result].slice(-LIE_COUNT)
        lie ??= verdict()
      }
      return lie !== before
    }
  }
}
