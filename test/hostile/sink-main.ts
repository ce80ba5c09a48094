/** The unrelated sink of control runs: takes connections on two ports and throws away what comes. Prints their numbers in answer to an order. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { takeOrders } from './worker.ts'

async function listen (): Promise<number> {
  const server = createServer((socket) => {
    // a reset is an end like any other
    socket.on('error', () => {})
    socket.resume()
  })
  await new Promise<void>((resolve) => { server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, resolve) })
  return (server.address() as AddressInfo).port
}

const ports = { port: await listen(), splicePort: await listen() }
takeOrders(async () => ports)
