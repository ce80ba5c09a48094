/**
 * The attackers, a process of their own. Orders: `{prepare: COUNT}` makes that many fresh keys ahead; `{start: {target, parts, perSecond, first}}`
 * begins; `{sent: true}` waits until all of these keys were sent; `{stop: true}` ends it and is answered with what the target refused meanwhile.
 */
import { connects, drip, idle, malformed, splices } from './raw-attacks.ts'
import { prepareKeys, reservations } from './fresh-keys.ts'
import { createGround } from './ground.ts'
import type { AttackReport, Ground, Target } from './ground.ts'
import { muxers, pusher, unpaired } from './keyed-attacks.ts'
import type { AttackPart } from './attacks.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'
import { takeOrders } from './worker.ts'

interface Order { prepare?: number, start?: { target: Target, parts: AttackPart[], perSecond: number, first: number }, sent?: boolean }

let ground: Ground | undefined
let keyCount = 0

// a connection that the target cuts off in the middle of something may fail where libp2p has nobody to tell
process.on('unhandledRejection', () => {})
process.on('uncaughtException', (err) => { console.error(err) })

takeOrders<Order>(async ({ prepare, start, sent }): Promise<AttackReport | object> => {
  if (prepare !== undefined) {
    keyCount = prepare
    prepareKeys(prepare)
    return {}
  }
  if (sent === true) {
    await waitFor('all fresh keys to be sent', () => (ground?.report.fresh.attempts ?? 0) >= keyCount, { deadlineMs: PATIENCE_MS, intervalMs: 20 })
    return {}
  }
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
    reservations: () => { reservations(here, start.perSecond, start.first) },
    unpaired: () => { unpaired(here) }
  }
  for (const part of start.parts) begin[part]()
  return {}
})
