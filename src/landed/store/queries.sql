-- name: messages_by_key
SELECT {message_columns} FROM message
WHERE generation IN (SELECT value FROM json_each(:generations)) AND key IN (SELECT value FROM json_each(:keys));

-- name: keys_of_era
SELECT key FROM message WHERE generation >= :first AND generation < :behind;

-- name: filter
SELECT bits FROM era_filter WHERE era = :era;

-- name: save_filter
INSERT OR REPLACE INTO era_filter VALUES (:era, :bits);

-- name: receipts_by_message
SELECT {receipt_columns} FROM receipt WHERE message IN (SELECT value FROM json_each(:messages));

-- name: inbound_by_key
SELECT {inbound_columns} FROM inbound WHERE key IN (SELECT unhex(value) FROM json_each(:keys));

-- name: change_messages
WITH changed ({message_columns}) AS (VALUES {rows})
UPDATE OR ROLLBACK message SET
    account = changed.account, outcome = changed.outcome, status = changed.status,
    provider_status = changed.provider_status, api = changed.api, channel = changed.channel,
    recipient = changed.recipient, sender = changed.sender, client_ref = changed.client_ref,
    network = changed.network, code = changed.code, conflict = changed.conflict, verified = changed.verified,
    receipts = changed.receipts,
    seen_us = changed.seen_us, sent_us = changed.sent_us, first_us = changed.first_us,
    final_us = changed.final_us, price = changed.price, currency = changed.currency,
    segments = changed.segments, group_id = changed.group_id, part = changed.part, parts = changed.parts
FROM changed WHERE message.id = changed.id;

-- name: add_messages
WITH first (generation, key, message_id, recipient, client_ref, received_us, kind) AS (VALUES {rows})
INSERT OR ROLLBACK INTO message (
    generation, key, account, message_id, outcome, status, provider_status, api, channel, recipient, sender,
    client_ref, network, code, conflict, verified, receipts, seen_us, first_us, final_us, price, currency, segments
) SELECT
    first.generation, first.key, kind.account, first.message_id, kind.outcome, kind.status, kind.provider_status,
    kind.api, kind.channel, first.recipient, kind.sender, first.client_ref, kind.network, kind.code, 0, kind.verified,
    1, first.received_us, first.received_us, iif(kind.is_final, first.received_us, NULL), kind.price, kind.currency,
    kind.segments
FROM first LEFT JOIN temp.kind AS kind ON kind.id = first.kind;

-- name: make_kinds
CREATE TEMP TABLE IF NOT EXISTS kind (
    id INTEGER PRIMARY KEY, account, outcome, status, provider_status, api, channel, sender, network, code, verified,
    is_final, price, currency, segments
);

-- name: forget_kinds
DELETE FROM temp.kind;

-- name: add_kinds
INSERT INTO temp.kind (
    id, account, outcome, status, provider_status, api, channel, sender, network, code, verified, is_final, price,
    currency, segments
) VALUES {rows};

-- name: add_receipts
INSERT INTO receipt ({receipt_columns}) VALUES {rows};

-- name: save_receipts
INSERT OR REPLACE INTO receipt ({receipt_columns}) VALUES {rows};

-- name: save_inbound
INSERT INTO inbound ({inbound_columns}) VALUES {rows}
ON CONFLICT (key) DO UPDATE SET
    position = excluded.position, copies = excluded.copies, received_us = excluded.received_us,
    channel = excluded.channel, occurred_us = excluded.occurred_us, zone_assumed = excluded.zone_assumed,
    api_key = excluded.api_key, verified = excluded.verified, stale = excluded.stale;

-- name: save_unreadable
INSERT INTO unreadable (position, received_us, reason) VALUES {rows};

-- name: sendings_by_id
SELECT {sending_columns} FROM sending WHERE id IN (SELECT unhex(value) FROM json_each(:ids));

-- name: sendings_by_client_ref
SELECT {sending_columns} FROM sending WHERE client_ref = :client_ref ORDER BY at_us;

-- name: sendings_by_batch
SELECT {sending_columns} FROM sending WHERE batch = :batch AND batch <> '' ORDER BY number;

-- name: save_sendings
INSERT OR REPLACE INTO sending ({sending_columns}) VALUES {rows};

