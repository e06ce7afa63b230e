-- What landed was asked to send, and what became of that: made from the journal, as all views are.
CREATE TABLE sending (
    id BLOB PRIMARY KEY,
    position INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    account TEXT NOT NULL,
    api TEXT NOT NULL,
    channel TEXT NOT NULL,
    recipient TEXT NOT NULL,
    sender TEXT NOT NULL,
    client_ref TEXT NOT NULL,
    batch TEXT NOT NULL,
    number INTEGER NOT NULL,
    state INTEGER NOT NULL,
    parts TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sending_by_client_ref ON sending (client_ref);
CREATE INDEX sending_by_batch ON sending (batch, number) WHERE batch <> '';
