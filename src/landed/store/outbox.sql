-- name: newest_event
SELECT coalesce(max(seq), 0) FROM event;

-- name: subscribers
SELECT id, name, kind, address, wanted, secrets, state, reason, origin, created_us FROM subscriber ORDER BY id;

-- name: add_subscriber
INSERT INTO subscriber (name, kind, address, wanted, secrets, state, reason, origin, cursor, created_us)
VALUES (:name, :kind, :address, :wanted, :secrets, :state, :reason, :origin, :cursor, :created_us)
RETURNING id;

-- name: change_subscriber
UPDATE subscriber SET kind = :kind, address = :address, wanted = :wanted, secrets = :secrets, origin = :origin,
    state = iif(:was IN ('', state), :state, state), reason = iif(:was IN ('', state), :reason, reason)
WHERE id = :row;

-- name: stop_subscriber
UPDATE subscriber SET state = 'stopped', reason = :reason WHERE id = :row AND state = 'active';

-- name: forget_attempts
DELETE FROM attempt WHERE subscriber = :row;

-- name: forget_deliveries
DELETE FROM delivery WHERE subscriber = :row;

-- name: forget_subscriber
DELETE FROM subscriber WHERE id = :row;

-- name: seq_before
SELECT seq FROM event WHERE at_us < :at_us ORDER BY seq DESC LIMIT 1;

-- name: begin
UPDATE delivery INDEXED BY delivery_open SET state = 0, next_us = 0
WHERE subscriber IN (SELECT id FROM subscriber) AND state IN (0, 1) AND state = 1;

-- name: standing
SELECT s.id, s.cursor,
    EXISTS (SELECT 1 FROM delivery WHERE subscriber = s.id AND state = 0 AND next_us <= :now_us),
    EXISTS (SELECT 1 FROM delivery WHERE subscriber = s.id AND state = 0)
FROM subscriber AS s WHERE s.state = 'active';

-- name: cursor
SELECT max(cursor, (SELECT coalesce(min(seq), 1) - 1 FROM event)) FROM subscriber
WHERE id = :subscriber AND state = 'active';

-- name: move_cursor
UPDATE subscriber SET cursor = :cursor WHERE id = :subscriber AND cursor < :cursor;

-- name: due
SELECT event, attempts, next_us, is_replay FROM delivery
WHERE subscriber = :subscriber AND state = 0 AND next_us <= :now_us ORDER BY next_us, event LIMIT :count;

-- name: waiting
SELECT event, attempts, next_us, is_replay FROM delivery INDEXED BY delivery_open
WHERE subscriber = :subscriber AND state IN (0, 1) AND state = 0 AND event > :after AND at_us >= :since_us
ORDER BY event LIMIT :count;

-- name: take
UPDATE delivery SET state = 1
WHERE subscriber = :subscriber AND event IN (SELECT value FROM json_each(:events));

-- name: take_new
INSERT INTO delivery (subscriber, event, state, attempts, next_us, at_us, said, is_replay)
SELECT :subscriber, value, 1, 0, 0, 0, '', 0 FROM json_each(:events) WHERE TRUE
ON CONFLICT DO NOTHING RETURNING event;

-- name: note
UPDATE delivery SET state = noted.value ->> 2, attempts = noted.value ->> 3, next_us = noted.value ->> 4,
    at_us = iif(noted.value ->> 6 = '', at_us, noted.value ->> 5), said = iif(noted.value ->> 6 = '', said, noted.value ->> 6)
FROM json_each(:notes) AS noted
WHERE delivery.subscriber = noted.value ->> 0 AND delivery.event = noted.value ->> 1 AND delivery.state = 1;

-- name: note_attempts
INSERT OR REPLACE INTO attempt (event, subscriber, at_us, number, said, took_us)
SELECT failed.value ->> 0, failed.value ->> 1, failed.value ->> 2, failed.value ->> 3, failed.value ->> 4,
    failed.value ->> 5
FROM json_each(:attempts) AS failed
WHERE EXISTS (
    SELECT 1 FROM delivery WHERE subscriber = failed.value ->> 1 AND event = failed.value ->> 0 AND state = 1
);

-- name: events_after
SELECT {event_columns} FROM event AS e LEFT JOIN message AS m ON m.id = e.message
WHERE e.seq > :cursor AND e.seq <= :upto AND e.type IN (SELECT value FROM json_each(:types))
ORDER BY e.seq LIMIT :count;

-- name: events_by_seq
SELECT {event_columns} FROM event AS e LEFT JOIN message AS m ON m.id = e.message
WHERE e.seq IN (SELECT value FROM json_each(:events)) ORDER BY e.seq;

