/**
 * Many devices in one process that become friends of one office: `memory-peers-main.ts RELAY ADDRESS COUNT DIRECTORY`.
 * Prints one line when all have asked, and one when all are online; ends with its standard input.
 */
import { join } from 'node:path'
import { createCarrier } from '../../src/index.ts'
import type { Carrier } from '../../src/index.ts'
import { waitFor } from '../support/wait.ts'

const ONLINE_DEADLINE_MS = 120_000

const [relay = '', address = '', count = '0', directory = ''] = process.argv.slice(2)
const carriers: Carrier[] = []
process.stdin.on('end', () => { process.exit(0) }).resume()
for (let number = 1; number <= Number(count); number++) {
  const carrier = await createCarrier({ dataDirectory: join(directory, `peer${number}`), relays: [relay] })
  await carrier.start()
  carrier.friends.add(address, { hello: `peer ${number}` })
  carriers.push(carrier)
}
console.log(JSON.stringify({ asked: carriers.length }))
await waitFor('all peers to be online', () => carriers.every((carrier) => carrier.status().friends.some((friend) => friend.presence === 'online')), { deadlineMs: ONLINE_DEADLINE_MS, intervalMs: 200 })
console.log(JSON.stringify({ online: carriers.length }))
