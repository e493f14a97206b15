"""The write-ahead log grows as far as it may before it is folded in, whatever the commits are like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal.reading import Carried, Origin, SegmentId
from gateway.journal.segment import FOLD_BYTES, Segment
from statemodel.records import tell
from tests.gateway.journal.builders import START, batch, transition

Write = Callable[[Segment, int], None]
NOTHING = Carried(last={}, alive={}, cursors={}, kept={})


def event(segment: Segment, n: int) -> None:
    recorded = tell(transition(n), gateway="line-1", stream="", seq=n, recorded_at=START)
    segment.write(segment.encode(n, [recorded], 1, ()), {}, {})


def event_and_mark(segment: Segment, n: int) -> None:
    recorded = tell(transition(n), gateway="line-1", stream="", seq=n, recorded_at=START)
    segment.write(segment.encode(n, [recorded], 1, ()), {"plc": START}, {})


def samples(segment: Segment, n: int) -> None:
    segment.write(segment.encode(1, (), n, [batch(n, 2_000)]), {}, {})


@pytest.mark.parametrize(("write", "commits"), [(event, 4_000), (event_and_mark, 4_000), (samples, 1_200)])
def test_the_log_is_folded_in_when_it_has_grown_by_what_it_may(
    tmp_path: Path, write: Write, commits: int
) -> None:
    origin = Origin(gateway="line-1", stream="", created_at=START)
    segment = Segment.begin(tmp_path, SegmentId(1, 1, 1), origin, NOTHING, None)
    segment._db.execute("PRAGMA synchronous = OFF")  # how much is written, not how safely
    for n in range(1, commits + 1):
        write(segment, n)
        segment.fold()
    assert 0.8 * FOLD_BYTES < segment.log_bytes() < 1.3 * FOLD_BYTES
    segment.close()
