/** A relay between two legs of a splice that can do to TLS records whatever a relay can. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Middle } from './live-pair.ts'

/** What it does to one record, or between two. */
export type Tampering = 'flips a bit' | 'drops a record' | 'repeats a record' | 'swaps two records' | 'injects a record' | 'injects bytes' | 'cuts a record' | 'ends cleanly'

/** All of them. */
export const TAMPERINGS: readonly Tampering[] = ['flips a bit', 'drops a record', 'repeats a record', 'swaps two records', 'injects a record', 'injects bytes', 'cuts a record', 'ends cleanly']

/** The relay: honest until it is armed. */
export interface HostileMiddle {
  readonly middle: Middle
  /** From now on, once: to the next record towards the far leg, or the near one. */
  arm: (tampering: Tampering, towards: 'near' | 'far') => void
  /** How often it has done so. */
  readonly tampered: () => number
  readonly openCount: () => number
  close: () => void
}

const HEADER_BYTES = 5
const APPLICATION_DATA = 23

/** Creates it. A silent one keeps both legs open when one of them ends: nobody is told. */
export function createHostileMiddle (options: { isSilent?: boolean } = {}): HostileMiddle {
  let armed: { tampering: Tampering, towards: 'near' | 'far' } | undefined
  let tamperedCount = 0
  const legs = new Set<Socket>()

  function carry (from: Socket, to: Socket, towards: 'near' | 'far'): void {
    let rest: Buffer = Buffer.alloc(0)
    let kept: Buffer | undefined
    legs.add(from)
    const pass = (bytes: Buffer): void => {
      if (!to.destroyed && !to.write(bytes)) from.pause()
    }
    const passRecord = (record: Buffer): void => {
      if (kept !== undefined) {
        pass(record)
        pass(kept)
        kept = undefined
        return
      }
      if (armed?.towards !== towards || record[0] !== APPLICATION_DATA) {
        pass(record)
        return
      }
      const { tampering } = armed
      armed = undefined
      tamperedCount++
      switch (tampering) {
        case 'flips a bit': {
          const changed = Buffer.from(record)
          const at = HEADER_BYTES + (record.length - HEADER_BYTES >> 1)
          changed[at] = (changed[at] ?? 0) ^ 0x10
          pass(changed)
          return
        }
        case 'drops a record': return
        case 'repeats a record':
          pass(record)
          pass(record)
          return
        case 'swaps two records': kept = record; return
        case 'injects a record': {
          const forged = randomBytes(record.length)
          record.copy(forged, 0, 0, HEADER_BYTES)
          pass(forged)
          pass(record)
          return
        }
        case 'injects bytes':
          pass(randomBytes(7))
          pass(record)
          return
        case 'cuts a record': pass(record.subarray(0, record.length - 3)); return
        case 'ends cleanly':
          pass(record)
          to.end()
      }
    }
    from.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      while (rest.length >= HEADER_BYTES) {
        const bytes = HEADER_BYTES + rest.readUInt16BE(3)
        if (rest.length < bytes) return
        passRecord(rest.subarray(0, bytes))
        rest = rest.subarray(bytes)
      }
    })
    to.on('drain', () => { from.resume() })
    from.on('close', () => {
      legs.delete(from)
      if (options.isSilent !== true) to.destroy()
      else from.resume()
    })
    from.on('end', () => { if (options.isSilent !== true) to.end() })
    from.resume()
  }

  return {
    middle: (near, far) => {
      carry(near, far, 'far')
      carry(far, near, 'near')
    },
    arm: (tampering, towards) => { armed = { tampering, towards } },
    tampered: () => tamperedCount,
    openCount: () => legs.size,
    close: () => { for (const leg of legs) leg.destroy() }
  }
}
