"""The ledger: durable, one entry under one key, bounded, and closed to everybody else."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from api.commanding import CommandRefused
from gateway.control import ledger as ledger_module
from gateway.control.entries import begun
from gateway.control.ledger import Entry, LedgerFailed, SqliteLedger, Stage
from statemodel.types import CommandStatus
from tests.gateway.control.bench import ANNA, Bench, request, rules
from tests.support.manual_clock import START


def entry(n: int, stage: Stage = Stage.DONE, *, owes: bool = False, status: str = "verified") -> Entry:
    """The n-th command, one a second."""
    at = START + timedelta(seconds=n)
    made = begun(
        f"id-{n:05}",
        request(key=f"k-{n}"),
        ANNA,
        "rest",
        rules().allow[0],
        path="hall/m-1",
        at=at,
        expires_at=at + timedelta(seconds=10),
        stage=stage,
    )
    view = msgspec.structs.replace(made.view, status=CommandStatus(status))
    return msgspec.structs.replace(made, view=view, told=not owes, audited=not owes)


async def test_what_is_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "commands" / "ledger.sqlite"
    ledger = await SqliteLedger.open(path)
    first = entry(1, Stage.GOING, status="accepted")
    await ledger.put(first)
    await ledger.put(entry(2))
    await ledger.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = await SqliteLedger.open(path)
    assert await again.by_key("k-1") == first
    assert await again.by_id("id-00002") == entry(2)
    assert await again.by_id("id-00003") is None
    assert await again.unfinished() == [first]
    assert [e.view.id for e in (await again.page(0, 1))[0]] == ["id-00001"]
    found, last = await again.page((await again.page(0, 1))[1], 5)
    assert [e.view.id for e in found] == ["id-00002"]
    assert (await again.page(last, 5)) == ([], last)
    await again.close()


async def test_a_key_belongs_to_one_command(tmp_path: Path) -> None:
    ledger = await SqliteLedger.open(tmp_path / "l")
    await ledger.put(entry(1))
    other = msgspec.structs.replace(entry(2), view=msgspec.structs.replace(entry(2).view, key="k-1"))
    with pytest.raises(LedgerFailed):
        await ledger.put(other)
    assert (await ledger.by_key("k-1")) == entry(1)
    await ledger.close()


async def test_what_is_owed_and_what_is_old(tmp_path: Path) -> None:
    ledger = await SqliteLedger.open(tmp_path / "l")
    for n in range(10):
        await ledger.put(entry(n, owes=n % 2 == 0))
    await ledger.put(entry(10, Stage.WAITING, status="accepted"))
    assert [e.view.id for e in await ledger.owing(3)] == ["id-00000", "id-00002", "id-00004"]
    far = START + timedelta(hours=2)
    assert await ledger.trim(START) == 0
    assert await ledger.trim(far) == 5, "not what owes, nor what waits"
    assert await ledger.by_key("k-1") is None
    assert await ledger.by_key("k-2") is not None
    taken = await ledger.taken_since(START + timedelta(seconds=4))
    assert [at for _, at in taken] == [START + timedelta(seconds=n) for n in (4, 6, 8, 10)]
    await ledger.close()


async def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "ENTRIES_MAX", 6)
    ledger = await SqliteLedger.open(tmp_path / "l")
    for n in range(3):
        await ledger.put(entry(n))
    for n in range(3, 6):
        await ledger.put(entry(n, status="refused"))
    await ledger.put(entry(6, Stage.GOING, status="accepted"))  # refused ones make room
    assert await ledger.by_key("k-3") is None
    for n in range(7, 9):
        await ledger.put(entry(n, Stage.GOING, status="accepted"))
    with pytest.raises(LedgerFailed, match="kept"):
        await ledger.put(entry(9, Stage.GOING, status="accepted"))
    await ledger.put(entry(6))  # what is kept may end
    await ledger.close()


async def test_a_damaged_file_takes_no_command_and_keeps_nobody_from_starting(tmp_path: Path) -> None:
    async with Bench(tmp_path).open() as desk:
        await desk.submit(request(), ANNA, "rest")
    path = tmp_path / "ledger.sqlite"
    for file in (path, tmp_path / "ledger.sqlite-wal"):
        if file.exists():
            body = bytearray(file.read_bytes())
            body[20:] = b"x" * (len(body) - 20)
            file.write_bytes(bytes(body))
    with pytest.raises(LedgerFailed):
        await SqliteLedger.open(path)
    bench = Bench(tmp_path)
    ledger = SqliteLedger(path)
    desk = await _desk_over(bench, ledger)
    running = asyncio.create_task(desk.run())
    async with asyncio.timeout(45):
        while not desk.ledger_trouble:
            await asyncio.sleep(0.01)
    with pytest.raises(CommandRefused) as refused:
        await desk.submit(request(), ANNA, "rest")
    assert refused.value.code == "ledger_unavailable"
    assert bench.machine.received == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await desk.stop()
    await ledger.close()


async def test_after_its_end_it_fails_as_it_fails_otherwise(tmp_path: Path) -> None:
    ledger = await SqliteLedger.open(tmp_path / "l")
    await ledger.close()
    with pytest.raises(LedgerFailed, match="closed"):
        await ledger.by_key("k-1")


async def test_one_entry_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    ledger = await SqliteLedger.open(tmp_path / "l")
    for n in range(6):
        await ledger.put(entry(n, Stage.GOING if n < 3 else Stage.DONE, owes=n >= 3))
    with closing(sqlite3.connect(tmp_path / "l")) as db, db:
        db.execute("UPDATE command SET body = x'78' WHERE id IN ('id-00001', 'id-00003')")
    for _ in range(2):
        assert [e.view.id for e in await ledger.unfinished()] == ["id-00000", "id-00002"]
        assert [e.view.id for e in await ledger.owing(1)] == ["id-00004"]
    found, last = await ledger.page(1, 2)
    assert [e.view.id for e in found] == ["id-00002", "id-00004"]
    assert [e.view.id for e in (await ledger.page(last, 9))[0]] == ["id-00005"]
    assert len(await ledger.taken_since(START)) == 6, "those that cannot be read count in the rates too"
    assert set(ledger.unreadable) == {"id-00001", "id-00003"}
    with pytest.raises(LedgerFailed, match=r"id-00001 cannot be read.*look at the machine"):
        await ledger.by_key("k-1")
    await ledger.put(entry(1))
    assert set(ledger.unreadable) == {"id-00003"}
    await ledger.close()


async def test_an_entry_that_cannot_be_read_is_said_and_never_sent_again(tmp_path: Path) -> None:
    async with Bench(tmp_path).open() as desk:
        view = await desk.submit(request(), ANNA, "rest")
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE command SET owes = 1, body = ?", (b'{"fingerprint":"\xf0a"}',))
    bench = Bench(tmp_path)
    ledger = SqliteLedger(path)
    desk = await _desk_over(bench, ledger)
    running = asyncio.create_task(desk.run())
    async with asyncio.timeout(45):
        while not ledger.unreadable and not running.done():
            await asyncio.sleep(0.01)
    assert view.id in ledger.unreadable
    with pytest.raises(CommandRefused) as again:
        await desk.submit(request(), ANNA, "rest")
    assert again.value.code == "ledger_unavailable"
    assert bench.machine.received == []
    with pytest.raises(CommandRefused) as refused:
        await desk.find(view.id)
    assert refused.value.code == "ledger_unavailable"
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await desk.stop()
    await ledger.close()


async def _desk_over(bench: Bench, ledger: SqliteLedger):  # type: ignore[no-untyped-def]
    from gateway.control.desk import CommandDesk
    from gateway.control.tags import TagCarrier
    from tests.gateway.control.bench import FakePlant

    carrier = TagCarrier(bench.machine.write, bench.machine.readings, bench.clock)
    return CommandDesk(
        bench.settings,
        plant=FakePlant(bench.machine),
        ledger=ledger,
        audit=bench.audit,
        record=bench.record,
        carriers={"tag": carrier},
        clock=bench.clock,
    )


async def test_each_change_is_synced(tmp_path: Path) -> None:
    ledger = await SqliteLedger.open(tmp_path / "l")
    level = await ledger._do(lambda db: db.execute("PRAGMA synchronous").fetchone()[0])
    mode = await ledger._do(lambda db: db.execute("PRAGMA journal_mode").fetchone()[0])
    assert (level, mode) == (2, "wal")
    await ledger.put(entry(1))
    with sqlite3.connect(tmp_path / "l") as other:  # nothing waits in a transaction
        assert other.execute("SELECT count(*) FROM command").fetchone() == (1,)
    other.close()
    await ledger.close()


async def test_a_copy_is_of_one_instant_also_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ledger_module.PLACE
    assert not ledger_module.copy_ledger(tmp_path, tmp_path / "none")
    ledger = await SqliteLedger.open(path)
    for n in range(50):
        await ledger.put(entry(n))
    writing = asyncio.gather(*(ledger.put(entry(n)) for n in range(50, 150)))
    assert await asyncio.to_thread(ledger_module.copy_ledger, tmp_path, tmp_path / "copy")
    await writing
    await ledger.close()
    copy = await SqliteLedger.open(tmp_path / "copy")
    found, _ = await copy.page(0, 1000)
    assert found == [entry(n) for n in range(len(found))]
    assert len(found) >= 50
    await copy.close()
