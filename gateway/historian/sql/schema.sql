-- The database as all migrations together leave it, for people to read and for a test to compare with.
-- Several gateways may share one database: every table is keyed by gateway, samples through their tag.
-- `stream` names one journal of a gateway, `seq` counts all its events from 1 without a gap.
-- `body` is the event exactly as REST, SSE and MQTT tell it, byte for byte (so `json`, not `jsonb`).

CREATE SCHEMA andon;

-- The migrations this database has seen: by which version of the gateway, and what takes each back.
CREATE TABLE andon.migration (
    number integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    version text NOT NULL DEFAULT '',
    down text NOT NULL DEFAULT '',
    PRIMARY KEY (number)
);

-- One row for each tag a gateway has ever recorded. `kind` is what its last value was.
CREATE TABLE andon.tag (
    tag_id integer GENERATED ALWAYS AS IDENTITY,
    gateway text NOT NULL,
    tag text NOT NULL,
    connection text NOT NULL,
    name text NOT NULL,
    unit text NOT NULL,
    kind text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tag_id),
    UNIQUE (gateway, tag)
);

-- Samples on change. `at` is the source's time where the connection says so and it is plausible, else the
-- time of receipt; `source_at` is the device's own time when that is another. `quality`: 0 good, 1 uncertain,
-- 2 bad. Numbers and booleans (0, 1) are in `value`, texts in `text`; an integer too large to be exact as a
-- float has its digits in `text` as well. A hypertable where the server has TimescaleDB.
CREATE TABLE andon.sample (
    tag_id integer NOT NULL,
    quality smallint NOT NULL,
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    source_at timestamptz,
    value double precision,
    text text,
    substatus text
);

CREATE INDEX sample_by_tag ON andon.sample (tag_id, at);

-- One row for each equipment a gateway has ever had, with its present path and model.
CREATE TABLE andon.equipment (
    gateway text NOT NULL,
    equipment text NOT NULL,
    path text NOT NULL,
    model text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, equipment)
);

