/** The addresses that were handed out, by label. Only numbers are stored: each address is derived again from the key and the nospam secret. */
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Clock, Database, Row } from '../base/index.ts'
import { formatAddress } from './address.ts'
import type { Did } from './did.ts'
import { parseLabel } from './label.ts'
import { deriveNospam, verifyNospam } from './nospam.ts'
import type { AddressBook, Identity, LabelledAddress } from './types.ts'

/** Schema of the address book, one script per version. */
export const ADDRESS_MIGRATIONS: readonly string[] = [`
  CREATE TABLE address_owner (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    did TEXT NOT NULL
  ) STRICT;
  CREATE TABLE address_label (
    number INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 65535),
    label TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
  ) STRICT;
`]

/** What the address book works with. */
export interface AddressBookComponents {
  identity: Pick<Identity, 'did' | 'publicKey' | 'nospamSecret'>
  /** Has the tables of {@link ADDRESS_MIGRATIONS}; stays the caller's. */
  database: Database
  clock: Pick<Clock, 'now'>
}

/**
 * Opens the address book; label 1 is made on first use.
 *
 * @throws CarrierError ERR_KEYSTORE when the database was made for another key
 */
export function createAddressBook (components: AddressBookComponents): AddressBook {
  const { identity, database, clock } = components

  database.transaction(() => {
    claim(database, identity.did)
    if (database.get('SELECT 1 FROM address_label LIMIT 1') === undefined) insert(1, '1')
  })

  function insert (number: number, label: string): void {
    database.run('INSERT INTO address_label (number, label, created_at) VALUES (?, ?, ?)', number, label, clock.now())
  }

  function toLabelled (row: Row): LabelledAddress {
    const number = Number(row['number'])
    return {
      label: String(row['label']),
      number,
      address: formatAddress({ publicKey: identity.publicKey, nospam: deriveNospam(identity, number) }),
      createdAt: Number(row['created_at']),
      revokedAt: row['revoked_at'] === undefined ? undefined : Number(row['revoked_at'])
    }
  }

  function find (label: string): LabelledAddress | undefined {
    const row = database.get('SELECT * FROM address_label WHERE label = ?', label)
    return row === undefined ? undefined : toLabelled(row)
  }

  return {
    create: (name) => database.transaction(() => {
      // numbers are never used twice: a revoked address must stay dead
      const number = Number(database.get('SELECT max(number) AS last FROM address_label')?.['last'] ?? 0) + 1
      if (number > LIMITS.addressLabelCount) {
        throw new CarrierError('ERR_LIMIT', `all ${LIMITS.addressLabelCount} addresses of this device were handed out; numbers are never used twice`)
      }
      const label = name === undefined ? String(number) : parseAddressLabel(name, number)
      const taken = find(label)
      if (taken !== undefined) {
        throw new CarrierError('ERR_ALREADY_EXISTS', taken.revokedAt === undefined
          ? `there is an address "${label}" already; "carrier address list" shows it`
          : `the name "${label}" belongs to a revoked address; choose another one`)
      }
      insert(number, label)
      return required(find(label), label)
    }),
    list: () => database.all('SELECT * FROM address_label ORDER BY number').map(toLabelled),
    current: () => {
      const row = database.get('SELECT * FROM address_label WHERE revoked_at IS NULL ORDER BY number LIMIT 1')
      return row === undefined ? undefined : toLabelled(row)
    },
    revoke: (label) => database.transaction(() => {
      const known = required(find(label.toLowerCase()), label)
      database.run('UPDATE address_label SET revoked_at = ? WHERE number = ? AND revoked_at IS NULL', clock.now(), known.number)
      return required(find(known.label), label)
    }),
    accepts: (nospam) => {
      const number = verifyNospam(identity, nospam)
      if (number === undefined) return false
      return database.get('SELECT 1 FROM address_label WHERE number = ? AND revoked_at IS NULL', number) !== undefined
    }
  }
}

/** Ties the database to the key, so that a lost key file is noticed instead of silently starting a new identity on old state. */
function claim (database: Database, did: Did): void {
  const owner = database.get('SELECT did FROM address_owner WHERE id = 1')?.['did']
  if (owner === undefined) {
    database.run('INSERT INTO address_owner (id, did) VALUES (1, ?)', did)
  } else if (owner !== did) {
    throw new CarrierError('ERR_KEYSTORE',
      `the state in this data directory belongs to ${String(owner)}, but the key file holds ${did}; put the old key file back, or use another --data-dir for the new identity`)
  }
}

/** Names of digits only are the ones that numbers get by themselves. */
function parseAddressLabel (name: string, number: number): string {
  const label = parseLabel(name, 'name of an address')
  if (/^[0-9]+$/.test(label) && label !== String(number)) {
    throw new CarrierError('ERR_INVALID_ARGUMENT', `"${label}" cannot be the name of an address: names of digits only are given by Carrier; add a letter`)
  }
  return label
}

function required (found: LabelledAddress | undefined, label: string): LabelledAddress {
  if (found === undefined) throw new CarrierError('ERR_NOT_FOUND', `there is no address "${label.slice(0, 80)}"; "carrier address list" shows all`)
  return found
}
