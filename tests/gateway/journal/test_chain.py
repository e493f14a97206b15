"""What somebody changed in the files on purpose, checksums and all, is found and said where it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.journal.codec import Coder, Numbers, chained, checksum, seal
from gateway.journal.survey import look, verify
from tests.gateway.journal.builders import ManualClock, batch, fill, kept_house, opened, transition
from tests.gateway.journal.faults import segments

BREAKS = "it does not follow the commit before it: something was removed, exchanged or rewritten"
FOLLOWS = "it does not follow the segment before it: something was removed, exchanged or rewritten there"


async def three_segments(directory: Path) -> None:
    async with opened(directory) as journal:
        await fill(journal, 3)
        await journal.append([transition(98)], [batch(1)])


def problems(directory: Path) -> dict[int, list[tuple[int, int, str]]]:
    """What `andon journal verify` finds, by place of the file in the row."""
    return {
        place: [(d.seq, d.batch, d.reason) for d in verdict.damage]
        for place, verdict in enumerate(verify(directory))
        if verdict.damage
    }


def rewrite(db: sqlite3.Connection, number: int, *, digest: bool) -> None:
    """Exchange an event for an older one's text, with a right seal and, if asked, a right digest."""
    (dictionary,) = db.execute("SELECT body FROM dictionary WHERE copy = 1").fetchone()
    coder = Coder(dictionary)
    row = db.execute(
        "SELECT number, seq, event_count, batch, batch_count, crc, digest, events, samples FROM block "
        "WHERE number = ?",
        (number,),
    ).fetchone()
    numbers = Numbers.read(row)
    [told] = coder.unpack(number, numbers.seq, row[7])
    changed = told.replace(b'"code":6', b'"code":7')
    assert changed != told
    events = seal(number, numbers.seq, coder.pack_events([changed]))
    (before,) = db.execute("SELECT digest FROM block WHERE number = ?", (number - 1,)).fetchone()
    right = chained(before, numbers, events, row[8]) if digest else row[6]
    db.execute("UPDATE block SET events = ?, digest = ? WHERE number = ?", (events, right, number))


def exchange(db: sqlite3.Connection) -> None:
    """Swap what two commits hold."""
    one, other = (
        db.execute("SELECT events, samples, digest FROM block WHERE number = ?", (n,)).fetchone()
        for n in (4, 5)
    )
    for n, columns in ((4, other), (5, one)):
        db.execute("UPDATE block SET events = ?, samples = ?, digest = ? WHERE number = ?", (*columns, n))


TAMPERING: dict[str, tuple[Callable[[sqlite3.Connection], object], tuple[int, int, str]]] = {
    "rewritten": (lambda db: rewrite(db, 5, digest=False), (5, 0, BREAKS)),
    "rewritten with its digest": (lambda db: rewrite(db, 5, digest=True), (6, 0, BREAKS)),
    "removed": (
        lambda db: db.execute("DELETE FROM block WHERE number = 5"),
        (5, 0, "event 5 is missing before event 6"),
    ),
    "exchanged": (exchange, (4, 0, "its checksum is wrong")),
    "digest rewritten": (
        lambda db: db.execute("UPDATE block SET digest = zeroblob(16) WHERE number = 5"),
        (5, 0, BREAKS),
    ),
}


@pytest.mark.parametrize("how", TAMPERING)
async def test_what_was_changed_is_found_where_it_is(tmp_path: Path, how: str) -> None:
    await three_segments(tmp_path)
    assert problems(tmp_path) == {}
    change, told = TAMPERING[how]
    with closing(sqlite3.connect(segments(tmp_path)[0], isolation_level=None)) as db:
        change(db)

    found = problems(tmp_path)

    assert list(found) == [0]
    assert told in found[0]
    async with opened(tmp_path) as journal:
        assert told[:2] in [(damage.seq, damage.batch) for damage in await journal.verify()]


async def test_a_rewritten_last_commit_shows_in_the_segment_after_it(tmp_path: Path) -> None:
    await three_segments(tmp_path)
    with closing(sqlite3.connect(segments(tmp_path)[0], isolation_level=None)) as db:
        (last,) = db.execute("SELECT max(number) FROM block").fetchone()
        rewrite(db, last, digest=True)

    assert problems(tmp_path) == {1: [(0, 0, FOLLOWS)]}
    async with opened(tmp_path) as journal:
        assert not journal.stats().damaged, "only of the newest is it asked at start"
        assert [(d.path, d.reason) for d in await journal.verify()] == [(str(segments(tmp_path)[1]), FOLLOWS)]


