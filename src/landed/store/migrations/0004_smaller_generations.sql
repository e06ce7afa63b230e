-- A generation is 2^16 messages now, so that new messages touch fewer pages of the index; sixteen of them, an era,
-- have one sieve of another make. The old filters said nothing that the messages do not say.
UPDATE message SET generation = id >> 16;
DROP TABLE generation_filter;
CREATE TABLE era_filter (
    era INTEGER PRIMARY KEY,
    bits BLOB NOT NULL
) STRICT;
