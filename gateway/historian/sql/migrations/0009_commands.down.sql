-- The older shape has no tables for commands and anchors of the audit trail. Their rows go where every version keeps
-- what it has no place for: word for word into `set_aside`, from where streams still tell them. After the way up
-- again, `andon database set-aside retry` brings them back.

INSERT INTO andon.set_aside (gateway, stream, kind, type, numbering, first, last, sqlstate, reason, body)
SELECT
    gateway, stream, 'event', 'command', 'event', seq, seq, '',
    'the database was taken back to a shape without a table for commands', body::text
FROM andon.command
ORDER BY gateway, stream, seq;

INSERT INTO andon.set_aside (gateway, stream, kind, type, numbering, first, last, sqlstate, reason, body)
SELECT
    gateway, stream, 'event', 'audit_anchor', 'event', seq, seq, '',
    'the database was taken back to a shape without a table for anchors of the audit trail', body::text
FROM andon.audit_anchor
ORDER BY gateway, stream, seq;

DROP TABLE andon.command;
DROP TABLE andon.audit_anchor;
