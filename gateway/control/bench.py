"""The bench where a command is judged: gathers the facts, finds the rule, keeps the rates and what is armed.

Everything here is memory and happens between two awaits, so that what is judged cannot change while it is
judged, and what is used up is used once. The judgement itself is in `judging`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from api.access import Principal
from api.commanding import CommandRequest
from connectors.base import Clock
from gateway.config.control import AllowSettings, CommandsSettings, read_rate
from gateway.control.carrying import Halt
from gateway.control.entries import label_of
from gateway.control.facts import ARM_S_MAX, EXPIRES_S_MAX, Arming, Facts, halt, person
from gateway.control.judging import APPROVAL_NEEDED, LAST, STAGES, Stage, judge, place, rules_for
from gateway.control.plant import Plant
from gateway.control.rates import Rates

#: Most that are armed at once.
ARMED_MAX = 1000
#: Label of the rate of the whole gateway.
_ALL = ""

Stages = Sequence[tuple[str, Stage]]


class Verdict(msgspec.Struct, frozen=True):
    """The facts as they were, the rule they were judged by (None: there is none), and what halts it."""

    facts: Facts
    rule: AllowSettings | None
    halt: Halt | None

    @property
    def waits(self) -> bool:
        """Whether nothing but the second person is missing."""
        return self.halt is not None and self.halt.code == APPROVAL_NEEDED


class Bench:
    """Judges by the rules in force. `audit` says why nothing can be audited, None when it can."""

    def __init__(
        self, settings: CommandsSettings, plant: Plant, audit: Callable[[], str | None], clock: Clock
    ) -> None:
        self.settings, self._plant, self._audit, self._clock = settings, plant, audit, clock
        self._rates = Rates()
        self._armed: dict[str, Arming] = {}

    def follow(self, settings: CommandsSettings) -> None:
        """Go by other rules from now on."""
        self.settings = settings
        labels = {_ALL, *(label_of(rule) for rule in settings.allow)}
        self._rates.keep(labels.__contains__)

    def lives_s(self, request: CommandRequest) -> float:
        """How long a request holds."""
        if request.expires_s is None:
            return self.settings.expires.total_seconds()
        return min(request.expires_s, EXPIRES_S_MAX)

    # -- judging ---------------------------------------------------------------------------------------------

    def judged(
        self,
        request: CommandRequest,
        by: Principal,
        via: str,
        until_s: float,
        *,
        reused: bool = False,
        taken: bool = False,
        stages: Stages = STAGES,
    ) -> Verdict:
        """By the rule that lets it through, else by the one with which it comes furthest. With `taken` it was
        accepted and approved before."""
        furthest: Verdict | None = None
        for rule in rules_for(self.settings.allow, request) or (None,):
            facts = self._facts(request, by, via, rule, until_s, reused=reused, taken=taken)
            found = judge(facts, stages)
            if found is not None and found.code == APPROVAL_NEEDED:
                found = judge(msgspec.structs.replace(facts, approved=True), stages) or found
            verdict = Verdict(facts, rule, found)
            if found is None or verdict.waits:
                return verdict
            if furthest is None or place(found) > place(furthest.halt):
                furthest = verdict
        assert furthest is not None, "there was one at least"
        return furthest

    def last(self, facts: Facts) -> Halt | None:
        """What has come between since a command was judged; asked in the last line before the write."""
        request, by, via, until_s = facts.request, facts.by, facts.via, facts.until_s
        if self.settings.enabled and facts.rule not in self.settings.allow:
            return halt("not_allowed", "its rule was taken back or changed before it was sent")
        if facts.rule is not None and self._plant.basis(facts.rule) != facts.basis:
            return _rule_changed()
        if self.settings.dry_run and not (facts.settings.dry_run or request.dry_run):
            return halt("writes_off", "commands are only tried (dry_run) since before it was sent")
        return judge(self._facts(request, by, via, facts.rule, until_s, reused=False, taken=True), LAST)

    def _facts(
        self,
        request: CommandRequest,
        by: Principal,
        via: str,
        rule: AllowSettings | None,
        until_s: float,
        *,
        reused: bool,
        taken: bool,
    ) -> Facts:
        now_s, own_wait_s = self._clock.monotonic(), 0.0
        equipment = request.equipment
        if rule is not None:
            own_wait_s = self._rates.wait_s(label_of(rule), rule.rate, now_s)
            equipment = rule.equipment
        return Facts(
            settings=self.settings,
            request=request,
            by=by,
            via=via,
            rule=rule,
            path=self._plant.path(equipment),
            state=self._plant.state(equipment),
            standstill=self._plant.standstill(),
            kind=self._plant.kind(request.tag),
            present=self._plant.present(request.tag),
            own_wait_s=own_wait_s,
            all_wait_s=self._rates.wait_s(_ALL, self.settings.rate, now_s),
            arming=self._armed.get(request.arm),
            now=self._clock.now(),
            now_s=now_s,
            until_s=until_s,
            reused=reused,
            audit=self._audit(),
            approved=taken,
            taken=taken,
            basis="" if rule is None else self._plant.basis(rule),
        )

    def rests(self, rule: AllowSettings, basis: str) -> Halt | None:
        """Why what waits under a rule would not be what was asked for any more."""
        if rule in self.settings.allow and self._plant.basis(rule) == basis:
            return None
        return _rule_changed()

    # -- what is used up -------------------------------------------------------------------------------------

    def take(self, facts: Facts, rule: AllowSettings) -> None:
        """Use up its place in the rates, and its arming."""
        self._rates.take(label_of(rule), rule.rate, facts.now_s)
        self._rates.take(_ALL, self.settings.rate, facts.now_s)
        if rule.arm:
            self._armed.pop(facts.request.arm, None)

    def taken_before(self, taken: Iterable[tuple[str, datetime]]) -> None:
        """Count what an earlier process has accepted, oldest first."""
        now, now_s, rates = self._clock.now(), self._clock.monotonic(), self._own_rates()
        for label, at in taken:
            at_s = now_s - max(0.0, (now - at).total_seconds())
            self._rates.take(label, rates.get(label), at_s)
            self._rates.take(_ALL, self.settings.rate, at_s)

    @property
    def window_s(self) -> float:
        """How far back the rates look."""
        return max(read_rate(rate)[1] for rate in (self.settings.rate, *self._own_rates().values()))

    def _own_rates(self) -> dict[str, str]:
        return {label_of(rule): rule.rate for rule in self.settings.allow if rule.rate is not None}

    def no_room(self) -> Halt | None:
        """Why no more can be armed."""
        if len(self._armed) < ARMED_MAX:
            return None
        return halt("busy", f"{ARMED_MAX} commands are armed already", retry_after_s=ARM_S_MAX)

    def arm(self, request: CommandRequest, by: Principal) -> str:
        """Arm a command for a person; what it is armed with."""
        token = secrets.token_urlsafe(24)
        until_s = self._clock.monotonic() + ARM_S_MAX
        self._armed[token] = Arming(person(by), request.target, request.value, until_s)
        return token

    def disarm(self) -> None:
        """Forget what has been armed for too long. Kept a while longer, so that it is told as expired."""
        now_s = self._clock.monotonic()
        self._armed = {token: one for token, one in self._armed.items() if now_s < one.until_s + ARM_S_MAX}


def _rule_changed() -> Halt:
    return halt("rule_changed", "its rule, or where its tag lies, was changed after it was asked for")
