/** What is said on a channel of a load: both ends know it from one line, so that each can tell every byte of the other. */
import { createHash } from 'node:crypto'
import { createChance } from '../support/byte-stream.ts'

/** Least and most. */
export type Span = readonly [least: number, most: number]

/** Both directions at once, so fast; without a length until the caller is told to finish. */
export interface StreamOrder { channel: string, mode: 'stream', bytesEach: number | null, bytesPerSecond: number }

/** Question and answer by turns; without a number of steps until the caller is told to finish. */
export interface DialogueOrder { channel: string, mode: 'dialogue', steps: number | null, upBytes: Span, downBytes: Span, thinkMs: Span }

/** What the caller's first line says. */
export type ChannelOrder = StreamOrder | DialogueOrder

/** One turn of a dialogue: `thinkMs` is how long the caller waits after the answer. */
export interface DialogueStep { upBytes: number, downBytes: number, thinkMs: number }

/** The steps of a dialogue, the same at both ends. */
export function createSteps (order: DialogueOrder): () => DialogueStep {
  const chance = createChance(createHash('sha256').update(order.channel).digest().readUInt32LE())
  const within = ([least, most]: Span): number => least + Math.floor(chance() * (most - least + 1))
  return () => ({ upBytes: within(order.upBytes), downBytes: within(order.downBytes), thinkMs: within(order.thinkMs) })
}

/** The name of the bytes of one direction, for `createByteSource`. */
export function seedOf (channel: string, direction: 'up' | 'down'): string {
  return `${channel} ${direction}`
}
