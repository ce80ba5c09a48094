/** The office's database: an embedded PostgreSQL on loopback. Prints its port; ends when its standard input ends. */
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'

const db = await PGlite.create()
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0, maxConnections: 8 })
server.addEventListener('listening', (event) => {
  const { port } = (event as CustomEvent<{ port: number }>).detail
  process.stdout.write(`${JSON.stringify({ port })}\n`)
})
await server.start()
process.stdin.resume()
process.stdin.on('end', () => { process.exit(0) })
