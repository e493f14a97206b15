-- Statements of the historian, by name. Parameters are in the order the comments give.

-- name: server
SELECT
    current_setting('server_version_num')::integer AS version_number,
    current_setting('server_version') AS version,
    current_database()::text AS database,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescale,
    current_setting('timescaledb.license', true) AS license,
    EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb') AS timescale_available,
    current_setting('transaction_read_only') = 'on' AS read_only,
    current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off' AS durable

-- name: preloaded
SELECT current_setting('shared_preload_libraries')

-- name: lock_migrations
SELECT pg_advisory_xact_lock(4711250117)

-- name: migrations_table
CREATE TABLE IF NOT EXISTS andon.migration (
    number integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (number)
)

-- name: schema
CREATE SCHEMA IF NOT EXISTS andon

-- name: have_schema
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'andon')

-- name: have_migrations
SELECT to_regclass('andon.migration') IS NOT NULL

-- name: keeps_ways_back
SELECT EXISTS (
    SELECT 1 FROM pg_attribute
    WHERE attrelid = to_regclass('andon.migration') AND attname = 'down' AND NOT attisdropped
)

-- name: applied_migrations
SELECT number, name, '' AS version, '' AS down FROM andon.migration ORDER BY number

-- name: applied_with_ways_back
SELECT number, name, version, down FROM andon.migration ORDER BY number

-- name: note_migration
INSERT INTO andon.migration (number, name) VALUES ($1, $2)

-- name: note_ways_back
-- Numbers, what takes them back, the number made just now, and by which version.
UPDATE andon.migration AS m SET
    down = t.down, version = CASE WHEN m.number = $3::integer THEN $4::text ELSE m.version END
FROM unnest($1::integer[], $2::text[]) AS t (number, down)
WHERE m.number = t.number AND (m.down <> t.down OR m.number = $3)

-- name: forget_migration
DELETE FROM andon.migration WHERE number = $1

-- name: is_hypertable
SELECT EXISTS (
    SELECT 1 FROM timescaledb_information.hypertables
    WHERE hypertable_schema = 'andon' AND hypertable_name = 'sample'
)

-- name: make_hypertable
SELECT create_hypertable(
    'andon.sample', 'at',
    chunk_time_interval => $1::interval, create_default_indexes => false,
    if_not_exists => true, migrate_data => true
)

-- name: compress
ALTER TABLE andon.sample SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'tag_id', timescaledb.compress_orderby = 'at'
)

-- name: chunk_interval
SELECT time_interval FROM timescaledb_information.dimensions
WHERE hypertable_schema = 'andon' AND hypertable_name = 'sample' AND dimension_number = 1

-- name: set_chunk_interval
-- For chunks that are yet to be made.
SELECT set_chunk_time_interval('andon.sample', $1::interval)

-- name: is_compressed
SELECT compression_enabled FROM timescaledb_information.hypertables
WHERE hypertable_schema = 'andon' AND hypertable_name = 'sample'

-- name: compressed_after
SELECT (config ->> 'compress_after')::interval FROM timescaledb_information.jobs
WHERE proc_name = 'policy_compression' AND hypertable_schema = 'andon' AND hypertable_name = 'sample'

-- name: compress_later
SELECT add_compression_policy('andon.sample', $1::interval, if_not_exists => true)

-- name: compress_no_more
SELECT remove_compression_policy('andon.sample', if_exists => true)

-- name: only_gateway
SELECT NOT EXISTS (SELECT 1 FROM andon.tag WHERE gateway <> $1)

-- name: drop_old_chunks
SELECT count(*) FROM drop_chunks('andon.sample', older_than => $1::timestamptz)

-- name: tags_of
SELECT tag_id FROM andon.tag WHERE gateway = $1 ORDER BY tag_id

-- name: oldest_sample
SELECT min(at) FROM andon.sample WHERE tag_id = $1

-- name: delete_samples
DELETE FROM andon.sample WHERE tag_id = $1 AND at < $2

-- name: register_equipment
INSERT INTO andon.equipment (gateway, equipment, path, model)
SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[])
ON CONFLICT (gateway, equipment) DO UPDATE SET path = excluded.path, model = excluded.model
WHERE (equipment.path, equipment.model) IS DISTINCT FROM (excluded.path, excluded.model)

