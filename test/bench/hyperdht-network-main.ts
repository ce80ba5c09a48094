/**
 * Nodes of a private hyperdht network for hypertele: `hyperdht-network-main.ts DIRECTORY HOST COUNT [HOST:PORT]`: hypertele's directory, the
 * address of this place, how many nodes, and a node of the network that they join. Prints the port of the first node.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'

interface Node { host: string, port: number }
interface Testnet { nodes: Array<{ address: () => Node }> }
type CreateTestnet = (size: number, options: { host: string, bootstrap?: Node[] }) => Promise<Testnet>

const [directory = '.', host = '127.0.0.1', count = '10', known] = process.argv.slice(2)
const createTestnet = createRequire(join(directory, 'package.json'))('hyperdht/testnet') as CreateTestnet
const [knownHost = '', knownPort] = known?.split(':') ?? []
const { nodes } = await createTestnet(Number(count), { host, ...(known === undefined ? {} : { bootstrap: [{ host: knownHost, port: Number(knownPort) }] }) })
console.log(JSON.stringify({ port: nodes[0]?.address().port }))
process.stdin.on('end', () => { process.exit(0) }).resume()
