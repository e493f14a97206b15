"""A change that a kill left open is closed by the next start, by what runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.auditing import AuditEntry, AuditRecord, Scalar
from gateway.audit.trail import AuditTrail
from gateway.changing import admitting
from gateway.changing.admitting import close_begun
from gateway.clock import SystemClock


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[AuditTrail]:
    """A trail in a folder."""
    trail = AuditTrail(tmp_path, gateway="g", clock=SystemClock())
    await trail.open()
    yield trail
    await trail.close()


def entry(result: str, action: str = "config.apply", hash_: str = "new") -> AuditEntry:
    detail: dict[str, Scalar] = {"hash": hash_, "revision": 7, "reason": "why not"}
    return AuditEntry(
        action=action,
        actor="anna",
        kind="user",
        via="rest",
        target="configuration",
        result=result,
        detail=detail,
        peer="10.0.0.7",
    )


async def of_changes(trail: AuditTrail) -> list[AuditRecord]:
    return list(await trail.read(action="config", limit=1000))


@pytest.mark.parametrize("action", ["config.apply", "config.rollback"])
@pytest.mark.parametrize(("running", "result"), [("new", "ok"), ("old", "failed")])
async def test_what_a_kill_left_open_is_closed_once(
    trail: AuditTrail, running: str, result: str, action: str
) -> None:
    n = await trail.record(entry("begun", action))
    await trail.record(entry("ok", "login"))
    await trail.record(entry("refused"))  # of a wish that came while it was under way
    for _ in range(2):
        await close_begun(trail, running)
    *_, closed = found = await of_changes(trail)
    assert len(found) == 3
    assert (closed.action, closed.actor, closed.via) == (action, "anna", "gateway")
    assert (closed.result, closed.code) == (result, "interrupted")
    assert (closed.detail["hash"], closed.detail["begun"]) == ("new", n)


@pytest.mark.parametrize("results", [[], ["refused"], ["begun", "ok"], ["begun", "failed"]])
async def test_what_is_closed_stays_as_it_is(trail: AuditTrail, results: list[str]) -> None:
    for result in results:
        await trail.record(entry(result))
    await close_begun(trail, "new")
    assert [record.result for record in await of_changes(trail)] == results


async def test_it_is_found_before_many_other_records(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitting, "_PAGE", 3)
    await trail.record(entry("begun"))
    for _ in range(10):
        await trail.record(entry("ok", "login"))
    await close_begun(trail, "new")
    assert [record.result for record in await of_changes(trail)] == ["begun", "ok"]
