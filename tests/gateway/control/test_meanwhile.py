"""What comes between the acceptance of a command and its end: other rules, a caller who goes, a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from api.access import Principal, Role
from api.auditing import AuditEntry
from api.commanding import Approval, CommandRefused
from gateway.config.control import CommandsSettings
from gateway.control.desk import CommandDesk
from gateway.control.ledger import LedgerFailed
from tests.gateway.control.bench import ANNA, BERTA, TAG, Bench, FailingLedger, request, rules

CARL = Principal("carl", "user", frozenset((Role.OPERATOR,)))


def when_accepted(bench: Bench, act: Callable[[], object]) -> None:
    """Have something happen while the audit trail takes that a command is accepted."""
    record = bench.audit.record

    async def recorded(entry: AuditEntry) -> int:
        n = await record(entry)
        if entry.result == "accepted":
            act()
        return n

    bench.audit.record = recorded  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "other",
    [
        rules(rule_max=80.0),
        rules(rule_tag="plc/other"),
        rules(rule_via=["mqtt"]),
        rules(rule_roles=["engineer"]),
    ],
    ids=["limit", "gone", "way", "roles"],
)
async def test_what_is_not_allowed_any_more_is_not_sent(tmp_path: Path, other: CommandsSettings) -> None:
    bench = Bench(tmp_path)
    async with bench.open() as desk:
        when_accepted(bench, lambda: desk.follow(other))
        with pytest.raises(CommandRefused) as refused:
            await desk.submit(request(), ANNA, "rest")
        assert refused.value.code == "not_allowed"
    assert bench.machine.received == []


async def test_commands_that_only_try_from_now_on_send_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ledger_puts = 0

    class Turning(FailingLedger):
        async def put(self, entry: object) -> None:
            nonlocal ledger_puts
            ledger_puts += 1
            await super().put(entry)
            if ledger_puts == 2:  # it is about to be sent
                desk.follow(rules(dry_run=True))

    async with bench.open(lambda ledger: Turning(ledger, 100)) as desk:
        with pytest.raises(CommandRefused) as refused:
            await desk.submit(request(), ANNA, "rest")
        assert refused.value.code == "writes_off"
    assert bench.machine.received == []


async def test_the_same_rules_again_disturb_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.open() as desk:
        when_accepted(bench, lambda: desk.follow(rules(rate="50/1m")))
        assert (await desk.submit(request(), ANNA, "rest")).status == "verified"


def changed(bench: Bench, desk: CommandDesk, what: str) -> None:
    """Another configuration, which moves the tag or changes its rule."""
    if what == "tag":
        bench.machine.lies_at = "holding:2"
        desk.follow(rules(rule_second_person=True))
    else:
        desk.follow(rules(rule_second_person=True, rule_roles=["engineer"]))


@pytest.mark.parametrize("what", ["tag", "rule"])
async def test_what_waits_is_not_sent_to_what_is_configured_since(tmp_path: Path, what: str) -> None:
    bench = Bench(tmp_path, rules(rule_second_person=True))
    async with bench.open(runs=False) as desk:
        view = await desk.submit(request(), ANNA, "rest")
        changed(bench, desk, what)
        with pytest.raises(CommandRefused) as refused:
            await desk.approve(view.id, Approval(value=90.0), CARL)
        assert refused.value.code == "rule_changed"
        assert desk.waiting == 0
    assert bench.machine.received == []
    assert bench.audit.of(view.id) == ["accepted", "refused"]


@pytest.mark.parametrize("what", ["tag", "rule"])
async def test_what_waits_ends_when_its_rule_or_tag_changes(tmp_path: Path, what: str) -> None:
    bench = Bench(tmp_path, rules(rule_second_person=True))
    async with bench.open() as desk:
        view = await desk.submit(request(expires_s=600.0), ANNA, "rest")
        changed(bench, desk, what)
        await status_of(desk, view.id, "refused")
        found = await desk.find(view.id)
        assert found is not None
        assert found.code == "rule_changed"
    assert bench.machine.received == []
    assert bench.statuses(view.id) == ["accepted", "refused"]


async def test_what_waits_ends_when_its_tag_is_moved_while_the_gateway_is_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rules(rule_second_person=True))
    async with bench.open() as desk:
        view = await desk.submit(request(expires_s=600.0), ANNA, "rest")
    bench.machine.lies_at = "holding:2"
    async with bench.open() as desk:
        found = await desk.find(view.id)
        assert found is not None
        assert (found.status, found.code) == ("refused", "rule_changed")


async def test_a_tag_that_is_moved_right_before_the_write_is_not_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.open() as desk:
        when_accepted(bench, lambda: setattr(bench.machine, "lies_at", "holding:2"))
        with pytest.raises(CommandRefused) as refused:
            await desk.submit(request(), ANNA, "rest")
        assert refused.value.code == "rule_changed"
    assert bench.machine.received == []


async def test_a_second_person_who_goes_away_leaves_it_to_be_approved(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rules(rule_second_person=True))
    async with bench.open() as desk:
        view = await desk.submit(request(), ANNA, "rest")
        approving = asyncio.create_task(desk.approve(view.id, Approval(value=90.0), BERTA))
        await asyncio.sleep(0)
        approving.cancel()
        await asyncio.gather(approving, return_exceptions=True)
        assert desk.waiting == 1
        assert bench.machine.received == []
        assert (await desk.approve(view.id, Approval(value=90.0), BERTA)).status == "verified"


class HealingLedger(FailingLedger):
    """A ledger whose disk is full from the n-th write on, for some writes."""

    times = 2

    async def put(self, entry: object) -> None:
        self.puts += 1
        if self._at <= self.puts < self._at + self.times:
            raise LedgerFailed("no space left on device")
        await self._ledger.put(entry)  # type: ignore[arg-type]


async def status_of(desk: CommandDesk, id_: str, wanted: str) -> None:
    async with asyncio.timeout(45):
        while (view := await desk.find(id_)) is None or view.status != wanted:
            await asyncio.sleep(0.02)


async def test_an_end_the_ledger_did_not_take_is_kept_once_it_does(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.open(lambda ledger: HealingLedger(ledger, 3)) as desk:
        view = await desk.submit(request(), ANNA, "rest")
        assert view.status == "verified"
        await status_of(desk, view.id, "verified")
        assert (await desk.submit(request(), ANNA, "rest")).status == "verified"
    async with bench.open() as desk:  # nor does the next process hold it for unknown
        assert (await desk.submit(request(), ANNA, "rest")).status == "verified"
    assert bench.machine.received == [(TAG, 90.0)]
    assert bench.audit.of(view.id) == ["accepted", "verified"]


async def test_what_was_refused_for_the_ledger_does_not_wait_for_approval_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rules(rule_second_person=True))

    class Full(HealingLedger):
        times = 3

    async with bench.open(lambda ledger: Full(ledger, 2)) as desk:
        view = await desk.submit(request(expires_s=600.0), ANNA, "rest")
        with pytest.raises(CommandRefused) as refused:
            await desk.approve(view.id, Approval(value=90.0), BERTA)
        assert refused.value.code == "ledger_unavailable"
        await status_of(desk, view.id, "refused")
    async with bench.open() as desk:
        with pytest.raises(CommandRefused) as refused:
            await desk.approve(view.id, Approval(value=90.0), BERTA)
        assert refused.value.code == "approval_not_needed"
    assert bench.machine.received == []


async def test_an_end_under_a_key_that_was_used_again_since_holds_nothing_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.open(lambda ledger: HealingLedger(ledger, 1), runs=False) as desk:
        bench.machine.state = "Execute"
        with pytest.raises(CommandRefused):
            await desk.submit(request(), ANNA, "rest")
        bench.machine.state = "Idle"
        assert (await desk.submit(request(), ANNA, "rest")).status == "verified"
        assert desk.ledger_trouble
        running = asyncio.create_task(desk.run())
        async with asyncio.timeout(45):
            while desk.ledger_trouble:
                await asyncio.sleep(0.02)
        running.cancel()
        assert (await desk.submit(request(), ANNA, "rest")).status == "verified"
    assert len(bench.machine.received) == 1
