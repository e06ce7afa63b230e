-- Which keys a full generation may have, as bits, so that new messages need not be looked for in all of them.
-- It says nothing that the messages do not say: one that is missing is made from them.
CREATE TABLE generation_filter (
    generation INTEGER PRIMARY KEY,
    bits BLOB NOT NULL
) STRICT;
