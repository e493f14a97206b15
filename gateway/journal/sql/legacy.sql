-- Statements for segments of formats 1 and 2: a row for each event and each batch.

-- name: segment
SELECT gateway, stream, number, first_seq, first_batch, created_us, crc FROM segment

-- name: alive
SELECT connection, at_us, crc FROM alive

-- name: cursors
SELECT sink, seq, batch, crc FROM cursor

-- name: has_kept
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'kept'

-- name: kept
SELECT name, body, crc FROM kept

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

-- name: transition_up_to
SELECT seq, type, body, crc FROM event WHERE type = 'transition' AND equipment = ? AND seq <= ?
ORDER BY seq DESC LIMIT 1

-- name: transition_before
SELECT seq, type, body, crc FROM event INDEXED BY transition_by_time
WHERE type = 'transition' AND equipment = ? AND at_us <= ?
ORDER BY at_us DESC, seq DESC LIMIT 1
