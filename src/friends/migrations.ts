/** The tables of the friend list, one script per schema version. They live in the state database beside those of other parts. */

/** Schema scripts, oldest first; a released script never changes. */
export const FRIENDS_MIGRATIONS: readonly string[] = [`
  -- one row per owner whom we asked (requested) or with whom we agreed (friend)
  CREATE TABLE friend (
    owner_did TEXT PRIMARY KEY,
    label TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('requested', 'friend')),
    -- 16 bytes each, newest last
    request_ids BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    last_seen_at INTEGER
  ) STRICT;
  CREATE TABLE device (
    device_did TEXT PRIMARY KEY,
    owner_did TEXT NOT NULL REFERENCES friend (owner_did) ON DELETE CASCADE ON UPDATE CASCADE
  ) STRICT;
  CREATE INDEX device_by_owner ON device (owner_did);
  -- former DIDs of an owner, under which people still know it
  CREATE TABLE friend_alias (
    old_did TEXT PRIMARY KEY,
    owner_did TEXT NOT NULL REFERENCES friend (owner_did) ON DELETE CASCADE ON UPDATE CASCADE
  ) STRICT;
  CREATE INDEX friend_alias_by_owner ON friend_alias (owner_did);
  -- who asked us
  CREATE TABLE friend_request (
    did TEXT PRIMARY KEY,
    request_id BLOB NOT NULL,
    hello TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'ignored')),
    received_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT;
  -- what the other side was not told yet; at most one entry per owner, the newest counts
  CREATE TABLE friend_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    owner_did TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('request', 'accept', 'reject', 'remove')),
    request_ids BLOB NOT NULL,
    -- of a request only
    nospam BLOB,
    hello TEXT,
    -- where to deliver it, separated by spaces: the device rows may be gone by then
    devices TEXT NOT NULL,
    is_sent INTEGER NOT NULL DEFAULT 0 CHECK (is_sent IN (0, 1)),
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE friend_blocked (
    did TEXT PRIMARY KEY,
    blocked_at INTEGER NOT NULL
  ) STRICT;
  -- audit entries of committed changes that the audit log has not taken yet
  CREATE TABLE friend_audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
    decision TEXT CHECK (decision IN ('allow', 'deny')),
    why TEXT,
    did TEXT NOT NULL
  ) STRICT;
`, `
  -- under what friends can look us up, and the number of our last relay record
  CREATE TABLE relay_self (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- 32 bytes; a new one is made where there is none
    look_up_secret BLOB,
    seq INTEGER NOT NULL
  ) STRICT;
  -- who was a friend, or was asked, must not be able to follow us for ever: in the same transaction as the removal.
  -- A first request that never left has told nobody, and a new secret would cut off friends who are away
  CREATE TRIGGER friend_forgets_look_up AFTER DELETE ON friend
    WHEN OLD.state = 'friend' OR length(OLD.request_ids) > 16
      OR NOT EXISTS (SELECT 1 FROM friend_outbox WHERE owner_did = OLD.owner_did AND kind = 'request' AND is_sent = 0) BEGIN
    UPDATE relay_self SET look_up_secret = NULL;
  END;
  -- what devices told of their relays: also of some that are not in the list yet
  CREATE TABLE device_relays (
    device_did TEXT PRIMARY KEY,
    seq INTEGER,
    expires_at INTEGER,
    -- multiaddrs, separated by spaces
    relays TEXT,
    look_up_secret BLOB
  ) STRICT;
`]