-- name: meet_equipment
INSERT INTO andon.equipment (gateway, equipment, path, model)
SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[])
ON CONFLICT (gateway, equipment) DO NOTHING

-- name: register_tags
INSERT INTO andon.tag (gateway, tag, connection, name, unit, kind)
SELECT $1::text, tag, connection, name, unit, '' FROM
    unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS t (tag, connection, name, unit)
WHERE NOT EXISTS (SELECT 1 FROM andon.tag AS known WHERE known.gateway = $1 AND known.tag = t.tag)
ON CONFLICT (gateway, tag) DO NOTHING

-- name: rename_units
UPDATE andon.tag SET unit = t.unit FROM unnest($2::text[], $3::text[]) AS t (tag, unit)
WHERE tag.gateway = $1 AND tag.tag = t.tag AND tag.unit <> t.unit

-- name: tag_ids
SELECT tag, tag_id, kind FROM andon.tag WHERE gateway = $1

-- name: note_kinds
-- Ids, kinds, whether they are those of older values: then they say nothing of a tag whose kind is known.
-- Locked in order, for the other lane may be at the same tags.
WITH held AS MATERIALIZED (
    SELECT tag_id FROM andon.tag WHERE tag_id = ANY($1::integer[]) ORDER BY tag_id FOR NO KEY UPDATE
)
UPDATE andon.tag SET kind = t.kind FROM held JOIN unnest($1::integer[], $2::text[]) AS t (tag_id, kind) USING (tag_id)
WHERE tag.tag_id = held.tag_id AND (NOT $3::boolean OR tag.kind = '')

-- name: begin_cursor
INSERT INTO andon.sink_cursor (gateway, stream, seq, batch) VALUES ($1, $2, 0, 0)
ON CONFLICT (gateway, stream) DO NOTHING

-- name: cursor
SELECT seq, batch FROM andon.sink_cursor WHERE gateway = $1 AND stream = $2

-- name: held
-- A range that begins before the cursor says nothing: what it is about is there.
SELECT c.seq, c.batch, r.after_seq, r.after_batch, r.seq AS up_to_seq, r.batch AS up_to_batch
FROM andon.sink_cursor AS c
LEFT JOIN andon.sink_range AS r ON r.gateway = c.gateway AND r.stream = c.stream
    AND r.after_seq >= c.seq AND r.after_batch >= c.batch
WHERE c.gateway = $1 AND c.stream = $2
ORDER BY r.after_seq, r.after_batch

-- name: hold_cursor
SELECT true FROM andon.sink_cursor WHERE gateway = $1 AND stream = $2 FOR UPDATE

-- name: begin_range
-- Gateway, stream, where the hole begins, where it ends and the range begins, when its oldest was recorded. None
-- where there is one already that begins later.
WITH begun AS (
    INSERT INTO andon.sink_range (gateway, stream, after_seq, after_batch, seq, batch)
    SELECT gateway, stream, $5, $6, $5, $6 FROM andon.sink_cursor
    WHERE gateway = $1 AND stream = $2 AND seq <= $3 AND batch <= $4 AND NOT EXISTS (
        SELECT 1 FROM andon.sink_range
        WHERE gateway = $1 AND stream = $2 AND (after_seq > $3 OR after_batch > $4)
    )
    ON CONFLICT DO NOTHING
    RETURNING gateway, stream
)
INSERT INTO andon.late_range (gateway, stream, after_seq, after_batch, up_to_seq, up_to_batch, recorded_from)
SELECT gateway, stream, $3, $4, $5, $6, $7 FROM begun
RETURNING true

-- name: extend_range
UPDATE andon.sink_range SET seq = $5, batch = $6, moved_at = clock_timestamp()
WHERE gateway = $1 AND stream = $2 AND seq = $3 AND batch = $4 AND after_seq = $7 AND after_batch = $8
RETURNING true

-- name: end_range
DELETE FROM andon.sink_range
WHERE gateway = $1 AND stream = $2 AND after_seq = $3 AND after_batch = $4 AND seq = $5 AND batch = $6
RETURNING true

-- name: note_filled
UPDATE andon.late_range SET written_at = clock_timestamp()
WHERE gateway = $1 AND stream = $2 AND up_to_seq = $3 AND up_to_batch = $4 AND written_at IS NULL

-- name: other_streams
SELECT EXISTS (SELECT 1 FROM andon.sink_cursor WHERE gateway = $1 AND stream <> $2 AND seq > 0)

