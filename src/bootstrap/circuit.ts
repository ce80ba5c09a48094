/**
 * Joins the caller's hop stream and the called peer's stop stream into one circuit: bounded, with back-pressure, half-close and reset
 * kept in both directions. A source is paused while its sink waits to drain, so a reader that never reads costs its sender's
 * progress and not the relay's memory.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { CarrierError } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { CircuitLimits } from './hop-messages.ts'
import { pauseStream } from './message-stream.ts'
import type { QuotaFlow } from './quota-book.ts'

/** How a circuit ended. */
export type CircuitEnd = 'finished' | 'reset' | 'lost' | 'data-limit' | 'duration-limit' | 'memory' | 'shutdown' | 'quota' | 'admission'

/** Two joined streams. */
export interface Circuit {
  /** Bytes that wait inside the relay now, both directions together. */
  bufferedBytes: () => number
  /** Bytes that it has forwarded so far, both directions together. */
  forwardedBytes: () => bigint
  /** Resets both ends at once. Idempotent. */
  abort: (reason: CircuitEnd) => void
  /** How it ended; never rejects. */
  ended: Promise<CircuitEnd>
}

/** What a circuit needs. */
export interface CircuitComponents {
  clock: Clock
  /** Called for every forwarded piece. */
  onBytes: (count: number) => void
}

/** What starts to charge one end; `onOver` ends the circuit. */
export type StartFlow = (onOver: () => void) => QuotaFlow

/** The two ends and what the circuit may do; limits are enforced as they were announced on the wire. What an end sends is charged to its flow. */
export interface CircuitInit { caller: Stream, called: Stream, limits?: CircuitLimits | undefined, callerFlow?: StartFlow | undefined, calledFlow?: StartFlow | undefined }

interface Direction { source: Stream, sink: Stream, forwardedBytes: bigint, sawFin: boolean, isClosing: boolean, isDone: boolean }

/** Joins two streams, both paused and past their handshake; the circuit owns them from here on. */
export function joinCircuit ({ clock, onBytes }: CircuitComponents, { caller, called, limits, callerFlow, calledFlow }: CircuitInit): Circuit {
  const { promise: ended, resolve } = Promise.withResolvers<CircuitEnd>()
  const directions: readonly Direction[] = [createDirection(caller, called), createDirection(called, caller)]
  const cleanups: Array<() => void> = []
  let timer: Timer | undefined
  let isOver = false

  function finish (reason: CircuitEnd): void {
    if (isOver) return
    isOver = true
    timer?.cancel()
    for (const cleanup of cleanups) cleanup()
    if (reason !== 'finished') {
      const error = new CarrierError('ERR_RESET', `the relay ended the circuit: ${reason}`)
      caller.abort(error)
      called.abort(error)
    }
    resolve(reason)
  }

  function start (direction: Direction, opposite: Direction, startFlow: StartFlow | undefined): void {
    const { source, sink } = direction
    const flow = startFlow?.(() => { finish('quota') })
    let isResuming = false
    let mustPause = false
    /** It has to wait for its rate. */
    let isHeld = false

    function onMessage (event: StreamMessageEvent): void {
      direction.forwardedBytes += BigInt(event.data.byteLength)
      if (limits?.dataBytes !== undefined && direction.forwardedBytes > limits.dataBytes) {
        finish('data-limit')
        return
      }
      onBytes(event.data.byteLength)
      let canTakeMore: boolean
      try {
        canTakeMore = sink.send(event.data)
      } catch {
        // the sink cannot be written any more: the source must not believe that its bytes arrived
        finish('lost')
        return
      }
      if (flow?.charge(event.data.byteLength, release) === false) isHeld = true
      if (isOver || (canTakeMore && !isHeld)) return
      if (isResuming) mustPause = true
      else pauseStream(source)
    }
    function release (): void {
      isHeld = false
      goOn()
    }
    function goOn (): void {
      if (!isOver && !isHeld && !isResuming && !sink.writableNeedsDrain && source.readStatus === 'paused') resumeSource()
    }
    // resume() hands over what was buffered and only then opens the muxer's window again: a pause in between would be undone by it
    function resumeSource (): void {
      isResuming = true
      mustPause = false
      try {
        source.resume()
      } catch {
        // the connection is gone; that is no loss when both directions of this stream were already over
        if (!direction.sawFin || !opposite.isClosing) finish('lost')
      }
      isResuming = false
      if (mustPause && !isOver) pauseStream(source)
    }
    // a drained connection signals all its streams, also those whose own window is still shut: look again after libp2p has tried to send
    function onDrain (): void { queueMicrotask(goOn) }
    function onFin (): void { direction.sawFin = true }
    // every byte before the FIN has been handed on: hand on the FIN
    function onEnd (): void {
      if (!direction.sawFin || direction.isClosing || isBroken(source)) return
      direction.isClosing = true
      sink.close().then(() => {
        direction.isDone = true
        if (opposite.isDone) finish('finished')
      }, () => { finish('lost') })
    }
    function onClose (event: StreamCloseEvent): void {
      if (event.error !== undefined) finish(event.local === true ? 'lost' : 'reset')
      // without an error it is clean only when both its directions were over; a lost connection looks the same otherwise
      else if (!direction.sawFin || !opposite.isClosing) finish('lost')
    }

    source.addEventListener('message', onMessage)
    source.addEventListener('remoteCloseWrite', onFin)
    source.addEventListener('end', onEnd)
    source.addEventListener('close', onClose)
    sink.addEventListener('drain', onDrain)
    cleanups.push(() => {
      flow?.end()
      source.removeEventListener('message', onMessage)
      source.removeEventListener('remoteCloseWrite', onFin)
      source.removeEventListener('end', onEnd)
      source.removeEventListener('close', onClose)
      sink.removeEventListener('drain', onDrain)
    })
    if (source.status === 'open' && source.remoteWriteStatus === 'closed') direction.sawFin = true
    if (source.status !== 'open') finish('lost')
    else if (source.readStatus === 'paused') resumeSource()
    if (source.readableEnded) onEnd()
  }

  const [forth, back] = directions as readonly [Direction, Direction]
  start(forth, back, callerFlow)
  start(back, forth, calledFlow)
  // what was already lost leaves nothing behind
  if (isOver) for (const cleanup of cleanups) cleanup()
  if (!isOver && limits?.durationSeconds !== undefined) timer = clock.setTimer(() => { finish('duration-limit') }, limits.durationSeconds * 1000)

  return {
    bufferedBytes: () => directions.reduce((sum, { source, sink }) => sum + source.readBufferLength + sink.writeBufferLength, 0),
    forwardedBytes: () => forth.forwardedBytes + back.forwardedBytes,
    abort: finish,
    ended
  }
}

function createDirection (source: Stream, sink: Stream): Direction {
  return { source, sink, forwardedBytes: 0n, sawFin: false, isClosing: false, isDone: false }
}

function isBroken (stream: Stream): boolean {
  return stream.status === 'reset' || stream.status === 'aborted'
}
