/** Keys that nobody has seen before ask for a reservation, each once, from all the attackers' addresses, and hold what they got for a while. */
import { connect } from 'node:net'
import { attackerAddress } from './ground.ts'
import type { Ground } from './ground.ts'
import { speakLean } from './lean-key.ts'
import { makeIdentity } from './lean-noise.ts'

/** Circuit v2 §status; others by their number. */
const STATUS_NAMES: Readonly<Record<number, string>> = { 100: 'OK', 200: 'RESERVATION_REFUSED', 201: 'RESOURCE_LIMIT_EXCEEDED', 202: 'PERMISSION_DENIED', 400: 'MALFORMED_MESSAGE', 401: 'UNEXPECTED_MESSAGE' }
const OK = 100
/** How long a fresh key keeps its connection after it was answered. */
const HOLD_MS = 5_000
const STEP_MS = 10
/** At once on their way; a target that takes nobody must not eat all our ports. */
const MAX_OPEN = 4_000

let prepared: Uint8Array[] = []

/** Makes the keys ahead, so that they cost nothing while it is measured. */
export function prepareKeys (count: number): void {
  prepared = Array.from({ length: count }, () => makeIdentity())
}

/** Sends the prepared keys at that rate, also what a machine without time for us held up. `first`: number of the first attacker. */
export function reservations (ground: Ground, perSecond: number, first: number): void {
  const { report: { fresh, refused } } = ground
  const identities = prepared
  prepared = []
  const startedAtMs = performance.now()
  // what was held up is made up for at twice the rate: a burst of thousands would be another attack, at the queue of the listener
  const maxPerStep = Math.max(1, Math.ceil(2 * perSecond * STEP_MS / 1000))
  let openCount = 0
  ground.every(STEP_MS, () => {
    const dueCount = (performance.now() - startedAtMs) * perSecond / 1000
    const stepEnd = Math.min(dueCount, fresh.attempts + maxPerStep)
    while (identities.length > 0 && fresh.attempts < stepEnd && openCount < MAX_OPEN) attempt(identities.pop() ?? new Uint8Array(0))
  })
  ground.onStop(() => { fresh.unanswered = fresh.attempts - fresh.granted - fresh.turnedAway - fresh.cutOff - Object.values(fresh.refused).reduce((sum, count) => sum + count, 0) })

  function attempt (identity: Uint8Array): void {
    const socket = connect({ host: ground.target.host, port: ground.target.port, localAddress: attackerAddress(first + fresh.attempts), noDelay: true })
    let isProven = false
    let isAnswered = false
    fresh.attempts++
    ground.report.made++
    openCount++
    // 'close' follows
    socket.on('error', () => {})
    socket.on('connect', () => {
      speakLean(socket, identity, {
        onConnected: () => {
          isProven = true
          fresh.handshakes++
        },
        onAsked: () => { fresh.asked++ },
        onAnswer: (status) => {
          isAnswered = true
          if (status === OK) {
            fresh.granted++
          } else {
            const name = STATUS_NAMES[status] ?? String(status)
            fresh.refused[name] = (fresh.refused[name] ?? 0) + 1
            refused.reservations++
          }
          ground.later(HOLD_MS, () => { socket.destroy() })
        }
      })
    })
    socket.on('close', () => {
      openCount--
      if (ground.isOver() || isAnswered) return
      if (isProven) {
        fresh.cutOff++
        return
      }
      fresh.turnedAway++
      refused.sockets++
    })
    ground.onStop(() => { socket.destroy() })
  }
}
