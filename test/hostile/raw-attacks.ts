/** Attacks that need no key: sockets that say nothing, too little, too slowly, nonsense, or that come in thousands. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Ground } from './ground.ts'

const MULTISTREAM = Buffer.from('\x13/multistream/1.0.0\n', 'latin1')
const NOISE = Buffer.from('\x07/noise\n', 'latin1')
const SPLICE_PREFACE = Buffer.from('carrier-splice/1\n', 'latin1')
const TICKET_BYTES = 32

// every socket has a time of its own and is renewed then, so that a target that refuses and one that swallows get the same load
const IDLE_COUNT = 400
const DRIP_COUNT = 200
const HOLD_MS = 4_000
const MALFORMED_COUNT = 30
const MALFORMED_MS = 1_000
/** 5,000 connects in 5 s, in steps. */
const CONNECTS = { perStep: 20, stepMs: 20 }
const SPLICE_COUNT = 200
/** Of the splice port's flood, each step. */
const SPLICE_PER_STEP = 5

/** Says nothing; renewed after its time. */
export function idle (ground: Ground): void {
  for (let index = 0; index < IDLE_COUNT; index++) hold(ground, index, 'relay', HOLD_MS, () => {})
}

/** A right beginning of a handshake, a byte at a time. */
export function drip (ground: Ground): void {
  const right = Buffer.concat([MULTISTREAM, NOISE, Buffer.from([0, 32]), randomBytes(32)])
  for (let index = 0; index < DRIP_COUNT; index++) hold(ground, index, 'relay', HOLD_MS, (socket) => { say(ground, socket, right, 100) })
}

const MALFORMED: ReadonlyArray<(socket: Socket) => void> = [
  (socket) => { socket.end(randomBytes(1000)) },
  (socket) => { socket.write('GET / HTTP/1.1\r\nHost: relay\r\n\r\n') },
  (socket) => { socket.write(Buffer.alloc(12, 0xff)) },
  (socket) => { socket.write(Buffer.alloc(64 * 1024)) },
  (socket) => { socket.write(Buffer.concat([MULTISTREAM, randomBytes(2000)])) },
  (socket) => { socket.write(Buffer.concat([MULTISTREAM, NOISE, Buffer.alloc(64 * 1024, 0xff)])) },
  (socket) => { socket.write(Buffer.concat([MULTISTREAM, NOISE, Buffer.from([0, 32]), randomBytes(32)])) },
  (socket) => { socket.write(Buffer.concat([MULTISTREAM, Buffer.from('\x05/tls\n', 'latin1')])) }
]

/** Eight kinds of malformed openings, each on its sockets, again and again. */
export function malformed (ground: Ground): void {
  for (let index = 0; index < MALFORMED.length * MALFORMED_COUNT; index++) hold(ground, index, 'relay', MALFORMED_MS, MALFORMED[index % MALFORMED.length] ?? (() => {}))
}

/** A thousand connects a second that go at once. */
export function connects (ground: Ground): void {
  let count = 0
  ground.every(CONNECTS.stepMs, () => {
    for (let step = 0; step < CONNECTS.perStep; step++) ground.open(count++, 'relay', HOLD_MS, (socket) => { socket.destroy() })
  })
}

/** The splice port: no ticket, wrong tickets, slow tickets, and what is no splice at all. */
export function splices (ground: Ground): void {
  for (let index = 0; index < SPLICE_COUNT; index++) {
    const ticket = Buffer.concat([SPLICE_PREFACE, randomBytes(TICKET_BYTES)])
    if (index % 2 === 0) hold(ground, index, 'splice', HOLD_MS, () => {})
    else hold(ground, index, 'splice', HOLD_MS, (socket) => { say(ground, socket, ticket, 100) })
  }
  let count = 0
  ground.every(CONNECTS.stepMs, () => {
    for (let step = 0; step < SPLICE_PER_STEP; step++) {
      ground.open(count, 'splice', HOLD_MS, (socket) => { socket.write(count % 2 === 0 ? randomBytes(100) : Buffer.concat([SPLICE_PREFACE, randomBytes(TICKET_BYTES)])) })
      count++
    }
  })
}

/** A socket that is there all the time: when its time is over, the next one takes its place. */
function hold (ground: Ground, from: number, where: 'relay' | 'splice', lifeMs: number, onConnect: (socket: Socket) => void): void {
  const renew = (): void => {
    ground.open(from, where, lifeMs, onConnect)
    ground.later(lifeMs, renew)
  }
  // not all at once
  ground.later(Math.floor(from * 7 % 500), renew)
}

function say (ground: Ground, socket: Socket, bytes: Buffer, stepMs: number): void {
  let sentCount = 0
  const next = (): void => {
    if (!socket.writable || sentCount >= bytes.length) return
    socket.write(bytes.subarray(sentCount, ++sentCount))
    ground.later(stepMs, next)
  }
  next()
}
