/** A database session that outlives its relay, in short; in full: full-resume.test.ts. */
import { describeDatabaseResume } from './resume-scenario.ts'

describeDatabaseResume({ copyMegabytes: 20 })
