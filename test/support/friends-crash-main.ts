/**
 * A process that does nothing but change its friend list until it is killed.
 * argv: database path, number of the first DID, and after how many writing statements it kills itself (default: never).
 */
import { createMetrics, openDatabase, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Database } from '../../src/base/index.ts'
import { createFriends, FRIENDS_MIGRATIONS } from '../../src/friends/index.ts'
import { formatAddress, publicKeyFromDid } from '../../src/identity/index.ts'
import { didNumber } from './friends-world.ts'

const [path = '', first = '1', killAfter = 'Infinity'] = process.argv.slice(2)
const database = openDatabase({ path, name: 'state', migrations: FRIENDS_MIGRATIONS })
let statementsLeft = Number(killAfter)
const friends = createFriends({
  database: { ...database, run },
  identity: { did: didNumber(0) },
  addressBook: { accepts: () => false },
  node: {
    handle: () => {},
    on: () => () => {},
    openStream: async () => new Promise(() => { /* everybody is far away */ }),
    disconnect: async () => {}
  },
  audit: { record: async () => new Promise(() => { /* entries stay where they are */ }), countStranger: () => {} },
  clock: systemClock,
  random: Math.random,
  log: silentLogger,
  metrics: createMetrics()
})

for (let number = Number(first); ; number++) {
  const did = didNumber(number)
  friends.add(formatAddress({ publicKey: publicKeyFromDid(did), nospam: new Uint8Array(8) }), { hello: `number ${number}`, label: `n${number}` })
  // synchronous, so that what is printed is true when the process dies
  process.stdout.write(`added ${number}\n`)
  if (number % 3 === 0) {
    await friends.remove(did)
    process.stdout.write(`removed ${number}\n`)
  }
}

/** Runs a statement, then perhaps dies: before the next one and before the commit. */
function run (...statement: Parameters<Database['run']>): number {
  const changes = database.run(...statement)
  if (--statementsLeft === 0) process.kill(process.pid, 'SIGKILL')
  return changes
}
