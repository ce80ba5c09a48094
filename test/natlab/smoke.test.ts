/** The lab's own promises with plain TCP, then the main job in short. The full set is `npm run test:lab`. */
import { describeDatabase } from './database-scenario.ts'
import { describeLab } from './lab-scenario.ts'

describeLab({ flavours: ['eim'] })
describeDatabase({ pgbenchSeconds: 5, copyMegabytes: 10, lastScannedPort: 4096 })
