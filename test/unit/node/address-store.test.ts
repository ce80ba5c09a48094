import assert from 'node:assert/strict'
import test from 'node:test'
import { LIMITS, openDatabase } from '../../../src/base/index.ts'
import { didFromPublicKey } from '../../../src/identity/index.ts'
import { ADDRESS_STORE_MIGRATIONS, createAddressStore } from '../../../src/node/index.ts'
import { fromHex } from '../../../src/base/bytes.ts'

const device = didFromPublicKey(fromHex('3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29'))
const other = didFromPublicKey(fromHex('4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29'))

function createStore (): ReturnType<typeof createAddressStore> {
  return createAddressStore(openDatabase({ path: ':memory:', name: 'state', migrations: ADDRESS_STORE_MIGRATIONS }))
}

test('addresses that worked come back newest first', () => {
  const store = createStore()
  store.remember(device, ['/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.2/tcp/1'])
  store.remember(device, ['/ip4/192.0.2.3/tcp/1'])
  store.remember(other, ['/ip4/192.0.2.9/tcp/1'])
  assert.deepEqual(store.recall(device), ['/ip4/192.0.2.3/tcp/1', '/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.2/tcp/1'])
  store.remember(device, ['/ip4/192.0.2.2/tcp/1'])
  assert.equal(store.recall(device)[0], '/ip4/192.0.2.2/tcp/1')
})

test('I8: no device takes more than its share of the address store', () => {
  const store = createStore()
  for (let index = 0; index < 50; index++) store.remember(device, [`/ip4/192.0.2.1/tcp/${index + 1}`])
  assert.equal(store.recall(device).length, LIMITS.rememberedAddressCount)
  assert.equal(store.recall(device)[0], '/ip4/192.0.2.1/tcp/50')
})
