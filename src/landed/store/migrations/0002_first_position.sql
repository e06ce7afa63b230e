-- Where the first copy of each receipt and inbound message stood in the journal, so that a rebuild knows what was
-- told by records that are retired. Of rows that are older than this column only the copy that stands is known.
ALTER TABLE receipt ADD COLUMN first_position INTEGER NOT NULL DEFAULT 0;
UPDATE receipt SET first_position = position;
ALTER TABLE inbound ADD COLUMN first_position INTEGER NOT NULL DEFAULT 0;
UPDATE inbound SET first_position = position;
