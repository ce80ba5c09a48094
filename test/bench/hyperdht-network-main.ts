/** A private network of ten hyperdht nodes on loopback for hypertele. Argument: hypertele's directory. Prints the port of the first node. */
import { createRequire } from 'node:module'
import { join } from 'node:path'

type CreateTestnet = (size: number) => Promise<{ bootstrap: Array<{ port: number }> }>

const [directory = '.'] = process.argv.slice(2)
const createTestnet = createRequire(join(directory, 'package.json'))('hyperdht/testnet') as CreateTestnet
const { bootstrap } = await createTestnet(10)
console.log(JSON.stringify({ port: bootstrap[0]?.port }))
process.stdin.on('end', () => { process.exit(0) }).resume()
