-- One segment of the journal. Each file can be read without any other.

CREATE TABLE segment (
    gateway TEXT NOT NULL,
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    first_batch INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- Events, numbered without a gap. `body` is the JSON every consumer gets; `crc` covers seq and body.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    equipment TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

CREATE INDEX transition_by_time ON event (equipment, at_us, seq) WHERE type = 'transition';

-- Sample batches, numbered without a gap on their own. `body` is one byte of encoding, then MessagePack.
CREATE TABLE batch (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- The newest transition of each equipment when this segment began.
CREATE TABLE carried (
    equipment TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Last proof of life of each connection.
CREATE TABLE alive (
    connection TEXT PRIMARY KEY,
    at_us INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far each consumer has read.
CREATE TABLE cursor (
    sink TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What other rooms asked the journal to keep for them, by name.
CREATE TABLE kept (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