-- Kept for ever, so a plain table: its key needs no time in it, and a state long ago is one index step away.
CREATE TABLE andon.transition (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    equipment text NOT NULL,
    path text NOT NULL,
    model text NOT NULL,
    sequence bigint NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    code bigint,
    category text,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    duration_s double precision NOT NULL,
    conformance text NOT NULL,
    cause jsonb NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

-- Holds what a timeline needs, so that the rows themselves are not read for one.
CREATE INDEX transition_by_time ON andon.transition (gateway, equipment, at, seq)
INCLUDE (stream, to_state, code, category, recorded_at);
CREATE INDEX transition_by_seq ON andon.transition (gateway, equipment, stream, seq);

-- Moves the model refused.
CREATE TABLE andon.rejection (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    equipment text NOT NULL,
    path text NOT NULL,
    model text NOT NULL,
    state text NOT NULL,
    attempted text NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    reason text NOT NULL,
    cause jsonb NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

CREATE INDEX rejection_by_time ON andon.rejection (gateway, equipment, at);

-- Events about a connection: `source_lost`, `source_restored`, and `gap` (samples known to be lost between
-- `at` and `until`; of all tags when `tag` is empty).
CREATE TABLE andon.source_event (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    type text NOT NULL,
    connection text NOT NULL,
    tag text NOT NULL,
    at timestamptz NOT NULL,
    until timestamptz,
    recorded_at timestamptz NOT NULL,
    reason text NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

CREATE INDEX source_event_by_time ON andon.source_event (gateway, connection, at);

-- What devices themselves say has happened: their events and the changes of their alarms. `at` is the device's
-- own time where the connection says so and it is plausible, else the time of receipt. `condition` and what
-- follows it are for alarms; null is what the device did not say. `refreshed`: told after connecting, because it
-- holds; it happened earlier.
CREATE TABLE andon.device_event (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    connection text NOT NULL,
    kind text NOT NULL,
    source text NOT NULL,
    severity integer,
    message text NOT NULL,
    event_id text NOT NULL,
    condition text NOT NULL,
    condition_node text NOT NULL,
    active boolean,
    acknowledged boolean,
    confirmed boolean,
    refreshed boolean NOT NULL,
    at timestamptz NOT NULL,
    source_at timestamptz,
    received_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

CREATE INDEX device_event_by_time ON andon.device_event (gateway, connection, at);

-- What was recorded of an equipment between `at` and `until` was wrong, and what is known now: `intervals` is a list
-- of {state, code, category, from, to}. Nothing recorded is changed by it; `andon.intervals` lays it over what was
-- told. `withdraws` is the id (stream-seq) of an earlier one that no longer counts; then it has no intervals.
CREATE TABLE andon.correction (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    equipment text NOT NULL,
    path text NOT NULL,
    model text NOT NULL,
    at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    intervals jsonb NOT NULL,
    reason text NOT NULL,
    author text NOT NULL,
    withdraws text,
    recorded_at timestamptz NOT NULL,
    cause jsonb,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

CREATE INDEX correction_by_time ON andon.correction (gateway, equipment, until, at);

-- The commands to machines: one row when a command is accepted, one when it ends (`status` then says how).
-- `tag` and `value`, or `command` of `equipment`; values are in words. `code` and `reason` say why it was refused or
-- what is doubtful, `read` is what was read back. With `dry_run` nothing was written, whatever the status says.
CREATE TABLE andon.command (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    command_id text NOT NULL,
    equipment text NOT NULL,
    path text NOT NULL,
    tag text NOT NULL,
    command text NOT NULL,
    value text,
    status text NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    read text,
    requested_by text NOT NULL,
    approved_by text NOT NULL,
    via text NOT NULL,
    dry_run boolean NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

CREATE INDEX command_by_time ON andon.command (gateway, equipment, at);

-- Where the audit trail of a gateway stood: record `n` ends its chain with `hash`, and `signature` is made with the key
-- that `key` names. Kept here, it shows later that nothing up to there was changed or taken away.
CREATE TABLE andon.audit_anchor (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    n bigint NOT NULL,
    hash text NOT NULL,
    signature text NOT NULL,
    key text NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    body json NOT NULL,
    PRIMARY KEY (gateway, stream, seq)
);

CREATE INDEX audit_anchor_by_number ON andon.audit_anchor (gateway, n);

-- What the database certainly holds of each journal. Moves in the same transaction as the rows.
CREATE TABLE andon.sink_cursor (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    seq bigint NOT NULL,
    batch bigint NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, stream)
);

-- What it holds beyond the cursor: after an outage what comes now is written at once, from `after_*` on, and what
-- gathered meanwhile beside it. When the hole before a range is filled, the cursor moves to its end and it goes.
CREATE TABLE andon.sink_range (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    after_seq bigint NOT NULL,
    after_batch bigint NOT NULL,
    seq bigint NOT NULL,
    batch bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, stream, after_seq, after_batch)
);

-- Which stretches came late, overtaken by what came after them: events with `after_seq < seq <= up_to_seq`, and
-- samples received from `recorded_from` until `recorded_until`. `written_at` is null while some are on their way.
CREATE TABLE andon.late_range (
    gateway text NOT NULL,
    stream uuid NOT NULL,
    after_seq bigint NOT NULL,
    after_batch bigint NOT NULL,
    up_to_seq bigint NOT NULL,
    up_to_batch bigint NOT NULL,
    recorded_from timestamptz,
    recorded_until timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_at timestamptz,
    PRIMARY KEY (gateway, stream, up_to_seq, up_to_batch)
);

-- The processes that have written as a gateway, so that two with one id notice each other: each tells every few
-- seconds that it is there, and when it ends of its own accord. The newest hundred of each gateway.
CREATE TABLE andon.gateway_run (
    gateway text NOT NULL,
    run uuid NOT NULL,
    stream uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    PRIMARY KEY (gateway, run)
);

-- What the database would not take, or the journal could not give, with the reason: nothing is dropped in
-- silence. `kind`: `event`, `sample`, or `missing`; `numbering` says whether `first` to `last` number events or
-- batches. `tries` counts those after the first; `dropped_at` is when somebody decided to leave it at that.
CREATE TABLE andon.set_aside (
    set_aside_id bigint GENERATED ALWAYS AS IDENTITY,
    gateway text NOT NULL,
    stream uuid NOT NULL,
    kind text NOT NULL,
    type text NOT NULL,
    numbering text NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    sqlstate text NOT NULL,
    reason text NOT NULL,
    body text NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    tried_at timestamptz,
    dropped_at timestamptz,
    PRIMARY KEY (set_aside_id)
);

CREATE INDEX set_aside_by_number ON andon.set_aside (gateway, stream, numbering, first);

-- The newest transition of each equipment.
CREATE VIEW andon.current_state AS
SELECT
    e.gateway, e.equipment, e.path, e.model,
    t.to_state AS state, t.code, t.category, t.at AS since, t.stream, t.seq, t.sequence, t.cause
FROM andon.equipment AS e
CROSS JOIN LATERAL (
    SELECT * FROM andon.transition
    WHERE transition.gateway = e.gateway AND transition.equipment = e.equipment
    ORDER BY transition.at DESC, transition.seq DESC
    LIMIT 1
) AS t;

-- The time each equipment spent in each state; `until` is null while it lasts.
CREATE VIEW andon.state_interval AS
SELECT
    t.gateway, t.equipment, t.path, t.model,
    t.to_state AS state, t.code, t.category, t.at AS since, n.at AS until,
    extract(epoch FROM n.at - t.at)::double precision AS duration_s,
    t.stream, t.seq, t.sequence
FROM andon.transition AS t
LEFT JOIN LATERAL (
    SELECT transition.at FROM andon.transition
    WHERE transition.gateway = t.gateway AND transition.equipment = t.equipment
        AND (transition.at, transition.seq) > (t.at, t.seq)
    ORDER BY transition.at, transition.seq
    LIMIT 1
) AS n ON true;

-- Samples with the names people know.
CREATE VIEW andon.tag_sample AS
SELECT
    t.gateway, t.tag, s.at, s.value, s.text, t.unit,
    (ARRAY['good', 'uncertain', 'bad'])[s.quality + 1] AS quality, s.substatus, s.received_at, s.source_at
FROM andon.sample AS s
JOIN andon.tag AS t ON t.tag_id = s.tag_id;

-- The states of one equipment between two instants as they were known at a third: what was told up to then, with the
-- corrections made up to then laid over it. A later correction wins over an earlier one; one that is withdrawn does
-- not count. Cut exactly at both ends, and at `known_at` where that is earlier, without holes from the first recorded
-- state on; `until` is null while a state lasts. `stream` and `seq` are of the transition or, when `corrected`, of the
-- correction that tells the state.
CREATE FUNCTION andon.intervals(
    gateway text,
    equipment text,
    from_at timestamptz DEFAULT '-infinity',
    to_at timestamptz DEFAULT 'infinity',
    known_at timestamptz DEFAULT 'infinity'
) RETURNS TABLE (
    state text, code bigint, category text, since timestamptz, until timestamptz,
    corrected boolean, stream uuid, seq bigint
) LANGUAGE sql STABLE AS $$
WITH moves AS (
    SELECT
        t.to_state, t.code, t.category, t.stream, t.seq, t.at AS begins,
        coalesce(lead(t.at) OVER (ORDER BY t.at, t.seq), 'infinity') AS ends,
        row_number() OVER (ORDER BY t.at, t.seq) AS no
    FROM andon.transition AS t
    WHERE t.gateway = $1 AND t.equipment = $2 AND t.recorded_at <= $5 AND t.at < least($4, $5) AND t.at >= coalesce(
        (
            SELECT f.at FROM andon.transition AS f
            WHERE f.gateway = $1 AND f.equipment = $2 AND f.recorded_at <= $5 AND f.at <= $3
            ORDER BY f.at DESC, f.seq DESC LIMIT 1
        ), $3
    )
), over AS (
    SELECT
        i.state, i.code, i.category, c.stream, c.seq, i."from" AS begins, i."to" AS ends,
        row_number() OVER (ORDER BY c.recorded_at, c.seq, c.stream) AS no
    FROM andon.correction AS c
    CROSS JOIN LATERAL jsonb_to_recordset(c.intervals)
        AS i (state text, code bigint, category text, "from" timestamptz, "to" timestamptz)
    WHERE c.gateway = $1 AND c.equipment = $2 AND c.recorded_at <= $5 AND c.until > $3 AND c.at < least($4, $5)
        AND NOT EXISTS (
            SELECT 1 FROM andon.correction AS w
            WHERE w.gateway = $1 AND w.equipment = $2 AND w.recorded_at <= $5
                AND w.until > $3 AND w.at < least($4, $5) AND w.withdraws = c.stream::text || '-' || c.seq::text
        )
), cuts AS (
    SELECT greatest(begins, $3) AS at, no FROM moves WHERE ends > greatest(begins, $3)
    UNION ALL SELECT begins, NULL FROM over WHERE begins > $3 AND begins < least($4, $5)
    UNION ALL SELECT ends, NULL FROM over WHERE ends > $3 AND ends < least($4, $5)
), pieces AS (
    -- Each piece belongs to the newest move at or before it.
    SELECT at AS begins, lead(at, 1, least($4, $5)) OVER (ORDER BY at) AS ends, max(max(no)) OVER (ORDER BY at) AS no
    FROM cuts GROUP BY at
), judged AS (
    SELECT
        p.begins, p.ends, o.seq IS NOT NULL AS corrected,
        coalesce(o.stream, m.stream) AS stream, coalesce(o.seq, m.seq) AS seq,
        coalesce(o.state, m.to_state) AS state,
        CASE WHEN o.seq IS NULL THEN m.code ELSE o.code END AS code,
        CASE WHEN o.seq IS NULL THEN m.category ELSE o.category END AS category
    FROM pieces AS p
    JOIN moves AS m ON m.no = p.no
    LEFT JOIN LATERAL (
        SELECT * FROM over WHERE over.begins <= p.begins AND over.ends > p.begins ORDER BY over.no DESC LIMIT 1
    ) AS o ON true
    WHERE p.begins < least($4, $5)
), marked AS (
    SELECT *, (corrected, stream, seq, state) IS DISTINCT FROM (
        lag(corrected) OVER w, lag(stream) OVER w, lag(seq) OVER w, lag(state) OVER w
    ) AS is_new
    FROM judged WINDOW w AS (ORDER BY begins)
), grouped AS (
    SELECT *, count(*) FILTER (WHERE is_new) OVER (ORDER BY begins) AS place FROM marked
)
SELECT
    min(state), min(code), min(category), min(begins), nullif(max(ends), 'infinity'),
    bool_or(corrected), (array_agg(stream))[1], min(seq)
FROM grouped GROUP BY place ORDER BY place
$$;

-- The time each equipment really spent in each state, as far as is known now: `state_interval` with corrections laid
-- over it. For a range, or for what was known earlier, ask `andon.intervals`.
CREATE VIEW andon.corrected_interval AS
SELECT
    e.gateway, e.equipment, e.path, e.model, i.state, i.code, i.category, i.since, i.until,
    extract(epoch FROM i.until - i.since)::double precision AS duration_s, i.corrected, i.stream, i.seq
FROM andon.equipment AS e
CROSS JOIN LATERAL andon.intervals(e.gateway, e.equipment) AS i;

-- What each tag did in each hour it had samples in, counted from its first sample of the hour: what was in force
-- before that is known from the row before. So no row depends on another, and a late sample changes one.
CREATE TABLE andon.sample_hour (
    tag_id integer NOT NULL,
    hour timestamptz NOT NULL,
    samples bigint NOT NULL,
    first_at timestamptz NOT NULL,
    known_s double precision NOT NULL,
    integral double precision,
    min double precision,
    max double precision,
    last_at timestamptz NOT NULL,
    last_quality smallint NOT NULL,
    last_value double precision,
    last_text text,
    PRIMARY KEY (tag_id, hour)
);

-- Hours whose rows in `sample_hour` are not what the samples say, or not there yet. Every transaction that writes
-- samples names its hours here; `touched` is the newest such transaction.
CREATE TABLE andon.hour_due (
    gateway text NOT NULL,
    hour timestamptz NOT NULL,
    touched bigint NOT NULL,
    touched_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, hour)
);

-- From when on a gateway's samples are all there: those before have been deleted, or are about to be. `deleted` is
-- how many have been.
CREATE TABLE andon.kept_from (
    gateway text NOT NULL,
    samples_from timestamptz NOT NULL,
    deleted bigint NOT NULL DEFAULT 0,
    deleted_at timestamptz,
    PRIMARY KEY (gateway)
);

-- The rows of `sample_hour` of one tag as the samples between two full hours say.
CREATE FUNCTION andon.hours_of_samples(tag integer, from_hour timestamptz, to_hour timestamptz)
RETURNS TABLE (
    hour timestamptz, samples bigint, first_at timestamptz, known_s double precision, integral double precision,
    min double precision, max double precision, last_at timestamptz, last_quality smallint,
    last_value double precision, last_text text
) LANGUAGE sql STABLE AS $$
SELECT
    t.hour, count(*), min(t.at), coalesce(sum(t.lasted_s) FILTER (WHERE t.known), 0),
    sum(t.value * t.lasted_s) FILTER (WHERE t.known),
    min(t.value) FILTER (WHERE t.known), max(t.value) FILTER (WHERE t.known),
    max(t.at), max(t.quality) FILTER (WHERE t.is_last), max(t.value) FILTER (WHERE t.is_last),
    max(t.text) FILTER (WHERE t.is_last)
FROM (
    SELECT
        s.hour, s.at, s.quality, s.value, s.text, s.value IS NOT NULL AND s.quality < 2 AS known,
        lead(s.at) OVER steps IS NULL AS is_last,
        date_part('epoch', coalesce(lead(s.at) OVER steps, s.hour + interval '1 hour') - s.at) AS lasted_s
    FROM (
        SELECT date_bin('1 hour', r.at, '2000-01-01 00:00:00+00') AS hour, r.*
        FROM andon.sample AS r WHERE r.tag_id = $1 AND r.at >= $2 AND r.at < $3
    ) AS s
    WINDOW steps AS (
        PARTITION BY s.hour
        ORDER BY s.at, s.received_at, s.quality, s.value NULLS FIRST, s.text COLLATE "C" NULLS FIRST
    )
) AS t
GROUP BY t.hour
$$;

-- As `sample_hour`, and true at every moment: hours that are due are made from the samples when asked for. A row
-- whose samples have been deleted is taken as it is.
CREATE VIEW andon.tag_hour AS
SELECT
    h.tag_id, h.hour, h.samples, h.first_at, h.known_s, h.integral, h.min, h.max,
    h.last_at, h.last_quality, h.last_value, h.last_text
FROM andon.sample_hour AS h
JOIN andon.tag AS t ON t.tag_id = h.tag_id
LEFT JOIN andon.kept_from AS k ON k.gateway = t.gateway
WHERE h.hour < k.samples_from
    OR NOT EXISTS (SELECT 1 FROM andon.hour_due AS d WHERE d.gateway = t.gateway AND d.hour = h.hour)
UNION ALL
SELECT
    t.tag_id, d.hour, f.samples, f.first_at, f.known_s, f.integral, f.min, f.max,
    f.last_at, f.last_quality, f.last_value, f.last_text
FROM andon.tag AS t
LEFT JOIN andon.kept_from AS k ON k.gateway = t.gateway
JOIN andon.hour_due AS d ON d.gateway = t.gateway
CROSS JOIN LATERAL andon.hours_of_samples(t.tag_id, d.hour, d.hour + interval '1 hour') AS f
WHERE k.samples_from IS NULL OR d.hour >= k.samples_from
    OR NOT EXISTS (SELECT 1 FROM andon.sample_hour AS h WHERE h.tag_id = t.tag_id AND h.hour = d.hour);

-- Tags by the hour with the names people know, each weighted by how long its values were in force, the one from
-- before included; the present hour up to now (`c` is what is left of it). An hour without a sample has no row: the
-- last value of the row before held all the time.
CREATE VIEW andon.sample_hourly AS
SELECT
    t.gateway, t.tag, h.hour, t.unit, h.samples,
    least(h.min, CASE WHEN b.lasted_s > 0 THEN b.value END) AS min,
    greatest(h.max, CASE WHEN b.lasted_s > 0 THEN b.value END) AS max,
    (coalesce(h.integral, 0) + coalesce(b.value * b.lasted_s, 0) - coalesce(h.last_value * c.lasts_s, 0))
        / nullif(h.known_s + CASE WHEN b.value IS NULL THEN 0 ELSE b.lasted_s END - c.lasts_s, 0) AS avg,
    h.known_s + CASE WHEN b.value IS NULL THEN 0 ELSE b.lasted_s END - c.lasts_s AS known_s,
    CASE WHEN h.last_quality < 2 THEN h.last_value END AS last,
    CASE WHEN h.last_quality < 2 THEN h.last_text END AS last_text
FROM andon.tag_hour AS h
JOIN andon.tag AS t ON t.tag_id = h.tag_id
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN h.last_quality < 2 AND h.last_value IS NOT NULL
                THEN greatest(0, date_part('epoch', h.hour + interval '1 hour' - greatest(now(), h.last_at)))
            ELSE 0
        END AS lasts_s
) AS c
LEFT JOIN LATERAL (
    SELECT
        CASE WHEN p.last_quality < 2 THEN p.last_value END AS value,
        coalesce(date_part('epoch', h.first_at - h.hour), 0) AS lasted_s
    FROM andon.tag_hour AS p
    WHERE p.tag_id = h.tag_id AND p.hour < h.hour
    ORDER BY p.hour DESC LIMIT 1
) AS b ON true;
