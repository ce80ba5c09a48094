/** Networks that change, in full. */
import { describeNetworkChanges } from './network-change-scenario.ts'

describeNetworkChanges({ transferBytes: 64 * 1024 * 1024, blackHoleMs: 60_000 })
