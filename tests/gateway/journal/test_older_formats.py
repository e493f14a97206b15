"""Damage in a segment of an older format costs the records it hit and no other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.gateway.journal.builders import START, batch, opened, transition
from tests.gateway.journal.damaging import write_legacy


async def test_what_lies_behind_a_damaged_record_is_read_page_by_page(tmp_path: Path) -> None:
    events, batches = [transition(n) for n in range(1, 21)], [batch(n) for n in range(1, 21)]
    write_legacy(tmp_path, events, batches, at=START, finished=True)
    with closing(sqlite3.connect(tmp_path / "journal-00000001-1-1.db")) as db, db:
        db.execute("UPDATE event SET body = x'00' WHERE seq IN (3, 4, 5, 6, 7, 12)")
        db.execute("UPDATE batch SET body = x'00' WHERE number IN (3, 4, 5, 6, 7, 12)")
    whole = [n for n in range(1, 22) if n not in (3, 4, 5, 6, 7, 12)]
    async with opened(tmp_path) as journal:
        await journal.append([transition(21)], [batch(21)])
        for page in (1, 2, 4, 5, 100):
            after, seqs = 0, list[int]()
            while found := await journal.read(after, page):
                seqs += [one.seq for one in found]
                after = seqs[-1]
            assert seqs == whole
            after, numbers = 0, list[int]()
            while read := await journal.read_batches(after, page):
                numbers += [number for number, _ in read]
                after = numbers[-1]
            assert numbers == whole
            moves = await journal.transitions("filler-1", after=0, from_=None, to=None, limit=page)
            assert [one.seq for one in moves] == whole[:page]
