-- An older gateway would write again what lies in ranges: a backlog has to be written first.

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM andon.sink_range) THEN
        RAISE EXCEPTION 'a gateway still writes what gathered during an outage; let it catch up first';
    END IF;
END
$$;

DROP TABLE andon.late_range;
DROP TABLE andon.sink_range;
