/** Addresses of friends' devices that worked, kept over restarts. */
import type { Database } from '../base/index.ts'
import { LIMITS } from '../base/index.ts'
import type { AddressStore } from './dialer.ts'

/** Schema of the address store, one script per version. */
export const ADDRESS_STORE_MIGRATIONS: readonly string[] = [`
  CREATE TABLE device_address (
    device_did TEXT NOT NULL,
    multiaddr TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (device_did, multiaddr)
  ) STRICT;
`]

/** An {@link AddressStore} in the shared database: newest first, LIMITS.rememberedAddressCount a device. */
export function createAddressStore (database: Database): AddressStore {
  return {
    recall: (device) => database.all('SELECT multiaddr FROM device_address WHERE device_did = ? ORDER BY used DESC', device).map((row) => String(row['multiaddr'])),
    remember: (device, multiaddrs) => {
      database.transaction(() => {
        const newest = Number(database.get('SELECT coalesce(max(used), 0) AS newest FROM device_address')?.['newest'] ?? 0)
        // the first of the list is the best one and gets the highest rank
        for (const [index, multiaddr] of multiaddrs.toReversed().entries()) {
          database.run('INSERT INTO device_address (device_did, multiaddr, used) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET used = excluded.used', device, multiaddr, newest + 1 + index)
        }
        database.run('DELETE FROM device_address WHERE device_did = ? AND multiaddr NOT IN (SELECT multiaddr FROM device_address WHERE device_did = ? ORDER BY used DESC LIMIT ?)', device, device, LIMITS.rememberedAddressCount)
        database.run('DELETE FROM device_address WHERE rowid IN (SELECT rowid FROM device_address ORDER BY used DESC LIMIT -1 OFFSET ?)', LIMITS.friendCount * LIMITS.rememberedAddressCount)
      })
    }
  }
}
