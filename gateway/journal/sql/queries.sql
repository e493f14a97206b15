-- name: insert_segment
INSERT INTO segment (gateway, stream, number, first_seq, first_batch, created_us, crc)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: segment
SELECT gateway, stream, number, first_seq, first_batch, created_us, crc FROM segment

-- name: insert_event
INSERT INTO event (seq, type, equipment, at_us, body, crc) VALUES (?, ?, ?, ?, ?, ?)

-- name: insert_batch
INSERT INTO batch (number, body, crc) VALUES (?, ?, ?)

-- name: insert_carried
INSERT INTO carried (equipment, seq, body, crc) VALUES (?, ?, ?, ?)

-- name: put_alive
INSERT INTO alive (connection, at_us, crc) VALUES (?, ?, ?)
ON CONFLICT (connection) DO UPDATE SET at_us = excluded.at_us, crc = excluded.crc

-- name: drop_alive
DELETE FROM alive WHERE connection = ?

-- name: put_cursor
INSERT INTO cursor (sink, seq, batch, crc) VALUES (?, ?, ?, ?)
ON CONFLICT (sink) DO UPDATE SET seq = excluded.seq, batch = excluded.batch, crc = excluded.crc

-- name: make_kept
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT

-- name: has_kept
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'kept'

-- name: put_kept
INSERT INTO kept (name, body, crc) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET body = excluded.body, crc = excluded.crc

-- name: kept
SELECT name, body, crc FROM kept

-- name: alive
SELECT connection, at_us, crc FROM alive

-- name: cursors
SELECT sink, seq, batch, crc FROM cursor

-- name: carried
SELECT equipment, seq, body, crc FROM carried

-- name: carried_of
SELECT seq, 'transition', body, crc FROM carried WHERE equipment = ?

-- name: bounds
SELECT
    (SELECT max(seq) FROM event), (SELECT count(*) FROM event),
    (SELECT max(number) FROM batch), (SELECT count(*) FROM batch)

-- name: last_event
SELECT seq, body, crc FROM event ORDER BY seq DESC LIMIT 1

-- name: last_batch
SELECT number, body, crc FROM batch ORDER BY number DESC LIMIT 1

-- name: events
SELECT seq, type, body, crc FROM event WHERE seq > ? ORDER BY seq LIMIT ?

-- name: batches
SELECT number, body, crc FROM batch WHERE number > ? ORDER BY number LIMIT ?

-- name: newest_transitions
SELECT seq, type, body, crc FROM event
WHERE seq IN (
    SELECT max(seq) FROM event INDEXED BY transition_by_time WHERE type = 'transition' GROUP BY equipment
)

-- name: transitions
SELECT seq, type, body, crc FROM event INDEXED BY transition_by_time
WHERE type = 'transition' AND equipment = ? AND at_us >= ? AND at_us < ? AND seq > ?
ORDER BY seq LIMIT ?

-- name: transition_before
SELECT seq, type, body, crc FROM event INDEXED BY transition_by_time
WHERE type = 'transition' AND equipment = ? AND at_us <= ?
ORDER BY at_us DESC, seq DESC LIMIT 1
