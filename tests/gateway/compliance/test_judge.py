"""Rules judged over what a gateway can be asked: whole downtimes, evidence that is away, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from api.access import Access, KeyView, Role, UserView
from api.auditing import Audit, AuditEntry, AuditHead, AuditRecord, AuditUnavailable
from api.ports import History, HistoryUnavailable, Interval
from gateway.compliance.judge import EVERY_S, ComplianceJudge, Evidence
from gateway.config.compliance import ComplianceSettings
from gateway.config.schema import EquipmentSettings
from statemodel.records import EquipmentState, Recorded
from tests.support.manual_clock import ManualClock

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Past:
    """A history of one state after the other: minutes before now, and the state from then on."""

    def __init__(self, *states: tuple[float, str], away: str = "") -> None:
        self.states = [(NOW - minutes * MINUTE, state) for minutes, state in states]
        self.away = away

    def _check(self) -> None:
        if self.away:
            raise HistoryUnavailable(self.away)

    async def timeline(
        self, equipment: str, from_: datetime, to: datetime, limit: int, known_at: datetime | None = None
    ) -> Sequence[Interval]:
        self._check()
        found = []
        ends = [at for at, _ in self.states[1:]] + [to]
        for number, ((at, state), end) in enumerate(zip(self.states, ends, strict=True), 1):
            begin, cut = max(at, from_), min(end, to)
            if begin < cut:
                category = "unscheduled-down" if state == "Aborted" else None
                found.append(Interval(state, None, category, begin, cut, 0.0, number))
        return found[:limit]

    async def state_at(
        self, equipment: str, at: datetime, known_at: datetime | None = None
    ) -> EquipmentState | None:
        before = [(since, state) for since, state in self.states if since <= at]
        if not before:
            return None
        since, state = before[-1]
        return EquipmentState(equipment, "", "", state, None, None, since, 1, 1, None)

    async def corrections(
        self, equipment: str, from_: datetime, to: datetime, known_at: datetime | None = None
    ) -> Sequence[Recorded]:
        return []

    async def transitions(self, equipment: str, **_: Any) -> Sequence[Recorded]:
        self._check()
        return []


class Trail:
    """An audit trail of these records."""

    def __init__(self, *records: AuditRecord, away: str = "") -> None:
        self.records, self.away = records, away

    async def read(self, *, after: int, limit: int, action: str, **_: Any) -> Sequence[AuditRecord]:
        if self.away:
            raise AuditUnavailable(self.away)
        found = [one for one in self.records if one.n > after and one.action.startswith(action)]
        return found[:limit]

    def head(self) -> AuditHead:
        return AuditHead(len(self.records), "", NOW - 60 * MINUTE, "", "")


class People:
    """Users and keys."""

    async def users(self) -> Sequence[UserView]:
        made = NOW - timedelta(days=200)
        return [
            UserView(name, (Role.OPERATOR,), None, name == "gone", False, made, "1")
            for name in ("ada", "ben", "gone")
        ]

    async def keys(self) -> Sequence[KeyView]:
        def key(name: str, days: int, used: int | None) -> KeyView:
            last = None if used is None else NOW - timedelta(days=used)
            return KeyView("id", name, (), None, NOW - timedelta(days=days), "ada", None, last, "1")

        return [key("never", 100, None), key("daily", 300, 0), key("fresh", 2, None)]


def record(n: int, days: float, **told: Any) -> AuditRecord:
    entry = msgspec.structs.asdict(
        AuditEntry(
            **{
                "action": "user.password",
                "actor": "ada",
                "kind": "user",
                "via": "rest",
                "target": "ada",
                "result": "ok",
                **told,
            }
        )
    )
    return AuditRecord(n=n, previous="", at=NOW - timedelta(days=days), hash="", **entry)


def judge(
    *settings: dict[str, Any],
    past: Past | None = None,
    trail: Trail | None = None,
    access: People | None = None,
    anchored: int = 0,
) -> tuple[ComplianceJudge, ManualClock]:
    clock = ManualClock(NOW)
    equipment = [
        EquipmentSettings(name=name, path=path, model="packml", state="p/s")
        for name, path in (("filler-1", "filling/line-1/filler-1"), ("oven-1", "baking/oven-1"))
    ]
    evidence = Evidence(
        cast(History, past or Past((600, "Execute"))),
        cast(Audit, trail or Trail()),
        lambda: cast("Access | None", access),
        lambda: (anchored, NOW - 120 * MINUTE),
    )
    rules = [ComplianceSettings.model_validate({"name": f"r{n}", **one}) for n, one in enumerate(settings)]
    return ComplianceJudge(rules, equipment, evidence, clock), clock


REASON = {"kind": "reason_within", "equipment": "filler-1"}


async def test_a_downtime_is_seen_whole_and_keeps_its_id_wherever_the_range_cuts_it() -> None:
    past = Past((3000, "Execute"), (2000, "Aborted"), (100, "Execute"))
    judged, _ = judge(REASON, past=past)
    ids, begins = set(), set()
    for begin, end in ((2500, 0), (1900, 0), (500, 400), (200, 101), (2001, 1990)):
        found = await judged.violations(NOW - begin * MINUTE, NOW - end * MINUTE)
        ids |= {one.id for one in found.items}
        begins |= {one.from_ for one in found.items}
        assert len(found.items) == 1, (begin, end)
    assert len(ids) == 1
    assert begins == {NOW - 2000 * MINUTE}
    assert (await judged.violations(NOW - 90 * MINUTE, NOW)).items == []
    assert (await judged.violations(NOW - 2900 * MINUTE, NOW - 2100 * MINUTE)).items == []


async def test_a_range_may_begin_with_the_first_instant_there_is() -> None:
    begin = datetime.min.replace(tzinfo=UTC)
    of, _ = judge(REASON, {"kind": "unknown_at_most", "equipment": "filler-1", "share": 0.1, "per": "8h"})
    found = await of.violations(begin, begin + timedelta(hours=1))
    assert not found.items
    assert not found.incomplete


async def test_one_that_lasts_has_no_end() -> None:
    judged, _ = judge(REASON, past=Past((600, "Execute"), (100, "Aborted")))
    [found] = (await judged.violations(NOW - 60 * MINUTE, NOW)).items
    assert (found.from_, found.to) == (NOW - 100 * MINUTE, None)


async def test_an_area_is_cut_at_levels() -> None:
    past = Past((600, "Execute"), (100, "Aborted"))
    for area, names in (
        ("filling", ["filler-1"]),
        ("filling/line-1", ["filler-1"]),
        ("fill", []),
        (None, ["filler-1", "oven-1"]),
    ):
        judged, _ = judge({"kind": "reason_within", **({"area": area} if area else {})}, past=past)
        found = (await judged.violations(NOW - 60 * MINUTE, NOW)).items
        assert sorted(one.equipment for one in found) == names


async def test_a_rule_without_evidence_is_neither_kept_nor_violated() -> None:
    judged, _ = judge(
        REASON,
        {"kind": "illegal_moves"},
        {"kind": "command_verified"},
        {"kind": "stale_keys"},
        past=Past((600, "Execute"), away="it is restarted"),
        trail=Trail(away="the disk is full"),
    )
    views = await judged.rules()
    assert {view.state for view in views} == {"unknown"}
    assert [view.reason for view in views] == [
        "the database does not answer: it is restarted",
        "the database does not answer: it is restarted",
        "the audit trail is not available: the disk is full",
        "there are no users and keys without [api]",
    ]
    found = await judged.violations(NOW - MINUTE, NOW)
    assert len(found.incomplete) == 4
    part = judged.part_of_health()
    assert part is not None
    assert part["ok"] is True
    assert part["reason"] == "not judged: r0, r1, r2, r3"


async def test_passwords_are_as_old_as_the_trail_says() -> None:
    trail = Trail(
        record(1, 150, action="user.add", target="ada"),
        record(2, 150, action="user.add", target="ben"),
        record(3, 10, action="user.change", target="ben"),
        record(4, 10, action="user.password", target="ada", result="refused"),
        record(5, 20, action="user.change", target="ada", detail={"new_password": True}),
    )
    judged, _ = judge({"kind": "password_age"}, trail=trail, access=People())
    [found] = (await judged.violations(NOW - timedelta(days=1), NOW)).items
    assert 'of "ben"' in found.reason
    judged, _ = judge({"kind": "stale_keys"}, access=People())
    [found] = (await judged.violations(NOW - timedelta(days=1), NOW)).items
    assert '"never"' in found.reason


async def test_a_trail_that_is_longer_than_a_page_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.compliance.judge._PAGE", 3)
    records = [record(n, 0.1, action="command", target="t", result="unknown") for n in range(1, 11)]
    judged, _ = judge({"kind": "command_verified"}, trail=Trail(*records))
    assert len((await judged.violations(NOW - timedelta(days=1), NOW)).items) == 10
    monkeypatch.setattr("gateway.compliance.judge._PAGES_MAX", 2)
    [sentence] = (await judged.violations(NOW - timedelta(days=1), NOW)).incomplete
    assert "more than 6 such records" in sentence


async def test_they_are_judged_by_the_clock_and_told_to_health_and_metrics() -> None:
    judged, clock = judge(REASON, {"kind": "illegal_moves"}, past=Past((600, "Execute"), (100, "Aborted")))
    work = asyncio.create_task(judged.run())
    try:
        assert judged.counts() == {}
        async with asyncio.timeout(60):
            while not judged.views:
                clock.advance(EVERY_S)
                await asyncio.sleep(0.001)
        assert judged.counts() == {"r0": 1, "r1": 0}
        part = judged.part_of_health()
        assert part is not None
        assert (part["reason"], part["violations"]) == ("violated within a day: r0 (1)", 1)
        judged.follow((), ())
        assert (judged.counts(), judged.part_of_health()) == ({}, None)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_failure_nobody_foresaw_is_counted_and_said_and_the_others_are_judged() -> None:
    class Odd(Trail):
        async def read(self, **asked: Any) -> Any:
            raise KeyError("n")

    judged, clock = judge(REASON, {"kind": "command_verified"}, trail=Odd())
    task = asyncio.create_task(judged.run())
    async with asyncio.timeout(60):
        while judged.surprises < 3:
            assert not task.done()
            clock.advance(EVERY_S)
            await asyncio.sleep(0.001)
    assert [view.state for view in judged.views] == ["kept", "unknown"]
    assert judged.views[1].reason == "it cannot be judged, which is a fault of the program: KeyError: 'n'"
    health = judged.part_of_health()
    assert health is not None
    assert "not judged: r1" in str(health["reason"])
    assert (await judged.violations(NOW - 60 * MINUTE, NOW)).incomplete
    task.cancel()
