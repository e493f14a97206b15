-- The processes that have written as a gateway, so that two with one id notice each other.

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
