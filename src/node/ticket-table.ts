/** One-use tickets and what each is good for. Pure: time and randomness come in. */
import { createHash } from 'node:crypto'
import { equalSecrets, toHex } from '../base/index.ts'
import { TICKET_BYTES } from './ticket-door.ts'

/** Tickets that are neither used, void nor over. */
export interface TicketTable<Use> {
  /** A fresh ticket; the oldest one is void when the table is full. */
  issue: (use: Use, nowMs: number) => Uint8Array
  /** What the ticket is good for, once. Undefined: never issued, used, void or over. */
  redeem: (ticket: Uint8Array, nowMs: number) => Use | undefined
  /** Makes a ticket void; one that is used is left alone. */
  cancel: (ticket: Uint8Array) => void
  /** Forgets what is over and gives what it was good for. */
  sweep: (nowMs: number) => Use[]
  readonly size: number
}

/** Creates an empty table; times are monotonic milliseconds. `onVoid` hears of tickets that had to make room. */
export function createTicketTable<Use> (components: { random: (byteCount: number) => Uint8Array }, init: { ttlMs: number, maxCount: number, onVoid?: (use: Use) => void }): TicketTable<Use> {
  // in the order of their end, because all live equally long; by hash, so that the time of a look-up tells nothing of a ticket
  const table = new Map<string, { ticket: Uint8Array, use: Use, endsAtMs: number }>()

  return {
    issue: (use, nowMs) => {
      for (const [key, oldest] of table) {
        if (table.size < init.maxCount) break
        table.delete(key)
        init.onVoid?.(oldest.use)
      }
      const ticket = components.random(TICKET_BYTES)
      table.set(keyOf(ticket), { ticket, use, endsAtMs: nowMs + init.ttlMs })
      return ticket
    },
    redeem: (ticket, nowMs) => {
      const key = keyOf(ticket)
      const entry = table.get(key)
      if (entry === undefined || !equalSecrets(entry.ticket, ticket)) return undefined
      table.delete(key)
      return entry.endsAtMs > nowMs ? entry.use : undefined
    },
    cancel: (ticket) => { table.delete(keyOf(ticket)) },
    sweep: (nowMs) => {
      const over: Use[] = []
      for (const [key, { use, endsAtMs }] of table) {
        if (endsAtMs > nowMs) break
        table.delete(key)
        over.push(use)
      }
      return over
    },
    get size () { return table.size }
  }
}

function keyOf (ticket: Uint8Array): string {
  return toHex(createHash('sha256').update(ticket).digest())
}
