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