-- name: move_cursor
UPDATE andon.sink_cursor SET seq = $5, batch = $6, moved_at = clock_timestamp()
WHERE gateway = $1 AND stream = $2 AND seq = $3 AND batch = $4
RETURNING true

-- name: insert_transitions
INSERT INTO andon.transition (
    gateway, stream, seq, equipment, path, model, sequence, from_state, to_state, code, category,
    at, recorded_at, duration_s, conformance, cause, body
)
SELECT
    $1::text, $2::uuid, seq, equipment, path, model, sequence, from_state, to_state, code, category,
    at, recorded_at, duration_s, conformance, cause::jsonb, body::json
FROM unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::bigint[],
    $11::text[], $12::timestamptz[], $13::timestamptz[], $14::double precision[], $15::text[], $16::text[],
    $17::text[]
) AS t (
    seq, equipment, path, model, sequence, from_state, to_state, code,
    category, at, recorded_at, duration_s, conformance, cause, body
)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: insert_rejections
INSERT INTO andon.rejection (
    gateway, stream, seq, equipment, path, model, state, attempted, at, recorded_at, reason, cause, body
)
SELECT
    $1::text, $2::uuid, seq, equipment, path, model, state, attempted, at, recorded_at, reason, cause::jsonb, body::json
FROM unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[],
    $10::timestamptz[], $11::text[], $12::text[], $13::text[]
) AS t (seq, equipment, path, model, state, attempted, at, recorded_at, reason, cause, body)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: insert_source_events
INSERT INTO andon.source_event (
    gateway, stream, seq, type, connection, tag, at, until, recorded_at, reason, body
)
SELECT $1::text, $2::uuid, seq, type, connection, tag, at, until, recorded_at, reason, body::json
FROM unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[],
    $9::timestamptz[], $10::text[], $11::text[]
) AS t (seq, type, connection, tag, at, until, recorded_at, reason, body)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: insert_device_events
INSERT INTO andon.device_event (
    gateway, stream, seq, connection, kind, source, severity, message, event_id, condition, condition_node,
    active, acknowledged, confirmed, refreshed, at, source_at, received_at, recorded_at, body
)
SELECT
    $1::text, $2::uuid, seq, connection, kind, source, severity, message, event_id, condition, condition_node,
    active, acknowledged, confirmed, refreshed, at, source_at, received_at, recorded_at, body::json
FROM unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::boolean[], $13::boolean[], $14::boolean[], $15::boolean[], $16::timestamptz[],
    $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::text[]
) AS t (
    seq, connection, kind, source, severity, message, event_id, condition, condition_node,
    active, acknowledged, confirmed, refreshed, at, source_at, received_at, recorded_at, body
)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: insert_corrections
INSERT INTO andon.correction (
    gateway, stream, seq, equipment, path, model, at, until, intervals, reason, author, withdraws, recorded_at,
    cause, body
)
SELECT
    $1::text, $2::uuid, seq, equipment, path, model, at, until, intervals::jsonb, reason, author, withdraws,
    recorded_at, cause::jsonb, body::json
FROM unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::text[], $15::text[]
) AS t (
    seq, equipment, path, model, at, until, intervals, reason, author, withdraws, recorded_at, cause, body
)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: insert_commands
INSERT INTO andon.command (
    gateway, stream, seq, command_id, equipment, path, tag, command, value, status, code, reason, read,
    requested_by, approved_by, via, dry_run, at, recorded_at, body
)
SELECT
    $1::text, $2::uuid, seq, command_id, equipment, path, tag, command, value, status, code, reason, read,
    requested_by, approved_by, via, dry_run, at, recorded_at, body::json
FROM unnest(
    $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::boolean[],
    $18::timestamptz[], $19::timestamptz[], $20::text[]
) AS t (
    seq, command_id, equipment, path, tag, command, value, status, code, reason, read,
    requested_by, approved_by, via, dry_run, at, recorded_at, body
)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: insert_audit_anchors
INSERT INTO andon.audit_anchor (gateway, stream, seq, n, hash, signature, key, at, recorded_at, body)
SELECT $1::text, $2::uuid, seq, n, hash, signature, key, at, recorded_at, body::json
FROM unnest(
    $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::timestamptz[],
    $10::text[]
) AS t (seq, n, hash, signature, key, at, recorded_at, body)
ON CONFLICT (gateway, stream, seq) DO NOTHING

