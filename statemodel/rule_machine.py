"""One equipment whose state is derived: ordered rules over tags, the first that is true wins.

Samples of one batch belong together, so rules are asked once the batch (or a tag's second new value in it)
has been taken in, and only when an input changed or a timer is due. Where rules leave the state open and
the equipment also has a state code, the code decides. It knows no other equipment; time is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

from statemodel.durations import format_duration
from statemodel.guard import calls
from statemodel.guard_program import Program, compile_guards
from statemodel.kleene import Value, usable
from statemodel.machine import (
    GOOD,
    NO_SAMPLE,
    Draft,
    EquipmentMemory,
    EquipmentSpec,
    Machine,
    as_input,
    as_lost,
    complaint,
    no_sample,
)
from statemodel.model import ILLEGAL, LEGAL, Model, Rule
from statemodel.snapshot import KeptRules, packed, unpacked
from statemodel.types import UNKNOWN, Cause, CauseInput, Late, SourceLost, TagSample
from statemodel.watch import Values

#: Place of the state code among an equipment's inputs.
CODE_PLACE: Final = -1


def compile_rules(model: Model) -> Program:
    """The model's rules as a program; one serves all equipment of the model."""
    return compile_guards([(rule.guard, rule.for_) for rule in model.rules])


class RuleMachine(Machine):
    """An equipment in a state that rules derive."""

    __slots__ = (
        "_at",
        "_code_sample",
        "_due",
        "_fresh",
        "_latest",
        "_memory",
        "_now",
        "_program",
        "_tags",
        "_touched",
        "_values",
        "wake",
    )

    def __init__(self, spec: EquipmentSpec, memory: EquipmentMemory, program: Program) -> None:
        super().__init__(spec, memory)
        self._program = program
        self._tags = tuple(spec.bind[name] for name in program.inputs)
        self._values = program.blank()
        self._memory: list[Any] = [None] * len(program.watches)
        self._latest: list[TagSample | None] = [None] * len(program.inputs)
        self._code_sample: TagSample | None = None
        self._now = memory.since
        self._at = memory.since
        #: Inputs with a new value since the rules were last asked, one bit each (the code's is the highest).
        self._touched = 0
        #: Nothing has been asked yet: a remembered state must stand the first sample, good or bad.
        self._fresh = True
        #: When a rule may next have another answer by time alone, and when the state may change by it.
        self._due: datetime | None = None
        self.wake = self.expires

    def take(self, place: int, sample: TagSample, source_time: bool, draft: Draft) -> bool:
        """Take in a sample; True when the equipment was settled before and now is not."""
        touched = self._touched
        if place == CODE_PLACE:
            bit = 1 << len(self._latest)
            known = self._value(self._code_sample) if self._code_sample is not None else None
        else:
            bit, known = 1 << place, self._values[place]
        value = usable(sample.value) if sample.quality is GOOD or self.usable(sample) else None
        if value == known and type(value) is type(known):
            if touched & bit:
                return False  # the sample that brought the value is the one that decides
            self._note(place, sample, value)
            if not self._fresh or self.state == UNKNOWN:
                return False
        elif touched & bit:
            self.settle(draft)  # a second value in one batch: the first has its moment too
        at = self.dated(sample, source_time, draft)
        if not self._touched:
            if at < self._at and self.state != UNKNOWN:
                draft.late.append(Late(self.spec.name, at, sample.received_at))
            self._at = at
        elif at > self._at:
            self._at = at
        if sample.received_at > self._now:
            self._now = sample.received_at
        self._note(place, sample, value)
        self._touched |= bit
        return touched == 0

    def _value(self, sample: TagSample) -> Value:
        return usable(sample.value) if self.usable(sample) else None

    def _note(self, place: int, sample: TagSample, value: Value) -> None:
        if place == CODE_PLACE:
            self._code_sample = sample
        else:
            self._latest[place] = sample
            self._values[place] = value

    def settle(self, draft: Draft) -> None:
        """Ask the rules about what was taken in."""
        if self._touched:
            self._touched = 0
            self._ask(self._now, self._at, draft)

    def fire(self, now: datetime, draft: Draft) -> None:
        """A timer is due: ask the rules, at exactly that instant; what they leave may have timed out."""
        if self._due is not None and self._due <= now:
            self._now = max(self._now, now)
            self._ask(self._now, now, draft)
        while self.expires is not None and self.expires <= now:
            self.time_out(draft)
        self._plan()

    def _plan(self) -> None:
        due, expires = self._due, self.expires
        self.wake = expires if due is None or (expires is not None and expires < due) else due

    @property
    def code_sample(self) -> TagSample | None:
        """What showed the state last."""
        return self._code_sample

    def samples(self) -> Mapping[str, TagSample]:
        """The newest sample of each tag its rules look at."""
        return {sample.tag: sample for sample in self._latest if sample is not None}

    def reread(self, latest: Mapping[str, TagSample], code_sample: TagSample | None) -> None:
        """Take over what was last known; `review` then asks what it means."""
        self._code_sample = code_sample
        for place, tag in enumerate(self._tags):
            if (sample := latest.get(tag)) is not None:
                self._note(place, sample, self._value(sample))

    def review(self, now: datetime, draft: Draft) -> None:
        """The model has changed: ask it what the last known values mean."""
        if self._code_sample is not None or any(self._latest):
            self._now = max(self._now, now)
            self._ask(self._now, now, draft)

    def keep(self) -> KeptRules:
        """What a snapshot holds of it besides its state and samples."""
        answers = self._values[len(self._latest) :]
        watches = tuple(packed(remembered) for remembered in self._memory)
        return KeptRules(self._now, self._at, self._due, self._fresh, watches, tuple(map(packed, answers)))

    def resume(self, kept: KeptRules) -> None:
        """The reverse of `keep`, after `reread`."""
        self._now, self._at, self._due, self._fresh = kept.now, kept.at, kept.due, kept.fresh
        self._memory = [unpacked(remembered) for remembered in kept.watches]
        self._values[len(self._latest) :] = [unpacked(answer) for answer in kept.answers]
        self._plan()

    def forget_code(self, sample: TagSample | None) -> None:
        """What showed the state is lost."""
        self._code_sample = sample

    def lose(self, event: SourceLost, draft: Draft) -> None:
        """A connection with inputs of this equipment is lost: they are bad from now on."""
        prefix = event.connection + "/"
        inputs: dict[str, TagSample | None] = {}
        for place, tag in enumerate(self._tags):
            if tag.startswith(prefix):
                inputs[tag] = self._latest[place] = as_lost(tag, self._latest[place])
                self._values[place] = None
        code_tag = self.spec.state
        if code_tag is not None and code_tag.startswith(prefix):
            inputs[code_tag] = self._code_sample = as_lost(code_tag, self._code_sample)
        self._now = max(self._now, event.at)
        self._due = self._program.look(self._values, self._memory, self._now)
        self.lost(event, inputs, draft)
        self._plan()

    def _ask(self, now: datetime, at: datetime, draft: Draft) -> None:
        self._fresh = False
        values = self._values
        self._due = self._program.look(values, self._memory, now)
        self._decide(values, at, draft)
        self._plan()

    def _decide(self, values: Values, at: datetime, draft: Draft) -> None:
        for test, rule in zip(self._program.tests, self.model.rules, strict=True):
            answer = test(values)
            if answer is True:
                self._derived(rule, at, draft)
                return
            if answer is None:
                self._undecided(rule, at, draft)
                return
        if self._code_sample is not None:
            self.read_code(self._code_sample, at, draft)

    def _derived(self, rule: Rule, at: datetime, draft: Draft) -> None:
        to = rule.state
        if self.stands(to) or to in self.attempted:
            return
        verdict = self.table.judge(self.shown, to)
        evidence = (*self._evidence(rule), *self.mode_evidence(verdict))
        cause = Cause(rule.text, evidence, self._sentence(rule))
        if verdict is ILLEGAL and self.reject_rules:
            self.refuse(to, at, cause, draft)
        else:
            self.enter(to, self.model.by_name[to].code, at, verdict, cause, draft)

    def _undecided(self, rule: Rule, at: datetime, draft: Draft) -> None:
        if self.stands(UNKNOWN):
            return
        named = dict(zip(self._program.inputs, range(len(self._latest)), strict=True))
        places = [named[name] for name in rule.guard.names]
        bad = [place for place in places if self._values[place] is None]
        evidence = tuple(self._input(place) for place in bad or places)
        doubts = "; ".join(self._doubt(place) for place in bad) or self._unsettled(rule)
        stale = bool(bad) and all(item.substatus == "stale" for item in evidence)
        text = f'rule "{rule.text}" cannot be decided: {doubts}'
        self.enter(UNKNOWN, None, at, LEGAL, Cause("stale" if stale else "undecided", evidence, text), draft)

    def _evidence(self, rule: Rule) -> tuple[CauseInput, ...]:
        places = self._places()
        return tuple(self._input(places[name]) for name in self._names(rule))

    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self._program.inputs)}

    def _input(self, place: int) -> CauseInput:
        sample = self._latest[place]
        return as_input(sample) if sample else no_sample(self._tags[place], NO_SAMPLE)

    def _names(self, rule: Rule) -> tuple[str, ...]:
        """Inputs that decided: the rule's own, then those of the rules before it, which are not true."""
        return tuple(dict.fromkeys((*rule.guard.names, *self._names_before(rule))))

    def _names_before(self, rule: Rule) -> tuple[str, ...]:
        own = frozenset(rule.guard.names)
        earlier = takewhile(lambda other: other is not rule, self.model.rules)
        return tuple(name for other in earlier for name in other.guard.names if name not in own)

    def _sentence(self, rule: Rule) -> str:
        earlier = self._readings(dict.fromkeys(self._names_before(rule)))
        if not rule.guard.names and rule.for_ is None and rule is not self.model.rules[0]:
            return "no earlier rule is true" + (f": {earlier}" if earlier else "")
        held = f"has been true for {format_duration(rule.for_)}" if rule.for_ is not None else "is true"
        readings = self._readings(rule.guard.names)
        says = f'rule "{rule.text}" {held}' + (f": {readings}" if readings else "")
        return says + (f"; no earlier one is: {earlier}" if earlier else "")

    def _readings(self, names: Iterable[str]) -> str:
        places = self._places()
        return ", ".join(f"{name} = {self._values[places[name]]!r}" for name in names)

    def _unsettled(self, rule: Rule) -> str:
        """What is open about a rule whose inputs are all good."""
        timed = rule.for_ is not None or not {"held", "age"}.isdisjoint(calls(rule.guard))
        return self._readings(rule.guard.names) + (
            ", but nobody saw since when" if timed else ", which has no answer"
        )

    def _doubt(self, place: int) -> str:
        name, sample = self._program.inputs[place], self._latest[place]
        if sample is None:
            return f"{name} ({self._tags[place]}) has no sample yet"
        if self.usable(sample):
            return f"{name} ({sample.tag}) is {sample.value}, not a number"
        return f"{name}: {complaint(sample)}"
