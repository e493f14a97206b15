"""The trail of a running gateway: durable or refused, and back by itself."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.auditing import AuditUnavailable, ExportDiffers
from gateway.audit import trail as trails
from gateway.audit.store import Limits
from gateway.audit.trail import AuditTrail
from gateway.audit.verifying import verify
from gateway.clock import SystemClock
from tests.gateway.audit.trails import PATIENCE_S, entry


@asynccontextmanager
async def opened(
    data_dir: Path, *, limits: Limits | None = None, secrets: tuple[str, ...] = ()
) -> AsyncIterator[AuditTrail]:
    trail = AuditTrail(data_dir, gateway="line-1", clock=SystemClock(), limits=limits, secrets=secrets)
    await trail.open()
    work = asyncio.create_task(trail.run())
    try:
        yield trail
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await trail.close()


async def until_well(trail: AuditTrail) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while trail.available() is not None:
            await asyncio.sleep(0.02)


async def test_records_at_once_share_commits_and_get_numbers_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as trail:
        numbers = await asyncio.gather(*(trail.record(entry(n)) for n in range(300)))
        assert numbers == list(range(2, 302))
        found = await trail.read(action="command", limit=1_000)
        assert [record.detail["value"] for record in found] == list(range(300))
        assert trail.head().n == 301
        assert (await trail.verify()).sound
    assert verify(tmp_path / "audit").sound


async def test_reading_filters_and_pages(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(2_000, 10**9)) as trail:
        for n in range(20):
            await trail.record(
                entry(n, action=("login", "command", "command.approve")[n % 3], actor=f"p{n % 2}")
            )
        assert [r.n for r in await trail.read(after=5, limit=3)] == [6, 7, 8]
        assert {r.action for r in await trail.read(action="command", limit=99)} == {
            "command",
            "command.approve",
        }
        assert len(await trail.read(action="command", actor="p1", limit=99)) == 7
        assert await trail.read(action="comm", limit=99) == []
        [first, *_, last] = await trail.read(limit=99)
        assert [r.n for r in await trail.read(from_=last.at, limit=99)][-1] == last.n
        assert last.n not in [r.n for r in await trail.read(to=last.at, limit=99)]
        assert first.action == "audit.begin"


async def test_secrets_are_taken_out_wherever_they_stand(tmp_path: Path) -> None:
    async with opened(tmp_path, secrets=("hunter2-and-more", "x1")) as trail:
        token = "as_" + "k" * 40
        await trail.record(
            entry(
                actor="hunter2-and-more",
                target="postgresql://andon:pa55word@db/x",
                code="x1",
                detail={"why": f"said hunter2-and-more and {token}", "x1": "x1", "box1": "ax1b"},
            )
        )
        [record] = await trail.read(after=1)
    assert (record.actor, record.target, record.code) == ("***", "postgresql://andon:***@db/x", "***")
    assert record.detail == {"why": "said *** and ***", "***": "***", "box1": "ax1b"}
    everything = b"".join(path.read_bytes() for path in (tmp_path / "audit").glob("records-*"))
    assert not [one for one in (b"hunter2", b"pa55word", token.encode()) if one in everything]


@pytest.mark.parametrize("call", ["write", "fdatasync", "pwrite"])
async def test_a_disk_that_refuses_is_told_and_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(trails, "RETRY_S", 0.02)
    async with opened(tmp_path) as trail:
        assert await trail.record(entry(0)) == 2
        real = getattr(os, call)
        broken = True

        def refusing(fd: int, *rest: object) -> object:
            if broken and "audit" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, *rest)

        monkeypatch.setattr(os, call, refusing)
        with pytest.raises(AuditUnavailable, match="No space left"):
            await trail.record(entry(1))
        assert trail.available() == "No space left on device"
        assert "commands and changes are refused" in (trail.trouble() or "")
        assert [r.n for r in await trail.read(action="command")][:1] == [2], "reads go on"
        broken = False
        await until_well(trail)
        number = await trail.record(entry(2))
        resumed = [r for r in await trail.read() if r.action == "audit.resumed"]
        assert resumed[0].detail["refused"] == 1
        assert resumed[0].detail["reason"] == "No space left on device"
        values = [r.detail["value"] for r in await trail.read(action="command")]
        # After a failed head the record may be there though its caller was refused, but never twice.
        assert values == ([0, 1, 2] if call == "pwrite" and 1 in values else [0, 2])
        assert (await trail.read(after=number - 1))[0].detail["value"] == 2
    assert verify(tmp_path / "audit").sound


async def test_a_trail_that_cannot_be_opened_refuses_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "RETRY_S", 0.02)
    (tmp_path / "audit").write_text("somebody's file")
    async with opened(tmp_path) as trail:
        assert "exists" in (trail.available() or "")
        with pytest.raises(AuditUnavailable):
            await trail.record(entry(0))
        (tmp_path / "audit").unlink()
        await until_well(trail)
        assert await trail.record(entry(0)) > 1


async def test_a_harmed_trail_is_read_and_not_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as trail:
        await trail.record(entry(0))
    path = next((tmp_path / "audit").glob("records-*"))
    path.write_bytes(path.read_bytes().replace(b'"ada"', b'"eve"'))
    async with opened(tmp_path) as trail:
        with pytest.raises(AuditUnavailable, match="signed for"):
            await trail.record(entry(1))
        assert [r.actor for r in await trail.read(after=1)] == ["eve"]
        verdict = await trail.verify()
        assert not verdict.sound
        assert verdict.faults[0].kind == "changed"


async def test_it_verifies_itself_and_says_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "VERIFY_AFTER_S", 0.0)
    monkeypatch.setattr(trails, "VERIFY_EVERY_S", 0.02)
    async with opened(tmp_path) as trail:
        await trail.record(entry(0))
        work = asyncio.create_task(trail.keep_verifying())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while trail.verdict is None:
                    await asyncio.sleep(0.01)
                assert trail.trouble() is None
                path = next((tmp_path / "audit").glob("records-*"))
                path.write_bytes(path.read_bytes().replace(b'"ada"', b'"eve"'))
                while trail.trouble() is None:
                    await asyncio.sleep(0.01)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        assert "is not what was written: record 2" in (trail.trouble() or "")
        assert trail.available() is None, "what is found afterwards is for people to judge"


async def test_a_full_trail_refuses_all_but_the_way_out(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=Limits(2_000, 8_000)) as trail:
        refused = None
        for n in range(60):
            if trail.standing() and trail.standing().bytes > 7_000:  # type: ignore[union-attr]
                assert "when it is full" in (trail.trouble() or "") or trail.available()
            try:
                await trail.record(entry(n))
            except AuditUnavailable as error:
                refused = error.reason
                break
        assert "export and remove" in (refused or "")
        assert trail.available() == refused
        exported = await trail.record(entry(action="export"))
        last = exported - 1
        with pytest.raises(ExportDiffers):
            await trail.remove(last, "cd" * 32, entry(action="audit.removed"))
        lines = b"".join([part async for part in trail.export(0, last)])
        removed = await trail.remove(last, hashlib.sha256(lines).hexdigest(), entry(action="audit.removed"))
        assert 0 < removed <= last
        assert trail.available() is None
        await trail.record(entry(100))
        assert (await trail.verify()).sound


async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as trail:
        await trail.record(entry(0))
        release, _ = os.pipe(), None
        real = os.fdatasync
        hung = True

        def hanging(fd: int) -> None:
            if hung:
                os.read(release[0], 1)
            real(fd)

        monkeypatch.setattr(os, "fdatasync", hanging)
        with monkeypatch.context() as hasty:
            hasty.setattr(trails, "RECORD_S_MAX", 0.2)
            with pytest.raises(AuditUnavailable, match="has not taken a record"):
                await trail.record(entry(1))
            await asyncio.sleep(0.3)
            with pytest.raises(AuditUnavailable, match="does not answer"):  # nor is it waited for once more
                await trail.record(entry(2))
        hung = False
        os.write(release[1], b"1")
        await until_well(trail)
        await trail.record(entry(3))
        for fd in release:
            os.close(fd)
    assert verify(tmp_path / "audit").sound


async def test_a_disk_that_hangs_does_not_keep_a_gateway_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "RECORD_S_MAX", 0.2)
    release = os.pipe()
    trail = AuditTrail(tmp_path, gateway="line-1", clock=SystemClock())
    await trail.open()
    monkeypatch.setattr(os, "fdatasync", lambda _: os.read(release[0], 1))
    with pytest.raises(AuditUnavailable):
        await trail.record(entry(0))
    async with asyncio.timeout(PATIENCE_S):
        await trail.close()
    os.write(release[1], b"111")
    with pytest.raises(AuditUnavailable):
        await trail.record(entry(1))


async def test_what_waits_at_a_stop_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One group is at the disk and two more wait, when the gateway stops; nothing more is taken then."""
    monkeypatch.setattr(trails, "GROUP_MAX", 2)
    release = os.pipe()
    trail = AuditTrail(tmp_path, gateway="line-1", clock=SystemClock())
    await trail.open()
    with monkeypatch.context() as slow:
        slow.setattr(os, "fdatasync", lambda _: os.read(release[0], 1))
        told = [asyncio.create_task(trail.record(entry(n))) for n in range(6)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(trail.close())
        await asyncio.sleep(0)
        with pytest.raises(AuditUnavailable, match="the gateway stops"):
            await trail.record(entry(7))
        os.write(release[1], b"1111111111")
        async with asyncio.timeout(PATIENCE_S):
            await closing
    assert await asyncio.gather(*told) == [2, 3, 4, 5, 6, 7]
    async with opened(tmp_path) as again:
        assert again.head().n == 7


async def test_many_at_once_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "WAITING_MAX", 50)
    async with opened(tmp_path) as trail:
        told = await asyncio.gather(*(trail.record(entry(n)) for n in range(200)), return_exceptions=True)
        numbers = [one for one in told if isinstance(one, int)]
        assert 50 <= len(numbers) < 200
        assert all(isinstance(one, (int, AuditUnavailable)) for one in told)
        assert trail.refused == 200 - len(numbers)
        assert len(await trail.read(action="command", limit=1_000)) == len(numbers)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
async def test_on_a_disk_that_fills_up_nothing_acknowledged_is_lost(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "RETRY_S", 0.02)
    acknowledged = []
    async with opened(small_disk, limits=Limits(200_000, 10**9)) as trail:

        async def fill() -> None:
            for n in range(10_000):
                await trail.record(entry(n, detail={"value": n, "text": "x" * 700}))
                acknowledged.append(n)

        with pytest.raises(AuditUnavailable):
            await fill()
        assert trail.available()
        assert len(acknowledged) > 500
        await asyncio.to_thread(
            subprocess.run, ["mount", "-o", "remount,size=4m", str(small_disk)], check=True
        )
        await until_well(trail)
        await trail.record(entry(-1))
        values = [r.detail["value"] for r in await trail.read(action="command", limit=20_000)]
        assert values[: len(acknowledged)] == acknowledged
        assert values[-1] == -1
        assert len(values) <= len(acknowledged) + 2
    assert verify(small_disk / "audit").sound
