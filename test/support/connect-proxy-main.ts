/** An HTTP proxy as a program: HOST PORT [USER:PASSWORD]. Prints a line when it listens. */
import { startConnectProxy } from './connect-proxy.ts'

const [host = '', port = '', credentials] = process.argv.slice(2)
const proxy = await startConnectProxy({ host, port: Number(port), ...(credentials === undefined ? {} : { credentials }) })
process.stdout.write(`${JSON.stringify({ port: proxy.port })}\n`)
