"""One equipment: the state it is in, and how it moves.

What is common to every way of finding a state lives here: the moment a move is dated, the judgement of the
table, the entry that is recorded. Where a state comes from is said twice below this: a code that is read
(`CodeMachine`), and rules over tags (`rule_machine.RuleMachine`). Time is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from statemodel.durations import format_duration
from statemodel.model import ILLEGAL, LEGAL, Model, Verdict
from statemodel.types import (
    UNKNOWN,
    Cause,
    CauseInput,
    Late,
    Quality,
    Rejection,
    SourceLost,
    TagSample,
    Transition,
)

#: A source time outside these bounds around the time of receipt is not believed.
SOURCE_AHEAD_MAX: Final = timedelta(seconds=10)
SOURCE_BEHIND_MAX: Final = timedelta(hours=1)

#: Substatus of a tag whose connection is lost, and of one that never had a sample.
NO_COMMUNICATION: Final = "no_communication"
NO_SAMPLE: Final = "no_sample"

#: Shared by all equipment that refused nothing, which is nearly all of them nearly always.
_NONE: Final[frozenset[str]] = frozenset()

GOOD: Final = Quality.GOOD
UNCERTAIN: Final = Quality.UNCERTAIN


@dataclass(frozen=True, slots=True)
class EquipmentSpec:
    """An equipment as configured.

    `state` is the full id (`connection/name`) of the tag that carries the state code, or the state's name
    as text. `bind` gives each name that the model's rules use its tag. With `accept_uncertain` (None: as
    the model says) samples of uncertain quality count as usable. `mode` is the tag that carries the unit
    mode, by number or name. Where the equipment shows nested machines, `state_path` takes the place of
    `state`: their tags, the outermost first. `counters` (by name) and `tags` have no part in the state:
    they are only told with the equipment.
    """

    name: str
    path: str
    model: Model
    state: str | None = None
    bind: Mapping[str, str] = field(default_factory=dict)
    accept_uncertain: bool | None = None
    mode: str | None = None
    state_path: tuple[str, ...] = ()
    counters: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """Every tag that is told with the equipment: what its state comes from, and what is listed for it."""
        return tuple(dict.fromkeys((*self.inputs.values(), *self.counters.values(), *self.tags)))

    @property
    def inputs(self) -> Mapping[str, str]:
        """Every tag that has a part in the state, by what it is to the equipment."""
        path = {f"state[{place}]": tag for place, tag in enumerate(self.state_path)}
        state = {} if self.state is None else {"state": self.state}
        mode = {} if self.mode is None else {"mode": self.mode}
        return {**self.bind, **state, **path, **mode}


class EquipmentMemory(msgspec.Struct, frozen=True):
    """What an equipment keeps across a restart: its state, since when, and how many transitions it made."""

    equipment: str
    state: str
    code: int | None
    since: datetime
    sequence: int


class Draft:
    """What a step has asked for so far."""

    __slots__ = ("late", "rejections", "transitions")

    def __init__(self) -> None:
        self.late: list[Late] = []
        self.transitions: list[Transition] = []
        self.rejections: list[Rejection] = []


class ModeKeeper(Protocol):
    """Whoever keeps the unit mode of an equipment."""

    def evidence(self) -> tuple[CauseInput, ...]:
        """What shows the mode that moves are judged in."""
        ...

    def moved(self, left: str) -> None:
        """The equipment has left a state for another."""
        ...


class Machine:
    """One equipment in one state."""

    __slots__ = (
        "accept_uncertain",
        "attempted",
        "code",
        "expires",
        "keeper",
        "model",
        "reject_codes",
        "reject_rules",
        "sequence",
        "shown",
        "since",
        "spec",
        "state",
        "table",
    )

    def __init__(self, spec: EquipmentSpec, memory: EquipmentMemory) -> None:
        self.spec = spec
        self.model = spec.model
        self.state, self.code = memory.state, memory.code
        self.since, self.sequence = memory.since, memory.sequence
        accept = spec.accept_uncertain
        self.accept_uncertain = spec.model.accept_uncertain if accept is None else accept
        # Illegal moves: a code read from the machine is the machine's word; a derived state is only ours.
        self.reject_codes = spec.model.on_illegal == "reject"
        self.reject_rules = spec.model.on_illegal != "flag"
        #: The model as the unit mode leaves it: what moves are judged by.
        self.table = spec.model
        self.keeper: ModeKeeper | None = None
        #: What the inputs show: another state than the one it is in once that has timed out.
        self.shown = memory.state
        #: When the state it is in times out.
        self.expires: datetime | None = None
        self._limit()
        #: States refused since this one was last confirmed: each is recorded once, not at every sample.
        self.attempted: frozenset[str] = _NONE

    def memory(self) -> EquipmentMemory:
        """What to keep of this equipment."""
        return EquipmentMemory(self.spec.name, self.state, self.code, self.since, self.sequence)

    def usable(self, sample: TagSample) -> bool:
        """Whether a sample may decide a state."""
        quality = sample.quality
        return (
            quality is GOOD or (quality is UNCERTAIN and self.accept_uncertain)
        ) and sample.value is not None

    def dated(self, sample: TagSample, source_time: bool, draft: Draft) -> datetime:
        """When a sample's news happened: its source time where asked for and plausible, else its receipt.

        What happened before the present state began comes too late to be told so, and is marked as late.
        """
        at = occurred_at(sample, source_time)
        if self.since <= at:
            return at
        if self.state != UNKNOWN:  # nothing was judged of the time before what was not known
            draft.late.append(Late(self.spec.name, at, sample.received_at))
        return sample.received_at

    def enter(
        self, to: str, code: int | None, at: datetime, verdict: Verdict, cause: Cause, draft: Draft
    ) -> None:
        """Move to another state and record it. Never dated before the state that is left began."""
        since, spec = self.since, self.spec
        if at < since:
            at = since
        sequence = self.sequence = self.sequence + 1
        draft.transitions.append(
            Transition(
                spec.name,
                spec.path,
                self.model.name,
                sequence,
                self.state,
                to,
                code,
                self.model.by_name[to].category,
                at,
                (at - since).total_seconds(),
                verdict.conformance,
                verdict.skipped,
                cause,
            )
        )
        left = self.state
        self.state, self.code, self.since = to, code, at
        self.shown = to
        self.attempted = _NONE
        self._limit()
        if self.keeper is not None:
            self.keeper.moved(left)

    def _limit(self) -> None:
        """Set the time limit of the state just entered."""
        state = self.model.by_name.get(self.state)
        timeout = None if state is None else state.timeout
        self.expires = None if timeout is None else self.since + timeout

    def time_out(self, draft: Draft) -> None:
        """Leave a state that has lasted too long, dated to the instant its time was up.

        What the inputs show has not changed by that: the state is not entered again until they show
        something else, and what they show next is judged as if the state had not been left.
        """
        at, shown = self.expires, self.shown
        state = self.model.by_name[self.state]
        assert at is not None
        assert state.timeout is not None
        to = state.timeout_to
        cause = Cause("timeout", (), f"{state.name} has lasted {format_duration(state.timeout)}")
        self.enter(to, self.model.by_name[to].code, at, self.table.judge(state.name, to), cause, draft)
        self.shown = shown

    def stands(self, to: str) -> bool:
        """Whether a state that is shown asks for no move; then what is refused later is a new attempt."""
        if to == self.state:
            self.shown = to
        elif to != self.shown:
            return False
        self.attempted = _NONE
        return True

    def refuse(self, to: str, at: datetime, cause: Cause, draft: Draft) -> None:
        """Stay, and record once that the move was tried."""
        if to in self.attempted:
            return
        self.attempted |= {to}
        reason = f"{self.state} to {to} is not a transition of model {self.model.name}"
        if self.table is not self.model:
            reason += " in this mode"
        draft.rejections.append(
            Rejection(
                self.spec.name,
                self.spec.path,
                self.model.name,
                self.state,
                to,
                max(at, self.since),
                reason,
                cause,
            )
        )

    def leave_unknown_model(self, at: datetime, draft: Draft) -> None:
        """Leave a remembered state that the model no longer has."""
        text = f"state {self.state} is not in model {self.model.name} any more"
        self.enter(UNKNOWN, None, at, LEGAL, Cause("model_changed", (), text), draft)

    def read_code(self, sample: TagSample, at: datetime, draft: Draft) -> None:
        """Follow the state code that a sample shows."""
        value = sample.value
        if not self.usable(sample):
            if not self.stands(UNKNOWN):
                rule = "stale" if sample.substatus == "stale" else "bad_quality"
                cause = Cause(rule, (as_input(sample),), complaint(sample))
                self.enter(UNKNOWN, None, at, LEGAL, cause, draft)
            return
        to = self.model.state_of(value)
        if to is None:
            if not self.stands(UNKNOWN):
                text = f"{sample.tag} read {value}, which is no state of model {self.model.name}"
                cause = Cause("unknown_code", (as_input(sample),), text)
                self.enter(UNKNOWN, whole(value), at, ILLEGAL, cause, draft)
        elif not self.stands(to):
            verdict = self.table.judge(self.shown, to)
            text = f"{sample.tag} read {to}" if value == to else f"{sample.tag} read {value} ({to})"
            cause = Cause("code", (as_input(sample), *self.mode_evidence(verdict)), text)
            if verdict is ILLEGAL and self.reject_codes:
                self.refuse(to, at, cause, draft)
            else:
                code = whole(value) if to == UNKNOWN else self.model.by_name[to].code
                self.enter(to, code, at, verdict, cause, draft)

    def mode_evidence(self, verdict: Verdict) -> tuple[CauseInput, ...]:
        """The mode, where it had a part in calling a move illegal."""
        return self.keeper.evidence() if verdict is ILLEGAL and self.keeper is not None else ()

    def lost(self, event: SourceLost, inputs: Mapping[str, TagSample | None], draft: Draft) -> None:
        """Go to `Unknown` because a connection is lost; `inputs` are this equipment's tags on it."""
        if not self.stands(UNKNOWN):
            evidence = tuple(
                as_input(sample) if sample else no_sample(tag, NO_COMMUNICATION)
                for tag, sample in inputs.items()
            )
            cause = Cause("source_lost", evidence, f"{event.connection} lost: {event.reason}")
            self.enter(UNKNOWN, None, event.at, LEGAL, cause, draft)


