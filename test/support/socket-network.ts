/** Devices whose streams and splices are loopback sockets: real session managers and keepers below a relay that the test writes. */
import { CarrierError, createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Metrics } from '../../src/base/index.ts'
import type { Did, Identity } from '../../src/identity/index.ts'
import { createSessionProver } from '../../src/node/index.ts'
import type { CarrierNode, Peer, StreamHandler } from '../../src/node/index.ts'
import type { KeyLimits } from '../../src/session/attached-link.ts'
import { createSessionManager } from '../../src/session/index.ts'
import type { SessionManager } from '../../src/session/index.ts'
import { openSocketPair, streamOver } from './live-pair.ts'
import type { Middle } from './live-pair.ts'
import { makeIdentity } from './node-pair.ts'

/** One device. */
export interface SocketDevice { readonly identity: Identity, readonly did: Did, readonly sessions: SessionManager, readonly metrics: Metrics }

/** All devices know each other as friends. */
export interface SocketNetwork {
  /** The next device; not started. `isOlder`: of a release that does not know auth in sessions. */
  device: (init?: { isOlder?: boolean }) => Promise<SocketDevice>
  /** Splices opened so far. */
  spliceCount: () => number
}

const RELAY = 'relay'

/** Creates it; `middle` is the relay's part of each splice, asked for every one of them. */
export function createSocketNetwork (init: { middle: () => Middle, keyLimits?: KeyLimits }): SocketNetwork {
  const homes = new Map<Did, { peer: Peer, handlers: Map<string, StreamHandler>, splices: Parameters<CarrierNode['handleSplices']>[0] | undefined }>()
  let spliceCount = 0

  function homeOf (did: Did): NonNullable<ReturnType<typeof homes.get>> {
    const home = homes.get(did)
    if (home === undefined) throw new CarrierError('ERR_PEER_OFFLINE', 'nobody there')
    return home
  }

  return {
    spliceCount: () => spliceCount,
    device: async ({ isOlder = false } = {}) => {
      const identity = await makeIdentity()
      const { did } = identity
      const handlers = new Map<string, StreamHandler>()
      const peer: Peer = { device: did, owner: did, level: 'friend', instanceId: identity.instanceId, path: 'relayed', relayPeerId: RELAY }
      const home: NonNullable<ReturnType<typeof homes.get>> = { peer, handlers, splices: undefined }
      homes.set(did, home)
      const metrics = createMetrics()
      const sessions = createSessionManager({
        node: {
          handle: (protocol, handler) => { handlers.set(protocol, handler) },
          openStream: async (to, protocol, options = {}) => {
            const target = homeOf(to)
            const handler = target.handlers.get(protocol)
            if (handler === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'no such protocol')
            const [near, far] = await openSocketPair()
            options.signal?.throwIfAborted()
            const stream = streamOver(far)
            handler(stream, peer).catch((err: unknown) => { stream.abort(err as Error) })
            return { stream: streamOver(near), peer: target.peer }
          },
          canSplice: () => true,
          openSplice: async (to, relayPeerId) => {
            const { splices } = homeOf(to)
            if (splices?.admits(did, relayPeerId) !== true) throw new CarrierError('ERR_NOT_AVAILABLE', 'refused')
            spliceCount++
            const [near, far] = await openSocketPair(init.middle())
            splices.onSocket(far, did, relayPeerId)
            return near
          },
          handleSplices: (handler) => { home.splices = handler },
          issueLinkTicket: () => undefined,
          canDialLink: () => false,
          canPunch: () => false,
          preparePunch: async () => { throw new CarrierError('ERR_NOT_AVAILABLE', 'no routers here') },
          dialLink: async () => { throw new CarrierError('ERR_NOT_AVAILABLE', 'no link ports here') },
          handleLinkSockets: () => {},
          isLeavingRelay: () => false,
          canAvoidRelay: () => false
        },
        identity,
        clock: systemClock,
        log: silentLogger,
        metrics,
        random: Math.random,
        prover: isOlder ? undefined : createSessionProver({ identity, clock: systemClock, levelOf: () => 'friend' })
      }, { keyLimits: init.keyLimits })
      return { identity, did, sessions, metrics }
    }
  }
}
