/** One cell of the matrix: two homes, two relays, real daemons; friends are made, and then it is watched how they get together. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { createControlClient } from '../../src/control/client/index.ts'
import type { ControlClient } from '../../src/control/client/index.ts'
import { createDaemon } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { startTcpService } from '../support/tcp-load.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { GiveUpError, PATIENCE_MS, waitFor } from '../support/wait.ts'
import { packetsOf, startCapture } from './capture.ts'
import type { LinkShape } from './delay.ts'
import { openLab, UPLINK } from './lab.ts'
import type { Lab } from './lab.ts'
import { startCellRelays } from './matrix-relays.ts'
import { doorOf } from './matrix-routes.ts'
import type { Cell, Round, Route } from './matrix-routes.ts'

/** How a cell is run. */
export interface CellInit {
  rounds: number
  /** The access line of each home, in each direction. */
  line: LinkShape
  /** The route that ends a round at once. */
  expected: Route
  /** Is told each round when it is over. */
  onRound: (round: Round) => void
  /** How long a session may take, and how long another route is watched before it is taken for the answer. */
  connectDeadlineMs: number
  routeDeadlineMs: number
}

/** The parts of a cell that runs. */
interface World {
  lab: Lab
  office: Daemon
  laptop: Daemon
  officeControl: ControlClient
  laptopControl: ControlClient
}

const POLL_MS = 20
const CHECKED_BYTES = 256 * 1024
const SERVICE = 'check'
const PUNCH_FAILED = /^carrier_session_link_failed_total\{[^}]*link="direct"[^}]*\} [1-9]/m
const PUNCHED = 'direct punched'
const ROUTES: Readonly<Record<string, Route>> = { [PUNCHED]: 'punched', 'splice spliced': 'spliced', 'stream relayed': 'relayed' }

/** Builds the cell, runs its rounds, takes it down in any case. */
export async function runCell (cell: Cell, init: CellInit): Promise<void> {
  const lab = await openLab({ office: cell.office, laptop: cell.laptop, relayCount: 2, line: init.line, ...(cell.unasked === undefined ? {} : { unasked: cell.unasked }) })
  const daemons: Daemon[] = []
  try {
    const directory = makeTempDirectory('cell')
    // a node that nobody told to listen sends no UDP at all: whatever a network does with it, nothing waits for it
    const taps = await Promise.all([lab.office, lab.laptop].map(async (home) => startCapture(home, UPLINK, 'udp')))
    const { addresses, settings } = await startCellRelays(lab.relays, directory, doorOf(cell))
    const [office, laptop] = (['office', 'laptop'] as const).map((name) => {
      const dataDirectory = join(directory, name)
      const daemon = createDaemon({ name, dataDirectory, place: lab[name], relays: addresses })
      if (settings !== undefined) writeFileSync(join(dataDirectory, 'carrier.toml'), settings, { mode: 0o600 })
      return daemon
    })
    assert.ok(office !== undefined && laptop !== undefined)
    daemons.push(office, laptop)
    const service = startTcpService({ place: lab.office })
    await Promise.all([service, ...daemons.map(async (daemon) => { await daemon.start() })])
    const world: World = { lab, office, laptop, officeControl: createControlClient(office), laptopControl: createControlClient(laptop) }
    if (init.expected === 'unreachable') {
      init.onRound(await unreachable(world))
    }
    for (let number = 1; number <= (init.expected === 'unreachable' ? 0 : init.rounds); number++) {
      const round = number === 1 ? await firstRound(world, init) : await furtherRound(world, init)
      init.onRound(round)
      if (round.route !== init.expected) console.log(`${cell.name}: ${round.route}: ${await reasonsOf(world)}`)
      if (number === 1) {
        if (init.expected === 'spliced' && round.route === 'spliced') await punchFailed(world)
        await world.officeControl.call('service.serve', { name: SERVICE, target: String((await service).port), allow: ['laptop'] })
      }
      await assertCarries(world)
      if (init.expected !== 'punched') await assertNotPunched(world)
    }
    for (const tap of taps) assert.deepEqual(packetsOf(await tap.stop()), [], 'UDP was sent')
  } catch (err) {
    throw new Error(`${cell.name}: ${err instanceof Error ? err.message : String(err)}\n${daemons.map(lastWords).join('\n')}`, { cause: err })
  } finally {
    // ends the programs inside too
    await lab.close()
  }
}

/** From the moment at which the office accepts the laptop. */
async function firstRound (world: World, init: CellInit): Promise<Round> {
  const { officeControl, laptopControl } = world
  await Promise.all([world.office, world.laptop].map(reserved))
  const { address = '' } = await officeControl.call('identity.show', {})
  await laptopControl.call('friend.add', { address, label: 'office' })
  const request = await waitFor('the friend request to arrive', async () => (await officeControl.call('friend.requests', {})).requests[0], { deadlineMs: PATIENCE_MS, intervalMs: POLL_MS })
  const wantedAtMs = performance.now()
  await officeControl.call('friend.accept', { who: request.did, label: 'laptop' })
  return finishRound(world, init, wantedAtMs)
}

