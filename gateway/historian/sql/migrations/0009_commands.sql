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
