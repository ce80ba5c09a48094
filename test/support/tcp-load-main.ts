/**
 * A TCP load generator, as a process of its own: one JSON job per line on standard input, one JSON answer per line on
 * standard output. Jobs are answered as they finish; each carries the id of its job. The service is tcp-service-main.ts.
 */
import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { percentile } from './statistics.ts'
import { END_MARKER } from './tcp-load.ts'
import type { HoldReport, Job, LoadReport, ScanReport, TimingReport } from './tcp-load.ts'

const BLOCK = Buffer.alloc(64 * 1024, 'carrier load block ')
const held = new Map<number, Promise<HoldReport>>()

createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, job } = JSON.parse(line) as { id: number, job: Job }
  run(id, job).then(
    (result) => { console.log(JSON.stringify({ id, result })) },
    (err: unknown) => { console.log(JSON.stringify({ id, error: err instanceof Error ? `${(err as NodeJS.ErrnoException).code ?? ''} ${err.message}`.trim() : String(err) })) })
}).on('close', () => { process.exit(0) })

async function run (id: number, job: Job): Promise<unknown> {
  switch (job.kind) {
    case 'up': return throughput(job.connections, async () => up(job.host, job.port, job.durationMs))
    case 'upMarked': return throughput(job.connections, async () => upMarked(job.host, job.port, job.durationMs))
    case 'down': return throughput(job.connections, async () => down(job.host, job.port, job.durationMs))
    case 'roundTrip': return roundTrip(job.host, job.port, job.bytes, job.durationMs)
    case 'connect': return connectRate(job.host, job.port, job.connections, job.durationMs)
    case 'send': return send(job.host, job.port, Buffer.from(job.base64, 'base64'))
    case 'exchange': return (await exchange(job.host, job.port, Buffer.from(job.text), job.localPort)).toString()
    case 'hold': return hold(id, job.host, job.port)
    case 'ended': return held.get(job.hold)
    case 'scan': return scan(job.host, job.fromPort, job.toPort, job.timeoutMs, job.parallel)
    default: throw new Error(`unknown job ${JSON.stringify(job satisfies never)}`)
  }
}

async function throughput (connections: number, one: () => Promise<number>): Promise<LoadReport> {
  const startedAtMs = performance.now()
  const counts = await Promise.all(Array.from({ length: connections }, one))
  return { bytes: counts.reduce((sum, count) => sum + count, 0), elapsedMs: performance.now() - startedAtMs }
}

/** Sends for a while, then half-closes; counts only what the service says that it received. */
async function up (host: string, port: number, durationMs: number): Promise<number> {
  const socket = await open(host, port)
  const untilMs = performance.now() + durationMs
  const answer = readAll(socket)
  socket.write('U')
  let sent = 0
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    const step = (): void => {
      while (performance.now() < untilMs) {
        sent += BLOCK.length
        if (!socket.write(BLOCK)) {
          socket.once('drain', step)
          return
        }
      }
      socket.end()
      resolve()
    }
    step()
  })
  const received = Number((await answer).toString())
  if (received !== sent) throw new Error(`sent ${sent} bytes, the service received ${received}`)
  return received
}

/** The same for ways that do not carry a half-close: the marker at the end asks for the count. */
async function upMarked (host: string, port: number, durationMs: number): Promise<number> {
  const socket = await open(host, port)
  const untilMs = performance.now() + durationMs
  let text = ''
  const answer = new Promise<number>((resolve, reject) => {
    socket.once('error', reject)
    socket.once('close', () => { reject(new Error('closed before the service told its count')) })
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.endsWith('\n')) resolve(Number(text))
    })
  })
  socket.write('M')
  let sent = 0
  const step = (): void => {
    while (performance.now() < untilMs && !socket.destroyed) {
      sent += BLOCK.length
      if (!socket.write(BLOCK)) {
        socket.once('drain', step)
        return
      }
    }
    sent += END_MARKER.length
    socket.write(END_MARKER)
  }
  step()
  const received = await answer
  socket.destroy()
  if (received !== sent) throw new Error(`sent ${sent} bytes, the service received ${received}`)
  return received
}

async function down (host: string, port: number, durationMs: number): Promise<number> {
  const socket = await open(host, port)
  let received = 0
  socket.on('data', (chunk: Buffer) => { received += chunk.length })
  socket.write(`D${durationMs}\n`)
  await ended(socket)
  socket.end()
  if (received === 0) throw new Error('the service sent nothing')
  return received
}

async function roundTrip (host: string, port: number, bytes: number, durationMs: number): Promise<TimingReport> {
  const socket = await open(host, port)
  const message = Buffer.alloc(bytes, 'E')
  let pendingBytes = 0
  let arrived: (() => void) | undefined
  let fail: ((err: Error) => void) | undefined
  socket.on('data', (chunk: Buffer) => {
    pendingBytes -= chunk.length
    if (pendingBytes === 0) arrived?.()
  })
  socket.on('error', (err) => fail?.(err))
  socket.on('end', () => fail?.(new Error('the connection ended during the round trips')))
  const once = async (isFirst: boolean): Promise<number> => {
    const startedAtMs = performance.now()
    pendingBytes = isFirst ? bytes - 1 : bytes
    await new Promise<void>((resolve, reject) => {
      arrived = resolve
      fail = reject
      socket.write(message)
    })
    return performance.now() - startedAtMs
  }
  await once(true)
  const samplesMs: number[] = []
  const beganAtMs = performance.now()
  while (performance.now() - beganAtMs < durationMs) samplesMs.push(await once(false))
  socket.destroy()
  return timings(samplesMs, beganAtMs)
}

