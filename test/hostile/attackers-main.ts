/**
 * The attackers, a process of their own. Orders: `{start: {target, attacks, perSecond}}` begins, `{stop: true}` ends it and is
 * answered with what the target refused meanwhile.
 */
import { connects, drip, idle, malformed, splices } from './raw-attacks.ts'
import { muxers, pusher, reservations, unpaired } from './keyed-attacks.ts'
import { createGround } from './ground.ts'
import type { AttackReport, Ground, Target } from './ground.ts'
import type { AttackPart } from './attacks.ts'
import { takeOrders } from './worker.ts'

interface Order { start?: { target: Target, parts: AttackPart[], perSecond: number } }

let ground: Ground | undefined

// a connection that the target cuts off in the middle of something may fail where libp2p has nobody to tell
process.on('unhandledRejection', () => {})
process.on('uncaughtException', (err) => { console.error(err) })

takeOrders<Order>(async ({ start }): Promise<AttackReport | object> => {
  if (start === undefined) {
    ground?.stop()
    return ground?.report ?? {}
  }
  const here = ground = createGround(start.target)
  const begin: Record<AttackPart, () => void> = {
    idle: () => { idle(here) },
    drip: () => { drip(here) },
    malformed: () => { malformed(here) },
    connects: () => { connects(here) },
    splices: () => { splices(here) },
    muxers: () => { muxers(here) },
    pusher: () => { pusher(here) },
    reservations: () => { reservations(here, start.perSecond) },
    unpaired: () => { unpaired(here) }
  }
  for (const part of start.parts) begin[part]()
  return {}
})
