/** One end of a channel of a load: sends what its order says, compares every byte that comes, and notes what it sees. */
import { createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import { createByteSource } from '../support/byte-stream.ts'
import { createSteps, seedOf } from './channel-order.ts'
import type { ChannelOrder, DialogueOrder, StreamOrder } from './channel-order.ts'
import type { ChannelSide, Operation } from './history.ts'

/** What an end is. */
export interface ChannelEndInit { order: ChannelOrder, side: ChannelSide, note: (operation: Operation) => void }

type Kinds<T> = T extends unknown ? Omit<T, 'channel' | 'side' | 'atMs'> : never
type Seen = Kinds<Operation>

const BLOCK_BYTES = 16 * 1024
const TELL_MS = 1_000

/** Runs until the socket has closed. `finish` ends a caller's direction that has no length. The socket must keep half-open connections. */
export function runChannelEnd (socket: Socket, { order, side, note }: ChannelEndInit): { finish: () => void } {
  const [sendDirection, receiveDirection] = side === 'caller' ? ['up', 'down'] as const : ['down', 'up'] as const
  const nextToSend = createByteSource(seedOf(order.channel, sendDirection))
  const nextExpected = createByteSource(seedOf(order.channel, receiveDirection))
  const hashes = { sent: createHash('sha256'), received: createHash('sha256') }
  const now = { sentBytes: 0, receivedBytes: 0, isTold: false, hasEnded: false }
  let waiting: Array<() => void> = []
  const see = (seen: Seen): void => { note({ channel: order.channel, side, atMs: Number(process.hrtime.bigint() / 1000n) / 1000, ...seen }) }
  const wake = (): void => { for (const resolve of waiting.splice(0)) resolve() }
  const news = async (): Promise<void> => new Promise((resolve) => { waiting.push(resolve) })
  let toldBytes = 0
  const timer = setInterval(() => {
    if (now.sentBytes + now.receivedBytes === toldBytes) return
    toldBytes = now.sentBytes + now.receivedBytes
    see({ kind: 'moved', sentBytes: now.sentBytes, receivedBytes: now.receivedBytes })
  }, TELL_MS)

  see({ kind: 'opened' })
  socket.on('error', (err) => { see({ kind: 'error', code: (err as NodeJS.ErrnoException).code ?? err.message }) })
  socket.on('drain', wake)
  socket.on('data', (chunk: Buffer) => {
    const expected = nextExpected(chunk.length)
    if (!chunk.equals(expected)) {
      see({ kind: 'foreign', atBytes: now.receivedBytes + chunk.findIndex((byte, index) => byte !== expected[index]) })
      socket.destroy(new Error('foreign'))
      return
    }
    hashes.received.update(chunk)
    now.receivedBytes += chunk.length
    wake()
  })
  socket.once('end', () => {
    now.hasEnded = true
    see({ kind: 'end', total: { bytes: now.receivedBytes, sha256: hashes.received.copy().digest('hex') } })
    wake()
  })
  socket.once('close', () => {
    clearInterval(timer)
    see({ kind: 'closed', sentBytes: now.sentBytes, receivedBytes: now.receivedBytes })
    now.hasEnded = true
    wake()
  })
  socket.resume()
  const sending = order.mode === 'stream' ? stream(order) : side === 'caller' ? ask(order) : answer(order)
  // the socket's own errors come as events: what fails here is the program
  sending.then(finishSending, (err: unknown) => { throw err })
  return {
    finish: () => {
      now.isTold = true
      wake()
    }
  }

  function finishSending (): void {
    if (socket.destroyed) return
    see({ kind: 'finished', total: { bytes: now.sentBytes, sha256: hashes.sent.copy().digest('hex') } })
    socket.end()
  }

  async function send (byteCount: number): Promise<void> {
    for (let left = byteCount; left > 0 && !socket.destroyed;) {
      const chunk = nextToSend(Math.min(BLOCK_BYTES, left))
      left -= chunk.length
      now.sentBytes += chunk.length
      hashes.sent.update(chunk)
      if (socket.write(chunk)) continue
      while (socket.writableNeedDrain && !socket.destroyed) await news()
    }
  }

  async function received (byteCount: number): Promise<void> {
    while (now.receivedBytes < byteCount && !now.hasEnded) await news()
  }

  async function stream ({ bytesEach, bytesPerSecond }: StreamOrder): Promise<void> {
    const startedAtMs = performance.now()
    const isOver = (): boolean => socket.destroyed || (bytesEach === null ? now.isTold || (side === 'service' && now.hasEnded) : now.sentBytes >= bytesEach)
    while (!isOver()) {
      await send(Math.min(BLOCK_BYTES, (bytesEach ?? Infinity) - now.sentBytes))
      await sleep(startedAtMs + now.sentBytes / bytesPerSecond * 1000 - performance.now())
    }
  }

  async function ask (dialogue: DialogueOrder): Promise<void> {
    const nextStep = createSteps(dialogue)
    let wantedBytes = 0
    for (let done = 0; done < (dialogue.steps ?? Infinity) && !now.isTold && !now.hasEnded; done++) {
      const { upBytes, downBytes, thinkMs } = nextStep()
      await send(upBytes)
      wantedBytes += downBytes
      await received(wantedBytes)
      const untilMs = performance.now() + thinkMs
      while (!now.isTold && !now.hasEnded && performance.now() < untilMs) await Promise.race([sleep(untilMs - performance.now()), news()])
      waiting = []
    }
  }

  async function answer (dialogue: DialogueOrder): Promise<void> {
    const nextStep = createSteps(dialogue)
    let wantedBytes = 0
    for (let done = 0; done < (dialogue.steps ?? Infinity); done++) {
      const { upBytes, downBytes } = nextStep()
      wantedBytes += upBytes
      await received(wantedBytes)
      if (now.receivedBytes < wantedBytes) return
      await send(downBytes)
    }
    while (!now.hasEnded) await news()
  }
}

async function sleep (delayMs: number): Promise<void> {
  if (delayMs > 1) await new Promise<void>((resolve) => { setTimeout(resolve, delayMs) })
}
