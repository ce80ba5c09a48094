/** Sessions that outlive their relay, in full. */
import { describeDatabaseResume, describeResume } from './resume-scenario.ts'

describeResume({ transferBytes: 256 * 1024 * 1024, kills: 5, downMs: 5000 })
describeDatabaseResume({ copyMegabytes: 60 })
