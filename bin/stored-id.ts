/** Identity and address as they lie in a data directory whose daemon does not run. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { deriveNospam, formatAddress, loadPublicIdentity } from '../src/identity/index.ts'

/** What `carrier id` prints; `address` is absent when all are revoked, or when the key file is sealed. */
export interface StoredId { did: string, peerId: string, address?: string }

/** Reads it without changing anything; undefined when no identity was made yet. @throws CarrierError ERR_KEYSTORE */
export async function readStoredId (dataDirectory: string): Promise<StoredId | undefined> {
  const identity = await loadPublicIdentity(dataDirectory)
  if (identity === undefined) return undefined
  const { did, peerId, publicKey, nospamSecret } = identity
  const number = nospamSecret === undefined ? undefined : currentAddressNumber(join(dataDirectory, 'state.db'))
  if (nospamSecret === undefined || number === undefined) return { did, peerId: peerId.toString() }
  return { did, peerId: peerId.toString(), address: formatAddress({ publicKey, nospam: deriveNospam({ publicKey, nospamSecret }, number) }) }
}

/** The oldest address that is not revoked; before the first start of the daemon that is number 1. */
function currentAddressNumber (path: string): number | undefined {
  if (!existsSync(path)) return 1
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    const row = database.prepare('SELECT min(number) AS number FROM address_label WHERE revoked_at IS NULL').get()
    return typeof row?.['number'] === 'number' ? row['number'] : undefined
  } finally {
    database.close()
  }
}
