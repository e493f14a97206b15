-- Statements of reconciliation, by name. Where a statement needs "every event of a stream", the historian's own
-- `events_after` stands in it (see database.py), so a new kind of event is known in one place.

-- name: states
-- Gateway.
SELECT equipment, state, since, stream::text AS stream, seq, sequence
FROM andon.current_state WHERE gateway = $1

-- name: set_aside
-- Gateway, stream, numbering, first, last, limit: numbers whose rows are in `andon.set_aside`, or were never given.
SELECT first, last FROM andon.set_aside
WHERE gateway = $1 AND stream = $2 AND numbering = $3 AND last >= $4 AND first <= $5
ORDER BY first LIMIT $6

-- name: digests
-- Gateway, stream, after, limit, events in a slice, last: count and hash of the bodies of each slice.
SELECT (seq - 1) / $5::bigint AS slice, count(*) AS count, md5(string_agg(body, E'\n' ORDER BY seq)) AS digest
FROM (/* events_after */) AS told
WHERE seq <= $6
GROUP BY 1

-- name: bodies
-- Gateway, stream, after, limit, last: number and hash of each event; two hashes where two rows have one number.
SELECT seq, string_agg(md5(body), ' and ' ORDER BY md5(body)) AS digest
FROM (/* events_after */) AS told
WHERE seq <= $5
GROUP BY seq

-- name: broken_columns
-- Gateway, stream, after, last, limit: transitions whose columns do not say what their body says.
-- A NUL in any text of a body would end the question; the columns show it as U+FFFD.
SELECT seq, equipment, from_state, to_state, sequence,
    told ->> 'from_state' AS told_from, told ->> 'to_state' AS told_to, told ->> 'sequence' AS told_sequence
FROM andon.transition
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN strpos(body::text, '\u0000') > 0 THEN replace(body::text, '\u0000', '\ufffd')::json ELSE body
    END AS told
) AS cleaned
WHERE gateway = $1 AND stream = $2 AND seq > $3 AND seq <= $4
    AND (equipment, from_state, to_state, sequence::text) IS DISTINCT FROM
        (told ->> 'equipment', told ->> 'from_state', told ->> 'to_state', told ->> 'sequence')
ORDER BY seq LIMIT $5

-- name: chain
-- Gateway, stream, equipment, after, last, limit: where one transition does not follow from the one before; the
-- last row looked at comes too, so that one knows where to go on.
SELECT seq, sequence, from_state, before_seq, before_sequence, before_to,
    before_seq IS NOT NULL AND (sequence <> before_sequence + 1 OR from_state <> before_to) AS broken
FROM (
    SELECT
        seq, sequence, from_state, lag(seq) OVER w AS before_seq,
        lag(sequence) OVER w AS before_sequence, lag(to_state) OVER w AS before_to,
        row_number() OVER w AS no, count(*) OVER () AS rows
    FROM (
        SELECT seq, sequence, from_state, to_state FROM andon.transition
        WHERE gateway = $1 AND stream = $2 AND equipment = $3 AND seq > $4 AND seq <= $5
        ORDER BY seq LIMIT $6
    ) AS page
    WINDOW w AS (ORDER BY seq)
) AS t
WHERE no = rows OR (before_seq IS NOT NULL AND (sequence <> before_sequence + 1 OR from_state <> before_to))
ORDER BY seq

-- name: samples
-- Gateway, tags, times, times of receipt, qualities, counts: samples the database does not hold just so often.
SELECT w.tag, w.at, w.wanted, h.held
FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::smallint[], $6::bigint[])
    AS w (tag, at, received_at, quality, wanted)
CROSS JOIN LATERAL (
    SELECT count(*) AS held FROM andon.sample AS s
    WHERE s.tag_id = (SELECT tag_id FROM andon.tag AS t WHERE t.gateway = $1 AND t.tag = w.tag)
        AND s.at = w.at AND s.received_at = w.received_at AND s.quality = w.quality
) AS h
WHERE h.held <> w.wanted
