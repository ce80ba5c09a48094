/** Services, grants and forwards on disk. Everything here is one small statement or one transaction. */
import { CarrierError } from '../base/index.ts'
import type { Database, Row } from '../base/index.ts'
import { isDid } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'

/**
 * Schema versions of the forwarding tables in state.db. They come after those of friends/, whose table they refer to:
 * a friend who leaves takes grants and forwards along in the same transaction, one who gets a new DID keeps them.
 */
export const FORWARDING_MIGRATIONS: readonly string[] = [`
  CREATE TABLE service (
    name TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT;
  -- who may dial a service
  CREATE TABLE service_grant (
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE,
    owner_did TEXT NOT NULL REFERENCES friend (owner_did) ON DELETE CASCADE ON UPDATE CASCADE,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (service, owner_did)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX service_grant_by_owner ON service_grant (owner_did);
  CREATE TABLE forward (
    port INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    owner_did TEXT NOT NULL REFERENCES friend (owner_did) ON DELETE CASCADE ON UPDATE CASCADE,
    service TEXT NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX forward_by_owner ON forward (owner_did);
`]

/** A service as stored. */
export interface StoredService { name: string, target: string, allow: Did[] }

/** A forward as stored. */
export interface StoredForward { host: string, port: number, owner: Did, service: string }

/** The tables of forwarding. */
export interface ForwardingStore {
  services: () => StoredService[]
  /** Adds the service or replaces its target, and adds grants, in one transaction. */
  putService: (service: StoredService, at: number) => void
  removeService: (name: string) => void
  addGrant: (service: string, owner: Did, at: number) => void
  removeGrants: (owner: Did, services: readonly string[]) => void
  forwards: () => StoredForward[]
  putForward: (forward: StoredForward, at: number) => void
  removeForward: (port: number) => void
  /** What remains of somebody who is no friend any more. */
  forgetFriend: (owner: Did) => void
}

/** Creates the store; the caller owns the database. */
export function createForwardingStore (database: Database): ForwardingStore {
  function addGrant (service: string, owner: Did, at: number): void {
    database.run('INSERT INTO service_grant (service, owner_did, granted_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING', service, owner, at)
  }

  return {
    services: () => {
      const grants = database.all('SELECT service, owner_did FROM service_grant ORDER BY granted_at, owner_did')
      return database.all('SELECT name, target FROM service ORDER BY name').map((row) => {
        const name = text(row, 'name')
        return { name, target: text(row, 'target'), allow: grants.filter((grant) => grant['service'] === name).map((grant) => did(grant, 'owner_did')) }
      })
    },
    putService: (service, at) => {
      database.transaction(() => {
        database.run('INSERT INTO service (name, target, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET target = excluded.target', service.name, service.target, at)
        for (const owner of service.allow) addGrant(service.name, owner, at)
      })
    },
    removeService: (name) => { database.run('DELETE FROM service WHERE name = ?', name) },
    addGrant,
    removeGrants: (owner, services) => {
      database.transaction(() => {
        for (const service of services) database.run('DELETE FROM service_grant WHERE service = ? AND owner_did = ?', service, owner)
      })
    },
    forwards: () => database.all('SELECT host, port, owner_did, service FROM forward ORDER BY port').map((row) => ({
      host: text(row, 'host'), port: Number(row['port']), owner: did(row, 'owner_did'), service: text(row, 'service')
    })),
    putForward: (forward, at) => {
      database.run('INSERT INTO forward (port, host, owner_did, service, created_at) VALUES (?, ?, ?, ?, ?)', forward.port, forward.host, forward.owner, forward.service, at)
    },
    removeForward: (port) => { database.run('DELETE FROM forward WHERE port = ?', port) },
    forgetFriend: (owner) => {
      database.transaction(() => {
        database.run('DELETE FROM service_grant WHERE owner_did = ?', owner)
        database.run('DELETE FROM forward WHERE owner_did = ?', owner)
      })
    }
  }
}

function text (row: Row, column: string): string {
  const value = row[column]
  if (typeof value !== 'string') throw new CarrierError('ERR_DATABASE_CORRUPT', `the stored ${column} of a service or forward is not a text; restore state.db from a backup`)
  return value
}

function did (row: Row, column: string): Did {
  const value = text(row, column)
  if (!isDid(value)) throw new CarrierError('ERR_DATABASE_CORRUPT', `the stored ${column} of a service or forward is not a DID; restore state.db from a backup`)
  return value
}
