"""PackML commands by name: what is written in which order, when nothing is, and what is told afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from api.ports import StreamPosition, TagView
from connectors.base import WriteOutcome, Written
from gateway.config.control import AllowSettings
from gateway.control.carrying import Carried, Halt, Order
from gateway.control.moves import Way, way_of
from gateway.control.packml import PackmlCarrier
from gateway.control.readings import Readings
from gateway.errors import JournalFailed
from simulators.packml import COMPLETED, MOVES
from statemodel.engine import EquipmentSpec
from statemodel.packml import PACKML_2022
from statemodel.records import EquipmentState
from statemodel.types import (
    UNKNOWN,
    Cause,
    CommandStatus,
    Conformance,
    Quality,
    SampleBatch,
    TagSample,
    TagValue,
    Transition,
)
from tests.support.manual_clock import ManualClock

EQUIPMENT, COMMAND, REQUEST = "filler-1", "plc/cmd", "plc/request"
SPEC = EquipmentSpec(EQUIPMENT, "filling/filler-1", PACKML_2022, state="plc/state", mode="plc/mode")
CODES = {"Reset": 1, "Start": 2, "Stop": 3, "Hold": 4, "Clear": 9}
ACCEPTED, REFUSED, LOST = WriteOutcome.ACCEPTED, WriteOutcome.REFUSED, WriteOutcome.UNKNOWN
STEP_S = 0.01


class Machine:
    """A PackML machine, the wire to it, and what is known of it: `Sight`, `Write` and time in one."""

    def __init__(self, state: str = "Idle") -> None:
        self.clock = ManualClock()
        self.readings = Readings(self.clock, {COMMAND: "fast", REQUEST: "fast"})
        self._state = state
        self.moves: list[Transition] = []
        self.words: dict[str, TagValue] = {COMMAND: 0, REQUEST: False}
        self.mode: TagValue = 1
        self.wrote: list[tuple[str, TagValue]] = []
        self.commands: list[str] = []
        #: What becomes of each write to come: done, and what its sender hears. All done and heard when empty.
        self.fates: list[tuple[bool, WriteOutcome]] = []
        self.takes_back = self.obeys = True
        self.reads = True
        self.instead: dict[str, str] = {}
        self.between: Callable[[str], None] = lambda tag: None
        self._late: list[tuple[float, Callable[[], None]]] = []
        self.read()

    # What the machine does.

    def later(self, after_s: float, what: Callable[[], None]) -> None:
        self._late.append((self.clock.monotonic() + after_s, what))

    def go(self, state: str) -> None:
        before, self._state = self._state, state
        cause = Cause("code", (), "")
        self.moves.append(
            Transition(
                *(EQUIPMENT, SPEC.path, "packml", len(self.moves) + 1, before, state, None, None),
                *(self.clock.now(), 1.0, Conformance.LEGAL, (), cause),
            )
        )

    def taken(self) -> None:
        code = self.words[COMMAND]
        word = next((name for name, number in CODES.items() if number == code), f"command {code}")
        self.commands.append(word)
        if self.takes_back:
            self.later(0.2, lambda: self.words.update({REQUEST: False}))
        target = MOVES.get((self._state, word.lower()))
        if self.obeys and target is not None:
            self.later(0.1, lambda: self.go(self.instead.get(target, target)))
            if target not in self.instead:
                self.later(0.3, lambda: self.go(COMPLETED[target]))

    def read(self) -> None:
        now = self.clock.now()
        if self.reads:
            samples = tuple(TagSample(t, v, Quality.GOOD, None, now) for t, v in self.words.items())
            self.readings.batch(SampleBatch("plc", now, samples))

    # `Sight`.

    def state(self, equipment: str) -> EquipmentState:
        state, at = self._state, self.clock.now()
        return EquipmentState(equipment, SPEC.path, "packml", state, None, None, at, 0, 0, None)

    def tag(self, tag: str) -> TagView:
        sample = TagSample(tag, self.mode, Quality.GOOD, None, self.clock.now())
        return TagView(tag, "plc", "mode", "fast", "", sample)

    def position(self) -> StreamPosition:
        return StreamPosition("s", 1, len(self.moves))

    async def events(self, after: int | None) -> AsyncIterator[Sequence[Any]]:
        at = after or 0
        while True:
            if news := self.moves[at:]:
                at += len(news)
                yield [_Recorded(move) for move in news]
            await asyncio.sleep(0)

    # `Write`.

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        assert equipment == EQUIPMENT
        self.wrote.append((tag, value))
        done, heard = self.fates.pop(0) if self.fates else (True, ACCEPTED)
        if done:
            before, self.words[tag] = self.words[tag], value
            if tag == REQUEST and value and not before:
                self.taken()
        self.between(tag)
        return Written(tag, heard, "" if heard is ACCEPTED else "as said")

    # Time.

    async def carried(self, word: str = "Start", *, check: Any = None, **packml: Any) -> Carried:
        carrier = self.carrier()
        work = carrier.carry(self.order(word, **packml), check or (lambda: None))
        carried: Carried = await self.run(work)
        return carried

    async def run(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        for _ in range(100_000):
            for _ in range(6):
                await asyncio.sleep(0)
            if task.done():
                break
            self.clock.advance(STEP_S)
            due = [item for item in self._late if item[0] <= self.clock.monotonic()]
            self._late = [item for item in self._late if item not in due]
            for _, what in due:
                what()
            self.read()
        return await task

    def carrier(self) -> PackmlCarrier:
        return PackmlCarrier(self, self.readings, self.write, self.clock, lambda: {EQUIPMENT: SPEC})

    def order(self, word: str = "Start", **packml: Any) -> Order:
        settings = {"command": COMMAND, "request": REQUEST, "commands": list(CODES), "within": "3s", **packml}
        rule = AllowSettings.model_validate({"equipment": EQUIPMENT, "packml": settings})
        return Order(id="c1", rule=rule, equipment=EQUIPMENT, command=word, source="jane")


class _Recorded:
    def __init__(self, event: Transition) -> None:
        self.event = event


HANDSHAKE = [(COMMAND, 2), (REQUEST, True)]


async def test_the_number_is_written_then_the_request_and_the_machine_takes_it_back() -> None:
    machine = Machine()
    carried = await machine.carried()
    assert carried == Carried(CommandStatus.VERIFIED, "", "", "Starting")
    assert machine.wrote == HANDSHAKE
    assert machine.commands == ["Start"]
    assert machine.words[REQUEST] is False


async def test_where_the_machine_leaves_it_to_us_the_request_is_taken_back_once_it_has_moved() -> None:
    machine = Machine()
    machine.takes_back = False
    carried = await machine.carried(reset="gateway")
    assert carried == Carried(CommandStatus.VERIFIED, "", "", "Starting")
    assert machine.wrote == [*HANDSHAKE, (REQUEST, False)]
    assert machine.words[REQUEST] is False


async def test_a_register_is_raised_with_a_number() -> None:
    machine = Machine()
    machine.words[REQUEST] = 0
    machine.read()
    machine.takes_back = False
    assert (await machine.carried(reset="gateway")).status is CommandStatus.VERIFIED
    assert machine.wrote == [(COMMAND, 2), (REQUEST, 1), (REQUEST, 0)]
    assert type(machine.wrote[1][1]) is int


@pytest.mark.parametrize("state", [name for name in PACKML_2022.by_name if name != UNKNOWN])
async def test_what_the_model_forbids_in_a_state_is_never_sent(state: str) -> None:
    for word in CODES:
        machine = Machine(state)
        if (state, word.lower()) in MOVES:
            assert isinstance(machine.carrier().judge(machine.order(word)), Way)
            continue
        carried = await machine.carried(word)
        assert (carried.status, carried.code) == (CommandStatus.REFUSED, "state")
        assert f"{word} is not allowed in {state}; allowed:" in carried.reason
        assert machine.wrote == []


async def test_nothing_is_sent_while_the_state_is_not_known() -> None:
    machine = Machine(UNKNOWN)
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.REFUSED, "state_unknown")
    assert machine.wrote == []


def test_the_mode_takes_part_in_what_is_allowed() -> None:
    machine = Machine("Execute")
    hold = machine.order("Hold")
    assert isinstance(machine.carrier().judge(hold), Way)
    assert isinstance(way_of(SPEC, "Execute", "Suspend", 1), Way)
    refused = way_of(SPEC, "Execute", "Suspend", 3)
    assert isinstance(refused, Halt)
    assert "in this mode" in refused.reason
    assert isinstance(way_of(SPEC, "Idle", "Explode"), Halt)


def test_a_way_goes_on_to_where_the_machine_rests_and_no_further() -> None:
    start = way_of(SPEC, "Idle", "Start")
    assert isinstance(start, Way)
    assert start.first == ("Starting",)
    assert start.states == {"Starting", "Execute"}
    stop = way_of(SPEC, "Execute", "Stop")
    assert isinstance(stop, Way)
    assert stop.states == {"Stopping", "Stopped"}


async def test_a_short_state_that_nobody_saw_is_no_mismatch() -> None:
    machine = Machine()
    machine.instead = {"Starting": "Execute"}
    assert (await machine.carried()).read == "Execute"


async def test_the_request_is_not_raised_over_a_number_that_did_not_arrive() -> None:
    machine = Machine("Execute")
    machine.words[COMMAND] = 2
    machine.fates = [(False, ACCEPTED)]
    machine.read()
    carried = await machine.carried("Stop")
    assert (carried.status, carried.code, carried.read) == (CommandStatus.MISMATCH, "command_not_seen", 2)
    assert machine.wrote == [(COMMAND, 3)], "the machine would have been started"
    assert machine.commands == []


async def test_a_number_nobody_answered_for_goes_on_when_it_is_read_back() -> None:
    machine = Machine()
    machine.fates = [(True, LOST)]
    assert (await machine.carried()).status is CommandStatus.VERIFIED
    machine = Machine()
    machine.fates = [(False, LOST)]
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.UNKNOWN, "command_not_seen")
    assert "the machine was not asked for anything" in carried.reason
    assert machine.wrote == [(COMMAND, 2)]


async def test_what_the_device_refuses_ends_it() -> None:
    machine = Machine()
    machine.fates = [(False, REFUSED)]
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.REFUSED, "device_refused")
    assert machine.wrote == [(COMMAND, 2)]
    machine = Machine()
    machine.fates = [(True, ACCEPTED), (False, REFUSED)]
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.REFUSED, "device_refused")
    assert machine.wrote == HANDSHAKE


async def test_an_unanswered_request_is_never_raised_again() -> None:
    machine = Machine()
    machine.fates = [(True, ACCEPTED), (True, LOST)]
    assert (await machine.carried()).status is CommandStatus.VERIFIED, "the machine moved"
    assert machine.wrote == HANDSHAKE
    machine = Machine()
    machine.fates = [(True, ACCEPTED), (False, LOST)]
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.UNKNOWN, "request_unknown")
    assert [value for tag, value in machine.wrote if tag == REQUEST].count(True) == 1
    assert machine.commands == []


async def test_a_machine_that_does_not_look_is_told_and_its_request_withdrawn() -> None:
    machine = Machine()
    machine.obeys = machine.takes_back = False
    carried = await machine.carried()
    assert (carried.status, carried.code, carried.read) == (CommandStatus.MISMATCH, "no_move", "Idle")
    assert carried.reason == "it is in Idle as before, and Start leads to Starting"
    assert machine.wrote == [*HANDSHAKE, (REQUEST, False)]
    assert machine.words[REQUEST] is False, "nobody starts the machine an hour later"


async def test_a_request_that_cannot_be_withdrawn_is_said() -> None:
    machine = Machine()
    machine.obeys = machine.takes_back = False
    machine.fates = [(True, ACCEPTED), (True, ACCEPTED), (False, LOST)]
    carried = await machine.carried()
    assert carried.status is CommandStatus.MISMATCH
    assert carried.reason.endswith(f"; {REQUEST} may still be raised: as said")
    moved = Machine()
    moved.takes_back = False
    moved.fates = [(True, ACCEPTED), (True, ACCEPTED), (False, ACCEPTED)]
    carried = await moved.carried()
    assert (carried.status, carried.code) == (CommandStatus.VERIFIED, "request_stands")
    assert carried.reason == f"{REQUEST} may still be raised: it is read as raised"
    assert list(moved.carrier().standing({EQUIPMENT: _packml(moved)})) == [EQUIPMENT]


async def test_a_machine_that_goes_elsewhere_is_a_mismatch() -> None:
    machine = Machine()
    machine.instead = {"Starting": "Aborting"}
    carried = await machine.carried()
    assert (carried.status, carried.code, carried.read) == (CommandStatus.MISMATCH, "other_move", "Aborting")
    assert carried.reason == "it went to Aborting, and Start leads to Starting"


async def test_a_move_of_its_own_just_before_it_looked_is_not_the_answer() -> None:
    machine = Machine("Execute")
    machine.between = lambda tag: machine.go("Suspending") if tag == REQUEST else None
    assert (await machine.carried("Stop")).read == "Stopping"


async def test_a_link_that_is_lost_leaves_it_unknown() -> None:
    machine = Machine()
    machine.obeys = False

    def lose(tag: str) -> None:
        if tag == REQUEST:
            machine.reads = False
            machine.go(UNKNOWN)

    machine.between = lose
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.UNKNOWN, "state_unknown")
    assert f"{REQUEST} was taken back and has not been read since" in carried.reason


async def test_a_state_that_changes_before_the_request_stops_it() -> None:
    machine = Machine()
    machine.between = lambda tag: machine.go("Stopping") if tag == COMMAND else None
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.REFUSED, "state")
    assert machine.wrote == [(COMMAND, 2)]


async def test_the_last_check_comes_right_before_each_of_both_writes() -> None:
    for allowed, wrote in ((0, []), (1, [(COMMAND, 2)])):
        machine = Machine()
        asked: list[int] = []

        def check(asked: list[int] = asked, allowed: int = allowed) -> Halt | None:
            asked.append(1)
            return None if len(asked) <= allowed else Halt("expired", "its time is over")

        carried = await machine.carried(check=check)
        assert (carried.status, carried.code) == (CommandStatus.EXPIRED, "expired")
        assert machine.wrote == wrote


async def test_a_request_that_stands_already_is_somebody_elses() -> None:
    machine = Machine()
    machine.words[REQUEST] = True
    machine.read()
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.REFUSED, "busy")
    assert machine.wrote == []
    machine.later(0.5, lambda: machine.words.update({REQUEST: False}))
    assert (await machine.carried()).status is CommandStatus.VERIFIED, "it may just be on its way down"


async def test_without_a_good_reading_of_the_request_nothing_is_sent() -> None:
    machine = Machine()
    machine.readings.down("plc")
    machine.reads = False
    carried = await machine.carried()
    assert (carried.status, carried.code) == (CommandStatus.REFUSED, "value_unknown")
    assert machine.wrote == []


async def test_one_handshake_of_an_equipment_at_a_time() -> None:
    machine = Machine()
    carrier = machine.carrier()

    async def both() -> list[Carried]:
        start, stop = machine.order("Start"), machine.order("Stop")
        return list(
            await asyncio.gather(carrier.carry(start, lambda: None), carrier.carry(stop, lambda: None))
        )

    first, second = await machine.run(both())
    assert (first.read, second.read) == ("Starting", "Stopping")
    assert machine.wrote == [*HANDSHAKE, (COMMAND, 3), (REQUEST, True)]
    assert machine.commands == ["Start", "Stop"]


async def test_a_handshake_that_is_given_up_frees_the_machine_for_the_next() -> None:
    machine = Machine()
    carrier = machine.carrier()
    task = asyncio.create_task(carrier.carry(machine.order(), lambda: None))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await machine.run(carrier.carry(machine.order(), lambda: None))).status is CommandStatus.VERIFIED


async def test_a_stop_takes_a_raised_request_back() -> None:
    machine = Machine()
    machine.obeys = machine.takes_back = False
    task = asyncio.create_task(machine.carrier().carry(machine.order(), lambda: None))

    async def raised() -> None:
        while machine.wrote != HANDSHAKE:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await machine.run(raised())
    assert task.cancelled()
    assert machine.wrote == [*HANDSHAKE, (REQUEST, False)]
    assert machine.words[REQUEST] is False


async def test_a_stop_while_the_request_is_taken_back_takes_it_back_all_the_same() -> None:
    """The write that takes it back is the one the stop cuts off."""

    class Slow(Machine):
        async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
            if (tag, value) == (REQUEST, False) and not stopping.is_set():
                stopping.set()
                await asyncio.Event().wait()
            return await super().write(equipment, tag, value, source)

    stopping = asyncio.Event()
    machine = Slow()
    machine.obeys = machine.takes_back = False
    task = asyncio.create_task(machine.carrier().carry(machine.order(), lambda: None))

    async def stopped() -> None:
        await stopping.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await machine.run(stopped())
    assert task.cancelled()
    assert machine.wrote == [*HANDSHAKE, (REQUEST, False)]
    assert machine.words[REQUEST] is False


async def test_moves_that_cannot_be_followed_leave_it_unknown() -> None:
    class Blind(Machine):
        async def events(self, after: int | None) -> AsyncIterator[Sequence[Any]]:
            for _ in self.moves:
                yield []
            raise JournalFailed("the disk is gone")

    carried = await Blind().carried()
    assert (carried.status, carried.code) == (CommandStatus.UNKNOWN, "moves_unknown")
    assert carried.reason == "the moves of filler-1 cannot be followed: the disk is gone"


def test_what_would_be_sent_is_said_in_words() -> None:
    machine = Machine()
    assert machine.carrier().sends(machine.order("Stop")) == (
        f"{COMMAND} = 3 (Stop), then {REQUEST} = true, which the machine takes back"
    )


def _packml(machine: Machine) -> Any:
    packml = machine.order().rule.packml
    assert packml is not None
    assert packml.within == timedelta(seconds=3)
    return packml