async def test_a_newest_segment_that_does_not_follow_is_told_at_start_and_gone_on_with(
    tmp_path: Path,
) -> None:
    await three_segments(tmp_path)
    with closing(sqlite3.connect(segments(tmp_path)[1], isolation_level=None)) as db:
        (last,) = db.execute("SELECT max(number) FROM block").fetchone()
        rewrite(db, last, digest=True)
    stream = ""
    for _ in range(2):
        async with opened(tmp_path) as journal:
            assert stream in ("", journal.stream)
            stream = journal.stream
            told = [(damage.path, damage.reason) for damage in journal.stats().damaged]
            assert told == [(str(segments(tmp_path)[2]), FOLLOWS)]
            assert [(d.path, d.reason) for d in await journal.verify()] == told
            assert not journal.untold(), "what was exchanged is there"
            last_seq = journal.position.last_seq
            [recorded] = await journal.append([transition(99)])
            assert recorded.seq == last_seq + 1


async def test_a_segment_put_in_the_place_of_another_is_found(tmp_path: Path) -> None:
    """As from a copy of the same journal that went on by itself."""
    await three_segments(tmp_path)
    _, two, three = segments(tmp_path)
    two.unlink()
    found = problems(tmp_path)
    assert [reason for _, _, reason in found[1]] == ["a segment before this one is missing"]
    three.rename(tmp_path / three.name.replace("00000003", "00000002"))
    assert "it holds the segment" in problems(tmp_path)[1][0][2]


async def test_an_end_that_was_cut_off_is_found_by_the_note_of_the_newest(tmp_path: Path) -> None:
    await three_segments(tmp_path)
    newest = segments(tmp_path)[-1]
    with closing(sqlite3.connect(newest, isolation_level=None)) as db:
        db.execute("DELETE FROM block WHERE number = (SELECT max(number) FROM block)")
    [(place, [(_, _, reason)])] = problems(tmp_path).items()
    assert (place, "it was cut, or an older copy was put back" in reason) == (2, True)

    newest.unlink()
    assert problems(tmp_path) == {1: [(0, 0, "the newest segment, number 3, was removed behind it")]}


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("place", [1, 2])
async def test_what_a_segment_was_begun_with_is_compared_with_the_row_before(
    tmp_path: Path, place: int, right: bool
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1, "oven-1")])
        await fill(journal, 3)
        await journal.append([transition(98)], [batch(1)])
    assert problems(tmp_path) == {}
    with closing(sqlite3.connect(segments(tmp_path)[place], isolation_level=None)) as db:
        seq, body = db.execute("SELECT seq, body FROM carried WHERE equipment = 'oven-1'").fetchone()
        body = body.replace(b'"code":6', b'"code":7')
        crc = checksum(seq, body) if right else 0
        db.execute("UPDATE carried SET body = ?, crc = ? WHERE equipment = 'oven-1'", (body, crc))

    [(found, [(_, _, reason)])] = problems(tmp_path).items()

    wanted = "the transition of oven-1 that it was begun with is not the one before it"
    assert (found, reason) == (place, wanted if right else "its checksum is wrong")


async def test_what_a_gateway_frees_meanwhile_is_no_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await fill(journal, 5)
    verdicts = verify(tmp_path)
    found = [next(verdicts)]
    for path in segments(tmp_path)[:3]:
        path.unlink()
    found += verdicts
    assert [verdict.damage for verdict in found] == [(), (), ()]


async def test_a_segment_that_goes_from_the_middle_meanwhile_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await fill(journal, 4)
    verdicts = verify(tmp_path)
    found = [next(verdicts)]
    segments(tmp_path)[1].unlink()
    found += verdicts
    assert [len(verdict.damage) for verdict in found] == [0, 1, 0, 0]


async def test_the_digest_is_told_and_changes_with_every_commit(tmp_path: Path) -> None:
    clock = ManualClock()
    seen = set()
    async with opened(tmp_path, clock=clock) as journal:
        for n in range(1, 4):
            await journal.append([transition(n)], [batch(n)])
            await kept_house(journal, clock, lambda n=n: journal.stats().events == n)  # type: ignore[misc]
            anchor = journal.stats().anchor
            assert anchor is not None
            assert (anchor.seq, anchor.batch) == (n, n)
            seen.add(anchor.digest)
        survey = look(tmp_path)
        assert survey is not None
        assert survey.anchor == anchor
    assert len(seen) == 3
    async with opened(tmp_path) as journal:
        assert journal.stats().anchor == anchor
