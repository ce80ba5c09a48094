/**
 * `npm run demo`: the main job in one go, on real processes and sockets of this machine. A relay, an "office" and a "laptop";
 * the office has a PostgreSQL on its loopback and no listening socket; the laptop becomes its friend and runs SQL on it.
 * Exit 0 only if every step happened. Everything is in a temporary directory and is removed at the end, also on Ctrl-C.
 */
import { join } from 'node:path'
import pg from 'pg'
import { createRelay } from '../support/bootstrap.ts'
import { createDaemon, ROOT } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { processSockets } from '../support/process-sockets.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { waitFor } from '../support/wait.ts'

const DEADLINE = { deadlineMs: 15_000, intervalMs: 30 }

// removed with this process, like every program below, also on Ctrl-C
const work = makeTempDirectory('demo')
const running: Array<{ stop: () => Promise<unknown>, program: () => Program }> = []
const startedAt = performance.now()
let stepStartedAt = startedAt

try {
  await main()
  process.exitCode = 0
} catch (err) {
  console.error(`\nThe demo failed: ${err instanceof Error ? err.message : String(err)}`)
  for (const program of running.map((part) => part.program())) {
    if (program.stderr() !== '') console.error(`\n--- last words of ${program.name}\n${program.stderr().slice(-4096)}`)
  }
  process.exitCode = 1
} finally {
  // the daemons say goodbye before their relay goes
  for (const part of running.toReversed()) await part.stop()
}

async function main (): Promise<void> {
  const [relay, database] = await Promise.all([startRelay(), startDatabase()])
  step(`relay ${short(relay)} and a PostgreSQL on 127.0.0.1:${database} of the office are up`)

  const [office, laptop] = await Promise.all([startDaemon('office', relay), startDaemon('laptop', relay)])
  step('office and laptop are up: two identities, no listening port')

  const { address } = await office.json<{ address: string }>('id')
  const { did: officeDid } = await laptop.json<{ did: string }>('friend', 'add', address, '--hello', 'it is me, the laptop')
  console.log(`       laptop$ carrier friend add ${short(address)} --hello "it is me, the laptop"\n       → ${officeDid}`)
  const requests = await waitFor('the friend request', async () => {
    const found = await office.json<Array<{ did: string, hello: string }>>('friend', 'requests')
    return found.length > 0 ? found : undefined
  }, DEADLINE)
  const request = requests[0]
  if (request === undefined || request.hello !== 'it is me, the laptop') throw new Error('the request came without its hello')
  step(`the request reached the office over the relay: "${request.hello}"`)

  await office.json('friend', 'accept', request.did)
  await office.json('friend', 'label', request.did, 'laptop')
  await laptop.json('friend', 'label', officeDid, 'office')
  const friend = await waitFor('a session', async () => {
    const status = await laptop.status()
    return status.friends.find((candidate) => candidate.presence === 'online')
  }, DEADLINE)
  step(`friends, and online for each other; path: ${friend.path ?? 'unknown'}`)

  const refused = await laptop.cli('forward', '0', 'office/postgres', '--json')
  if (refused.exitCode !== 3) throw new Error(`a service that is not granted must be refused with exit code 3, got ${refused.exitCode}`)
  step('before any grant the service does not exist for the laptop (exit code 3)')

  await office.json('serve', 'postgres', String(database))
  await office.json('grant', 'laptop', 'postgres')
  const forward = await laptop.json<{ listen: string, path?: string }>('forward', '0', 'office/postgres')
  step(`office$ carrier serve postgres ${database} && carrier grant laptop postgres\n       laptop$ carrier forward 0 office/postgres → ${forward.listen}, path: ${forward.path ?? 'unknown'}`)

  const port = Number(forward.listen.split(':').at(-1))
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres', ssl: false, connectionTimeoutMillis: 10_000 })
  let hasEnded = false
  client.on('end', () => { hasEnded = true })
  client.on('error', () => { /* the cut after the revoke is expected; `end` follows */ })
  await client.connect()
  await client.query('CREATE TABLE invoice (id serial PRIMARY KEY, customer text NOT NULL, cents integer NOT NULL)')
  await client.query("INSERT INTO invoice (customer, cents) SELECT 'customer ' || n, n * 100 FROM generate_series(1, 1000) AS n")
  const { rows } = await client.query<{ count: string, sum: string }>('SELECT count(*), sum(cents) FROM invoice')
  const row = rows[0]
  if (row?.count !== '1000' || row.sum !== '50050000') throw new Error(`the database answered ${JSON.stringify(rows)}`)
  step(`SQL from the laptop on the office's database: ${row.count} invoices, ${row.sum} cents in sum`)

  for (const daemon of [office, laptop]) {
    const exposed = processSockets(daemon.program().pid).filter((socket) => !socket.isLoopback)
    if (exposed.length > 0) throw new Error(`${daemon.name} listens beyond loopback: ${JSON.stringify(exposed)}`)
  }
  const officeSockets = processSockets(office.program().pid)
  step(`the office process (pid ${office.program().pid}) has ${officeSockets.length} listening TCP or UDP sockets: nothing to scan, nothing to attack`)

  const revokedAt = performance.now()
  await office.json('revoke', 'laptop', 'postgres')
  await waitFor('the cut of the live connection', () => hasEnded, DEADLINE)
  step(`revoked: the live connection was cut after ${Math.round(performance.now() - revokedAt)} ms`)

  const again = await laptop.cli('nc', 'office/postgres')
  if (again.exitCode !== 3) throw new Error(`after the revoke the service must be refused with exit code 3, got ${again.exitCode}: ${again.stderr}`)
  console.log(`       laptop$ carrier nc office/postgres\n       ${again.stderr.trim()}`)
  step('and refused from then on (exit code 3)')
  console.log(`\nAll of it happened, in ${((performance.now() - startedAt) / 1000).toFixed(1)} s.`)
}

async function startRelay (): Promise<string> {
  const relay = await createRelay({ dataDirectory: join(work, 'relay') })
  running.push(relay)
  await relay.start()
  return relay.address()
}

async function startDatabase (): Promise<number> {
  const program = startProgram(process.execPath, [join(ROOT, 'test', 'demo', 'pglite-main.ts')], { name: 'database' })
  running.push({ program: () => program, stop: program.stop })
  return (JSON.parse(await program.line(0)) as { port: number }).port
}

async function startDaemon (name: string, relay: string): Promise<Daemon> {
  const daemon = createDaemon({ name, dataDirectory: join(work, name), relays: [relay] })
  running.push(daemon)
  await daemon.start()
  return daemon
}

function step (text: string): void {
  const now = performance.now()
  console.log(`${((now - startedAt) / 1000).toFixed(2).padStart(5)} s (+${((now - stepStartedAt) / 1000).toFixed(2)})  ${text}`)
  stepStartedAt = now
}

function short (text: string): string {
  return text.length <= 44 ? text : `${text.slice(0, 24)}…${text.slice(-12)}`
}
