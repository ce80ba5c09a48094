/** One setting of V8 for processes that move much data; a library has no business with it. */
import { setFlagsFromString } from 'node:v8'

/** Versions of Node whose V8 knows the flag: another one would say so on stderr. */
const KNOWN_NODE_MAJORS = [24, 25, 26]

/**
 * Lets short-lived buffers die in the young generation. By default each 64 MiB of them start a collection of the whole
 * heap, which at a hundred MB/s is two thirds of what a daemon does. Call once, early.
 */
export function tuneGarbageCollector (): void {
  if (KNOWN_NODE_MAJORS.includes(Number(process.versions.node.split('.')[0]))) setFlagsFromString('--external-memory-accounted-in-global-limit')
}
