/** Paths through holes, cut and mended. */
import { describePunch } from './punch-scenario.ts'

describePunch({ bytesPerSecond: 3 * 1024 * 1024 })
