/** Every pair of kinds of access; CARRIER_LAB_CELLS names some of them. */
import { cellsNamed } from './matrix-routes.ts'
import { describeMatrix } from './matrix-scenario.ts'

describeMatrix(cellsNamed(process.env['CARRIER_LAB_CELLS']))
