-- The older shape knows samples alone. Hours whose samples have been deleted are lost.

DROP VIEW andon.sample_hourly;
DROP VIEW andon.tag_hour;
DROP FUNCTION andon.hours_of_samples(integer, timestamptz, timestamptz);
DROP TABLE andon.kept_from;
DROP TABLE andon.hour_due;
DROP TABLE andon.sample_hour;