-- name: save_rollup
INSERT INTO rollup ({rollup_columns}) VALUES {rows}
ON CONFLICT DO UPDATE SET count = count + excluded.count;

-- name: clean_rollup
DELETE FROM rollup WHERE count = 0;

-- name: rollup_version
SELECT version FROM rollup_made;

-- name: begin_rollup
DELETE FROM rollup;

-- name: save_rollup_version
INSERT INTO rollup_made VALUES (:version);

-- name: forget_rollup_version
DELETE FROM rollup_made;

-- name: all_messages
SELECT {message_columns} FROM message;

-- name: rollup
SELECT {of}, outcome, latency, price, currency, sum(count) FROM rollup
WHERE span = :span AND hour >= :since AND hour < :until
    AND (:account IS NULL OR account = :account)
    AND (:channel IS NULL OR lower(channel) = :channel)
    AND (:network IS NULL OR network = :network)
GROUP BY {of}, outcome, latency, price, currency;

-- name: first_hour
SELECT min(hour) FROM rollup WHERE span = :span;

-- name: progress
SELECT epoch, position, at_us, received, folded, duplicate, unreadable FROM fold;

-- name: begin_progress
INSERT INTO fold VALUES (1, :epoch, 0, 0, 0, 0, 0, 0) ON CONFLICT (one) DO NOTHING;

-- name: move_progress
UPDATE fold SET position = :position, at_us = :at_us, received = received + :received, folded = folded + :folded,
    duplicate = duplicate + :duplicate, unreadable = unreadable + :unreadable
WHERE epoch = :epoch AND position = :before
RETURNING epoch, position, at_us, received, folded, duplicate, unreadable;

-- name: list_messages
SELECT {message_columns} FROM message {by}
WHERE {sought} seen_us >= :since AND seen_us < :until AND (seen_us, id) < (:before_us, :before_id)
    AND (:outcome IS NULL OR outcome = :outcome)
    AND (:status IS NULL OR status = :status OR lower(provider_status) = :status)
    AND (:channel IS NULL OR lower(channel) = :channel)
    AND (:network IS NULL OR network = :network)
    AND (:recipient IS NULL OR recipient IN (:recipient, '+' || :recipient, '00' || :recipient))
    AND (:client_ref IS NULL OR client_ref = :client_ref)
ORDER BY seen_us DESC, id DESC LIMIT :limit;

-- name: how_many
SELECT count(*) FROM (SELECT 1 FROM message {by} WHERE {sought} TRUE LIMIT :enough);

-- name: messages_by_id
SELECT {message_columns} FROM message
WHERE generation IN (SELECT value FROM json_each(:generations)) AND key = :key AND message_id = :message_id
ORDER BY id DESC;

-- name: messages_by_client_ref
SELECT {message_columns} FROM message WHERE generation = :generation AND client_ref = :client_ref
ORDER BY id DESC LIMIT :limit;

-- name: messages_by_group
SELECT {message_columns} FROM message
WHERE generation IN (SELECT value FROM json_each(:generations)) AND group_id = :group AND account = :account;

-- name: messages_by_row
SELECT {message_columns} FROM message WHERE id IN (SELECT value FROM json_each(:messages));

-- name: receipts_after
SELECT {receipt_columns} FROM receipt WHERE id > :after ORDER BY id LIMIT :limit;

-- name: newest
SELECT (SELECT coalesce(max(id), 0) FROM message), (SELECT coalesce(max(id), 0) FROM receipt);

-- name: newest_event
SELECT coalesce(max(seq), 0) FROM event;

-- name: events_kept
SELECT coalesce((SELECT min(seq) FROM event), 0), coalesce((SELECT max(seq) FROM event), 0);

-- name: add_events
INSERT OR ROLLBACK INTO event (generation, key, type, at_us, account, subject, message, receipt, cause, data)
VALUES {rows};

-- name: events_said
SELECT key FROM event
WHERE generation IN (SELECT value FROM json_each(:generations)) AND key IN (SELECT value FROM json_each(:keys));

-- name: wants_accepted
SELECT EXISTS (SELECT 1 FROM subscriber WHERE state <> 'absent' AND instr(wanted, '"message.accepted"'));

-- name: outcomes
SELECT outcome, sum(count) FROM rollup WHERE span = :span GROUP BY outcome;