-- name: event_by_key
SELECT seq FROM event
WHERE generation IN (SELECT value FROM json_each(:generations)) AND key = :key AND account = :account
    AND subject = :subject;

-- name: events_by_key
SELECT seq, type, account, subject FROM event
WHERE generation IN (SELECT value FROM json_each(:generations)) AND key = :key;

-- name: receipts_by_row
SELECT {receipt_columns} FROM receipt WHERE id IN (SELECT value FROM json_each(:receipts));

-- name: save_event
INSERT INTO event (seq, generation, key, type, at_us, account, subject, message, receipt, cause, data)
VALUES (:seq, :generation, :key, :type, :at_us, :account, :subject, 0, 0, x'', :data);

-- name: newest_of_type
SELECT at_us, data FROM event WHERE type = :type AND data <> '' ORDER BY seq DESC LIMIT 1;

-- name: backlogs
SELECT s.id,
    (SELECT count(*) FROM delivery WHERE subscriber = s.id AND state IN (0, 1)),
    (SELECT count(*) FROM delivery WHERE subscriber = s.id AND state = 3),
    max(coalesce((SELECT max(seq) FROM event) - max(s.cursor, (SELECT min(seq) FROM event) - 1), 0), 0),
    (SELECT at_us FROM event WHERE seq = min(
        coalesce((SELECT min(event) FROM delivery WHERE subscriber = s.id AND state IN (0, 1)), 9223372036854775807),
        coalesce((SELECT min(seq) FROM event WHERE seq > s.cursor), 9223372036854775807)
    ))
FROM subscriber AS s;

-- name: deliveries
SELECT d.event, d.subscriber, s.name, d.state, d.attempts, d.next_us, d.at_us, d.said, d.is_replay
FROM subscriber AS s CROSS JOIN delivery AS d {by} CROSS JOIN event AS e ON e.seq = d.event
LEFT JOIN message AS m ON m.id = e.message AND m.message_id = e.subject AND m.account = e.account
WHERE s.id >= :after_subscriber AND (:name IS NULL OR s.name = :name)
    AND d.subscriber = s.id AND {states} AND d.event <= :last_event
    AND d.event > max(:before_event, iif(s.id = :after_subscriber, :after_event, 0))
    AND e.at_us >= :since AND e.at_us < :until
    AND e.type IN (SELECT value FROM json_each(:types))
    AND (:outcome IS NULL OR :outcome = coalesce(m.outcome, (
        SELECT moved.outcome FROM message AS moved
        WHERE moved.generation IN (SELECT value FROM json_each(:generations)) AND moved.key = hash_of(e.subject)
            AND moved.message_id = e.subject AND moved.account = e.account
    )))
ORDER BY s.id, d.event LIMIT :limit;

-- name: replay
UPDATE delivery SET state = 0, attempts = 0, next_us = 0, is_replay = 1
FROM json_each(:pairs) AS pair
WHERE delivery.subscriber = pair.value ->> 0 AND delivery.event = pair.value ->> 1 AND delivery.state IN (2, 3);

-- name: attempts
SELECT s.name, a.number, a.at_us, a.said, a.took_us
FROM attempt AS a JOIN subscriber AS s ON s.id = a.subscriber WHERE a.event = :event ORDER BY a.at_us;

-- name: newest_at
SELECT at_us FROM event ORDER BY seq DESC LIMIT 1;

-- name: wake
UPDATE delivery SET next_us = 0
WHERE subscriber IN (SELECT id FROM subscriber) AND state = 0 AND next_us > :beyond_us;

-- name: retirable
SELECT min(
    coalesce((SELECT max(seq) FROM event), 0),
    coalesce((SELECT min(cursor) + 1 FROM subscriber WHERE state IN ('active', 'paused')), 9223372036854775807),
    coalesce((
        SELECT min((SELECT min(event) FROM delivery WHERE subscriber = s.id AND state IN (0, 1))) FROM subscriber AS s
        WHERE s.state IN ('active', 'paused')
    ), 9223372036854775807)
);

-- name: oldest_events
SELECT seq, at_us FROM event WHERE seq < :before ORDER BY seq LIMIT :count;

-- name: retire_attempts
DELETE FROM attempt WHERE event IN (SELECT value FROM json_each(:events));

-- name: retire_deliveries
DELETE FROM delivery WHERE subscriber IN (SELECT id FROM subscriber) AND event IN (SELECT value FROM json_each(:events));

-- name: retire_events
DELETE FROM event WHERE seq IN (SELECT value FROM json_each(:events));
