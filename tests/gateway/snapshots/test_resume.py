"""An engine that goes on from a snapshot and the journal's tail is the engine that was never killed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.values import JournalPosition
from gateway.snapshots.folder import Snapshot
from gateway.snapshots.form import Content
from gateway.snapshots.resume import TAIL_EVENTS_MAX, Resumed, resume
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentMemory, EquipmentSpec
from statemodel.model import Model
from statemodel.records import Recorded, tell
from statemodel.snapshot import SNAPSHOT_VERSION
from statemodel.types import (
    Event,
    Quality,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    Tick,
    Transition,
)
from tests.gateway.snapshots import builders
from tests.statemodel.support import START, after, batch, batch_of, bound, model_of, rules_model, sample
from tests.statemodel.test_properties import histories, models


class Log:
    """The journal in memory: what an engine's steps leave in it."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.batches: list[SampleBatch] = []
        self.first = 1

    @property
    def position(self) -> JournalPosition:
        return JournalPosition("s", self.first, len(self.events), 1, len(self.batches))

    async def read(self, after_: int, limit: int) -> Sequence[Recorded]:
        return self.events[after_ : after_ + limit]

    async def read_batches(
        self, after_: int, limit: int, *, samples_max: int = 100_000
    ) -> Sequence[tuple[int, SampleBatch]]:
        return list(enumerate(self.batches[after_ : after_ + min(limit, 3)], after_ + 1))

    def step(self, engine: Engine, event: Event) -> None:
        """As the pipeline: what is recorded of one event."""
        now = event.received_at if isinstance(event, SampleBatch) else event.at
        outcome = engine.step(event)
        own = [event] if isinstance(event, SourceLost | SourceRestored) else []
        for told in (*own, *outcome.transitions, *outcome.rejections):
            seq = len(self.events) + 1
            self.events.append(tell(told, gateway="g", stream="s", seq=seq, recorded_at=now))
        if isinstance(event, SampleBatch):
            self.batches.append(event)
        elif isinstance(event, SourceLost):
            bad = TagSample(f"{event.connection}/x", None, Quality.BAD, None, event.at, "no_communication")
            self.batches.append(SampleBatch(event.connection, event.at, (bad,)))

    def memories(self) -> dict[str, EquipmentMemory]:
        return {
            item.equipment: EquipmentMemory(
                item.equipment, item.event.to_state, item.event.code, item.event.at, item.event.sequence
            )
            for item in self.events
            if isinstance(item.event, Transition)
        }

    def snapshot(self, engine: Engine) -> Snapshot:
        """The engine as it is now, by way of bytes."""
        encode = msgspec.msgpack.Encoder().encode
        kept = {name: encode(one) for name, one in engine.snapshot().equipment.items()}
        place: dict[str, Any] = {"seq": len(self.events), "batch": len(self.batches)}
        content = Content(SNAPSHOT_VERSION, kept, {}, {}, {})
        return Snapshot(builders.header("x", **place), content)


def resumed(log: Log, snapshot: Snapshot, specs: Sequence[EquipmentSpec]) -> Resumed:
    return asyncio.run(resume(snapshot, specs, log.memories(), log, after(9999)))


def killed_is_as_never_killed(
    specs: Sequence[EquipmentSpec], events: Sequence[Event], data: st.DataObject
) -> None:
    """Run, look at it somewhere, kill it later, go on: event for event what it would have been."""
    killed_at = data.draw(st.integers(0, len(events)), label="killed at")
    looked_at = data.draw(st.integers(0, killed_at), label="snapshot at")
    log, engine = Log(), Engine(specs, at=START)
    snapshot = log.snapshot(engine)
    for place, event in enumerate(events[:killed_at]):
        log.step(engine, event)
        if place + 1 == looked_at:
            snapshot = log.snapshot(engine)

    found = resumed(log, snapshot, specs)

    assert found.reason == ""
    assert found.left == ()
    again = Engine(specs, at=after(9999), memory=log.memories(), snapshot=found.engine)
    last = max(
        event.received_at if isinstance(event, SampleBatch) else event.at
        for event in (Tick(START), *events[:killed_at])
    )
    rest: list[Event] = [SourceLost("plc", last, "the gateway was not running"), *events[killed_at:]]
    for event in rest:
        # as text, because what is not a number does not equal itself
        assert repr(again.step(event)) == repr(engine.step(event))
    assert again.memories() == engine.memories()


