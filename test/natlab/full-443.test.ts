/** Friends whose networks let only TLS on port 443 out, also with inspection, or only a proxy. */
import { describeNarrowNetworks } from './wss-scenario.ts'

const TRANSFER_BYTES = 16 * 1024 * 1024

describeNarrowNetworks([
  { home: 'corp443', transferBytes: TRANSFER_BYTES },
  { home: 'corpdpi', transferBytes: TRANSFER_BYTES },
  { home: 'eim', transferBytes: TRANSFER_BYTES, throughProxy: true }
])
