/** The main job in the lab: a database behind NAT, reached by a friend behind another NAT, over a relay, with no open port. */
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { startPair } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import { isLoopbackAddress, listeningSockets } from '../support/proc.ts'
import { printFigure } from '../support/statistics.ts'
import { startLoadGenerator, startTcpService } from '../support/tcp-load.ts'
import type { LoadGenerator, TcpService } from '../support/tcp-load.ts'
import { PATIENCE_MS, timed, waitFor, within } from '../support/wait.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { assertNoTraceAtRelay } from './marker-scenario.ts'
import { bigQuery, copyOut, pgbench, pgbenchInit, psql, startPostgres, startPsql } from './postgres.ts'
import type { PostgresDoor, PostgresServer } from './postgres.ts'

/** How much of everything. */
export interface DatabaseScenarioInit {
  pgbenchSeconds: number
  copyMegabytes: number
  /** The highest port of the connect scans. */
  lastScannedPort: number
}

const PGBENCH_CLIENTS = 8
/** The query would sleep for a minute: a cancel that does not arrive is seen, and a slow machine fails nothing. */
const CANCEL_DEADLINE_MS = 15_000
const REVOKE_DEADLINE_MS = 1000

/** Registers the scenario as one suite. */
export function describeDatabase (init: DatabaseScenarioInit): void {
  describeInLab(`a database behind NAT, reached by a friend over a relay (pgbench ${init.pgbenchSeconds} s, copy ${init.copyMegabytes} MB)`, () => {
    let lab: Lab
    let pair: Pair
    let server: PostgresServer
    let service: TcpService
    let load: LoadGenerator
    let door: PostgresDoor
    let dids: { officeDid: string, laptopDid: string }

    before(async () => {
      // a router through which nobody punches: the relay is to carry it
      lab = await openLab({ laptop: 'sym' })
      server = await startPostgres(lab.office)
      service = await startTcpService({ place: lab.office })
      load = startLoadGenerator({ place: lab.laptop })
      pair = await startPair(lab)
    })
    after(async () => {
      await pair?.stop()
      await load?.stop()
      await service?.stop()
      await server?.stop()
      await lab?.close()
    })

    const forward = async (name: string): Promise<{ host: string, port: number, path: string }> => {
      const { listen, path } = await pair.laptop.json<{ listen: string, path: string }>('forward', '0', `office/${name}`)
      const [host = '', port = ''] = listen.split(':')
      return { host, port: Number(port), path }
    }

    it('two nodes behind NAT become friends over the relay', async () => {
      const { value, elapsedMs } = await timed(pair.befriend)
      dids = value
      printFigure('friend add, accept and both online', elapsedMs, 'ms')
    })

    it('serve, grant and forward lead from the laptop to the office through the relay', async () => {
      await pair.office.json('serve', 'postgres', String(server.door.port))
      await pair.office.json('grant', 'laptop', 'postgres')
      const { host, port, path } = await forward('postgres')
      assert.match(path ?? '', /^(relayed|spliced)$/)
      door = { place: lab.laptop, host, port }
      const answer = await psql(door, ['-c', 'select 40 + 2'])
      assert.equal(answer.stdout.trim(), '42', answer.stderr)
    })

    it(`pgbench with ${PGBENCH_CLIENTS} clients for ${init.pgbenchSeconds} s has no failed transaction`, async () => {
      const filled = await pgbenchInit(door, 1)
      assert.equal(filled.exitCode, 0, filled.stderr)
      const report = await pgbench(door, { clients: PGBENCH_CLIENTS, seconds: init.pgbenchSeconds })
      assert.equal(report.failed, 0, report.text)
      assert.ok(report.processed > 0, report.text)
      const direct = await pgbench(server.door, { clients: PGBENCH_CLIENTS, seconds: Math.min(3, init.pgbenchSeconds) })
      printFigure('pgbench through the forward', report.transactionsPerSecond, 'transactions/s')
      printFigure('pgbench at the office itself', direct.transactionsPerSecond, 'transactions/s')
    })

    it(`I4: a copy of ${init.copyMegabytes} MB out of the database arrives with equal sha256`, async () => {
      const query = bigQuery(init.copyMegabytes)
      const expected = await copyOut(server.door, query)
      const copied = await copyOut(door, query)
      assert.ok(copied.bytes >= init.copyMegabytes * 1_000_000)
      assert.deepEqual([copied.bytes, copied.sha256], [expected.bytes, expected.sha256])
      printFigure(`copy of ${init.copyMegabytes} MB through the forward`, copied.bytes / 1000 / copied.elapsedMs, 'MB/s')
    })

    it('a cancel by psql reaches the server through the forward', async () => {
      const query = startPsql(door, ['-c', 'select pg_sleep(60)'])
      await waitFor('the query to run', async () => (await psql(server.door, ['-c', "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'"])).stdout.trim() === '1', { deadlineMs: PATIENCE_MS })
      const { value: exit, elapsedMs } = await timed(async () => query.stop({ signal: 'SIGINT', deadlineMs: CANCEL_DEADLINE_MS }))
      assert.notEqual(exit.code, 0)
      assert.match(query.stderr(), /canceling statement due to user request/)
      printFigure('psql cancel', elapsedMs, 'ms', '3000 ms')
    })

    it('nothing in the office listens on an address that another machine could reach', async () => {
      const sockets = await listeningSockets(lab.office)
      assert.ok(sockets.some((socket) => socket.port === server.door.port), 'the list is empty: it cannot be right')
      assert.deepEqual(sockets.filter((socket) => !isLoopbackAddress(socket.address)), [])
    })

    it(`a connect scan of ports 1 to ${init.lastScannedPort} finds nothing of the office, from the internet, the relay and its own network`, async () => {
      const views = [[lab.cafe, lab.officeNat.address], [pair.relays[0]?.place ?? lab.cafe, lab.officeNat.address], [lab.officeNat, lab.office.address]] as const
      for (const [from, address] of views) {
        const scanner = startLoadGenerator({ place: from })
        const report = await scanner.scan(address, 1, init.lastScannedPort)
        await scanner.stop()
        assert.deepEqual(report.open, [], `open at ${address} for ${from.name}`)
        assert.equal(report.refused + report.silent, init.lastScannedPort, `${report.failed} ports of ${address} gave no verdict for ${from.name}`)
      }
    })

    it('I1: a marker of 1 MiB sent through the forward leaves no trace at the relay: wire, output, metrics, files, memory', async () => {
      await pair.office.json('serve', 'sink', String(service.port), '--allow', 'laptop')
      const relay = pair.relays[0]
      assert.ok(relay !== undefined)
      await assertNoTraceAtRelay({ tapPlace: lab.internet, tapDevice: relay.place.name, relay, load, target: await forward('sink') })
    })

    it('I3: a friend without the grant gets exit code 3, the same for a service that does not exist', async () => {
      await pair.office.json('serve', 'payroll', String(service.port))
      const refused = await pair.laptop.cli('forward', '0', 'office/payroll')
      const missing = await pair.laptop.cli('forward', '0', 'office/no-such')
      assert.deepEqual([refused.exitCode, missing.exitCode], [3, 3], `${refused.stderr}${missing.stderr}`)
      assert.equal(refused.stderr.replaceAll('payroll', 'NAME'), missing.stderr.replaceAll('no-such', 'NAME'))
    })

    it('a live connection is cut within 1 s of its revocation', async () => {
      const held = await load.hold(await forward('sink'))
      const revokedAtMs = Date.now()
      const revoked = await pair.office.json<unknown>('revoke', dids.laptopDid, 'sink')
      const returnedAtMs = Date.now()
      const end = await within('the end of the revoked connection', 10 * REVOKE_DEADLINE_MS, held.ended)
      printFigure('connection cut after the revoke command', Math.max(0, end.atMs - returnedAtMs), 'ms', '1000 ms')
      assert.ok(end.atMs - returnedAtMs <= REVOKE_DEADLINE_MS, `cut ${end.atMs - revokedAtMs} ms after the start of revoke ${JSON.stringify(revoked)}`)
      assert.equal(end.how, 'reset', 'I4: a cut connection is no clean end')
      const again = await pair.laptop.cli('forward', '0', 'office/sink')
      assert.equal(again.exitCode, 3, again.stderr)
    })

    it('the office forgets nobody: after a restart of its daemon the forward serves again', async () => {
      await pair.office.stop()
      await pair.office.start()
      const { elapsedMs } = await timed(async () => {
        await waitFor('SQL through the old forward', async () => (await psql(door, ['-c', 'select 1'], { deadlineMs: 10_000 })).exitCode === 0, { deadlineMs: PATIENCE_MS })
      })
      printFigure('SQL through the kept forward after a restart of the office daemon', elapsedMs, 'ms')
    })
  }, { postgres: true })
}
