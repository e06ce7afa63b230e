-- The views: made from the journal alone, and again by `landed rebuild`.

-- What became of each message. `generation` is id / 2^20, so that inserts by the random `key`
-- (a 64-bit hash of the message id) touch only the newest million of the index.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    key INTEGER NOT NULL,
    account TEXT NOT NULL,
    message_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status TEXT NOT NULL,
    provider_status TEXT NOT NULL,
    api TEXT NOT NULL,
    channel TEXT,
    recipient TEXT,
    sender TEXT,
    client_ref TEXT,
    network TEXT,
    code TEXT,
    conflict INTEGER NOT NULL,
    verified INTEGER NOT NULL,
    receipts INTEGER NOT NULL,
    seen_us INTEGER NOT NULL,
    sent_us INTEGER,
    first_us INTEGER,
    final_us INTEGER,
    price TEXT,
    currency TEXT,
    segments INTEGER
) STRICT;
CREATE INDEX message_by_key ON message (generation, key);
CREATE INDEX message_by_seen ON message (seen_us);
CREATE INDEX message_by_client_ref ON message (generation, client_ref) WHERE client_ref IS NOT NULL;

-- Every distinct receipt, and the sender's own word (`source`), with Vonage's words beside ours.
CREATE TABLE receipt (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    key BLOB NOT NULL,
    position INTEGER NOT NULL,
    source TEXT NOT NULL,
    copies INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    api TEXT NOT NULL,
    channel TEXT,
    status TEXT NOT NULL,
    provider_status TEXT NOT NULL,
    code TEXT,
    network TEXT,
    recipient TEXT,
    sender TEXT,
    client_ref TEXT,
    occurred_us INTEGER,
    pushed_us INTEGER,
    zone_assumed INTEGER NOT NULL,
    price TEXT,
    currency TEXT,
    segments INTEGER,
    api_key TEXT,
    verified INTEGER NOT NULL,
    stale INTEGER NOT NULL,
    more TEXT
) STRICT;
CREATE UNIQUE INDEX receipt_by_message ON receipt (message, key);

CREATE TABLE inbound (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    position INTEGER NOT NULL,
    copies INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    account TEXT NOT NULL,
    message_id TEXT NOT NULL,
    api TEXT NOT NULL,
    channel TEXT,
    message_type TEXT,
    text TEXT,
    recipient TEXT,
    sender TEXT,
    occurred_us INTEGER,
    zone_assumed INTEGER NOT NULL,
    api_key TEXT,
    verified INTEGER NOT NULL,
    stale INTEGER NOT NULL
) STRICT;

-- Requests that were trusted and are none of the known forms; their bytes are in the journal.
CREATE TABLE unreadable (
    position INTEGER PRIMARY KEY,
    received_us INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

-- How far the journal has been folded, and the ledger: received = folded + duplicate + unreadable.
CREATE TABLE fold (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,
    position INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    received INTEGER NOT NULL,
    folded INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    unreadable INTEGER NOT NULL
) STRICT;