-- name: audit_anchors
SELECT n, hash, signature, key, at FROM andon.audit_anchor WHERE gateway = $1 ORDER BY n DESC LIMIT $2

-- name: set_aside
INSERT INTO andon.set_aside (gateway, stream, kind, type, numbering, first, last, sqlstate, reason, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: losses
-- Gateway, stream, the batch beyond which losses count. A NUL in any text of a body would end the question.
SELECT kind, numbering, tag, sum(numbers) AS count FROM (
    SELECT
        kind, numbering,
        CASE WHEN kind = 'sample' THEN replace(body, '\u0000', '\ufffd')::json ->> 'tag' ELSE '' END AS tag,
        last - CASE WHEN numbering = 'batch' THEN greatest(first, $3::bigint + 1) ELSE first END + 1 AS numbers
    FROM andon.set_aside
    WHERE gateway = $1 AND stream = $2 AND (numbering <> 'batch' OR last > $3)
) AS noted
GROUP BY kind, numbering, tag

-- name: first_seq
SELECT min(seq) FROM (
    (SELECT seq FROM andon.transition WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (SELECT seq FROM andon.rejection WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (SELECT seq FROM andon.source_event WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (SELECT seq FROM andon.device_event WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (SELECT seq FROM andon.correction WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (SELECT seq FROM andon.command WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (SELECT seq FROM andon.audit_anchor WHERE gateway = $1 AND stream = $2 ORDER BY seq LIMIT 1)
    UNION ALL
    (
        SELECT first FROM andon.set_aside
        WHERE gateway = $1 AND stream = $2 AND numbering = 'event' AND kind = 'event' ORDER BY first LIMIT 1
    )
) AS e

-- name: events_after
SELECT seq, type, body FROM (
    (
        SELECT seq, 'transition' AS type, body::text FROM andon.transition
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT seq, 'rejection', body::text FROM andon.rejection
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT seq, type, body::text FROM andon.source_event
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT seq, 'device_event', body::text FROM andon.device_event
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT seq, 'correction', body::text FROM andon.correction
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT seq, 'command', body::text FROM andon.command
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT seq, 'audit_anchor', body::text FROM andon.audit_anchor
        WHERE gateway = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4
    )
    UNION ALL
    (
        SELECT first, type, body FROM andon.set_aside
        WHERE gateway = $1 AND stream = $2 AND numbering = 'event' AND kind = 'event' AND first > $3
        ORDER BY first LIMIT $4
    )
) AS e
ORDER BY seq LIMIT $4

-- name: event_up_to
SELECT seq, body FROM (
    (
        SELECT seq, body::text FROM andon.transition
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT seq, body::text FROM andon.rejection
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT seq, body::text FROM andon.source_event
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT seq, body::text FROM andon.device_event
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT seq, body::text FROM andon.correction
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT seq, body::text FROM andon.command
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT seq, body::text FROM andon.audit_anchor
        WHERE gateway = $1 AND stream = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT first, body FROM andon.set_aside
        WHERE gateway = $1 AND stream = $2 AND numbering = 'event' AND kind = 'event' AND first <= $3
        ORDER BY first DESC LIMIT 1
    )
) AS e
ORDER BY seq DESC LIMIT 1

-- name: corrections
-- Gateway, equipment, range, instant of knowledge, limit. Those withdrawn come too, and what withdraws them.
SELECT body::text FROM andon.correction
WHERE gateway = $1 AND equipment = $2 AND until > $3 AND at < $4
    AND ($5::timestamptz IS NULL OR recorded_at <= $5)
ORDER BY recorded_at, seq, stream LIMIT $6

-- name: transition_before_as_known
SELECT body::text FROM andon.transition
WHERE gateway = $1 AND equipment = $2 AND at <= $3 AND recorded_at <= $4
ORDER BY at DESC, seq DESC LIMIT 1

-- name: transition_before
SELECT body::text FROM andon.transition
WHERE gateway = $1 AND equipment = $2 AND at <= $3
ORDER BY at DESC, seq DESC LIMIT 1

-- name: transitions_by_seq
SELECT body::text FROM andon.transition
WHERE gateway = $1 AND equipment = $2 AND stream = $3 AND seq > $4 AND seq <= $5
    AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
ORDER BY seq LIMIT $8

-- name: transitions_by_time
-- Gateway, equipment, range, limit, the present stream and up to which event of it.
SELECT body::text FROM andon.transition
WHERE gateway = $1 AND equipment = $2 AND at > $3 AND at < $4 AND (stream <> $6 OR seq <= $7)
ORDER BY at, seq LIMIT $5

-- name: moves_by_time
-- As `transitions_by_time`, without what makes rows long.
SELECT stream::text, seq, to_state, code, category, at, recorded_at
FROM andon.transition
WHERE gateway = $1 AND equipment = $2 AND at > $3 AND at < $4 AND (stream <> $6 OR seq <= $7)
ORDER BY at, seq LIMIT $5

-- name: rejections_between
SELECT body::text FROM andon.rejection
WHERE gateway = $1 AND equipment = $2 AND stream = $3 AND seq > $4 AND seq < $5
ORDER BY seq LIMIT $6

-- name: replay_tags
SELECT tag_id, tag, connection, kind FROM andon.tag WHERE gateway = $1 AND tag = ANY($2::text[])

-- name: replay_samples
-- Tag ids, range of receipt, and the range of `at` that can hold it (for the index and the chunks).
SELECT s.tag_id, s.quality, s.at, s.received_at, s.source_at, s.value, s.text, s.substatus
FROM andon.sample AS s JOIN andon.tag AS t ON t.tag_id = s.tag_id
WHERE s.tag_id = ANY($1::integer[]) AND s.received_at >= $2 AND s.received_at <= $3
    AND s.at >= $4 AND s.at <= $5
ORDER BY s.received_at, t.connection, coalesce(s.source_at, s.at), t.tag, s.quality, s.value, s.text

-- name: replay_events
-- Gateway, equipment, connections, range. Journals in the order the database met them.
SELECT e.type, e.body FROM (
    SELECT stream, seq, 'transition' AS type, body::text FROM andon.transition
    WHERE gateway = $1 AND equipment = ANY($2::text[]) AND at > $4 AND at <= $5
    UNION ALL
    SELECT stream, seq, type, body::text FROM andon.source_event
    WHERE gateway = $1 AND connection = ANY($3::text[]) AND type <> 'gap' AND at > $4 AND at <= $5
) AS e
JOIN andon.sink_cursor AS c ON c.gateway = $1 AND c.stream = e.stream
ORDER BY c.began_at, e.stream, e.seq

-- name: replay_holes
-- Gateway, range: stretches overtaken by what came after them of which not all is here yet.
SELECT coalesce(l.recorded_from, $2) AS begin_at, l.recorded_until AS end_at
FROM andon.late_range AS l
JOIN andon.sink_range AS r ON r.gateway = l.gateway AND r.stream = l.stream
    AND r.after_seq = l.up_to_seq AND r.after_batch = l.up_to_batch
WHERE l.gateway = $1 AND l.written_at IS NULL
    AND l.recorded_until >= $2 AND (l.recorded_from IS NULL OR l.recorded_from <= $3)
ORDER BY l.recorded_until

-- name: replay_later
SELECT EXISTS (SELECT 1 FROM andon.transition WHERE gateway = $1 AND at > $3)
    OR EXISTS (SELECT 1 FROM andon.source_event WHERE gateway = $1 AND at > $3)
    OR EXISTS (SELECT 1 FROM andon.sample WHERE tag_id = ANY($2::integer[]) AND at > $3)

-- name: tag_samples
-- Gateway, stream, tag, range, rows wanted of it. The newest row before the range comes too; where that was deleted
-- by retention, its value comes from the newest row of `sample_hour`, if that tells what was in force.
-- `batch` and `beyond` say what has been handed over of the journal in the same snapshot. Samples of one tag and
-- one instant have no order of their own here; the one they are given is also that of what comes from the journal.
SELECT c.batch, c.beyond, t.kind, k.samples_from, s.*
FROM (
    SELECT
        coalesce(max(batch), 0) AS batch,
        ARRAY(
            SELECT ARRAY[after_batch, batch] FROM andon.sink_range WHERE gateway = $1 AND stream = $2
            ORDER BY after_batch, batch
        ) AS beyond
    FROM andon.sink_cursor WHERE gateway = $1 AND stream = $2
) AS c
LEFT JOIN andon.tag AS t ON t.gateway = $1 AND t.tag = $3
LEFT JOIN andon.kept_from AS k ON k.gateway = $1
LEFT JOIN LATERAL (
    (
        SELECT at, received_at, source_at, quality, value, text, substatus FROM andon.sample
        WHERE tag_id = t.tag_id AND at < $4
        ORDER BY at DESC, received_at DESC, quality DESC, value DESC NULLS LAST, text COLLATE "C" DESC NULLS LAST
        LIMIT 1
    )
    UNION ALL
    (
        SELECT at, received_at, source_at, quality, value, text, substatus FROM andon.sample
        WHERE tag_id = t.tag_id AND at >= $4 AND at < $5
        ORDER BY at, received_at, quality, value NULLS FIRST, text COLLATE "C" NULLS FIRST
        LIMIT $6
    )
    UNION ALL
    (
        SELECT last_at, last_at, NULL, last_quality, last_value, last_text, ''
        FROM (
            SELECT last_at, last_quality, last_value, last_text FROM andon.sample_hour
            WHERE tag_id = t.tag_id AND hour < $4 ORDER BY hour DESC LIMIT 1
        ) AS h
        WHERE last_at < $4 AND NOT EXISTS (SELECT 1 FROM andon.sample WHERE tag_id = t.tag_id AND at < $4)
    )
) AS s ON true

-- name: sample_buckets
-- Gateway, tag, beginnings, ends. A value holds until the next sample, so the newest one before a bucket counts
-- in it from its beginning.
SELECT
    b.no, g.recorded, g.min, g.max, g.known_s, g.integral, t.kind,
    g.last_quality AS quality, g.last_value AS value, g.last_text AS text
FROM andon.tag AS t
CROSS JOIN unnest($3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY AS b (begins, ends, no)
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE NOT before) AS recorded,
        min(value) FILTER (WHERE known) AS min,
        max(value) FILTER (WHERE known) AS max,
        coalesce(sum(lasted_s) FILTER (WHERE known), 0) AS known_s,
        sum(value * lasted_s) FILTER (WHERE known) AS integral,
        max(quality) FILTER (WHERE is_last) AS last_quality,
        max(value) FILTER (WHERE is_last) AS last_value,
        max(text) FILTER (WHERE is_last) AS last_text
    FROM (
        SELECT
            before, quality, value, text, is_last, lasted_s,
            value IS NOT NULL AND quality < 2 AND (NOT before OR lasted_s > 0) AS known
        FROM (
            SELECT
                before, quality, value, text, lead(at) OVER steps IS NULL AS is_last,
                date_part('epoch', coalesce(lead(at) OVER steps, b.ends) - at) AS lasted_s
            FROM (
                (
                    SELECT true AS before, b.begins AS at, received_at, quality, value, text
                    FROM andon.sample
                    WHERE tag_id = t.tag_id AND at < b.begins
                    ORDER BY sample.at DESC, received_at DESC, quality DESC, value DESC NULLS LAST, text COLLATE "C" DESC NULLS LAST
                    LIMIT 1
                )
                UNION ALL
                (
                    SELECT true, b.begins, last_at, last_quality, last_value, last_text
                    FROM (
                        SELECT last_at, last_quality, last_value, last_text FROM andon.sample_hour
                        WHERE tag_id = t.tag_id AND hour < b.begins ORDER BY hour DESC LIMIT 1
                    ) AS h
                    WHERE last_at < b.begins
                        AND NOT EXISTS (SELECT 1 FROM andon.sample WHERE tag_id = t.tag_id AND at < b.begins)
                )
                UNION ALL
                SELECT false, at, received_at, quality, value, text
                FROM andon.sample
                WHERE tag_id = t.tag_id AND at >= b.begins AND at < b.ends
            ) AS r
            WINDOW steps AS (ORDER BY at, before DESC, received_at, quality, value NULLS FIRST, text COLLATE "C" NULLS FIRST)
        ) AS timed
    ) AS judged
) AS g
WHERE t.gateway = $1 AND t.tag = $2
ORDER BY b.no

-- name: touch_hours
-- Gateway, hours. Last thing in a transaction that writes samples: what is not committed yet is not counted as done.
INSERT INTO andon.hour_due (gateway, hour, touched, touched_at)
SELECT $1::text, hour, pg_current_xact_id()::text::bigint, clock_timestamp()
FROM unnest($2::timestamptz[]) AS t (hour)
ORDER BY hour
ON CONFLICT (gateway, hour) DO UPDATE SET touched = excluded.touched, touched_at = excluded.touched_at

-- name: hours_due
-- Gateway, after and before which hour, for how long nothing was written to it, rows wanted.
SELECT hour, touched FROM andon.hour_due
WHERE gateway = $1 AND ($2::timestamptz IS NULL OR hour > $2) AND hour < $3
    AND touched_at <= clock_timestamp() - $4::interval
ORDER BY hour LIMIT $5

-- name: roll_up
-- Gateway, tags, hour.
INSERT INTO andon.sample_hour (
    tag_id, hour, samples, first_at, known_s, integral, min, max, last_at, last_quality, last_value, last_text
)
SELECT
    t.tag_id, f.hour, f.samples, f.first_at, f.known_s, f.integral, f.min, f.max,
    f.last_at, f.last_quality, f.last_value, f.last_text
FROM unnest($2::integer[]) AS t (tag_id)
CROSS JOIN LATERAL andon.hours_of_samples(t.tag_id, $3::timestamptz, $3::timestamptz + interval '1 hour') AS f
ON CONFLICT (tag_id, hour) DO UPDATE SET
    samples = excluded.samples, first_at = excluded.first_at, known_s = excluded.known_s,
    integral = excluded.integral, min = excluded.min, max = excluded.max, last_at = excluded.last_at,
    last_quality = excluded.last_quality, last_value = excluded.last_value, last_text = excluded.last_text
WHERE NOT EXISTS (
    SELECT 1 FROM andon.kept_from AS k WHERE k.gateway = $1 AND k.samples_from > excluded.hour
)

-- name: hour_is_done
DELETE FROM andon.hour_due WHERE gateway = $1 AND hour = $2 AND touched = $3

-- name: keep_from
INSERT INTO andon.kept_from (gateway, samples_from) VALUES ($1, $2)
ON CONFLICT (gateway) DO UPDATE SET samples_from = greatest(kept_from.samples_from, excluded.samples_from)

-- name: note_deleted
UPDATE andon.kept_from SET deleted = deleted + $2, deleted_at = clock_timestamp() WHERE gateway = $1

-- name: samples_in_old_chunks
-- Counted by the rows themselves, once, before they go.
SELECT count(*) FROM andon.sample WHERE at < coalesce(
    (
        SELECT max(range_end) FROM timescaledb_information.chunks
        WHERE hypertable_schema = 'andon' AND hypertable_name = 'sample' AND range_end <= $1::timestamptz
    ), '-infinity'
)

-- name: delete_hours
DELETE FROM andon.sample_hour AS h USING andon.tag AS t
WHERE t.gateway = $1 AND h.tag_id = t.tag_id AND h.hour <= $2

-- name: tag_hours
-- Gateway, tag, two full hours. What was in force before the first comes from the newest sample before it or, where
-- samples have been deleted, from the newest row before it.
SELECT t.kind, k.samples_from, h.*
FROM andon.tag AS t
LEFT JOIN andon.kept_from AS k ON k.gateway = t.gateway
LEFT JOIN LATERAL (
    (
        SELECT
            hour, samples, first_at, known_s, integral, min, max, last_at, last_quality, last_value, last_text
        FROM andon.sample_hour WHERE tag_id = t.tag_id AND hour < $3
        ORDER BY hour DESC LIMIT 1
    )
    UNION ALL
    (
        SELECT
            date_bin('1 hour', at, '2000-01-01 00:00:00+00'), 0, at, 0, NULL, NULL, NULL, at, quality, value, text
        FROM andon.sample WHERE tag_id = t.tag_id AND at < $3
        ORDER BY at DESC, received_at DESC, quality DESC, value DESC NULLS LAST, text COLLATE "C" DESC NULLS LAST
        LIMIT 1
    )
    UNION ALL
    (
        SELECT
            hour, samples, first_at, known_s, integral, min, max, last_at, last_quality, last_value, last_text
        FROM andon.tag_hour WHERE tag_id = t.tag_id AND hour >= $3 AND hour < $4
    )
) AS h ON true
WHERE t.gateway = $1 AND t.tag = $2
ORDER BY h.last_at, h.samples

-- name: list_set_aside
SELECT
    set_aside_id AS id, kind, type, stream, numbering, first, last, sqlstate, reason, body, set_aside_at,
    tries, tried_at, dropped_at
FROM andon.set_aside WHERE gateway = $1 AND ($2::boolean OR dropped_at IS NULL)
ORDER BY set_aside_id

-- name: drop_set_aside
UPDATE andon.set_aside SET dropped_at = clock_timestamp()
WHERE gateway = $1 AND set_aside_id = ANY($2::bigint[]) AND dropped_at IS NULL
RETURNING set_aside_id AS id

-- name: hold_set_aside
-- One that somebody else is at is left to them.
SELECT kind, type, stream, body FROM andon.set_aside
WHERE gateway = $1 AND set_aside_id = $2 FOR UPDATE SKIP LOCKED

-- name: forget_set_aside
DELETE FROM andon.set_aside WHERE gateway = $1 AND set_aside_id = $2

-- name: refused_again
UPDATE andon.set_aside SET tries = tries + 1, tried_at = clock_timestamp(), sqlstate = $3, reason = $4
WHERE gateway = $1 AND set_aside_id = $2

-- name: insert_sample
-- Gateway, tag, the columns of `sample`, and the kind of the value, for a tag that has none yet.
WITH known AS (
    SELECT tag_id, kind FROM andon.tag WHERE gateway = $1 AND tag = $2
), named AS (
    UPDATE andon.tag SET kind = $10::text FROM known WHERE tag.tag_id = known.tag_id AND known.kind = ''
)
INSERT INTO andon.sample (tag_id, quality, at, received_at, source_at, value, text, substatus)
SELECT tag_id, $3, $4, $5, $6, $7, $8, $9 FROM known

-- name: database_size
SELECT pg_database_size(current_database())

-- name: table_sizes
-- Chunks count for their table. The server's running count where it has one, else the last it made; null where it has
-- never counted, which is not none.
SELECT c.relname::text AS table,
    (pg_total_relation_size(c.oid) + coalesce(sum(pg_total_relation_size(i.inhrelid)), 0))::bigint AS bytes,
    coalesce(
        nullif(
            pg_stat_get_live_tuples(c.oid) + coalesce(sum(pg_stat_get_live_tuples(p.oid)), 0), 0
        ),
        CASE
            WHEN greatest(c.reltuples, max(p.reltuples)) >= 0
                THEN greatest(c.reltuples, 0) + coalesce(sum(greatest(p.reltuples, 0)), 0)
        END
    )::bigint AS rows
FROM pg_class AS c
LEFT JOIN pg_inherits AS i ON i.inhparent = c.oid
LEFT JOIN pg_class AS p ON p.oid = i.inhrelid
WHERE c.relnamespace = to_regnamespace('andon') AND c.relkind = 'r'
GROUP BY c.oid, c.relname, c.reltuples ORDER BY 2 DESC, 1

-- name: chunks
SELECT count(*) AS count, count(*) FILTER (WHERE is_compressed) AS compressed FROM timescaledb_information.chunks
WHERE hypertable_schema = 'andon' AND hypertable_name = 'sample'

-- name: all_cursors
SELECT gateway, stream, seq, batch, moved_at FROM andon.sink_cursor ORDER BY gateway, moved_at

-- name: all_gateways
SELECT
    g.gateway,
    (SELECT count(*) FROM andon.tag AS t WHERE t.gateway = g.gateway) AS tags,
    (SELECT count(*) FROM andon.set_aside AS s WHERE s.gateway = g.gateway AND dropped_at IS NULL) AS set_aside,
    (SELECT count(*) FROM andon.set_aside AS s WHERE s.gateway = g.gateway AND dropped_at IS NOT NULL) AS dropped,
    (SELECT count(*) FROM andon.hour_due AS d WHERE d.gateway = g.gateway) AS hours_due,
    k.samples_from, coalesce(k.deleted, 0) AS samples_deleted
FROM (SELECT gateway FROM andon.sink_cursor UNION SELECT gateway FROM andon.tag) AS g
LEFT JOIN andon.kept_from AS k ON k.gateway = g.gateway
ORDER BY g.gateway

-- name: connected_gateways
SELECT DISTINCT application_name AS name FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'andon %'
    AND application_name NOT IN ('andon database', 'andon check')
ORDER BY 1
