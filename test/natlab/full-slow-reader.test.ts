/** Back-pressure in full: minutes of pauses. */
import { describeSlowReader } from './slow-reader-scenario.ts'

describeSlowReader({ bytes: 300_000_000, pausesMs: [5000, 60_000], echoMs: 10_000 })
