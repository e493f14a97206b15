-- Which rows somebody had decided to leave is forgotten; the rows stay.

ALTER TABLE andon.set_aside DROP COLUMN dropped_at;
ALTER TABLE andon.set_aside DROP COLUMN tried_at;
ALTER TABLE andon.set_aside DROP COLUMN tries;

ALTER TABLE andon.migration DROP COLUMN down;
ALTER TABLE andon.migration DROP COLUMN version;
