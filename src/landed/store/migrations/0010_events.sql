-- The state: what is said to whom. It is ours, and a rebuild never touches it.

-- What happened, in the order in which it was understood, and only ever added to. `key` is the beginning of the event's
-- id as a number; `generation` is seq / 2^16, as for messages. `message` and `receipt` are rows of the views, as they
-- were when it was said: after a rebuild they are others, and `subject` and `cause`, the receipt's key, tell which.
-- An inbound message has its key as `cause`; what is about none of them has its `data` here.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    key INTEGER NOT NULL,
    type INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    account TEXT NOT NULL,
    subject TEXT NOT NULL,
    message INTEGER NOT NULL,
    receipt INTEGER NOT NULL,
    cause BLOB NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_key ON event (generation, key);
CREATE INDEX event_of_ours ON event (type) WHERE data <> '';

-- Who wants what. Every event up to `cursor` was looked at for it, and has a row in `delivery` if it is wanted.
CREATE TABLE subscriber (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    wanted TEXT NOT NULL,
    secrets TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    origin TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    created_us INTEGER NOT NULL
) STRICT;

-- What became of each event for each who wants it: 0 waits until `next_us`, 1 is on its way, 2 delivered, 3 dead.
CREATE TABLE delivery (
    subscriber INTEGER NOT NULL,
    event INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_us INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    said TEXT NOT NULL,
    is_replay INTEGER NOT NULL,
    PRIMARY KEY (subscriber, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (subscriber, next_us, event) WHERE state = 0;
-- Of what is not done, which is little beside what is, the oldest is found, and how many there are.
CREATE INDEX delivery_open ON delivery (subscriber, event, state) WHERE state IN (0, 1);
CREATE INDEX delivery_dead ON delivery (subscriber, event) WHERE state = 3;

-- The attempts that failed.
CREATE TABLE attempt (
    event INTEGER NOT NULL,
    subscriber INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    number INTEGER NOT NULL,
    said TEXT NOT NULL,
    took_us INTEGER NOT NULL,
    PRIMARY KEY (event, subscriber, at_us)
) STRICT, WITHOUT ROWID;
