/** One cell of the matrix; all of them: full-matrix.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cellsNamed, MATRIX } from './matrix-routes.ts'
import { describeMatrix } from './matrix-scenario.ts'

test('the matrix has every pair of seven kinds of access', () => {
  assert.equal(new Set(MATRIX.map(({ name }) => name)).size, 28)
  assert.equal(cellsNamed('direct').length, 11, 'neither side symmetric, TCP allowed: ten pairs, and the one with silent routers')
  assert.deepEqual(cellsNamed('sym-eim').map(({ office, laptop }) => [office, laptop]), [['eim', 'sym']])
})

describeMatrix(cellsNamed('eim-eim'))
