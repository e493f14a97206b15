"""Any order of commands, approvals, faults, restarts and time, against what a plant may rely on.

Whatever happens: nothing is written that the rule does not allow at that moment, nothing twice under one key,
an end never changes, and everything that was taken is closed in the audit trail exactly once.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.access import Principal
from api.commanding import Approval, CommandRefused, CommandView, UnknownCommand, WantedArm
from connectors.base import WriteOutcome
from gateway.control.desk import CommandDesk
from statemodel.types import CommandStatus, Quality, TagValue
from tests.gateway.control.bench import ANNA, BERTA, TAG, VIEWER, Bench, request, rules

KEYS = st.sampled_from([f"k-{n}" for n in range(8)])
VALUES = st.sampled_from([-1.0, 0.0, 30.0, 60.0, 90.0, 119.0, 121.0])
PEOPLE = st.sampled_from([ANNA, BERTA, VIEWER])
FINAL = frozenset(CommandStatus) - {CommandStatus.ACCEPTED}
READBACK = {"tag": "plc/shown", "within": "25ms"}


class AnyOrder(RuleBasedStateMachine):
    """One desk over many lives, and its plant."""

    @initialize(arm=st.booleans(), second=st.booleans(), rate=st.sampled_from([None, "3/1m"]))
    def begin(self, arm: bool, second: bool, rate: str | None) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        settings_ = rules(
            rule_arm=arm, rule_second_person=second, rule_rate=rate, rule_readback=READBACK, rate="40/1m"
        )
        self.bench = Bench(self.folder, settings_)
        self.words: list[str] = []
        self.finals: dict[str, CommandView] = {}
        self.keys: dict[str, str] = {}
        self.wrong: list[str] = []
        self.in_flight = False
        self._watch()
        self._open()

    def _watch(self) -> None:
        """Look over the shoulder of the device: what may arrive there, and when."""
        machine, write = self.bench.machine, self.bench.machine.write

        async def watched(equipment: str | None, tag: str, value: TagValue, source: str) -> Any:
            assert isinstance(value, int | float)
            if machine.state not in ("Idle", "Stopped"):
                self.wrong.append(f"written in {machine.state}")
            if not 0 <= value <= 120:
                self.wrong.append(f"{value} written")
            if abs(value - machine.value) > 50.0 + 1e-6:
                self.wrong.append(f"a step from {machine.value} to {value}")
            if self.in_flight:
                self.wrong.append("two at once")
            self.in_flight = True
            try:
                return await write(equipment, tag, value, source)
            finally:
                self.in_flight = False

        machine.write = watched  # type: ignore[method-assign]

    def _open(self) -> None:
        self.context: AbstractAsyncContextManager[CommandDesk] = self.bench.open(runs=False)
        self.desk = self.runner.run(self.context.__aenter__())

    def _heard(self, view: CommandView | None) -> None:
        if view is None or view.status not in FINAL:
            return
        before = self.finals.setdefault(view.id, view)
        assert before == view, "an end never changes"

    async def _asked(self, work: Any) -> None:
        try:
            answer = await work
        except CommandRefused as refused:
            answer = refused.view
        except UnknownCommand:
            answer = None
        if isinstance(answer, CommandView):
            known = self.keys.setdefault(answer.key, answer.id)
            assert known == answer.id, "one key, one command"
            self._heard(answer)

    @rule(key=KEYS, value=VALUES, by=PEOPLE, arm=st.booleans(), dry=st.booleans(), twice=st.booleans())
    def submit(self, key: str, value: float, by: Principal, arm: bool, dry: bool, twice: bool) -> None:
        word = self.words[-1] if arm and self.words else ""
        asked = request(value, key=key, arm=word, dry_run=dry)

        async def once_or_twice() -> None:
            times = 2 if twice else 1
            await asyncio.gather(*(self._asked(self.desk.submit(asked, by, "rest")) for _ in range(times)))

        self.runner.run(once_or_twice())

    @rule(value=VALUES, by=PEOPLE)
    def arm(self, value: float, by: Principal) -> None:
        async def arm() -> None:
            with suppress(CommandRefused):
                self.words.append((await self.desk.arm(WantedArm(tag=TAG, value=value), by, "rest")).arm)

        self.runner.run(arm())

    @precondition(lambda self: self.keys)
    @rule(value=VALUES, by=PEOPLE, data=st.data(), right=st.booleans())
    def approve(self, value: float, by: Principal, data: st.DataObject, right: bool) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.keys.values())))

        async def approve() -> None:
            view = await self.desk.find(id_)
            assert view is not None
            said = view.value if right else value
            await self._asked(self.desk.approve(id_, Approval(value=said), by))

        self.runner.run(approve())

    @rule(state=st.sampled_from(["Idle", "Stopped", "Execute", "Unknown"]))
    def machine_moves(self, state: str) -> None:
        self.bench.machine.state = state

    @rule(
        outcome=st.sampled_from(WriteOutcome),
        acts=st.booleans(),
        shows=st.booleans(),
        off_by=st.sampled_from([0.0, 0.0, 0.3, -3.0]),
    )
    def machine_misbehaves(self, outcome: WriteOutcome, acts: bool, shows: bool, off_by: float) -> None:
        machine = self.bench.machine
        machine.outcome, machine.acts, machine.shows, machine.off_by = outcome, acts, shows, off_by

    @rule(quality=st.sampled_from(Quality))
    def machine_is_read(self, quality: Quality) -> None:
        self.bench.machine.show(quality)

    @rule(reason=st.sampled_from(["", "the disk is full"]))
    def audit_comes_and_goes(self, reason: str) -> None:
        self.bench.audit.reason = reason

    @rule(seconds=st.sampled_from([1.0, 11.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.shift_s += seconds
        self.bench.machine.show()

    @rule()
    def restart(self) -> None:
        self.runner.run(self.context.__aexit__(None, None, None))
        self._open()

    @invariant()
    def nothing_forbidden_has_arrived(self) -> None:
        assert not getattr(self, "wrong", [])

    @invariant()
    def nothing_was_sent_twice(self) -> None:
        """Each write is that of one command that went to the device."""
        if not hasattr(self, "bench"):
            return
        may_have = [
            view
            for view in self.finals.values()
            if view.status in ("written", "verified", "mismatch", "unknown") or view.code == "device_refused"
        ]
        sent = Counter(value for _, value in self.bench.machine.received)
        could = Counter(view.value for view in may_have if not view.dry_run)
        assert sent == could

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            self.bench.audit.reason, self.bench.journal_reason = "", ""
            self.runner.run(self._closed_once())
            self.runner.run(self.context.__aexit__(None, None, None))
        finally:
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _closed_once(self) -> None:
        await self.desk._settling.make_good()
        await self.desk._settling.stop()
        views, _ = await self.desk.list(0, 1000)
        assert {view.id for view in views} == set(self.keys.values()) | {v.id for v in views}
        for view in views:
            ends = [result for result in self.bench.audit.of(view.id) if result != "accepted"]
            told = [status for status in self.bench.statuses(view.id) if status != "accepted"]
            wanted = [] if view.status is CommandStatus.ACCEPTED else [view.status.value]
            assert ends == wanted, view
            assert told == wanted, view
            if view.id in self.finals:
                assert self.finals[view.id].status == view.status


AnyOrder.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = AnyOrder.TestCase
