-- What is written ahead of a backlog: ranges beyond the cursor, and which stretches came late.

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