class CodeMachine(Machine):
    """An equipment whose state is read as a code from one tag. It follows every sample at once."""

    __slots__ = ("latest",)

    def __init__(self, spec: EquipmentSpec, memory: EquipmentMemory) -> None:
        super().__init__(spec, memory)
        self.latest: TagSample | None = None

    @property
    def wake(self) -> datetime | None:
        """When time alone may next change the state."""
        return self.expires

    def take(self, place: int, sample: TagSample, source_time: bool, draft: Draft) -> bool:
        """Follow a sample; True when that has changed `wake`."""
        self.latest = sample
        # the sample that says nothing new is the common one: let it go without a further look
        if (
            sample.quality is not GOOD
            or self.attempted
            or self.model.by_value.get(sample.value) != self.shown
            or isinstance(sample.value, bool)  # which the look above takes for 0 or 1
        ):
            expires = self.expires
            self.fire(sample.received_at, draft)
            self.read_code(sample, self.dated(sample, source_time, draft), draft)
            return self.expires != expires
        return False

    def settle(self, draft: Draft) -> None:
        """Nothing waits here."""

    def fire(self, now: datetime, draft: Draft) -> None:
        """Time moves it only out of states with a limit."""
        while self.expires is not None and self.expires <= now:
            self.time_out(draft)

    @property
    def code_sample(self) -> TagSample | None:
        """What showed the state last."""
        return self.latest

    def samples(self) -> Mapping[str, TagSample]:
        """The newest sample of each tag its rules look at: there are none."""
        return {}

    def reread(self, latest: Mapping[str, TagSample], code_sample: TagSample | None) -> None:
        """Take over what was last known; `review` then asks what it means."""
        self.latest = code_sample

    def review(self, now: datetime, draft: Draft) -> None:
        """The model has changed: ask it what the last known values mean."""
        if self.latest is not None:
            self.read_code(self.latest, now, draft)

    def forget_code(self, sample: TagSample | None) -> None:
        """What showed the state is lost."""
        self.latest = sample

    def lose(self, event: SourceLost, draft: Draft) -> None:
        """The connection of the state tag is lost."""
        tag = self.spec.state
        assert tag is not None
        self.latest = as_lost(tag, self.latest)
        self.lost(event, {tag: self.latest}, draft)


