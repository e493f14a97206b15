-- The index as it was.

DROP INDEX andon.transition_by_time;
CREATE INDEX transition_by_time ON andon.transition (gateway, equipment, at, seq);
