-- The older shape has no table for corrections. Its rows go where every version keeps what it has no place for:
-- word for word into `set_aside`, from where streams still tell them. After the way up again,
-- `andon database set-aside retry` brings them back.

DROP VIEW andon.corrected_interval;
DROP FUNCTION andon.intervals(text, text, timestamptz, timestamptz, timestamptz);

INSERT INTO andon.set_aside (gateway, stream, kind, type, numbering, first, last, sqlstate, reason, body)
SELECT
    gateway, stream, 'event', 'correction', 'event', seq, seq, '',
    'the database was taken back to a shape without a table for corrections', body::text
FROM andon.correction
ORDER BY gateway, stream, seq;

DROP TABLE andon.correction;