/** From the moment at which a new daemon of the laptop answers: it has everything still to do. */
async function furtherRound (world: World, init: CellInit): Promise<Round> {
  await world.laptop.stop()
  await waitFor('the office to see the laptop go', async () => (await routeAt(world.office)) === undefined, { deadlineMs: PATIENCE_MS, intervalMs: POLL_MS })
  await world.laptop.start()
  return finishRound(world, init, performance.now())
}

async function finishRound (world: World, init: CellInit, wantedAtMs: number): Promise<Round> {
  await waitFor('a session that is live at both ends', async () => (await routesOf(world)).every((route) => route !== undefined), { deadlineMs: init.connectDeadlineMs, intervalMs: POLL_MS })
  const liveAtMs = performance.now()
  let route: string | undefined
  let sinceMs = liveAtMs
  const look = async (): Promise<boolean> => {
    const [office, laptop] = await routesOf(world)
    // while it moves, each end knows better than the other
    if (office === undefined || office !== laptop) return false
    if (office !== route) sinceMs = performance.now()
    route = office
    return ROUTES[route] === init.expected
  }
  try {
    await waitFor(init.expected, look, { deadlineMs: init.routeDeadlineMs, intervalMs: POLL_MS })
  } catch (err) {
    // another route is an answer too, no route is none
    if (route === undefined) throw err
  }
  const found = ROUTES[route ?? '']
  assert.ok(found !== undefined, `the session runs over "${String(route)}": no route of the matrix`)
  return { connectMs: liveAtMs - wantedAtMs, routeMs: sinceMs - liveAtMs, route: found }
}

/** Neither relay can be reached from the side that has no door: that is what the cell says. */
async function unreachable (world: World): Promise<Round> {
  await waitFor('a side that calls both relays unreachable', async () => {
    const statuses = await Promise.all([world.office.status(), world.laptop.status()])
    return statuses.some(({ relays }) => relays.length === 2 && relays.every((relay) => relay.state === 'unreachable'))
  }, { deadlineMs: PATIENCE_MS, intervalMs: POLL_MS })
  return { connectMs: Number.NaN, routeMs: Number.NaN, route: 'unreachable' }
}

/** A hole is looked for even where there can be none; when that is over, the session is where it will stay. */
async function punchFailed (world: World): Promise<void> {
  await waitFor('a punch that came to nothing', async () => {
    await assertNotPunched(world)
    const texts = await Promise.all([world.officeControl, world.laptopControl].map(async (control) => (await control.call('daemon.metrics', {})).text))
    return texts.some((text) => PUNCH_FAILED.test(text))
  }, { deadlineMs: PATIENCE_MS, intervalMs: POLL_MS })
}

async function assertNotPunched (world: World): Promise<void> {
  if ((await routesOf(world)).includes(PUNCHED)) throw new GiveUpError('the session became direct: there is a way that this cell says cannot be')
}

/** The session is not only live: bytes of a channel arrive whole. */
async function assertCarries ({ laptopControl }: World): Promise<void> {
  const bytes = randomBytes(CHECKED_BYTES)
  const pipe = await laptopControl.pipe(`office/${SERVICE}`)
  pipe.end(Buffer.concat([Buffer.from('H'), bytes]))
  assert.equal((await buffer(pipe)).toString(), `${CHECKED_BYTES} ${createHash('sha256').update(bytes).digest('hex')}\n`)
}

async function reserved (daemon: Daemon): Promise<void> {
  await waitFor(`${daemon.name} to hold a reservation at every relay`, async () => (await daemon.status()).relays.every((relay) => relay.state === 'reserved'), { deadlineMs: PATIENCE_MS, intervalMs: POLL_MS })
}

async function routesOf ({ office, laptop }: World): Promise<Array<string | undefined>> {
  return Promise.all([office, laptop].map(routeAt))
}

/** Link and path of the session as `status` tells them; undefined without a session. */
async function routeAt (daemon: Daemon): Promise<string | undefined> {
  const [friend] = (await daemon.status()).friends
  return friend?.presence === 'online' && friend.link !== undefined && friend.path !== undefined ? `${friend.link} ${friend.path}` : undefined
}

/** Why it is no better route, in the daemons' own words. */
async function reasonsOf ({ officeControl, laptopControl }: World): Promise<string> {
  const told = await Promise.all([officeControl.call('friend.why', { to: 'laptop' }), laptopControl.call('friend.why', { to: 'office' })])
  return told.map((way) => JSON.stringify(way)).join('\n')
}

function lastWords (daemon: Daemon): string {
  try {
    return `${daemon.name} said last: ${daemon.program().stderr().slice(-1500)}`
  } catch {
    // it is between two lives
    return `${daemon.name} was not running`
  }
}
