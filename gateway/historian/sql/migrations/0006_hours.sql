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

-- All that is there already is due.
INSERT INTO andon.hour_due (gateway, hour, touched, touched_at)
SELECT r.gateway, h.hour, 0, now()
FROM (
    SELECT t.gateway, date_bin('1 hour', min(s.first_at), '2000-01-01 00:00:00+00') AS first_hour, max(s.last_at) AS last_at
    FROM andon.tag AS t
    CROSS JOIN LATERAL (
        SELECT min(sample.at) AS first_at, max(sample.at) AS last_at FROM andon.sample WHERE sample.tag_id = t.tag_id
    ) AS s
    GROUP BY t.gateway
) AS r
CROSS JOIN LATERAL generate_series(r.first_hour, r.last_at, interval '1 hour') AS h (hour);
