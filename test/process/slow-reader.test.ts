/** A slow reader in short, on loopback; the lab's form is test/natlab/full-slow-reader.test.ts. */
import { it } from 'node:test'
import { openLoopback } from '../support/network.ts'
import { slowReader } from '../support/slow-reader-scenario.ts'

it('I8: 60 MB to a reader that pauses for 3 s: all bytes arrive, and the memory of sender, relay and reader stays bounded', async () => {
  await slowReader(openLoopback(), { bytes: 60_000_000, pausesMs: [3000] })
})
