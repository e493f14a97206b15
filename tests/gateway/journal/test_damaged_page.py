"""A page of a finished segment that the disk spoiled takes what lay in it with it, and no more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.journal.codec import Coder
from gateway.journal.judge import Judge
from gateway.journal.survey import verify
from statemodel.types import SampleBatch
from tests.gateway.journal.builders import batch, opened, transition
from tests.gateway.journal.faults import everything, segments

PAGE = 4096
COMMITS = 200


async def written(directory: Path) -> tuple[dict[int, bytes], dict[int, SampleBatch]]:
    """A finished segment of some 200 commits, and what it holds."""
    async with opened(directory, segment_bytes=1_200_000, keep=timedelta(days=1)) as journal:
        n = 0
        while journal.stats().segments < 2:
            n += 1
            await journal.append([transition(n)], [batch(n, 60)])
        assert n > COMMITS * 0.8
        events, batches = await everything(journal)
        return events, batches


@pytest.mark.parametrize("part", [0.4, 0.5, 0.7, 0.9])
async def test_what_lies_in_sound_pages_is_read(tmp_path: Path, part: float) -> None:
    events, batches = await written(tmp_path)
    finished = segments(tmp_path)[0]
    data = bytearray(finished.read_bytes())
    at = int(len(data) * part) // PAGE * PAGE
    data[at : at + PAGE] = bytes(byte ^ 0xFF for byte in data[at : at + PAGE])
    finished.write_bytes(data)
    async with opened(tmp_path, segment_bytes=1_200_000, keep=timedelta(days=1)) as journal:
        left_events, left_batches = await everything(journal)
        told = [one for one in journal.stats().damaged if one.path == str(finished)]
    assert all(events[seq] == body for seq, body in left_events.items())
    assert all(batches[number] == body for number, body in left_batches.items())
    assert len(events) - len(left_events) <= len(events) * 0.1
    assert len(batches) - len(left_batches) <= len(batches) * 0.1
    lost_events, lost_batches = (
        sorted(set(events) - set(left_events)),
        sorted(set(batches) - set(left_batches)),
    )
    assert lost_events or lost_batches
    assert not lost_events or lost_events[0] in {one.seq for one in told}
    assert not lost_batches or lost_batches[0] in {one.batch for one in told}
    reasons = [damage.reason for verdict in verify(tmp_path) for damage in verdict.damage]
    assert reasons
    assert not any(word in reason for reason in reasons for word in ("batchs", "samples"))
    assert any(one.reason.startswith(("events ", "batches ")) for one in told)


def test_several_batches_are_called_batches() -> None:
    judge = Judge(Coder(b""), bytes(16), 1, 1)
    judge.end(0, 3)
    assert judge.found == [(0, 1, "batches 1 to 3 are missing")]
