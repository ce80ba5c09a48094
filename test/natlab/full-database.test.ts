/** The main job with the figures of the promise. */
import { describeDatabase } from './database-scenario.ts'

describeDatabase({ pgbenchSeconds: 20, copyMegabytes: 100, lastScannedPort: 65535 })
