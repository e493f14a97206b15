"""The gateway dies between any two steps: a command is sent at most once, its end is told, and never made up.

First with a desk that dies at a chosen step, then a whole gateway process with SIGKILL, over Modbus, against
a device that counts what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.commanding import Approval, CommandRefused, CommandView
from gateway.control.desk import CommandDesk
from gateway.control.ledger import Ledger
from tests.gateway.control.bench import ANNA, BERTA, Bench, Killed, request, rules


class Death:
    """Counts the steps of a command wherever it leaves the desk, and dies at one of them: before it is done,
    or after. Nothing of this desk does anything any more from then on."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at, self.after, self.step, self.dead = at, after, 0, False
        self.names: list[str] = []

    async def at_step(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        if self.dead:
            raise Killed
        self.step += 1
        self.names.append(name)
        if self.step == self.at and not self.after:
            self.dead = True
            raise Killed
        done = await work()
        if self.step == self.at:
            self.dead = True
            raise Killed
        return done


class MortalLedger:
    """A ledger whose writes are steps."""

    def __init__(self, ledger: Ledger, death: Death) -> None:
        self._ledger, self._death = ledger, death

    async def put(self, entry: Any) -> None:
        await self._death.at_step(f"ledger {entry.stage}", lambda: self._ledger.put(entry))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


async def one_life(bench: Bench, death: Death, act: Callable[[CommandDesk], Awaitable[Any]]) -> Any:
    """A process that does something and dies at a step, if it comes that far; what it answered."""
    write, audit, record = bench.machine.write, bench.audit.record, bench.record

    async def mortal_write(*args: Any) -> Any:
        return await death.at_step("write", lambda: write(*args))

    async def mortal_audit(entry: Any) -> Any:
        return await death.at_step("audit", lambda: audit(entry))

    async def mortal_record(event: Any) -> Any:
        return await death.at_step("journal", lambda: record(event))

    bench.machine.write = mortal_write  # type: ignore[method-assign,assignment]
    bench.audit.record = mortal_audit  # type: ignore[method-assign]
    bench.record = mortal_record  # type: ignore[method-assign]
    try:
        async with bench.open(lambda ledger: MortalLedger(ledger, death), runs=False) as desk:
            return await act(desk)
    except (Killed, CommandRefused) as over:
        return over
    finally:
        bench.machine.write, bench.audit.record, bench.record = write, audit, record  # type: ignore[method-assign]


async def all_is_told(bench: Bench, id_: str) -> None:
    """Wait until the end of a command is told and closed."""
    async with asyncio.timeout(45):
        while True:
            results = [result for result in bench.audit.of(id_) if result != "accepted"]
            ends = [status for status in bench.statuses(id_) if status != "accepted"]
            if results and ends:
                return
            await asyncio.sleep(0.02)


def the_only_command(bench: Bench) -> list[str]:
    """Ids of all commands anybody was told of."""
    told = [event.command_id for event in bench.told]
    audited = [str(record.detail["id"]) for record in bench.audit.records if "id" in record.detail]
    return list(dict.fromkeys([*told, *audited]))


#: Steps of a command that is verified; `test_the_steps_are_these` names them.
STEPS = 9


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
async def test_dying_at_any_step_it_is_sent_once_at_most_and_told_as_it_was(
    tmp_path: Path, at: int, after: bool
) -> None:
    bench = Bench(tmp_path)
    death = Death(at, after=after)
    await one_life(bench, death, lambda desk: desk.submit(request(), ANNA, "rest"))
    assert death.dead, "it came that far"
    sent = len(bench.machine.received)
    async with bench.open() as desk:
        try:
            answer: CommandView | CommandRefused = await desk.submit(request(), ANNA, "rest")
        except CommandRefused as refused:
            answer = refused
        again = await _answered(desk)
        view = answer if isinstance(answer, CommandView) else answer.view
        assert view is not None
        assert again.id == view.id
        await all_is_told(bench, view.id)
    received = len(bench.machine.received)
    assert received <= 1, "never twice"
    if sent:
        assert view.status in ("unknown", "verified")
    known = death.names
    if "ledger sending" not in known or (known[-1] == "ledger sending" and not after):
        assert received == (1 if view.status == "verified" else 0)
    if view.status == "refused":
        assert received == 0
        assert view.code == "interrupted"
    results = [result for result in bench.audit.of(view.id) if result != "accepted"]
    assert results == [view.status.value], "closed once, as it was answered"


async def _answered(desk: CommandDesk) -> CommandView:
    try:
        return await desk.submit(request(), ANNA, "rest")
    except CommandRefused as refused:
        view = refused.view
    assert view is not None
    return view


def test_the_steps_are_these() -> None:
    async def life(folder: Path) -> list[str]:
        bench, death = Bench(folder), Death(0, after=False)
        await one_life(bench, death, lambda desk: desk.submit(request(), ANNA, "rest"))
        return death.names

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        names = asyncio.run(life(Path(folder)))
    assert names == [
        *("ledger going", "journal", "audit", "ledger sending", "write"),
        *("ledger done", "audit", "journal", "ledger done"),
    ]
    assert len(names) == STEPS


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lives=st.lists(st.tuples(st.integers(1, 14), st.booleans()), min_size=1, max_size=4))
def test_many_lives_and_a_second_person(tmp_path_factory: Any, lives: list[tuple[int, bool]]) -> None:
    """However often it dies while it is asked for and approved again and again: once at most."""

    async def story() -> None:
        bench = Bench(tmp_path_factory.mktemp("lives"), rules(rule_second_person=True))

        async def act(desk: CommandDesk) -> None:
            view = await desk.submit(request(), ANNA, "rest")
            if view.waits_for == "approval":
                await desk.approve(view.id, Approval(value=90.0), BERTA)

        for at, after in lives:
            await one_life(bench, Death(at, after=after), act)
        async with bench.open() as desk:
            view = await _answered(desk)
            if view.waits_for == "approval":
                view = await desk.approve(view.id, Approval(value=90.0), BERTA)
            await all_is_told(bench, view.id)
        assert len(bench.machine.received) <= 1
        assert (view.status == "verified") <= (len(bench.machine.received) == 1)
        ends = [result for result in bench.audit.of(view.id) if result != "accepted"]
        assert ends == [view.status.value]
        assert the_only_command(bench) == [view.id]

    asyncio.run(story())
