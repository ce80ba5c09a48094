/** The cells of the matrix, what each must come to, and how the table is written. Pure. */
import { median } from '../support/statistics.ts'
import { NAT_FLAVOURS } from './nat-flavours.ts'
import type { NatFlavour, Unasked } from './nat-flavours.ts'

/** One pair of kinds of access. */
export interface Cell {
  name: string
  office: NatFlavour
  laptop: NatFlavour
  /** Default: reset. */
  unasked?: Unasked
  /** What the relays open instead of what both sides can pass. */
  door?: RelayDoor
}

/** How a session can run: `status` says it as a link and a path; `unreachable`: there is none. */
export type Route = 'punched' | 'spliced' | 'relayed' | 'unreachable'

/** What a cell must come to; `reason`: why it is nothing better. */
export interface Expectation { route: Route, reason?: string }

/** One round of a cell: from the wish to a live session at both ends, from there to the route. */
export interface Round { connectMs: number, routeMs: number, route: Route }

/** What came of a cell so far. */
export interface CellResult { cell: Cell, rounds: Round[] }

/** How relays can be reached: plain TCP on any port, on 443, or WebSocket in TLS on 443. */
export type RelayDoor = 'tcp' | 'tcp443' | 'wss443'

/** What a kind of access leaves to us. */
interface Access { door: RelayDoor, isSymmetric?: boolean }

const ACCESS: Readonly<Record<NatFlavour, Access>> = {
  fullcone: { door: 'tcp' },
  eim: { door: 'tcp' },
  sym: { door: 'tcp', isSymmetric: true },
  cgnat: { door: 'tcp' },
  udpblock: { door: 'tcp' },
  corp443: { door: 'tcp443' },
  corpdpi: { door: 'wss443' }
}

/** Doors from the widest to the narrowest: who passes one passes those before it. */
const DOORS: readonly RelayDoor[] = ['tcp', 'tcp443', 'wss443']

const FLAVOURS = Object.keys(NAT_FLAVOURS) as NatFlavour[]

/** Every unordered pair. */
export const MATRIX: readonly Cell[] = FLAVOURS.flatMap((office, index) => FLAVOURS.slice(index).map((laptop) => ({ name: `${office}-${laptop}`, office, laptop })))

/** Cells beside the matrix: they show what it does not. */
export const FURTHER_CELLS: readonly Cell[] = [
  // routers that answer nothing: a packet that comes before its hole is lost in silence
  { name: 'eim-eim-silent', office: 'eim', laptop: 'eim', unasked: 'drop' },
  // the inspection really cuts: without TLS there is no way
  { name: 'eim-corpdpi-plain', office: 'eim', laptop: 'corpdpi', door: 'tcp443' }
]

/** What the relays of a cell open. */
export function doorOf (cell: Cell): RelayDoor {
  return cell.door ?? neededDoor(cell)
}

/** What a cell must come to. */
export function expectedRoute (cell: Cell): Expectation {
  const needed = neededDoor(cell)
  if (DOORS.indexOf(doorOf(cell)) < DOORS.indexOf(needed)) return { route: 'unreachable', reason: `needs relays at ${needed}` }
  if (needed !== 'tcp') return { route: 'relayed', reason: 'only TCP to port 443 goes out: no way to the friend, none to the port of splices' }
  if ([cell.office, cell.laptop].some((flavour) => ACCESS[flavour].isSymmetric === true)) return { route: 'spliced', reason: 'a symmetric NAT: its port towards the friend is not the one that relays see' }
  return { route: 'punched' }
}

/** The door that both sides can pass. */
function neededDoor (cell: Cell): RelayDoor {
  const narrowest = Math.max(...[cell.office, cell.laptop].map((flavour) => DOORS.indexOf(ACCESS[flavour].door)))
  return DOORS[narrowest] ?? 'wss443'
}

/** The cells that a comma-separated list names, in either order of their flavours; `direct` names those that can be; all without a list. @throws Error for a name that is none */
export function cellsNamed (list: string | undefined): Cell[] {
  const all = [...MATRIX, ...FURTHER_CELLS]
  if (list === undefined || list.trim() === '') return all
  return list.split(',').flatMap((item) => {
    const name = item.trim()
    if (name === 'direct') return all.filter((cell) => expectedRoute(cell).route === 'punched')
    const found = all.find((cell) => cell.name === name || `${cell.laptop}-${cell.office}` === name)
    if (found === undefined) throw new Error(`"${name}" is no cell; cells are: direct (all that can be), ${all.map((cell) => cell.name).join(', ')}`)
    return found
  })
}

/** The matrix in Markdown, as far as it was run: the route, how often of several rounds (and within `targetMs` of the session), the medians of both times. Then each reason. */
export function renderMatrix (results: readonly CellResult[], targetMs: number): string {
  const byName = new Map(results.map((result) => [result.cell.name, result]))
  const entry = (name: string): string => {
    const result = byName.get(name)
    return result === undefined ? '' : describeResult(result, expectedRoute(result.cell).route, targetMs)
  }
  const rows = FLAVOURS.map((office, index) => `| **${office}** | ${FLAVOURS.map((laptop, column) => column < index ? '' : entry(`${office}-${laptop}`)).join(' | ')} |`)
  const beside = results.filter((result) => !MATRIX.some((cell) => cell.name === result.cell.name)).map((result) => `- ${result.cell.name}: ${entry(result.cell.name)}`)
  const reasons = new Set(results.flatMap(({ cell }) => {
    const { route, reason } = expectedRoute(cell)
    return reason === undefined ? [] : [`- ${route}: ${reason}`]
  }))
  return [`| | ${FLAVOURS.join(' | ')} |`, `|---|${FLAVOURS.map(() => '---|').join('')}`, ...rows, '', 'Time to the session + from there to the route, medians.', ...beside, ...reasons].join('\n')
}

/** One entry of the table. */
function describeResult ({ rounds }: CellResult, expected: Route, targetMs: number): string {
  const good = rounds.filter(({ route }) => route === expected)
  const shown = good.length > 0 ? good : rounds
  const [first] = shown
  if (first === undefined) return 'failed'
  const inTimeCount = good.filter(({ routeMs }) => routeMs <= targetMs).length
  const count = rounds.length > 1 ? ` ${good.length}/${rounds.length} (${inTimeCount} within ${targetMs / 1000} s)` : ''
  if (first.route === 'unreachable') return `unreachable${count}`
  const [connectMs, routeMs] = [median(shown.map((round) => round.connectMs)), median(shown.map((round) => round.routeMs))]
  return `${first.route}${count}, ${connectMs.toFixed(0)} + ${routeMs.toFixed(0)} ms`
}
