-- name: insert_segment
INSERT INTO segment (gateway, stream, number, first_seq, first_batch, created_us, chain, crc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: segment
SELECT gateway, stream, number, first_seq, first_batch, created_us, chain, crc FROM segment

-- name: insert_dictionary
INSERT INTO dictionary (copy, body, crc) VALUES (?, ?, ?)

-- name: dictionary
SELECT copy, body, crc FROM dictionary ORDER BY copy

-- name: insert_block
INSERT INTO block (number, seq, event_count, batch, batch_count, crc, digest, events, samples)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: last_block
SELECT number, seq, event_count, batch, batch_count, crc, digest FROM block ORDER BY number DESC LIMIT 1

-- name: blocks
SELECT number, seq, event_count, batch, batch_count, crc, digest, events, samples FROM block ORDER BY number

-- name: end
SELECT max(number) FROM block

-- name: seq_from
SELECT number, seq FROM block WHERE number >= ? ORDER BY number LIMIT 1

-- name: batch_from
SELECT number, batch FROM block WHERE number >= ? ORDER BY number LIMIT 1

-- name: events_from
SELECT number, seq, events FROM block WHERE number >= ? AND length(events) > 0 ORDER BY number

-- name: samples_from
SELECT number, batch, samples FROM block WHERE number >= ? AND length(samples) > 0 ORDER BY number

-- name: events_at
SELECT number, seq, events FROM block WHERE number = ? AND length(events) > 0

-- name: samples_at
SELECT number, batch, samples FROM block WHERE number = ? AND length(samples) > 0

-- name: numbers_at
SELECT number, seq, event_count, batch, batch_count, crc FROM block WHERE number = ?

-- name: numbers_back
SELECT number, seq, event_count, batch, batch_count, crc FROM block ORDER BY number DESC

-- name: counts
SELECT coalesce(sum(event_count), 0), coalesce(sum(batch_count), 0) FROM block

-- name: put_place
INSERT INTO place (equipment, body, crc) VALUES (?, ?, ?)
ON CONFLICT (equipment) DO UPDATE SET body = excluded.body, crc = excluded.crc

-- name: drop_places
DELETE FROM place

-- name: place
SELECT equipment, body, crc FROM place WHERE equipment = ?

-- name: places
SELECT equipment, body, crc FROM place

-- name: count_places
SELECT count(*) FROM place

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

-- name: put_kept
INSERT INTO kept (name, body, crc) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET body = excluded.body, crc = excluded.crc

-- name: alive
SELECT connection, at_us, crc FROM alive

-- name: cursors
SELECT sink, seq, batch, crc FROM cursor

-- name: kept
SELECT name, body, crc FROM kept

-- name: carried
SELECT equipment, seq, body, crc FROM carried

-- name: carried_of
SELECT seq, body, crc FROM carried WHERE equipment = ?