function timings (samplesMs: number[], startedAtMs: number): TimingReport {
  return { count: samplesMs.length, elapsedMs: performance.now() - startedAtMs, p50Ms: percentile(samplesMs, 0.5), p95Ms: percentile(samplesMs, 0.95), p99Ms: percentile(samplesMs, 0.99) }
}

/** Opens, has one byte echoed, closes without waiting for the other side; again and again on each of `connections` lanes. */
async function connectRate (host: string, port: number, connections: number, durationMs: number): Promise<TimingReport> {
  const startedAtMs = performance.now()
  const samplesMs: number[] = []
  const lane = async (): Promise<void> => {
    while (performance.now() - startedAtMs < durationMs) {
      const beganAtMs = performance.now()
      const socket = await open(host, port)
      await firstByte(socket)
      samplesMs.push(performance.now() - beganAtMs)
      socket.destroy()
    }
  }
  await Promise.all(Array.from({ length: connections }, lane))
  return timings(samplesMs, startedAtMs)
}

async function firstByte (socket: Socket): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.once('close', () => { reject(new Error('the connection closed before its echo')) })
    socket.once('data', (chunk: Buffer) => { if (chunk.toString() === '!') resolve(); else reject(new Error(`echo gave ${chunk.length} bytes`)) })
    socket.write('E!')
  })
}

async function send (host: string, port: number, bytes: Buffer): Promise<{ bytes: number, sha256: string, isEqual: boolean }> {
  const answer = await exchange(host, port, Buffer.concat([Buffer.from('H'), bytes]))
  const [count = '', sha256 = ''] = answer.toString().trim().split(' ')
  const isEqual = Number(count) === bytes.length && sha256 === createHash('sha256').update(bytes).digest('hex')
  return { bytes: Number(count), sha256, isEqual }
}

/** Sends all, half-closes, reads to the end. */
async function exchange (host: string, port: number, bytes: Buffer, localPort?: number): Promise<Buffer> {
  const socket = await open(host, port, localPort)
  const answer = readAll(socket)
  socket.end(bytes)
  return answer
}

/** Opens a connection, proves it by an echo, and watches it from then on. */
async function hold (id: number, host: string, port: number): Promise<{ localPort: number }> {
  const socket = await open(host, port)
  const localPort = socket.localPort ?? 0
  held.set(id, new Promise((resolve) => {
    let how: HoldReport['how'] = 'closed'
    socket.on('error', (err) => { how = (err as NodeJS.ErrnoException).code === 'ECONNRESET' ? 'reset' : 'error' })
    socket.on('end', () => {
      how = 'end'
      socket.end()
    })
    socket.on('close', () => { resolve({ how, atMs: Date.now() }) })
  }))
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.once('close', () => { reject(new Error('the connection closed before its first echo')) })
    socket.once('data', () => { resolve() })
    socket.write('Eh')
  })
  return { localPort }
}

/** A connect scan: a port is open when the connection is made. */
async function scan (host: string, fromPort: number, toPort: number, timeoutMs: number, parallel: number): Promise<ScanReport> {
  const report: ScanReport = { open: [], refused: 0, silent: 0, failed: 0 }
  let next = fromPort
  const lane = async (): Promise<void> => {
    for (let port = next++; port <= toPort; port = next++) await probe(port)
  }
  const probe = async (port: number): Promise<void> => {
    await new Promise<void>((resolve) => {
      const socket = connect({ host, port })
      const timer = setTimeout(() => { finish(() => { report.silent++ }) }, timeoutMs)
      const finish = (note: () => void): void => {
        clearTimeout(timer)
        socket.removeAllListeners()
        socket.on('error', () => { /* the verdict on this port is in */ })
        socket.destroy()
        note()
        resolve()
      }
      socket.once('connect', () => { finish(() => { report.open.push(port) }) })
      socket.once('error', (err) => {
        const code = (err as NodeJS.ErrnoException).code
        finish(() => { if (code === 'ECONNREFUSED') report.refused++; else report.failed++ })
      })
    })
  }
  await Promise.all(Array.from({ length: parallel }, lane))
  return report
}

async function open (host: string, port: number, localPort?: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true, ...(localPort === undefined ? {} : { localPort }) })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })
}

async function readAll (socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  await ended(socket)
  return Buffer.concat(chunks)
}

async function ended (socket: Socket): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once('end', resolve)
    socket.once('error', reject)
    socket.once('close', () => { reject(new Error('closed without an end')) })
  })
}
