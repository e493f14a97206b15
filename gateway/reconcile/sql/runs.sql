-- Statements that tell other gateways with our id of this process, and us of them.

-- name: tell
-- Gateway, run, stream, host, process, started.
INSERT INTO andon.gateway_run (gateway, run, stream, host, pid, started_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (gateway, run) DO UPDATE SET seen_at = clock_timestamp(), ended_at = NULL

-- name: others
-- Gateway, run: those seen in the last minute.
SELECT run::text AS run, stream::text AS stream, host, pid, started_at, seen_at FROM andon.gateway_run
WHERE gateway = $1 AND run <> $2 AND ended_at IS NULL AND seen_at > clock_timestamp() - interval '1 minute'
ORDER BY seen_at DESC LIMIT 10

-- name: other_cursors
-- Gateway, stream: journals that were written from in the last minute.
SELECT stream::text AS stream, moved_at FROM andon.sink_cursor
WHERE gateway = $1 AND stream <> $2 AND moved_at > clock_timestamp() - interval '1 minute'
ORDER BY moved_at DESC LIMIT 10

-- name: end
-- Gateway, run.
UPDATE andon.gateway_run SET ended_at = clock_timestamp() WHERE gateway = $1 AND run = $2

-- name: forget
-- Gateway, how many to keep.
DELETE FROM andon.gateway_run WHERE gateway = $1 AND run IN (
    SELECT run FROM andon.gateway_run WHERE gateway = $1 ORDER BY seen_at DESC OFFSET $2
)
