"""Many equipment, one step at a time: events in, what must be recorded out.

The engine routes samples to the equipment that look at them, keeps one queue of timers, and adds up what
each equipment asks for. It reads no clock and awaits nothing: the same events give the same outcomes, which
is what replay, explanation and tests stand on. It does not know where samples come from or who will hear.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from statemodel.commands import Command, moved_by_commands, obey
from statemodel.guard_program import Program
from statemodel.machine import CodeMachine, Draft, EquipmentMemory, EquipmentSpec
from statemodel.model import Model
from statemodel.modes import UnitMode
from statemodel.nested import StatePath
from statemodel.rule_machine import CODE_PLACE, RuleMachine, compile_rules
from statemodel.snapshot import SNAPSHOT_VERSION, EngineSnapshot, Identities, KeptEquipment
from statemodel.types import UNKNOWN, Event, Outcome, SampleBatch, SourceLost, SourceRestored, Tick

__all__ = ["Engine", "EquipmentMemory", "EquipmentSpec"]

AnyMachine = CodeMachine | RuleMachine
#: Whoever takes samples.
Taker = CodeMachine | RuleMachine | UnitMode | StatePath

#: Timers that no longer count are kept until this many have gathered per equipment.
_DEAD_TIMERS_PER_EQUIPMENT = 4


class _Whole(NamedTuple):
    """One equipment as an engine has it. `is_changed`: it has yet to be asked what its values mean now."""

    machine: AnyMachine
    mode: UnitMode | None
    path: StatePath | None
    is_changed: bool


class Engine:
    """The states of all equipment.

    Without memory an equipment starts in `Unknown` since `at`, or in its model's initial state when commands
    alone move it; its first transition has sequence 1. A remembered state that its model no longer has is
    left for `Unknown` at the first step.

    With a `snapshot` it goes on where that was taken, whatever `memory` says. Equipment whose model or tags
    have changed since keep their state if the model still has it, and are asked at the first step what their
    last known values mean now; equipment the snapshot does not have begin as without one.

    With `goes_on` it takes over the equipment of another engine as it is, except what is in `anew`; that one
    must not take another step then. Those specs must say what they said before. Nothing has been taken over
    when this raises.

    Raises:
        ValueError: two specs share a name, a rule's input is not bound to a tag, or a spec has no
            rules, no state tag and no triggers. The configuration's own checks report these to people before.
    """

    def __init__(
        self,
        specs: Iterable[EquipmentSpec],
        *,
        at: datetime,
        memory: Mapping[str, EquipmentMemory] | None = None,
        snapshot: EngineSnapshot | None = None,
        goes_on: Engine | None = None,
        anew: Collection[str] = (),
    ) -> None:
        over = {} if goes_on is None else goes_on._all_but(anew)
        kept_of = {} if snapshot is None else snapshot.equipment
        remembered = {**(memory or {}), **{name: kept.memory for name, kept in kept_of.items()}}
        programs: dict[int, Program] = {}
        self._machines: list[AnyMachine] = []
        self._index: dict[str, int] = {}
        routes: dict[str, list[tuple[Taker, int]]] = {}
        modes: dict[str, list[UnitMode]] = {}
        paths: dict[str, dict[int, StatePath]] = {}
        losers: dict[str, dict[int, AnyMachine]] = {}
        for spec in specs:
            if spec.name in self._index:
                raise ValueError(f"two equipment are named {spec.name}")
            same = over.get(spec.name)
            if same is not None:
                machine = same.machine
            else:
                machine = _machine(spec, remembered.get(spec.name) or _blank(spec, at), programs)
            index = self._index[spec.name] = len(self._machines)
            self._machines.append(machine)
            for tag, place in _inputs(spec):
                routes.setdefault(tag, []).append((machine, place))
                losers.setdefault(tag.partition("/")[0], {})[index] = machine
            if spec.state_path:
                path = same.path if same is not None and same.path is not None else StatePath(machine)
                for place, tag in enumerate(spec.state_path):
                    routes.setdefault(tag, []).append((path, place))
                    paths.setdefault(tag.partition("/")[0], {})[index] = path
            if spec.mode is not None and spec.model.modes:
                mode = same.mode if same is not None and same.mode is not None else UnitMode(machine)
                routes.setdefault(spec.mode, []).append((mode, 0))
                modes.setdefault(spec.mode.partition("/")[0], []).append(mode)
        self._routes = {tag: tuple(route) for tag, route in routes.items()}
        self._losers = {connection: tuple(found.items()) for connection, found in losers.items()}
        self._modes = {connection: tuple(found) for connection, found in modes.items()}
        self._paths = {connection: tuple(found.items()) for connection, found in paths.items()}
        self._strays = [m for m in self._machines if m.state not in m.model.by_name]
        self._timers: list[tuple[datetime, int]] = []
        self._scheduled: list[datetime | None] = [None] * len(self._machines)
        self._quiet = Outcome()
        self._mode_of = {mode.spec.name: mode for keepers in modes.values() for mode in keepers}
        self._path_of = {path.spec.name: path for found in paths.values() for path in found.values()}
        #: Equipment whose model or tags are not those of the snapshot, until the first step.
        self._changed = [one.machine for name, one in over.items() if one.is_changed and name in self._index]
        self._identities = Identities()
        for machine in self._machines:
            if machine.spec.name not in over and (item := kept_of.get(machine.spec.name)) is not None:
                self._resume(machine, item)
        for index, machine in enumerate(self._machines):
            self._schedule(index, machine)

    def _all_but(self, anew: Collection[str]) -> dict[str, _Whole]:
        changed = {id(machine) for machine in self._changed}
        left = set(anew)
        return {
            name: _Whole(machine, self._mode_of.get(name), self._path_of.get(name), id(machine) in changed)
            for machine in self._machines
            if (name := machine.spec.name) not in left
        }

    def memories(self) -> tuple[EquipmentMemory, ...]:
        """What to keep of every equipment, in the order of the specs."""
        return tuple(machine.memory() for machine in self._machines)

    def snapshot(self) -> EngineSnapshot:
        """Everything it needs to go on from here; take it between two steps."""
        return EngineSnapshot(
            SNAPSHOT_VERSION, {machine.spec.name: self._keep(machine) for machine in self._machines}
        )

    def kept(self, equipment: str) -> EngineSnapshot:
        """The snapshot of one equipment alone.

        Raises:
            KeyError: there is no such equipment.
        """
        machine = self._machines[self._index[equipment]]
        return EngineSnapshot(SNAPSHOT_VERSION, {equipment: self._keep(machine)})

    def _keep(self, machine: AnyMachine) -> KeptEquipment:
        mode, path = self._mode_of.get(machine.spec.name), self._path_of.get(machine.spec.name)
        return KeptEquipment(
            identity="" if machine in self._changed else self._identities.of(machine.spec),
            memory=machine.memory(),
            shown=machine.shown,
            attempted=tuple(sorted(machine.attempted)),
            code_sample=machine.code_sample,
            latest=dict(machine.samples()),
            rules=machine.keep() if isinstance(machine, RuleMachine) else None,
            mode=None if mode is None else mode.keep(),
            path=None if path is None else path.keep(),
        )

    def _resume(self, machine: AnyMachine, kept: KeptEquipment) -> None:
        spec = machine.spec
        mode, path = self._mode_of.get(spec.name), self._path_of.get(spec.name)
        if kept.identity == self._identities.of(spec):
            machine.reread(kept.latest, kept.code_sample)
            machine.shown, machine.attempted = kept.shown, frozenset(kept.attempted)
            if mode is not None and kept.mode is not None:
                mode.resume(kept.mode)
            if path is not None and kept.path is not None:
                path.resume(kept.path)
            if isinstance(machine, RuleMachine) and kept.rules is not None:
                machine.resume(kept.rules)
            return
        samples = kept.samples()
        if mode is not None:
            mode.believe(samples.get(spec.mode or ""))
        code_sample = path.believe(samples) if path is not None else samples.get(spec.state or "")
        machine.reread(samples, code_sample)
        self._changed.append(machine)

    def current(self, equipment: str) -> EquipmentMemory:
        """The state of one equipment.

        Raises:
            KeyError: there is no such equipment.
        """
        return self._machines[self._index[equipment]].memory()

    def step(self, event: Event | Command) -> Outcome:
        """Take in one event; returns what must be recorded, in order, and when to come back.

        Timers that fall due before the event are played first, each dated at its own instant, so it does
        not matter how often or how late ticks come.

        Raises:
            KeyError: a command names no equipment there is; nothing has been changed then.
        """
        commanded = self._index[event.equipment] if isinstance(event, Command) else None
        draft = Draft()
        now = event.received_at if isinstance(event, SampleBatch) else event.at
        if self._strays:
            for machine in self._strays:
                machine.leave_unknown_model(now, draft)
                self._schedule(self._index[machine.spec.name], machine)
            self._strays.clear()
        if self._changed:
            for machine in self._changed:
                machine.review(now, draft)
                self._schedule(self._index[machine.spec.name], machine)
            self._changed.clear()
        if self._timers:
            self._fire(now, draft)
        match event:
            case SampleBatch():
                self._take(event, draft)
            case Command():
                assert commanded is not None
                obey(self._machines[commanded], event, draft)
                self._schedule(commanded, self._machines[commanded])
            case SourceLost():
                for index, machine in self._losers.get(event.connection, ()):
                    machine.lose(event, draft)
                    self._schedule(index, machine)
                for index, path in self._paths.get(event.connection, ()):
                    path.lose(event, draft)
                    self._schedule(index, path.machine)
                for mode in self._modes.get(event.connection, ()):
                    mode.lose()
            case Tick() | SourceRestored():
                pass  # time has been seen to; a link that is back says nothing until its samples do
        return self._outcome(draft)

    def _take(self, batch: SampleBatch, draft: Draft) -> None:
        route_of = self._routes.get
        source_time = batch.source_time
        unsettled: list[Taker] = []
        for sample in batch.samples:
            route = route_of(sample.tag)
            if route is not None:
                for taker, place in route:
                    if taker.take(place, sample, source_time, draft):
                        # what the levels of a path say together is an input of the rules
                        unsettled.insert(0 if type(taker) is StatePath else len(unsettled), taker)
        for taker in unsettled:
            taker.settle(draft)
            index = self._index[taker.spec.name]
            self._schedule(index, self._machines[index])

    def _fire(self, now: datetime, draft: Draft) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now:
            due, index = heapq.heappop(timers)
            if self._scheduled[index] == due:
                machine = self._machines[index]
                machine.fire(due, draft)
                self._scheduled[index] = None
                self._schedule(index, machine)

    def _schedule(self, index: int, machine: AnyMachine) -> None:
        wake = machine.wake
        if wake == self._scheduled[index]:
            return
        self._scheduled[index] = wake
        if wake is not None:
            if len(self._timers) > _DEAD_TIMERS_PER_EQUIPMENT * (len(self._machines) + 16):
                self._timers = [(due, i) for i, due in enumerate(self._scheduled) if due is not None]
                heapq.heapify(self._timers)
            else:
                heapq.heappush(self._timers, (wake, index))

    def _wake_at(self) -> datetime | None:
        timers = self._timers
        while timers:
            due, index = timers[0]
            if self._scheduled[index] == due:
                return due
            heapq.heappop(timers)
        return None

    def _outcome(self, draft: Draft) -> Outcome:
        wake_at = self._wake_at()
        if draft.transitions or draft.rejections or draft.late:
            return Outcome(tuple(draft.transitions), tuple(draft.rejections), wake_at, tuple(draft.late))
        if self._quiet.wake_at != wake_at:
            self._quiet = Outcome(wake_at=wake_at)
        return self._quiet


def _inputs(spec: EquipmentSpec) -> Iterable[tuple[str, int]]:
    """Tags an equipment looks at, each with its place among the equipment's inputs."""
    for place, name in enumerate(spec.model.inputs):
        yield spec.bind[name], place
    if spec.state is not None:
        yield spec.state, CODE_PLACE


def _blank(spec: EquipmentSpec, at: datetime) -> EquipmentMemory:
    """What an equipment begins with when nothing is remembered of it."""
    if moved_by_commands(spec):
        initial = spec.model.by_name[spec.model.initial]
        return EquipmentMemory(spec.name, initial.name, initial.code, at, 0)
    return EquipmentMemory(spec.name, UNKNOWN, None, at, 0)


def _machine(spec: EquipmentSpec, memory: EquipmentMemory, programs: dict[int, Program]) -> AnyMachine:
    model: Model = spec.model
    if not model.rules:
        if spec.state is None and not spec.state_path and not moved_by_commands(spec):
            raise ValueError(
                f"equipment {spec.name}: model {model.name} has no rules or triggers, so it needs a state tag"
            )
        return CodeMachine(spec, memory)
    if missing := [name for name in model.inputs if name not in spec.bind]:
        raise ValueError(f"equipment {spec.name}: not bound to a tag: {', '.join(missing)}")
    program = programs.get(id(model))
    if program is None:
        program = programs[id(model)] = compile_rules(model)
    return RuleMachine(spec, memory, program)
