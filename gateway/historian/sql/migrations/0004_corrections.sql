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
