-- With each migration the version that made it and how to take it back, so that an older gateway finds the way;
-- with each row set aside how often it was tried again, and whether somebody has decided to leave it.

ALTER TABLE andon.migration ADD COLUMN version text NOT NULL DEFAULT '';
ALTER TABLE andon.migration ADD COLUMN down text NOT NULL DEFAULT '';

ALTER TABLE andon.set_aside ADD COLUMN tries integer NOT NULL DEFAULT 0;
ALTER TABLE andon.set_aside ADD COLUMN tried_at timestamptz;
ALTER TABLE andon.set_aside ADD COLUMN dropped_at timestamptz;
