/** From the engine's objects to the plain shapes of the control API. Pure. */
import type { Carrier } from '../../carrier-types.ts'
import { CarrierError } from '../../base/index.ts'
import type { Forward } from '../../forwarding/index.ts'
import type { ControlEvent, MethodOutput } from '../client/index.ts'
import { EVENTS, isEventName } from '../client/index.ts'

/** Everything `carrier status` prints. */
export function viewStatus (carrier: Carrier): MethodOutput<'daemon.status'> {
  return { ...carrier.status(), forwards: carrier.forwarding.forwards().map(viewForward) }
}

/** One service, as the status knows it. */
export function viewService (carrier: Carrier, name: string): MethodOutput<'service.serve'> {
  const service = carrier.status().services.find((item) => item.name === name)
  if (service === undefined) throw new CarrierError('ERR_NOT_FOUND', `the service "${name}" was removed meanwhile`)
  return service
}

/** A forward as `forward.list` shows it. */
export function viewForward (forward: Forward): MethodOutput<'forward.open'> {
  return {
    listen: forward.listen,
    to: forward.to,
    state: forward.state,
    reason: forward.reason,
    path: forward.path,
    connections: forward.connectionCount,
    source: forward.source.kind,
    once: !forward.isPersistent
  }
}

/** All friends with what the status knows of each. */
export function viewFriends (carrier: Carrier): MethodOutput<'friend.list'> {
  const known = new Map(carrier.status().friends.map((friend) => [friend.did, friend]))
  return {
    friends: carrier.friends.list().map((friend) => ({
      did: friend.owner,
      label: friend.label,
      state: friend.state,
      devices: friend.devices,
      presence: known.get(friend.owner)?.presence ?? (friend.state === 'requested' ? 'requested' : 'offline'),
      path: known.get(friend.owner)?.path,
      addedAt: friend.addedAt,
      lastSeenAt: friend.lastSeenAt
    }))
  }
}

/** An event of the engine as the stream carries it; undefined for what is no part of the API. */
export function viewEvent (name: string, payload: unknown): ControlEvent | undefined {
  if (!isEventName(name)) return undefined
  // the engine's own payload: carrier-types.ts pairs name and type
  const plain = name === 'forward:state' ? viewForward(payload as Forward) : payload
  return { name, payload: EVENTS[name].payload.parse(plain) } as ControlEvent
}
