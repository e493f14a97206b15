"""The unit mode of one equipment: what it is, where it may change, and what moves are judged by meanwhile.

A mode takes states out of play (PackML: a machine in manual has no use for Suspended). The mode is the
machine's word, but one that changes where the model does not allow it is not believed: that is recorded once,
and moves go on being judged in the old mode until a state comes in which the mode may change. A mode that is
not known (bad, lost, or a number the model does not have) restricts nothing.
"""

from __future__ import annotations

from statemodel.machine import CodeMachine, Draft, EquipmentSpec, as_input
from statemodel.model import Mode
from statemodel.rule_machine import RuleMachine
from statemodel.snapshot import KeptMode
from statemodel.types import UNKNOWN, Cause, CauseInput, Rejection, TagSample


class UnitMode:
    """Takes the samples of the mode tag of one equipment, beside its machine."""

    __slots__ = ("_left", "_sample", "_source_time", "machine", "mode", "waiting")

    def __init__(self, machine: CodeMachine | RuleMachine) -> None:
        self.machine = machine
        machine.keeper = self
        #: The mode moves are judged in, and the one that is shown but not believed yet.
        self.mode: Mode | None = None
        self.waiting: Mode | None = None
        self._sample: TagSample | None = None
        self._source_time = False
        self._left = UNKNOWN

    @property
    def spec(self) -> EquipmentSpec:
        """Whose mode it is."""
        return self.machine.spec

    def take(self, place: int, sample: TagSample, source_time: bool, draft: Draft) -> bool:
        """Keep a sample for when its batch has been taken in: the state in it may be what allows the mode."""
        self._sample, self._source_time = sample, source_time
        return True

    def settle(self, draft: Draft) -> None:
        """Judge the mode that is shown now."""
        machine, sample = self.machine, self._sample
        machine.settle(draft)
        if sample is None:
            return
        shown = machine.model.mode_of.get(sample.value) if machine.usable(sample) else None
        if shown is self.mode or self._allowed(shown, sample):
            self._adopt(shown)
        elif shown is not self.waiting:
            self.waiting = shown
            self._refuse(sample, draft)

    def lose(self) -> None:
        """The connection of the mode tag is lost."""
        self._sample = None
        self._adopt(None)

    def moved(self, left: str) -> None:
        """The equipment has moved: a mode that had to wait may be allowed now."""
        self._left = left
        if self.waiting is not None and self._may_change(self.machine.state, self.waiting):
            self._adopt(self.waiting)

    def keep(self) -> KeptMode:
        """What a snapshot holds of it."""
        mode = None if self.mode is None else self.mode.name
        waiting = None if self.waiting is None else self.waiting.name
        return KeptMode(mode, waiting, self._left, self._source_time, self._sample)

    def resume(self, kept: KeptMode) -> None:
        """The reverse of `keep`."""
        mode_of = self.machine.model.mode_of
        self._adopt(mode_of.get(kept.mode))
        self.waiting = mode_of.get(kept.waiting)
        self._left, self._source_time, self._sample = kept.left, kept.source_time, kept.sample

    def believe(self, sample: TagSample | None) -> None:
        """The model has changed: take the mode at its last word."""
        self._sample = sample
        if sample is not None and self.machine.usable(sample):
            self._adopt(self.machine.model.mode_of.get(sample.value))

    def evidence(self) -> tuple[CauseInput, ...]:
        """The sample that shows the mode moves are judged in, if one does."""
        return (as_input(self._sample),) if self._sample is not None and self.waiting is None else ()

    def _allowed(self, shown: Mode | None, sample: TagSample) -> bool:
        if self._may_change(self.machine.state, shown):
            return True
        at = sample.received_at
        if self._source_time and sample.source_at is not None:
            at = sample.source_at
        # a mode that came along with a new state may have changed in the old one
        return at <= self.machine.since and self._may_change(self._left, shown)

    def _may_change(self, state: str, mode: Mode | None) -> bool:
        return self.machine.model.mode_may_change(state, self.mode, mode)

    def _adopt(self, mode: Mode | None) -> None:
        self.mode, self.waiting = mode, None
        self.machine.table = self.machine.model.in_mode(mode)

    def _refuse(self, sample: TagSample, draft: Draft) -> None:
        machine, mode, model = self.machine, self.mode, self.machine.model
        assert mode is not None
        assert self.waiting is not None
        where = ", ".join(state.name for state in model.states if state.name in model.mode_changes)
        reason = (
            f"in {machine.state} the mode may not change from {mode.name} to {self.waiting.name}"
            f"{f'; it may in {where}' if where else ''}; until then moves are judged in {mode.name}"
        )
        text = f"{sample.tag} read {sample.value} ({self.waiting.name})"
        cause = Cause("mode", (as_input(sample),), text)
        at = max(sample.received_at, machine.since)
        attempted = f"mode {self.waiting.name}"
        draft.rejections.append(
            Rejection(
                machine.spec.name, machine.spec.path, model.name, machine.state, attempted, at, reason, cause
            )
        )
