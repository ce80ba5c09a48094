/** Delivers the outbox: one task per owner, for ever, with back-off; at once when there is a reason to hope. */
import type { Clock, CounterMetric, Logger, TaskOwner, Timer } from '../base/index.ts'
import { backoffMs, CarrierError, createFrameReader, errorCode, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { CarrierNode, PeerStream } from '../node/index.ts'
import { decodeFriendAnswer, encodeFriendMessage, FRIEND_PROTOCOL, MAX_ANSWER_BYTES } from './messages.ts'
import type { FriendMessage } from './messages.ts'
import type { RelayNews } from './relay-news.ts'
import type { OutboxEntry } from './store.ts'

/** What the courier works with. */
export interface CourierComponents {
  outbox: {
    owners: () => Did[]
    peek: (owner: Did) => OutboxEntry | undefined
    /** Called before the first byte leaves. False: the entry was replaced meanwhile and must not be sent. */
    claim: (entry: OutboxEntry) => boolean
    /** Takes the other side's answer; ignored when the entry was replaced meanwhile. */
    settle: (entry: OutboxEntry, isOk: boolean) => void
  }
  node: Pick<CarrierNode, 'openStream'>
  /** What a request takes along about our relays. */
  ownNews?: () => RelayNews | undefined
  clock: Clock
  random: () => number
  log: Logger
  tasks: TaskOwner
  deliveries: CounterMetric
}

/** Brings notices to their owners. */
export interface Courier {
  /** Tries now: a new entry, or a peer that is known to be there. Back-off starts anew. */
  kick: (owner: Did) => void
  /** Tries everything now: at start, or when a relay is there again. */
  kickAll: () => void
  /** Tries now and resolves when the outbox for this owner is empty or the attempt failed. */
  flush: (owner: Did) => Promise<void>
  stop: () => void
}

interface Job {
  attempt: number
  timer: Timer | undefined
  state: 'idle' | 'queued' | 'running'
  waiters: Array<() => void>
}

/** Creates a courier; idle until the first kick. `stop` it before the task owner stops. */
export function createCourier (components: CourierComponents): Courier {
  const { outbox, node, clock, random, log, tasks, deliveries } = components
  const jobs = new Map<Did, Job>()
  const queue: Did[] = []
  let runningCount = 0

  function jobOf (owner: Did): Job {
    const job = jobs.get(owner) ?? { attempt: 0, timer: undefined, state: 'idle', waiters: [] }
    jobs.set(owner, job)
    return job
  }

  function enqueue (owner: Did, isUrgent: boolean): void {
    const job = jobOf(owner)
    job.timer?.cancel()
    job.timer = undefined
    if (job.state === 'idle') {
      job.state = 'queued'
      if (isUrgent) queue.unshift(owner)
      else queue.push(owner)
    }
    pump()
  }

  function pump (): void {
    while (runningCount < LIMITS.outboxDeliveryCount && !tasks.signal.aborted) {
      const owner = queue.shift()
      if (owner === undefined) return
      runningCount++
      tasks.run('friend delivery', async (signal) => {
        const job = jobOf(owner)
        job.state = 'running'
        let isDone = false
        try {
          isDone = await deliverAll(owner, signal)
        } finally {
          runningCount--
          finish(owner, job, isDone)
          pump()
        }
      })
    }
  }

  function finish (owner: Did, job: Job, isDone: boolean): void {
    job.state = 'idle'
    for (const wake of job.waiters.splice(0)) wake()
    if (tasks.signal.aborted) return
    if (isDone) {
      // a kick while the job ran did nothing: what came between its last look and now is not forgotten
      if (outbox.peek(owner) === undefined) jobs.delete(owner)
      else enqueue(owner, true)
    } else {
      const delayMs = backoffMs({ firstMs: LIMITS.outboxRetryFirstMs, maxMs: LIMITS.outboxRetryMaxMs, factor: 2 }, job.attempt, random)
      job.attempt++
      job.timer = clock.setTimer(() => { enqueue(owner, false) }, Math.min(delayMs, LIMITS.outboxRetryMaxMs))
    }
  }

  /** True when nothing is left for this owner. */
  async function deliverAll (owner: Did, signal: AbortSignal): Promise<boolean> {
    for (let entry = outbox.peek(owner); entry !== undefined; entry = outbox.peek(owner)) {
      signal.throwIfAborted()
      const { kind } = entry.notice
      try {
        const isOk = await deliver(entry, signal)
        if (isOk === undefined) continue
        outbox.settle(entry, isOk)
        deliveries.add(1, { kind, result: isOk ? 'delivered' : 'refused' })
        log.info('a friend notice was delivered', { did: owner, kind, isOk })
      } catch (err) {
        signal.throwIfAborted()
        deliveries.add(1, { kind, result: 'failed' })
        log.debug('a friend notice was not delivered; it is tried again', { did: owner, kind, code: errorCode(err) })
        return false
      }
    }
    return true
  }

  /** Asks the owner's devices one after the other until one answers; undefined when the entry was replaced meanwhile. */
  async function deliver (entry: OutboxEntry, signal: AbortSignal): Promise<boolean | undefined> {
    let failure: unknown
    for (const device of entry.devices) {
      try {
        return await exchange(device, entry, signal)
      } catch (err) {
        signal.throwIfAborted()
        failure = err
      }
    }
    throw toCarrierError(failure, 'ERR_PEER_OFFLINE', 'no device of the owner could be reached')
  }

  async function exchange (device: Did, entry: OutboxEntry, parent: AbortSignal): Promise<boolean | undefined> {
    using deadline = startDeadline(clock, LIMITS.friendExchangeMs, 'the other side did not answer a friend message in time', parent)
    const { signal } = deadline
    const { stream } = await node.openStream(device, FRIEND_PROTOCOL, { signal })
    const onAbort = (): void => { stream.abort(toCarrierError(signal.reason)) }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      signal.throwIfAborted()
      return outbox.claim(entry) ? await ask(stream, entry, components.ownNews?.()) : undefined
    } finally {
      signal.removeEventListener('abort', onAbort)
      stream.abort(new CarrierError('ERR_CLOSED', 'the exchange is over'))
    }
  }

  return {
    kick: (owner) => {
      jobOf(owner).attempt = 0
      enqueue(owner, true)
    },
    kickAll: () => {
      for (const owner of outbox.owners()) {
        jobOf(owner).attempt = 0
        enqueue(owner, false)
      }
    },
    flush: async (owner) => {
      if (tasks.signal.aborted) return
      const job = jobOf(owner)
      job.attempt = 0
      const finished = new Promise<void>((resolve) => { job.waiters.push(resolve) })
      enqueue(owner, true)
      await finished
    },
    stop: () => {
      queue.length = 0
      for (const job of jobs.values()) {
        job.timer?.cancel()
        for (const wake of job.waiters.splice(0)) wake()
      }
    }
  }
}

/** Sends the message, half-closes, reads the answer and the other side's end. */
async function ask (stream: PeerStream, entry: OutboxEntry, news: RelayNews | undefined): Promise<boolean> {
  const frame = encodeFriendMessage(messageOf(entry, news))
  await stream.sink((async function * () { yield frame })())
  const reader = createFrameReader(stream.source)
  const body = await reader.read(MAX_ANSWER_BYTES)
  if (body === undefined) throw new CarrierError('ERR_PROTOCOL', 'the other side closed the stream without an answer')
  const isOk = decodeFriendAnswer(body)
  try {
    // waits for the other side's end, so that giving the stream up does not hit it while it still closes
    await reader.read(MAX_ANSWER_BYTES)
  } catch {
    // the answer is here; how the stream ended changes nothing
  }
  return isOk
}

function messageOf ({ notice, nospam, hello }: OutboxEntry, news: RelayNews | undefined): FriendMessage {
  if (notice.kind !== 'request') return { notice }
  if (nospam === undefined || hello === undefined) throw new CarrierError('ERR_INTERNAL', 'a friend request in the outbox has no nospam or hello')
  return { notice, nospam, hello, ...(news === undefined ? {} : { news }) }
}
