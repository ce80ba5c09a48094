/**
 * An echo for all bytes, as a process of its own: `echo-main.ts serve HOST PORT` answers TCP and UDP at one port;
 * `echo-main.ts ask HOST PORT` says whether a datagram was answered or stayed `silent`.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'

const ASK_COUNT = 4
const ASK_INTERVAL_MS = 100

const [mode = '', host = '', port = ''] = process.argv.slice(2)
await (mode === 'serve' ? serve() : ask())

async function serve (): Promise<void> {
  const tcp = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => { socket.destroy() })
    socket.pipe(socket)
  })
  const udp = createSocket('udp4')
  udp.on('message', (message, from) => { udp.send(message, from.port, from.address) })
  tcp.listen(Number(port), host)
  udp.bind(Number(port), host)
  await Promise.all([once(tcp, 'listening'), once(udp, 'listening')])
  console.log('ready')
  process.stdin.on('end', () => { process.exit(0) }).resume()
}

async function ask (): Promise<void> {
  const udp = createSocket('udp4')
  const say = (word: string): void => {
    clearInterval(timer)
    udp.close()
    console.log(word)
  }
  let count = 0
  const timer = setInterval(() => {
    if (count++ < ASK_COUNT) udp.send('are you there', Number(port), host)
    else say('silent')
  }, ASK_INTERVAL_MS)
  udp.once('message', () => { say('answered') })
}
