-- How many messages there are of each kind, by the hour in which they were first seen (`span` 1) and by the day (24);
-- `hour` counts from 1970, and is the day's first one there. A text that is absent is empty. It says nothing that the
-- messages do not say: where `rollup_made` is of another version than the program's, they are counted again.
CREATE TABLE rollup (
    span INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    account TEXT NOT NULL,
    channel TEXT NOT NULL,
    network TEXT NOT NULL,
    country TEXT NOT NULL,
    sender TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    latency INTEGER NOT NULL,
    price TEXT NOT NULL,
    currency TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (
        span, hour, account, channel, network, country, sender, outcome, reason, latency, price, currency
    )
) STRICT, WITHOUT ROWID;
CREATE INDEX rollup_empty ON rollup (span) WHERE count = 0;
CREATE TABLE rollup_made (version TEXT NOT NULL) STRICT;
