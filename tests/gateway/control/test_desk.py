"""The desk: once under one key, on record everywhere before it is sent, read back, and honest about the rest.

The machine keeps its own ledger (`machine.received`); that is what "nothing on the wire" is held against.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from api.access import Principal, Role
from api.commanding import Approval, CommandRefused, CommandView, UnknownCommand, WantedArm
from gateway.control.under_way import COMMANDS_MAX, LINE_MAX
from statemodel.types import CommandStatus, Quality
from tests.gateway.control.bench import (
    ANNA,
    BERTA,
    PATIENCE_S,
    TAG,
    VIEWER,
    Bench,
    FailingLedger,
    request,
    rules,
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def until_owes_nothing(bench: Bench, id_: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(bench.audit.of(id_)) < 2 or len(bench.statuses(id_)) < 2:
            await asyncio.sleep(0.02)


class TestTheWayThrough:
    async def test_a_command_is_carried_out_read_back_told_and_audited(self, bench: Bench) -> None:
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
            assert (view.status, view.read, view.previous) == (CommandStatus.VERIFIED, 90.0, 50.0)
            assert bench.machine.received == [(TAG, 90.0)]
            assert bench.statuses(view.id) == ["accepted", "verified"]
            assert bench.audit.of(view.id) == ["accepted", "verified"]
            assert await desk.find(view.id) == view
            (listed,), _ = await desk.list(0, 10)
            assert listed == view
            assert desk.counts == {"verified": 1}

    async def test_the_same_key_gives_the_same_answer_and_writes_nothing(self, bench: Bench) -> None:
        async with bench.open() as desk:
            first = await desk.submit(request(), ANNA, "rest")
            bench.machine.state = "Execute"  # also when it would be refused now
            assert await desk.submit(request(), ANNA, "rest") == first
        async with bench.open() as desk:
            assert await desk.submit(request(), ANNA, "rest") == first
        assert len(bench.machine.received) == 1

    async def test_two_clients_with_one_key_at_once_are_one_execution(self, bench: Bench) -> None:
        async with bench.open() as desk:
            answers = await asyncio.gather(
                *(desk.submit(request(), ANNA, "rest") for _ in range(5)), return_exceptions=True
            )
            done = [one for one in answers if isinstance(one, CommandView)]
            assert len(done) == 1
            assert {a.code for a in answers if isinstance(a, CommandRefused)} == {"key_running"}
            assert await desk.submit(request(), ANNA, "rest") == done[0]
            assert len(bench.machine.received) == 1

    @pytest.mark.parametrize(
        ("second", "by"), [(request(91.0), ANNA), (request(90, dry_run=True), ANNA), (request(), BERTA)]
    )
    async def test_a_key_of_another_request_or_person_is_refused(
        self, bench: Bench, second: object, by: Principal
    ) -> None:
        async with bench.open() as desk:
            await desk.submit(request(), ANNA, "rest")
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(second, by, "rest")  # type: ignore[arg-type]
            assert refused.value.code == "key_reused"
            assert len(bench.machine.received) == 1

    async def test_a_second_request_under_a_key_spoils_nothing_whatever_else_is_wrong(
        self, bench: Bench
    ) -> None:
        async with bench.open() as desk:
            first = await desk.submit(request(), ANNA, "rest")
            for by, code in ((VIEWER, "role"), (BERTA, "key_reused")):
                with pytest.raises(CommandRefused) as refused:
                    await desk.submit(request(), by, "rest")
                assert (refused.value.code, refused.value.view) == (code, None)
            assert await desk.submit(request(), ANNA, "rest") == first
            assert not desk.ledger_trouble

    async def test_a_caller_who_goes_away_does_not_stop_it(self, bench: Bench) -> None:
        async with bench.open() as desk:
            waiting = asyncio.create_task(desk.submit(request(), ANNA, "rest"))
            await asyncio.sleep(0.01)
            waiting.cancel()
            view = None
            async with asyncio.timeout(PATIENCE_S):
                while view is None:
                    await asyncio.sleep(0.01)
                    with suppress(CommandRefused):
                        view = await desk.submit(request(), ANNA, "rest")
            assert view.status == "verified"
            assert len(bench.machine.received) == 1

    async def test_commands_for_one_tag_go_one_after_the_other_in_order(self, bench: Bench) -> None:
        inside, most = 0, 0

        async def slow() -> None:
            nonlocal inside, most
            inside, most = inside + 1, max(most, inside + 1)
            await asyncio.sleep(0.02)
            inside -= 1

        bench.machine.before = slow
        async with bench.open() as desk:
            values = [60.0, 70.0, 80.0, 90.0]
            await asyncio.gather(*(desk.submit(request(v, key=f"k{v}"), ANNA, "rest") for v in values))
        assert most == 1
        assert [value for _, value in bench.machine.received] == values

    async def test_only_so_many_wait(self, bench: Bench) -> None:
        go = asyncio.Event()

        async def stuck() -> None:
            await go.wait()

        bench.machine.before = stuck
        async with bench.open() as desk:
            first = [
                asyncio.create_task(desk.submit(request(50.0 + n, key=f"k{n}"), ANNA, "rest"))
                for n in range(LINE_MAX)
            ]
            async with asyncio.timeout(PATIENCE_S):
                while desk._under_way.no_room(TAG) is None:
                    await asyncio.sleep(0.01)
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(key="one more"), ANNA, "rest")
            assert (refused.value.code, refused.value.view) == ("busy", None)
            assert refused.value.retry_after_s
            go.set()
            await asyncio.gather(*first)
            assert COMMANDS_MAX > LINE_MAX


class TestWhatIsRefused:
    """Fault 64, line by line: refused with a code, nothing on the wire, one closed record."""

    @pytest.mark.parametrize(
        ("changed", "asked", "by", "via", "code"),
        [
            ({"enabled": False}, {}, ANNA, "rest", "writes_off"),
            ({}, {"tag": "plc/other"}, ANNA, "rest", "not_allowed"),
            ({}, {"tag": "", "equipment": "m-1", "command": "Start"}, ANNA, "rest", "not_allowed"),
            ({}, {}, ANNA, "mqtt", "not_allowed"),
            ({}, {}, VIEWER, "rest", "role"),
            ({"rule_roles": ["engineer"]}, {}, ANNA, "rest", "role"),
            ({}, {}, Principal("a", "user", frozenset((Role.OPERATOR,)), ("other",)), "rest", "not_allowed"),
            ({"rule_states": ["Held"]}, {}, ANNA, "rest", "state"),
            ({}, {"value": 120.5}, ANNA, "rest", "out_of_range"),
            ({}, {"value": -0.1}, ANNA, "rest", "out_of_range"),
            ({}, {"value": float("nan")}, ANNA, "rest", "wrong_value"),
            ({}, {"value": "fast"}, ANNA, "rest", "wrong_value"),
            ({}, {"value": True}, ANNA, "rest", "wrong_value"),
            ({}, {"value": 110.0}, ANNA, "rest", "step"),
            ({"rule_arm": True}, {}, ANNA, "rest", "not_armed"),
            ({"rule_arm": True}, {"arm": "guessed"}, ANNA, "rest", "arm_expired"),
            ({}, {"expires_s": 0.0}, ANNA, "rest", "expired"),
        ],
    )
    async def test_nothing_is_sent(
        self,
        tmp_path: Path,
        changed: dict[str, object],
        asked: dict[str, object],
        by: Principal,
        via: str,
        code: str,
    ) -> None:
        bench = Bench(tmp_path, rules(**changed))
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(**asked), by, via)  # type: ignore[arg-type]
            assert refused.value.code == code
            assert refused.value.reason
            assert refused.value.hint
            view = refused.value.view
            assert view is not None
            assert bench.audit.of(view.id) == [view.status.value]
            assert bench.statuses(view.id) == [view.status.value]
            with pytest.raises(CommandRefused) as again:
                await desk.submit(request(**asked), by, via)  # type: ignore[arg-type]
            assert again.value.code == code
            assert again.value.view is not None
            assert again.value.view.id == view.id, "one attempt, one answer"
        assert bench.machine.received == []

    async def test_a_state_that_is_not_known_allows_nothing(self, bench: Bench) -> None:
        bench.machine.state = "Unknown"
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert refused.value.code == "state_unknown"
            # The same key gives the same answer, whatever has become of the state.
            bench.machine.state = "Idle"
            with pytest.raises(CommandRefused) as again:
                await desk.submit(request(), ANNA, "rest")
            assert again.value.view == refused.value.view
        assert bench.machine.received == []

    async def test_a_step_needs_a_good_present_value(self, bench: Bench) -> None:
        bench.machine.show(Quality.UNCERTAIN)
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert refused.value.code == "value_unknown"

    async def test_rates_of_the_rule_and_of_the_gateway(self, tmp_path: Path) -> None:
        for number, settings in enumerate((rules(rule_rate="2/1m"), rules(rate="2/1m"))):
            bench = Bench(tmp_path / str(number), settings)
            async with bench.open() as desk:
                for n in range(2):
                    await desk.submit(request(key=f"k{n}"), ANNA, "rest")
                with pytest.raises(CommandRefused) as refused:
                    await desk.submit(request(key="k2"), ANNA, "rest")
                assert refused.value.code == "rate"
                assert 50 < (refused.value.retry_after_s or 0) <= 60
            async with bench.open() as desk:  # a restart is no way around
                with pytest.raises(CommandRefused):
                    await desk.submit(request(key="k2"), ANNA, "rest")
                bench.clock.shift_s += 61  # the key is still free: it was never taken
                assert (await desk.submit(request(key="k2"), ANNA, "rest")).status == "verified"
            assert len(bench.machine.received) == 3

    async def test_one_that_waited_too_long_in_its_line_is_not_sent(self, bench: Bench) -> None:
        go = asyncio.Event()

        async def stuck() -> None:
            await go.wait()

        bench.machine.before = stuck
        async with bench.open() as desk:
            first = asyncio.create_task(desk.submit(request(60.0), ANNA, "rest"))
            second = asyncio.create_task(desk.submit(request(70.0, key="k-2", expires_s=5.0), ANNA, "rest"))
            await asyncio.sleep(0.05)
            bench.clock.shift_s += 6
            go.set()
            with pytest.raises(CommandRefused) as refused:
                await second
            assert refused.value.code == "expired"
            assert refused.value.view is not None
            assert refused.value.view.status == "expired"
            await first
        assert bench.machine.received == [(TAG, 60.0)]

    async def test_what_changes_between_accepting_and_the_write_halts_it(self, bench: Bench) -> None:
        record = bench.record

        async def and_the_machine_starts(event):  # type: ignore[no-untyped-def]
            bench.machine.state = "Execute"
            return await record(event)

        bench.record = and_the_machine_starts  # type: ignore[method-assign]
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert refused.value.code == "state"
            assert refused.value.view is not None
            assert bench.audit.of(refused.value.view.id) == ["accepted", "refused"]
        assert bench.machine.received == []

    async def test_a_dry_run_does_all_but_write(self, tmp_path: Path) -> None:
        for number, (settings, asked) in enumerate(((rules(dry_run=True), False), (rules(), True))):
            bench = Bench(tmp_path / str(number), settings)
            async with bench.open() as desk:
                view = await desk.submit(request(dry_run=asked), ANNA, "rest")
                assert (view.status, view.code, view.dry_run) == ("written", "dry_run", True)
                assert view.sends == "plc/sp = 90.0"
                assert bench.audit.of(view.id) == ["accepted", "written"]
                assert bench.told[-1].dry_run
                with pytest.raises(CommandRefused):
                    await desk.submit(request(200.0, key="k-2", dry_run=asked), ANNA, "rest")
            assert bench.machine.received == []


class TestArming:
    async def arm(self, desk: object, by: Principal = ANNA, value: float = 90.0) -> str:
        armed = await desk.arm(WantedArm(tag=TAG, value=value), by, "rest")  # type: ignore[attr-defined]
        return str(armed.arm)

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        return Bench(tmp_path, rules(rule_arm=True))

    async def test_it_is_good_for_one_command(self, bench: Bench) -> None:
        async with bench.open() as desk:
            word = await self.arm(desk)
            assert (await desk.submit(request(arm=word), ANNA, "rest")).status == "verified"
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(key="k-2", arm=word), ANNA, "rest")
            assert refused.value.code == "arm_expired"
        assert len(bench.machine.received) == 1

    async def test_another_person_another_value_or_too_late(self, bench: Bench) -> None:
        async with bench.open() as desk:
            for key, by, value, shift_s, code in (
                ("a", BERTA, 90.0, 0, "arm_mismatch"),
                ("b", ANNA, 91.0, 0, "arm_mismatch"),
                ("c", ANNA, 90.0, 60, "arm_expired"),
            ):
                word = await self.arm(desk)
                bench.clock.shift_s += shift_s
                with pytest.raises(CommandRefused) as refused:
                    await desk.submit(request(value, key=key, arm=word), by, "rest")
                assert refused.value.code == code
        assert bench.machine.received == []

    async def test_what_would_be_refused_is_not_armed(self, bench: Bench) -> None:
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await self.arm(desk, value=500.0)
            assert refused.value.code == "out_of_range"
            with pytest.raises(CommandRefused):
                await self.arm(desk, by=VIEWER)
        assert [r.result for r in bench.audit.records if r.action == "command.arm"] == ["refused", "refused"]


class TestTheSecondPerson:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        return Bench(tmp_path, rules(rule_second_person=True))

    async def test_it_waits_and_is_carried_out_when_another_approves_the_same(self, bench: Bench) -> None:
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
            assert (view.status, view.waits_for) == ("accepted", "approval")
            assert bench.machine.received == []
            assert await desk.submit(request(), ANNA, "rest") == view
            done = await desk.approve(view.id, Approval(value=90.0), BERTA)
            assert (done.status, done.approved_by) == ("verified", "berta")
            assert (await desk.submit(request(), ANNA, "rest")).status == "verified"
            with pytest.raises(CommandRefused) as refused:
                await desk.approve(view.id, Approval(value=90.0), BERTA)
            assert refused.value.code == "approval_not_needed"
        assert bench.machine.received == [(TAG, 90.0)]
        assert bench.audit.of(view.id) == ["accepted", "verified"]
        approved, late = [r for r in bench.audit.records if r.action == "command.approve"]
        assert (approved.actor, approved.result, approved.detail["id"]) == ("berta", "ok", view.id)
        assert (late.actor, late.code, late.target) == ("berta", "approval_not_needed", TAG)
        assert (late.detail["id"], late.detail["value"]) == (view.id, 90.0)

    @pytest.mark.parametrize(
        ("by", "value", "code"),
        [
            (ANNA, 90.0, "approval_self"),
            (Principal("ANNA", "user", frozenset((Role.ENGINEER,))), 90.0, "approval_self"),
            (Principal("robot", "key", frozenset((Role.ENGINEER,))), 90.0, "approval_person"),
            (Principal("local", "local", frozenset(Role)), 90.0, "approval_person"),
            (VIEWER, 90.0, "role"),
            (Principal("b", "user", frozenset((Role.OPERATOR,)), ("other",)), 90.0, "area"),
            (BERTA, 91.0, "approval_value"),
            (BERTA, True, "approval_value"),
            (BERTA, None, "approval_value"),
        ],
    )
    async def test_who_and_what_will_not_do(
        self, bench: Bench, by: Principal, value: object, code: str
    ) -> None:
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
            with pytest.raises(CommandRefused) as refused:
                await desk.approve(view.id, Approval(value=value), by)  # type: ignore[arg-type]
            assert refused.value.code == code
            assert bench.machine.received == []
            assert (await desk.approve(view.id, Approval(value=90.0), BERTA)).status == "verified"

    async def test_who_made_a_key_does_not_approve_what_it_asks_for(self, bench: Bench) -> None:
        robot = Principal("robot", "key", frozenset((Role.OPERATOR,)), made_by="berta")
        async with bench.open() as desk:
            view = await desk.submit(request(), robot, "rest")
        async with bench.open() as desk:  # it is known after a restart too
            with pytest.raises(CommandRefused) as refused:
                await desk.approve(view.id, Approval(value=90.0), BERTA)
            assert refused.value.code == "approval_self"
            assert bench.machine.received == []
            assert (await desk.approve(view.id, Approval(value=90.0), ANNA)).status == "verified"

    async def test_two_approvals_at_once_are_one_execution(self, bench: Bench) -> None:
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
            word = Approval(value=90.0)
            answers = await asyncio.gather(
                *(desk.approve(view.id, word, BERTA) for _ in range(3)), return_exceptions=True
            )
            assert len([one for one in answers if isinstance(one, CommandView)]) == 1
        assert len(bench.machine.received) == 1

    async def test_too_late_is_expired_also_across_a_restart(self, bench: Bench) -> None:
        async with bench.open(runs=False) as desk:
            view = await desk.submit(request(), ANNA, "rest")
            bench.clock.shift_s += 61
            with pytest.raises(CommandRefused) as refused:
                await desk.approve(view.id, Approval(value=90.0), BERTA)
            assert refused.value.code == "approval_expired"
        async with bench.open() as desk:
            found = await desk.find(view.id)
            assert found is not None
            assert found.status == "expired"
            async with asyncio.timeout(PATIENCE_S):
                while bench.statuses(view.id) != ["accepted", "expired"]:
                    await asyncio.sleep(0.02)
        assert bench.machine.received == []

    async def test_it_waits_across_a_restart(self, bench: Bench) -> None:
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
        async with bench.open() as desk:
            assert (await desk.approve(view.id, Approval(value=90.0), BERTA)).status == "verified"

    async def test_the_state_is_judged_again_when_it_is_approved(self, bench: Bench) -> None:
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
            bench.machine.state = "Execute"
            with pytest.raises(CommandRefused) as refused:
                await desk.approve(view.id, Approval(value=90.0), BERTA)
            assert refused.value.code == "state"
        assert bench.machine.received == []

    async def test_an_unknown_one(self, bench: Bench) -> None:
        async with bench.open() as desk:
            with pytest.raises(UnknownCommand):
                await desk.approve("no such", Approval(value=90.0), BERTA, "10.0.0.9")
        (tried,) = bench.audit.records
        assert (tried.action, tried.result, tried.code) == ("command.approve", "refused", "unknown_command")
        assert (tried.actor, tried.peer, tried.detail["id"]) == ("berta", "10.0.0.9", "no such")

    async def test_approvals_in_vain_do_not_fill_the_trail(self, bench: Bench) -> None:
        async with bench.open() as desk:
            for by, count in ((BERTA, 100), (ANNA, 1)):
                for _ in range(count):
                    with pytest.raises(UnknownCommand):
                        await desk.approve("no such", Approval(value=90.0), by)
            bench.clock.shift_s += 61
            with pytest.raises(UnknownCommand):
                await desk.approve("no such", Approval(value=90.0), BERTA)
        assert [r.actor for r in bench.audit.records] == ["berta"] * 30 + ["anna", "berta"]


class TestWithoutATrace:
    """Fault 66: nothing is commanded without a trace, and what has happened is told when it can be."""

    async def test_no_audit_trail_no_command(self, bench: Bench) -> None:
        bench.audit.reason = "no space left on device"
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert (refused.value.code, refused.value.view) == ("audit_unavailable", None)
            assert bench.machine.received == []
            bench.audit.reason = ""
            assert (await desk.submit(request(), ANNA, "rest")).status == "verified"

    async def test_a_trail_that_fails_when_it_is_opened(self, bench: Bench) -> None:
        bench.audit.fail_at = 0
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert refused.value.code == "audit_unavailable"
        assert bench.machine.received == []

    @pytest.mark.parametrize("denies", [False, True])
    async def test_a_trail_that_fails_when_it_is_closed_is_closed_later_once(
        self, bench: Bench, denies: bool
    ) -> None:
        bench.audit.fail_at, bench.audit.denies = 1, denies
        async with bench.open() as desk:
            view = await desk.submit(request(), ANNA, "rest")
            assert view.status == "verified"
            await until_owes_nothing(bench, view.id)
            await asyncio.sleep(1.2)  # one more round of what is owed
            assert bench.audit.of(view.id) == ["accepted", "verified"]

    async def test_no_journal_no_command(self, bench: Bench) -> None:
        bench.journal_reason = "the journal is full"
        async with bench.open() as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert refused.value.code == "journal_unavailable"
            assert bench.machine.received == []
            bench.journal_reason = ""

    @pytest.mark.parametrize("at", [1, 2])
    async def test_no_ledger_no_command(self, bench: Bench, at: int) -> None:
        async with bench.open(lambda ledger: FailingLedger(ledger, at), runs=False) as desk:
            with pytest.raises(CommandRefused) as refused:
                await desk.submit(request(), ANNA, "rest")
            assert refused.value.code == "ledger_unavailable"
        assert bench.machine.received == []

    async def test_a_ledger_that_fails_at_the_end_changes_no_answer(self, bench: Bench) -> None:
        async with bench.open(lambda ledger: FailingLedger(ledger, 3), runs=False) as desk:
            view = await desk.submit(request(), ANNA, "rest")
            assert view.status == "verified"
            assert desk.ledger_trouble
        async with bench.open() as desk:  # it does not know how it ended, and says so
            found = await desk.find(view.id)
            assert found is not None
            assert found.status == "unknown"
            assert (await desk.submit(request(), ANNA, "rest")).status == "unknown"
        assert len(bench.machine.received) == 1
