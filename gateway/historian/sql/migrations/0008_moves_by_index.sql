-- A timeline of a month is thousands of transitions of one equipment, and each lies in a page of its own among those of
-- the others. What a timeline needs goes into the index, so that it is read alone.

DROP INDEX andon.transition_by_time;
CREATE INDEX transition_by_time ON andon.transition (gateway, equipment, at, seq)
INCLUDE (stream, to_state, code, category, recorded_at);
