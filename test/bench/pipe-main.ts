/** One hop of the unencrypted baseline: takes connections and pipes them to a port. Arguments: the port to connect to. Prints its own. */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'

const [target = '0'] = process.argv.slice(2)
const server = createServer({ allowHalfOpen: true, noDelay: true }, (inbound) => {
  const outbound = connect({ host: '127.0.0.1', port: Number(target), allowHalfOpen: true, noDelay: true })
  joinSockets(inbound, outbound)
  joinSockets(outbound, inbound)
})
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => { console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })) })
process.stdin.on('end', () => { process.exit(0) }).resume()

function joinSockets (from: Socket, to: Socket): void {
  from.pipe(to)
  from.on('error', () => { to.resetAndDestroy() })
}
