-- One segment of the journal (format 3). Each file can be read without any other.

-- Whose it is, its place in the row, and `chain`: the digest the segment before it ended with.
CREATE TABLE segment (
    gateway TEXT NOT NULL,
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    first_batch INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    chain BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- What events are compressed against. Two copies, because nothing can be read without it.
CREATE TABLE dictionary (
    copy INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;

-- One row a commit. `event_count` events from `seq` on, `batch_count` sample batches from `batch` on; what has no
-- records stands at the number that comes next. `crc` covers the five numbers, `digest` all of the row and the
-- digest of the row before. Events and samples have a checksum of their own, over where they are as well.
CREATE TABLE block (
    number INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    event_count INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    batch_count INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    digest BLOB NOT NULL,
    events BLOB NOT NULL,
    samples BLOB NOT NULL
) STRICT;

-- Times and numbers of the transitions of each equipment, packed; written when the segment is finished. The row
-- of no equipment counts the others.
CREATE TABLE place (
    equipment TEXT PRIMARY KEY,
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
