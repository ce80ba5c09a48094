/** What is going on, and why, in plain words: reports for people, made from what the parts know. */
export { examine, runJobs } from './doctor.ts'
export { checkDataDirectory, checkMachine, isDirectoryLocked } from './doctor-machine.ts'
export { judgeClock, toCheck } from './doctor-words.ts'
export type { Finding } from './doctor-words.ts'
export { reportNetwork } from './net-report.ts'
export { traceService } from './trace.ts'
export { reportWay } from './way-report.ts'
