"""One state from several nested machines, each with a tag of its own: the innermost active one wins.

OPC UA shows PackML so (OPC 30050): the base machine is Aborting, Aborted or Cleared; within Cleared the
machine state is Stopping, Stopped, Clearing or Running; within Running the execute state is one of twelve.
What an inner machine shows while it is not active means nothing, however good its quality, so the way is from
the outside in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from statemodel.machine import CodeMachine, Draft, EquipmentSpec, as_lost
from statemodel.rule_machine import CODE_PLACE, RuleMachine
from statemodel.snapshot import KeptPath
from statemodel.types import Quality, SourceLost, TagSample

#: States of an outer machine that say no more than that the next one within is active.
COMPOSITES: Final = frozenset({"Cleared", "Running"})


def innermost(levels: Sequence[TagSample | None]) -> TagSample | None:
    """The sample of the innermost active machine; `levels` begins with the outermost.

    A bad level decides too: what lies within it is not known to be active. None when the level that would
    decide has not been heard yet. The sample is as late as the latest on the way to it, and no better.
    """
    latest: TagSample | None = None
    quality = Quality.GOOD
    for place, sample in enumerate(levels):
        if sample is None:
            return None
        if latest is None or sample.received_at > latest.received_at:
            latest = sample
        if sample.quality is not Quality.GOOD:
            quality = sample.quality
        inner = place + 1 < len(levels) and sample.value in COMPOSITES
        if not inner or quality is Quality.BAD:
            at, source_at = latest.received_at, latest.source_at
            return TagSample(sample.tag, sample.value, quality, source_at, at, sample.substatus)
    return None


class StatePath:
    """Takes the samples of nested machines of one equipment, and hands on the one that decides."""

    __slots__ = ("_levels", "_source_time", "_told", "machine")

    def __init__(self, machine: CodeMachine | RuleMachine) -> None:
        self.machine = machine
        self._levels: list[TagSample | None] = [None] * len(machine.spec.state_path)
        self._source_time = False
        self._told: TagSample | None = None

    @property
    def spec(self) -> EquipmentSpec:
        """Whose state it is."""
        return self.machine.spec

    def take(self, place: int, sample: TagSample, source_time: bool, draft: Draft) -> bool:
        """Keep a sample of one level until its batch has been taken in: the levels belong together."""
        self._levels[place], self._source_time = sample, source_time
        return True

    def settle(self, draft: Draft) -> None:
        """Tell the machine what the levels say together."""
        sample = innermost(self._levels)
        if sample is not None and sample != self._told:
            self._told = sample
            self.machine.take(CODE_PLACE, sample, self._source_time, draft)
        self.machine.settle(draft)

    def keep(self) -> KeptPath:
        """What a snapshot holds of it."""
        return KeptPath(tuple(self._levels), self._told, self._source_time)

    def resume(self, kept: KeptPath) -> None:
        """The reverse of `keep`."""
        self._levels, self._told, self._source_time = list(kept.levels), kept.told, kept.source_time

    def believe(self, latest: Mapping[str, TagSample]) -> TagSample | None:
        """The model has changed: take the levels at their last word; the sample that decides."""
        self._levels = [latest.get(tag) for tag in self.spec.state_path]
        self._told = innermost(self._levels)
        return self._told

    def lose(self, event: SourceLost, draft: Draft) -> None:
        """A connection is lost, and with it the levels that hang on it."""
        prefix = event.connection + "/"
        for place, tag in enumerate(self.spec.state_path):
            if tag.startswith(prefix):
                self._levels[place] = as_lost(tag, self._levels[place])
        sample = self._told = innermost(self._levels)
        if sample is None or sample.quality is Quality.BAD:
            self.machine.forget_code(sample)
            lost = dict(zip(self.spec.state_path, self._levels, strict=True))
            inputs = {tag: level for tag, level in lost.items() if tag.startswith(prefix)}
            self.machine.lost(event, inputs, draft)
