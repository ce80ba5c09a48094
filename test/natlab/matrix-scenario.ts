/**
 * The matrix of networks: every pair of kinds of access must get together, and take the best route that its routers allow.
 * CARRIER_LAB_CELLS names cells (eim-sym,cgnat-cgnat), CARRIER_LAB_REPEAT is the number of rounds per cell, CARRIER_LAB_LOSS
 * the share of packets that each access line loses, CARRIER_LAB_AT_ONCE the number of cells that run at a time.
 */
import assert from 'node:assert/strict'
import { after, it } from 'node:test'
import { printFigure } from '../support/statistics.ts'
import { PATIENCE_MS } from '../support/wait.ts'
import { describeInLab } from './lab-obstacle.ts'
import { runCell } from './matrix-cell.ts'
import { expectedRoute, renderMatrix } from './matrix-routes.ts'
import type { Cell, CellResult, Round, Route } from './matrix-routes.ts'

/** What the issue names; a test of several rounds fails at three times as much. */
const CONNECT_TARGET_MS = 3000
const ROUTE_TARGET_MS = 2000
const TOLERANCE = 3
/** The share of rounds that must come to the expected route. */
const EXPECTED_SHARE = 0.95
/** Each home's line, in each direction: 80 ms of round trip between homes. */
const DELAY_MS = 20

/** Registers the cells as one suite; the table is printed at its end. */
export function describeMatrix (cells: readonly Cell[]): void {
  const rounds = numberFrom('CARRIER_LAB_REPEAT', 1)
  // one round says whether there is a way, several say how soon: a machine that stands still for a while fails no single one
  const deadlineOf = (targetMs: number): number => rounds > 1 ? TOLERANCE * targetMs : PATIENCE_MS
  const lossRatio = numberFrom('CARRIER_LAB_LOSS', 0)
  const concurrency = numberFrom('CARRIER_LAB_AT_ONCE', 1)
  const results: CellResult[] = []

  describeInLab(`the matrix of networks, 80 ms between homes${lossRatio > 0 ? `, ${lossRatio * 100} % of packets lost on each line` : ''}`, () => {
    after(() => { console.log(`\n${renderMatrix(results, ROUTE_TARGET_MS)}\n`) })

    for (const cell of cells) {
      const { route: expected, reason } = expectedRoute(cell)
      it(`${cell.name}: ${expected}${reason === undefined ? '' : ` (${reason})`}`, async () => {
        const result: CellResult = { cell, rounds: [] }
        results.push(result)
        await runCell(cell, {
          rounds: expected === 'unreachable' ? 1 : rounds,
          line: { delayMs: DELAY_MS, lossRatio },
          expected,
          onRound: (round) => {
            result.rounds.push(round)
            printRound(cell, round)
          },
          connectDeadlineMs: deadlineOf(CONNECT_TARGET_MS),
          routeDeadlineMs: deadlineOf(ROUTE_TARGET_MS)
        })
        judge(result, expected)
      })
    }
  }, { concurrency })
}

function printRound (cell: Cell, { connectMs, routeMs, route }: Round): void {
  if (route === 'unreachable') return
  printFigure(`${cell.name}: session`, connectMs, 'ms', `${CONNECT_TARGET_MS} ms`)
  printFigure(`${cell.name}: from there to ${route}`, routeMs, 'ms', `${ROUTE_TARGET_MS} ms`)
}

function judge ({ cell, rounds }: CellResult, expected: Route): void {
  const inTimeCount = rounds.filter(({ route, routeMs }) => route === expected && routeMs <= ROUTE_TARGET_MS).length
  if (rounds.length > 1) printFigure(`${cell.name}: ${expected} within ${ROUTE_TARGET_MS} ms of the session, share of ${rounds.length} rounds`, inTimeCount / rounds.length, '', `${EXPECTED_SHARE}`)
  const goodCount = rounds.filter(({ route }) => route === expected).length
  assert.ok(goodCount >= EXPECTED_SHARE * rounds.length, `${goodCount} of ${rounds.length} rounds came to ${expected}; the others: ${rounds.map(({ route }) => route).filter((route) => route !== expected).join(', ')}`)
}

/** A number of the environment. @throws Error when it is none */
function numberFrom (name: string, fallback: number): number {
  const text = process.env[name]
  if (text === undefined || text === '') return fallback
  const value = Number(text)
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} takes a number, not "${text}"`)
  return value
}
