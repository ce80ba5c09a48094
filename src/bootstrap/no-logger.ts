/** libp2p's own words are of no use to an operator, and its logger asks the terminal anew for every connection and stream (I9). */
import type { ComponentLogger, Logger } from '@libp2p/interface'

const silent: Logger = Object.assign(() => { /* said to nobody */ }, {
  error: () => { /* said to nobody */ },
  trace: () => { /* said to nobody */ },
  enabled: false,
  newScope: () => silent
})

/** A logger for libp2p that says nothing and costs nothing. */
export const noLogger: ComponentLogger = { forComponent: () => silent }
