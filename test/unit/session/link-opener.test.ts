import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import { CarrierError, errorCode, systemClock } from '../../../src/base/index.ts'
import { didFromPublicKey } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { createLinkOpener } from '../../../src/session/link-opener.ts'

function anyDid (): Did {
  const { publicKey } = generateKeyPairSync('ed25519')
  return didFromPublicKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)))
}

test('a reset while the first link still loads its code fails that link and not the process', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => { server.close() })
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [far] = await accepted
  near.pause()
  const opener = createLinkOpener({
    node: { openSplice: async () => near, dialLink: async () => ({ socket: near, path: 'direct' }) },
    // so slow that the reset comes first
    identity: {
      publicKey: new Uint8Array(32),
      sign: async () => {
        if (!near.closed) await once(near, 'close')
        return new Uint8Array(64)
      }
    },
    clock: systemClock
  })
  const opening = opener.splice(anyDid(), 'relay', AbortSignal.timeout(60_000))
  far.resetAndDestroy()
  near.resume()
  // an uncaught exception would fail this file
  await assert.rejects(opening, (err) => err instanceof CarrierError && errorCode(err) !== undefined)
  assert.ok(near.destroyed)
})
