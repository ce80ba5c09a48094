/** One cell of the matrix; how fast its route must be is asked in full: full-matrix.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PATIENCE_MS } from '../support/wait.ts'
import { cellsNamed, MATRIX } from './matrix-routes.ts'
import { describeMatrix } from './matrix-scenario.ts'

test('the matrix has every pair of seven kinds of access', () => {
  assert.equal(new Set(MATRIX.map(({ name }) => name)).size, 28)
  assert.deepEqual(cellsNamed('sym-eim').map(({ office, laptop }) => [office, laptop]), [['eim', 'sym']])
})

describeMatrix(cellsNamed('eim-eim'), { routeDeadlineMs: PATIENCE_MS })
