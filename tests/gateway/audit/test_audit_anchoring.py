"""Heads are told to the sequence when they have moved, and found again wherever they are held."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import anchoring as anchorings
from gateway.audit.anchoring import Anchoring
from gateway.audit.trail import AuditTrail
from gateway.clock import SystemClock
from gateway.errors import JournalFailed, SinkUnavailable
from gateway.journal.values import JournalPosition
from statemodel.records import Recorded, tell
from statemodel.types import AuditAnchor, SourceLost
from tests.gateway.audit.trails import AT, entry


class Log:
    """A journal in memory; takes nothing while it is `full`, and says so when it is `broken`."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.full = self.broken = False

    async def record(self, event: AuditAnchor | SourceLost) -> Recorded:
        if self.full:
            await asyncio.Event().wait()
        if self.broken:
            raise JournalFailed("the disk is gone")
        seq = len(self.events) + 1
        self.events.append(tell(event, gateway="g", stream="s", seq=seq, recorded_at=AT))
        return self.events[-1]

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        if self.broken:
            raise JournalFailed("the disk is gone")
        return [one for one in self.events if one.seq > after][:limit]

    @property
    def position(self) -> JournalPosition:
        return JournalPosition("s", 1, len(self.events), 1, 0)

    def anchors(self) -> list[int]:
        return [one.event.n for one in self.events if isinstance(one.event, AuditAnchor)]


@pytest.fixture
async def trail(tmp_path: Path) -> AuditTrail:
    trail = AuditTrail(tmp_path, gateway="g", clock=SystemClock())
    await trail.open()
    return trail


def anchoring_of(trail: AuditTrail, log: Log, stored: Any = None) -> Anchoring:
    return Anchoring(trail, record=log.record, journal=log, stored=stored, clock=SystemClock(), every_s=0.01)


async def test_only_a_head_that_has_moved_is_told(trail: AuditTrail) -> None:
    log = Log()
    anchoring = anchoring_of(trail, log)
    assert [await anchoring.anchor() for _ in range(3)] == [True, True, True]
    assert log.anchors() == [1]
    await trail.record(entry(0))
    await trail.record(entry(1))
    work = asyncio.create_task(anchoring.run())
    async with asyncio.timeout(60):
        while log.anchors() != [1, 3]:
            await asyncio.sleep(0.01)
        await trail.record(entry(2))
        while log.anchors() != [1, 3, 4]:
            await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await trail.close()


async def test_what_the_journal_does_not_take_is_told_later(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    anchoring = anchoring_of(trail, log)
    log.full = True
    with monkeypatch.context() as hasty:
        hasty.setattr(anchorings, "RECORD_S_MAX", 0.05)
        assert not await anchoring.anchor()
    log.full, log.broken = False, True
    assert not await anchoring.anchor()
    assert (anchoring.anchored_n, anchoring.anchored_at) == (-1, None)
    log.broken = False
    assert await anchoring.anchor()
    assert (log.anchors(), anchoring.anchored_n) == ([1], 1)
    await trail.close()


async def test_anchors_of_an_earlier_life_are_found_and_judged(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchorings, "_PAGE", 2)
    log = Log()
    before = anchoring_of(trail, log)
    for n in range(4):
        await log.record(SourceLost("plc", AT, "x"))
        await trail.record(entry(n))
        await before.anchor()
    rows: list[Mapping[str, Any]] = []

    async def stored() -> Sequence[Mapping[str, Any]]:
        return rows

    after = anchoring_of(trail, log, stored)
    trail.anchors = after.gathered
    verdict = await trail.verify()
    assert (verdict.sound, verdict.anchors, verdict.anchored_n) == (True, 4, 5)
    head = trail.head()
    rows.append({"n": 9, "hash": "ab" * 32, "signature": "", "key": head.key, "at": None})
    verdict = await trail.verify()
    assert [(fault.kind, fault.place) for fault in verdict.faults] == [("truncated", "the database")]
    await trail.close()


async def test_a_place_that_does_not_answer_is_said_and_is_no_fault(trail: AuditTrail) -> None:
    async def stored() -> Sequence[Mapping[str, Any]]:
        raise SinkUnavailable("it is restarted")

    log = Log()
    trail.anchors = anchoring_of(trail, log, stored).gathered
    log.events, log.broken = [], True
    verdict = await trail.verify()
    assert verdict.sound
    assert verdict.remarks == (
        "the journal was not asked for anchors: the disk is gone",
        "the database was not asked for anchors: it is restarted",
    )
    await trail.close()