def occurred_at(sample: TagSample, source_time: bool) -> datetime:
    """When a sample's news happened: its source time where asked for and plausible, else its receipt."""
    received_at, source_at = sample.received_at, sample.source_at
    if (
        source_time
        and source_at is not None
        and received_at - SOURCE_BEHIND_MAX <= source_at <= received_at + SOURCE_AHEAD_MAX
    ):
        return source_at
    return received_at


def whole(value: object) -> int | None:
    """A code as the whole number it is; None for text and fractions."""
    if isinstance(value, int):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def as_input(sample: TagSample) -> CauseInput:
    """A sample as evidence."""
    return CauseInput(
        sample.tag, sample.value, sample.quality, sample.source_at, sample.received_at, sample.substatus
    )


def as_lost(tag: str, sample: TagSample | None) -> TagSample | None:
    """A sample whose connection is lost: what was last read, no longer trusted."""
    if sample is None:
        return None
    return TagSample(tag, sample.value, Quality.BAD, sample.source_at, sample.received_at, NO_COMMUNICATION)


def no_sample(tag: str, substatus: str) -> CauseInput:
    """Evidence that a tag has said nothing since the start."""
    return CauseInput(tag, None, Quality.BAD, None, None, substatus)


def complaint(sample: TagSample) -> str:
    """What is wrong with a sample, for people."""
    if sample.quality is GOOD:
        return f"{sample.tag} has no value"
    return f"{sample.tag} is {sample.quality}" + (f" ({sample.substatus})" if sample.substatus else "")
