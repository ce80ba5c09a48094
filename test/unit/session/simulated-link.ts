/** Two session cores over a link with a rate and a delay, in simulated time. */
import { LIMITS } from '../../../src/base/index.ts'
import type { ChannelCore } from '../../../src/session/channel-core.ts'
import { CreditPool } from '../../../src/session/credit-pool.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import { OWN_LIMITS } from '../../../src/session/hello.ts'
import { SessionCore } from '../../../src/session/session-core.ts'

/** Work for later, by time; a simulation has no more than some thousands of entries. */
class Agenda {
  nowMs = 0
  #entries: Array<{ atMs: number, order: number, work: () => void }> = []
  #order = 0

  at (atMs: number, work: () => void): void {
    const entry = { atMs: Math.max(atMs, this.nowMs), order: this.#order++, work }
    let index = this.#entries.length
    while (index > 0 && (this.#entries[index - 1] as { atMs: number }).atMs > entry.atMs) index--
    this.#entries.splice(index, 0, entry)
  }

  run (untilMs: number): void {
    for (let entry = this.#entries[0]; entry !== undefined && entry.atMs <= untilMs; entry = this.#entries[0]) {
      this.#entries.shift()
      this.nowMs = entry.atMs
      entry.work()
    }
    this.nowMs = untilMs
  }
}

/** How the link is; may be changed while it runs. */
export interface LinkShape { bytesPerMs: number, delayMs: number }

const MESSAGE_BYTES = 65_477

/** One end in simulated time. */
export class SimulatedEnd {
  readonly core: SessionCore
  readonly decoder: FrameDecoder
  readonly #agenda: Agenda
  readonly #shape: LinkShape
  other: SimulatedEnd | undefined
  onOpen: (channel: ChannelCore) => void = () => {}
  /** When the link has taken everything that was written. */
  #freeAtMs = 0
  #isFlushPlanned = false

  constructor (agenda: Agenda, shape: LinkShape, isController: boolean) {
    this.#agenda = agenda
    this.#shape = shape
    this.core = new SessionCore({ isController, limits: OWN_LIMITS, peerLimits: OWN_LIMITS, pool: new CreditPool(LIMITS.nodeCreditBytes), now: () => agenda.nowMs }, {
      onWake: () => { this.#plan() },
      onAckDue: () => { this.#plan() },
      onDeliveryDue: () => { this.core.deliver() },
      onAckDelayed: () => { agenda.at(agenda.nowMs + LIMITS.sessionAckDelayMs, () => { this.core.flushAcks() }) },
      onOpen: (channel) => {
        this.onOpen(channel)
        this.core.settle(channel)
      }
    })
    this.decoder = new FrameDecoder(this.core)
  }

  /** How long a message that is written now waits before it is on the wire. */
  get queueMs (): number {
    return Math.max(0, this.#freeAtMs - this.#agenda.nowMs)
  }

  #plan (): void {
    if (this.#isFlushPlanned) return
    this.#isFlushPlanned = true
    this.#agenda.at(this.#agenda.nowMs, () => { this.#flush() })
  }

  #flush (): void {
    this.#isFlushPlanned = false
    for (;;) {
      const message = this.core.produce(MESSAGE_BYTES)
      if (message !== undefined) {
        this.#freeAtMs = Math.max(this.#freeAtMs, this.#agenda.nowMs) + message.length / this.#shape.bytesPerMs
        this.#agenda.at(this.#freeAtMs + this.#shape.delayMs, () => { this.other?.decoder.push(message) })
      }
      this.core.notifySent()
      if (message === undefined) return
    }
  }
}

/** A transfer on one channel that never ends, and what it does. */
export class Simulation {
  readonly agenda = new Agenda()
  readonly shape: LinkShape
  readonly sender: SimulatedEnd
  readonly receiver: SimulatedEnd
  receivedBytes = 0

  constructor (shape: LinkShape) {
    this.shape = shape
    this.sender = new SimulatedEnd(this.agenda, shape, true)
    this.receiver = new SimulatedEnd(this.agenda, shape, false)
    this.sender.other = this.receiver
    this.receiver.other = this.sender
    // as the edge does when a link begins
    for (const end of [this.sender, this.receiver]) end.core.noteRoundTrip(2 * shape.delayMs)
    this.receiver.onOpen = (channel) => {
      channel.listener = listener({
        onBytes: (bytes) => {
          this.receivedBytes += bytes.length
          this.receiver.core.read(channel)
        }
      })
      this.receiver.core.read(channel)
    }
  }

  /** Begins a channel whose writer always has more. */
  startBulk (): ChannelCore {
    const chunk = new Uint8Array(65_536)
    const channel = this.sender.core.open('bulk', new Uint8Array(0))
    channel.listener = listener({ onSent: () => { this.sender.core.send(channel, [chunk]) } })
    this.sender.core.send(channel, [chunk])
    return channel
  }

  /** Runs for `milliseconds`; the result is bytes received per millisecond. */
  run (milliseconds: number): number {
    const before = this.receivedBytes
    this.agenda.run(this.agenda.nowMs + milliseconds)
    return (this.receivedBytes - before) / milliseconds
  }
}

function listener (parts: Partial<NonNullable<ChannelCore['listener']>>): NonNullable<ChannelCore['listener']> {
  return { onBytes: () => {}, onEnd: () => {}, onSent: () => {}, onFinished: () => {}, onFailed: (err) => { throw err }, ...parts }
}
