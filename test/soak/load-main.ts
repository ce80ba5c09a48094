/**
 * One place of a load, as a process of its own: `load-main.ts HOST` serves channels at a free port of HOST, and opens some.
 * Prints its port, then one line for each operation of either end. Lines of standard input: `{"open":ORDER,"host":H,"port":P}`
 * and `{"finish":CHANNEL}`.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { runChannelEnd } from './channel-end.ts'
import type { ChannelOrder } from './channel-order.ts'
import type { Operation } from './history.ts'

/** What a line of standard output says after the first. */
export type LoadLine = { operation: Operation } | { stray: string }

const MAX_ORDER_BYTES = 4096

const [host = ''] = process.argv.slice(2)
const finishers = new Map<string, () => void>()

const server = createServer({ allowHalfOpen: true, noDelay: true }, serveOne)
server.listen({ host, port: 0 }, () => { console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })) })
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const said = JSON.parse(line) as { open?: ChannelOrder, host: string, port: number, finish?: string }
    if (said.open !== undefined) call(said.open, said.host, said.port)
    if (said.finish !== undefined) finishers.get(said.finish)?.()
  })
  .on('close', () => { process.exit(0) })

function say (line: LoadLine): void {
  console.log(JSON.stringify(line))
}

/** The beginning of a channel is its order; whoever connects and says nothing is a probe. */
function serveOne (socket: Socket): void {
  let head = Buffer.alloc(0)
  const tellStray = (how: string): void => {
    if (head.length > 0) say({ stray: `${how} after ${head.length} bytes of an order` })
  }
  const onError = (): void => { /* an error is no false end */ }
  const onEnd = (): void => {
    tellStray('a clean end')
    socket.end()
  }
  const onData = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk])
    const line = head.indexOf('\n')
    if (line < 0 && head.length <= MAX_ORDER_BYTES) return
    socket.off('data', onData).off('end', onEnd).off('error', onError)
    socket.pause()
    let order: ChannelOrder
    try {
      order = JSON.parse(head.subarray(0, line).toString()) as ChannelOrder
    } catch {
      // told: these are not the bytes of a caller of ours
      tellStray('no order')
      socket.destroy()
      return
    }
    if (line + 1 < head.length) socket.unshift(head.subarray(line + 1))
    runChannelEnd(socket, { order, side: 'service', note: (operation) => { say({ operation }) } })
  }
  socket.on('data', onData).on('end', onEnd).on('error', onError)
}

function call (order: ChannelOrder, targetHost: string, port: number): void {
  const socket = connect({ host: targetHost, port, allowHalfOpen: true, noDelay: true })
  socket.write(`${JSON.stringify(order)}\n`)
  const { finish } = runChannelEnd(socket, { order, side: 'caller', note: (operation) => { say({ operation }) } })
  finishers.set(order.channel, finish)
  socket.once('close', () => { finishers.delete(order.channel) })
}
