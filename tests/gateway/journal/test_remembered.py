"""Events that are asked for again: from memory, within bounds, and never what could not be read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.journal.codec import Unreadable
from gateway.journal.remembered import Found, Remembered
from gateway.journal.rowwise import start
from statemodel.records import Recorded, tell
from tests.gateway.journal.builders import START, opened, transition


def event(seq: int) -> Recorded:
    return tell(transition(seq), gateway="line-1", stream="s", seq=seq, recorded_at=START)


class Disk:
    def __init__(self) -> None:
        self.asked: list[int] = []
        self.damaged: set[int] = set()

    def read(self, seq: int) -> Found:
        self.asked.append(seq)
        return (seq, Unreadable("a bit flipped")) if seq in self.damaged else event(seq)


def test_what_was_read_is_not_read_again() -> None:
    disk = Disk()
    remembered = Remembered(disk.read)
    assert [remembered.find(seq) for seq in (3, 4, 3)] == [event(3), event(4), event(3)]
    assert disk.asked == [3, 4]


def test_no_more_is_kept_than_there_is_room_for() -> None:
    disk = Disk()
    remembered = Remembered(disk.read, events_max=2)
    for seq in (1, 2, 3):
        remembered.find(seq)
    disk.asked.clear()
    assert remembered.find(2) == event(2)
    assert remembered.find(3) == event(3)
    assert disk.asked == []
    assert remembered.find(1) == event(1)
    assert disk.asked == [1]


def test_what_cannot_be_read_is_tried_again() -> None:
    disk = Disk()
    disk.damaged.add(5)
    remembered = Remembered(disk.read)
    found = remembered.find(5)
    assert isinstance(found, tuple)
    disk.damaged.clear()
    assert remembered.find(5) == event(5)


async def test_a_page_asked_for_again_looks_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as journal:
        for n in range(1, 31):
            await journal.append([transition(n)], [])
        page = await journal.transitions("filler-1", after=5, from_=None, to=None, limit=20)
        looked_up: list[int] = []

        def counted(db: object, kind: str, wanted: int) -> int:
            looked_up.append(wanted)
            return start(db, kind, wanted)  # type: ignore[arg-type]

        monkeypatch.setattr("gateway.journal.segment.start", counted)
        again = await journal.transitions("filler-1", after=5, from_=None, to=None, limit=20)
        assert list(again) == list(page)
        assert [item.seq for item in again] == list(range(6, 26))
        assert looked_up == []
        await journal.append([transition(31)], [])
        until = START + timedelta(seconds=40)
        newest = await journal.transitions("filler-1", after=25, from_=START, to=until, limit=20)
        assert [item.seq for item in newest] == list(range(26, 32))