@given(models(rules=True), histories(rules=True), st.data())
def test_rules_go_on_as_if_never_killed(model: Model, events: list[Event], data: st.DataObject) -> None:
    killed_is_as_never_killed([bound(model)], events, data)


@given(models(rules=False), histories(rules=False), st.data())
def test_codes_go_on_as_if_never_killed(model: Model, events: list[Event], data: st.DataObject) -> None:
    killed_is_as_never_killed([bound(model, state="plc/state")], events, data)


_VALUES: dict[str, list[Any]] = {
    "base": ["Cleared", "Aborting", "Aborted"],
    "machine": ["Running", "Stopped", "Clearing", "Stopping"],
    "execute": ["Idle", "Starting", "Execute", "Suspending", "Holding"],
    "state": [2, 3, 4, 6, 13, 99],
    "mode": [1, 2, 3, 0],
    "gate": [True, False],
}


@given(st.data())
def test_modes_paths_and_time_limits_go_on_as_if_never_killed(data: st.DataObject) -> None:
    model = model_of(
        {
            "name": "m",
            "extends": "packml",
            "on_illegal": data.draw(st.sampled_from(["flag", "reject"])),
            "states": [
                {"name": "Starting", "timeout": "2s", "timeout_to": "Stuck"},
                {"name": "Stuck"},
                {"name": "Open"},
            ],
            "transitions": [{"from": "Starting", "to": "Stuck"}, {"from": "*", "to": "Open"}],
            "unknown_timeout": "3s",
            "unknown_timeout_to": "Stuck",
            "rules": [{"state": "Open", "when": "gate", "for": "1s"}],
        }
    )
    path = ("plc/base", "plc/machine", "plc/execute")
    bind = {"gate": "plc/gate"}
    specs = [
        EquipmentSpec("nested", "a/l/n", model, bind=bind, mode="plc/mode", state_path=path),
        EquipmentSpec("flat", "a/l/f", model, state="plc/state", bind=bind, mode="plc/mode"),
        EquipmentSpec("plain", "a/l/p", BUILTIN["packml"], state="plc/state", mode="plc/mode"),
    ]
    events: list[Event] = []
    for second in range(data.draw(st.integers(1, 12))):
        names = data.draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, unique=True))
        values: dict[str, Any] = {name: data.draw(st.sampled_from(_VALUES[name])) for name in names}
        lost = data.draw(st.integers(0, 7)) == 0
        events.append(SourceLost("plc", after(second), "gone") if lost else batch(second, **values))
    killed_is_as_never_killed(specs, events, data)


# -- what it adds to what the journal alone gives


DOOR = rules_model({"state": "Open", "when": "door", "for": "2s"}, {"state": "Shut", "when": "True"})


def past(*batches: SampleBatch) -> tuple[Log, Engine]:
    log, engine = Log(), Engine([bound(DOOR)], at=START)
    for item in batches:
        log.step(engine, item)
    return log, engine


def test_the_outage_is_told_with_what_was_last_read() -> None:
    log, engine = past(batch(1, door=False))
    found = resumed(log, log.snapshot(engine), [bound(DOOR)])
    lost = SourceLost("plc", after(2), "the gateway was not running")

    [told] = (
        Engine([bound(DOOR)], at=after(9), memory=log.memories(), snapshot=found.engine)
        .step(lost)
        .transitions
    )
    [alone] = Engine([bound(DOOR)], at=after(9), memory=log.memories()).step(lost).transitions

    assert [(i.tag, i.value, i.received_at) for i in told.cause.inputs] == [("plc/door", False, after(1))]
    assert [(i.tag, i.value) for i in alone.cause.inputs] == [("plc/door", None)]
    assert told.at == alone.at == after(2)


def test_a_dwell_that_was_up_before_the_end_is_recorded_at_its_instant() -> None:
    """The door had been open for two seconds when the link was last seen alive; the kill came in between."""
    log, engine = past(batch(1, door=False), batch(2, door=True))
    found = resumed(log, log.snapshot(engine), [bound(DOOR)])
    again = Engine([bound(DOOR)], at=after(99), memory=log.memories(), snapshot=found.engine)
    moves = again.step(SourceLost("plc", after(6), "the gateway was not running")).transitions
    assert [(m.to_state, m.at) for m in moves] == [("Open", after(4)), ("Unknown", after(6))]


