"""Damage in the newest part: what is cut is told, what is certain goes on, and no number is used again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from connectors.base import Clock
from gateway.errors import JournalDamaged, JournalForeign
from gateway.journal import Cursor, anew, segment
from gateway.journal.segment import Carried, Origin, SegmentId
from tests.gateway.journal.builders import START, ManualClock, batch, fill, opened, transition
from tests.gateway.journal.damaging import spoil
from tests.gateway.journal.faults import (
    FAST,
    LONG,
    Truth,
    everything,
    put_down,
    segments,
    truth_of,
    write_some,
)

FLIPS = 10_000 if LONG else 500


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Path]:
    folder = (FAST or tmp_path) / f"andon-trial-{tmp_path.name}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def test_damaged_records_end_their_segment_and_the_numbers_go_on(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=10**9) as journal:
        for n in range(1, 51):
            await journal.append([transition(n)], (), {"plc": START})
        await journal.advance("database", Cursor(3, 0))
        truth = await truth_of(journal)
    [path] = segments(tmp_path)
    spoil(path, seq=7)
    for _ in range(2):  # and so it stays
        async with opened(tmp_path) as journal:
            assert journal.stream == truth.stream
            events, _ = await everything(journal)
            assert events.items() <= truth.events.items()
            assert 7 not in events
            assert 50 in events
            assert path.name in {Path(d.path).name for d in journal.stats().damaged}
            assert (await journal.last_transitions())["filler-1"].seq == 50
            assert await journal.alive() == {"plc": START}
            assert await journal.cursor("database") == Cursor(3, 0)
            assert journal.position.last_seq == 50
    async with opened(tmp_path) as journal:
        assert [r.seq for r in await journal.append([transition(51)])] == [51]
    assert len(segments(tmp_path)) == 2


async def gone_on_anew(directory: Path, truth: Truth, sequence: int | None) -> None:
    """The folder opens with a new stream; the old one is told, and lies aside."""
    async with opened(directory) as journal:
        assert journal.stream != truth.stream
        assert journal.position.last_seq == 0
        [told] = journal.stats().damaged
        assert f"set-aside/{truth.stream}" in told.reason
        last = await journal.last_transitions()
        assert {name: r.event.sequence for name, r in last.items()} == (  # type: ignore[union-attr]
            {} if sequence is None else {"filler-1": sequence}
        )
        assert await journal.cursor("database") == Cursor()
        assert [r.seq for r in await journal.append([transition(99)], [batch(1)])] == [1]
    async with opened(directory) as journal:
        assert journal.stats().damaged == ()
        assert [r.seq for r in await journal.read(0, 9)] == [1]
    note = msgspec.json.decode((directory / anew.SET_ASIDE / truth.stream / anew.NOTE).read_bytes())
    assert (note["gateway"], note["stream"]) == ("line-1", truth.stream)
    assert note["reason"]


@pytest.mark.parametrize("size", [0, 60, 3000, 12_000])
async def test_an_empty_or_cut_newest_segment_begins_a_new_stream(tmp_path: Path, size: int) -> None:
    truth, _ = await write_some(tmp_path, segments=2, then=5)
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:size])
    left = {p.name: p.read_bytes() for p in segments(tmp_path)}
    await gone_on_anew(tmp_path, truth, SegmentId.parse(path.name).first_seq - 1)  # type: ignore[union-attr]
    aside = tmp_path / anew.SET_ASIDE / truth.stream
    assert {p.name: p.read_bytes() for p in segments(aside)} == left, "it was to be moved unharmed"


@pytest.mark.parametrize("crashed", [False, True], ids=["stopped", "killed"])
async def test_a_removed_newest_segment_is_noticed_without_a_database(tmp_path: Path, crashed: bool) -> None:
    truth, folder = await write_some(
        tmp_path / "live", segments=3, then=5, crashed=tmp_path / "crashed" if crashed else None
    )
    path = segments(folder)[-1]
    path.unlink()
    await gone_on_anew(folder, truth, SegmentId.parse(path.name).first_seq - 1)  # type: ignore[union-attr]


async def test_all_segments_removed_is_noticed(tmp_path: Path) -> None:
    await write_some(tmp_path, segments=2, then=5)
    for path in segments(tmp_path):
        path.unlink()
    async with opened(tmp_path) as journal:
        assert "was removed" in journal.stats().damaged[0].reason


async def test_an_older_copy_of_the_newest_segment_is_noticed(tmp_path: Path) -> None:
    await write_some(tmp_path, segments=2, then=5)
    path = segments(tmp_path)[-1]
    older = path.read_bytes()
    async with opened(tmp_path) as journal:
        await journal.append([transition(80)], [batch(80)])
        truth = await truth_of(journal)
    path.write_bytes(older)
    async with opened(tmp_path) as journal:
        assert journal.stream != truth.stream
        assert "older copy" in journal.stats().damaged[0].reason


async def test_a_journal_without_a_note_opens(tmp_path: Path) -> None:
    truth, _ = await write_some(tmp_path, segments=2, then=3)
    for content in (None, b"", b"{}", b'{"stream":1}\nzz\n', b"\x00" * 50):
        (tmp_path / "head").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "head").write_bytes(content)
        async with opened(tmp_path) as journal:
            assert (journal.stream, await everything(journal)) == (
                truth.stream,
                (truth.events, truth.batches),
            )


async def test_damage_in_the_log_before_acknowledged_commits_begins_a_new_stream(tmp_path: Path) -> None:
    truth, folder = await write_some(tmp_path / "live", segments=2, then=9, crashed=tmp_path / "crashed")
    log = next(folder.glob("*-wal"))
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 1
    log.write_bytes(data)
    async with opened(folder) as journal:
        assert journal.stream != truth.stream
        assert "log is damaged" in journal.stats().damaged[0].reason
    assert (folder / anew.SET_ASIDE / truth.stream / log.name).read_bytes() == bytes(data)


async def test_what_is_of_another_gateway_is_refused_also_when_damaged(tmp_path: Path) -> None:
    await write_some(tmp_path, segments=2, then=5)
    segments(tmp_path)[-1].write_bytes(b"")
    before = {p.name: p.read_bytes() for p in segments(tmp_path)}
    with pytest.raises(JournalForeign, match="line-1"):
        async with opened(tmp_path, gateway="line-2"):
            pass
    assert {p.name: p.read_bytes() for p in segments(tmp_path)} == before


@pytest.mark.timeout(1800 if LONG else 400)
@pytest.mark.parametrize("state", ["closed", "killed"])
async def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, trial: Path, state: str) -> None:
    """Random flips anywhere: what is served is what was written, and what is not served is told."""
    truth, pristine = await write_some(
        tmp_path / "live", segments=3, then=12, crashed=tmp_path / "crashed" if state == "killed" else None
    )
    names = [p.name for p in pristine.iterdir() if p.name.startswith("journal-") and "-shm" not in p.name]
    whole = {name: (pristine / name).read_bytes() for name in sorted(names)}
    chance = random.Random(13)
    outcomes: dict[str, int] = {}
    for _ in range(FLIPS // 2):
        name = chance.choice(sorted(whole))
        data = bytearray(whole[name])
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        put_down(pristine, trial, {name: bytes(data)})
        try:
            outcome = await judged(trial, truth, whole | {name: bytes(data)}, name)
        except AssertionError as error:
            raise AssertionError(f"a bit of byte {at} of {name}: {error}") from error
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(state, outcomes)
    assert outcomes["no effect"] < FLIPS // 2
    assert {"told", "new stream"} <= outcomes.keys()


async def judged(folder: Path, truth: Truth, left: dict[str, bytes], hit: str) -> str:
    """Open a folder with one bit flipped, hold what it serves against the truth, say what came of it."""
    try:
        async with opened(folder) as journal:
            events, batches = await everything(journal)
            found = await journal.verify()
            stats = journal.stats()
            next_seq = journal.position.last_seq + 1
            [added] = await journal.append([transition(999)])
            assert added.seq == next_seq
            if journal.stream != truth.stream:
                assert stats.damaged
                assert events == {}
                aside = folder / anew.SET_ASIDE / truth.stream
                if aside.is_dir():  # else its files could not even say which stream they are of
                    assert {name: (aside / name).read_bytes() for name in left if (aside / name).exists()}
                return "new stream"
    except (JournalForeign, JournalDamaged):
        return "refused"
    assert events.items() <= truth.events.items(), "a wrong event was served"
    assert batches.items() <= truth.batches.items(), "a wrong batch was served"
    ids = [id_ for name in left if (id_ := SegmentId.parse(name)) is not None]
    for id_, following in zip(ids, [*ids[1:], None], strict=True):
        if not hit.startswith(id_.name):
            end = following.first_seq if following else truth.last_seq + 1
            assert all(seq in events for seq in range(id_.first_seq, end)), "what was sound is not served"
    if len(events) == len(truth.events) and len(batches) == len(truth.batches):
        return "told, all served" if stats.damaged or found else "no effect"
    if stats.damaged or found:
        assert next_seq > truth.last_seq, "a number is used again"
        return "told"
    assert stats.cut_bytes, "records are gone and nobody was told"
    assert next_seq >= truth.last_seq, "more than the last commit was cut"
    return "cut"


async def test_a_new_stream_begun_at_any_step_is_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between any two changes of names: the next start finds the old journal or the new one, whole."""
    truth, pristine = await write_some(tmp_path / "live", segments=3, then=5)

    class Killed(BaseException):
        pass

    def run(folder: Path, steps: int) -> bool:
        """Whether it came to its end within so many renames."""
        done = 0
        rename = Path.rename

        def counted(self: Path, target: Path) -> Path:
            nonlocal done
            if done == steps:
                raise Killed
            done += 1
            return rename(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", counted)
            try:
                anew.begin_anew(folder, gateway="line-1", clock=ManualClock(), reason="a trial")
            except Killed:
                return False
        return True

    streams = set()
    steps = 0
    ended = False
    while not ended:
        folder = tmp_path / f"trial-{steps}"
        shutil.copytree(pristine, folder)
        ended = run(folder, steps)
        async with opened(folder) as journal:
            fresh = journal.stream != truth.stream
            streams.add(fresh)
            last = await journal.last_transitions()
            assert last["filler-1"].seq == truth.last_seq
            events, _ = await everything(journal)
            assert events == ({} if fresh else truth.events)
            [added] = await journal.append([transition(999)])
            assert added.seq == (1 if fresh else truth.last_seq + 1)
        if fresh:
            aside = folder / anew.SET_ASIDE / truth.stream
            assert len(segments(aside)) == 3
            assert (aside / anew.NOTE).exists()
        assert not list(folder.glob("anew-*"))
        steps += 1
    assert streams == {False, True}
    assert steps > 6


async def test_begin_anew_carries_what_it_is_given(tmp_path: Path) -> None:
    truth, _ = await write_some(tmp_path, segments=2, then=5)
    async with opened(tmp_path) as journal:
        last = await journal.last_transitions()
    carried = Carried(last=last, alive={"plc": START}, cursors={"database": Cursor(9, 9)}, kept={"x": b"y"})
    clock: Clock = ManualClock()
    done = anew.begin_anew(tmp_path, gateway="line-1", clock=clock, reason="restored", carried=carried)
    again = anew.begin_anew(tmp_path, gateway="line-1", clock=clock, reason="and again")
    assert done.set_aside.name == truth.stream
    assert again.set_aside.name == done.stream
    async with opened(tmp_path) as journal:
        assert journal.stream == again.stream
        assert await journal.last_transitions() == last
        assert await journal.alive() == {"plc": START}
        assert await journal.cursor("database") == Cursor()
        assert await journal.kept("x") == b"y"


async def test_what_lasts_goes_over_into_a_new_stream_whatever_else_does(tmp_path: Path) -> None:
    await write_some(tmp_path, segments=2, then=5)
    async with opened(tmp_path) as journal:
        await journal.keep(f"{anew.LASTING}number", b"7")
        await journal.keep("tally", b"1")
    clock: Clock = ManualClock()
    anew.begin_anew(tmp_path, gateway="line-1", clock=clock, reason="restored", carried=Carried())
    async with opened(tmp_path) as journal:
        assert await journal.kept(f"{anew.LASTING}number") == b"7"
        assert await journal.kept("tally") is None


async def test_the_same_stream_set_aside_twice_is_kept_twice(tmp_path: Path) -> None:
    origin = Origin("line-1", "5ca1ab1e-0000-4000-8000-000000000001", START)
    names = []
    for _ in range(2):
        segment.create(tmp_path, SegmentId(7, 1, 1), origin, Carried())
        names.append(
            anew.begin_anew(tmp_path, gateway="line-1", clock=ManualClock(), reason="again").set_aside.name
        )
        for path in segments(tmp_path):
            path.unlink()
    assert names == [origin.stream, f"{origin.stream}-2"]


async def test_a_copy_put_beside_the_newest_is_still_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        await fill(journal, 2)
    one = segments(tmp_path)[0]
    shutil.copy(one, tmp_path / "journal-00000009-1-7.db")
    with pytest.raises(JournalDamaged, match="copy under another name"):
        async with opened(tmp_path):
            pass


@pytest.mark.parametrize("place", [0, -1], ids=["finished", "newest"])
async def test_a_schema_that_is_no_text_any_more_is_damage_like_any_other(tmp_path: Path, place: int) -> None:
    truth, _ = await write_some(tmp_path, segments=2, then=5)
    path = segments(tmp_path)[place]
    data = bytearray(path.read_bytes())
    at = data.index(b"CREATE TABLE segment") + len(b"CREATE TABLE ")
    data[at + 2] ^= 0x80
    path.write_bytes(data)
    async with opened(tmp_path) as journal:
        events, _ = await everything(journal)
        assert events.items() <= truth.events.items()
        assert journal.stats().damaged
