-- The older shape has no table for what devices tell. Its rows go where every version keeps what it has no
-- place for: word for word into `set_aside`, from where streams still tell them. After the way up again,
-- `andon database set-aside retry` brings them back.

INSERT INTO andon.set_aside (gateway, stream, kind, type, numbering, first, last, sqlstate, reason, body)
SELECT
    gateway, stream, 'event', 'device_event', 'event', seq, seq, '',
    'the database was taken back to a shape without a table for device events', body::text
FROM andon.device_event
ORDER BY gateway, stream, seq;

DROP TABLE andon.device_event;
