-- Takes back everything: nothing of what was recorded is left.

DROP VIEW andon.tag_sample;
DROP VIEW andon.state_interval;
DROP VIEW andon.current_state;
DROP TABLE andon.set_aside;
DROP TABLE andon.sink_cursor;
DROP TABLE andon.source_event;
DROP TABLE andon.rejection;
DROP TABLE andon.transition;
DROP TABLE andon.equipment;
DROP TABLE andon.sample;
DROP TABLE andon.tag;