def test_a_move_that_time_alone_made_is_made_again() -> None:
    log, engine = past(batch(1, door=False), batch(2, door=True))
    snapshot = log.snapshot(engine)
    log.step(engine, Tick(after(5)))
    found = resumed(log, snapshot, [bound(DOOR)])
    assert found.left == ()
    assert found.engine is not None
    assert found.engine.equipment["m1"].memory == engine.current("m1")


def test_a_move_dated_ahead_by_a_fast_clock_lets_no_time_pass() -> None:
    log, engine = Log(), Engine([bound(DOOR)], at=START)
    snapshot = log.snapshot(engine)
    fast = [sample("plc/door", value, 1, source_s=9) for value in (False, True)]
    log.step(engine, batch_of(1, *fast, source_time=True))
    assert log.events[-1].at > log.events[-1].recorded_at
    assert resumed(log, snapshot, [bound(DOOR)]).left == ()


def test_a_loss_keeps_its_place_before_what_came_at_the_same_instant() -> None:
    log, engine = Log(), Engine([bound(DOOR)], at=START)
    snapshot = log.snapshot(engine)
    for event in (SourceLost("plc", after(1), "gone"), batch(1, door=False)):
        log.step(engine, event)
    assert resumed(log, snapshot, [bound(DOOR)]).left == ()


def test_what_was_not_seen_since_is_not_known() -> None:
    log, engine = past(batch(1, door=True))
    found = resumed(log, log.snapshot(engine), [bound(DOOR)])
    again = Engine([bound(DOOR)], at=after(99), memory=log.memories(), snapshot=found.engine)
    again.step(SourceLost("plc", after(2), "the gateway was not running"))
    assert again.step(Tick(after(100))).transitions == ()
    assert again.current("m1").state == "Unknown"


# -- when the journal has to do alone


def test_equipment_the_journal_has_otherwise_is_left_to_the_journal() -> None:
    """Its tag is not recorded, so the tail cannot say what moved it."""
    log, engine = past(batch(1, door=False))
    snapshot = log.snapshot(engine)
    for second in (2, 5):
        log.step(engine, batch(second, door=True))
    log.batches.clear()
    log.batches.append(batch(1, door=False))
    found = resumed(log, snapshot, [bound(DOOR)])
    assert found.left == ("m1",)
    assert found.engine is not None
    assert found.engine.equipment == {}


def test_a_changed_model_is_left_to_the_journal() -> None:
    log, engine = past(batch(1, door=False))
    other = rules_model({"state": "Open", "when": "door", "for": "3s"}, {"state": "Shut", "when": "True"})
    found = resumed(log, log.snapshot(engine), [bound(other)])
    assert (found.left, found.reason) == (("m1",), "")


def test_a_journal_that_has_lost_part_of_the_tail_has_to_do_alone() -> None:
    log, engine = past(batch(1, door=False))
    snapshot = log.snapshot(engine)
    log.step(engine, batch(2, door=True))
    log.step(engine, batch(5, door=True))

    class Holey(Log):
        """Cannot give batch 2."""

        async def read_batches(
            self, after_: int, limit: int, *, samples_max: int = 100_000
        ) -> Sequence[tuple[int, SampleBatch]]:
            found = await super().read_batches(after_, limit)
            return [item for item in found if item[0] != 2]

    holey = Holey()
    holey.events, holey.batches = log.events, log.batches
    assert resumed(holey, snapshot, [bound(DOOR)]).reason == "the journal cannot give batch 2"
    log.first = 9
    assert "does not reach back" in resumed(log, snapshot, [bound(DOOR)]).reason


def test_a_snapshot_of_long_ago_is_not_waited_for() -> None:
    log, engine = past(batch(1, door=False))
    snapshot = log.snapshot(engine)
    log.events += log.events * (TAIL_EVENTS_MAX + 1)
    found = resumed(log, snapshot, [bound(DOOR)])
    assert found.engine is None
    assert "too long ago" in found.reason


def test_what_cannot_be_read_of_an_equipment_is_told() -> None:
    log, engine = past(batch(1, door=False))
    snapshot = log.snapshot(engine)
    content = msgspec.structs.replace(snapshot.content, equipment={"m1": b"\xc1"})
    assert "m1 cannot be read" in resumed(log, Snapshot(snapshot.header, content), [bound(DOOR)]).reason
    older = msgspec.structs.replace(snapshot.content, engine_version=99)
    assert "form of its own" in resumed(log, Snapshot(snapshot.header, older), [bound(DOOR)]).reason
