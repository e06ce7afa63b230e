-- What a receipt told is one value, at half the cost of nineteen columns, none of which is searched: a list in
-- MessagePack, or here, where SQL writes it, in JSON. The reading side takes both.
CREATE TABLE receipt_told (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    key BLOB NOT NULL,
    position INTEGER NOT NULL,
    source TEXT NOT NULL,
    copies INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    told ANY NOT NULL,
    first_position INTEGER NOT NULL
) STRICT;
INSERT INTO receipt_told
SELECT id, message, key, position, source, copies, received_us, json_array(
    api, channel, status, provider_status, code, network, recipient, sender, client_ref, occurred_us, pushed_us,
    zone_assumed, price, currency, segments, api_key, verified, stale, more
), first_position FROM receipt ORDER BY id;
DROP TABLE receipt;
ALTER TABLE receipt_told RENAME TO receipt;
CREATE UNIQUE INDEX receipt_by_message ON receipt (message, key);
