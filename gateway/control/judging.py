"""Whether a command may be done now: one small question after the other, in one order. Pure.

Each stage looks at the facts and lets the command pass, or halts it with a stable code. The table below is
the whole pipeline: take a stage out and something slips through. Reads no clock, awaits nothing, sends
nothing; whoever gathers the facts answers for their freshness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from api.access import Permission
from api.commanding import CommandRequest
from api.hints import did_you_mean
from api.refusals import REFUSALS
from gateway.config.control import AllowSettings
from gateway.control.carrying import Halt
from gateway.control.facts import ARM_S_MAX, Facts, halt, person, same
from statemodel.types import UNKNOWN, Quality

Stage = Callable[[Facts], Halt | None]


def _rule(facts: Facts) -> AllowSettings:
    assert facts.rule is not None, "judged before"
    return facts.rule


def _writes(facts: Facts) -> Halt | None:
    if not facts.settings.enabled:
        return halt("writes_off", "commands are off")
    return None


def _area(facts: Facts) -> Halt | None:
    """A rule outside the caller's areas is answered like none, before anything else of it is told."""
    if facts.rule is not None and not facts.by.sees(facts.path):
        return _no_rule(facts)
    return None


def _no_rule(facts: Facts) -> Halt:
    hint = did_you_mean(facts.request.target, _allowed_to(facts), REFUSALS["not_allowed"].hint)
    return halt("not_allowed", f"no rule allows {facts.request.target}", hint)


def _allowed(facts: Facts) -> Halt | None:
    if facts.rule is None:
        return _no_rule(facts)
    if facts.via not in facts.rule.via:
        ways = ", ".join(facts.rule.via)
        return halt("not_allowed", f"{facts.request.target} may not be commanded over {facts.via}: {ways}")
    return None


def _allowed_to(facts: Facts) -> Iterator[str]:
    """What this caller may command this way; nothing to callers with areas, who are told of no other."""
    if facts.by.areas is None:
        for rule in facts.settings.allow:
            if facts.via in rule.via and not facts.by.roles.isdisjoint(rule.roles):
                if rule.packml is None:
                    yield rule.tag or ""
                else:
                    yield from (f"{rule.equipment}:{command}" for command in rule.packml.commands)


def _role(facts: Facts) -> Halt | None:
    rule, by = _rule(facts), facts.by
    if not by.may(Permission.COMMAND) or by.roles.isdisjoint(rule.roles):
        return halt("role", f"{by.name} has none of the roles {', '.join(rule.roles)}")
    return None


def _state(facts: Facts) -> Halt | None:
    rule = _rule(facts)
    if facts.standstill is not None and (rule.states or rule.packml is not None):
        return halt("state_unknown", f"the state of {rule.equipment} is {facts.standstill}")
    if not rule.states:
        return None
    if facts.state is None or facts.state == UNKNOWN:
        return halt("state_unknown", f"the state of {rule.equipment} is not known")
    if facts.state not in rule.states:
        reason = f"{rule.equipment} is in {facts.state}; allowed in {', '.join(rule.states)}"
        return halt("state", reason)
    return None


def _value(facts: Facts) -> Halt | None:
    value, kind = facts.request.value, facts.kind
    if _rule(facts).tag is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return halt("wrong_value", f"{value} is no number")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "bool": isinstance(value, bool),
        "integer": is_number and float(value or 0).is_integer(),
        "fraction": is_number,
        "text": isinstance(value, str),
        None: value is not None,
    }
    if not fits[kind]:
        return halt("wrong_value", f"{facts.request.tag} is {_KIND_WORDS[kind]}, and {value!r} is not")
    return None


_KIND_WORDS = {
    "bool": "true or false",
    "integer": "a whole number",
    "fraction": "a number",
    "text": "a text",
    None: "something",
}


def _range(facts: Facts) -> Halt | None:
    rule, value = _rule(facts), facts.request.value
    if rule.min is None and rule.max is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return halt("out_of_range", f"{value!r} is no number, and the rule has limits for one")
    if (rule.min is not None and value < rule.min) or (rule.max is not None and value > rule.max):
        return halt("out_of_range", f"{value} is not within {_limits(rule)}")
    return None


def _limits(rule: AllowSettings) -> str:
    low = "any" if rule.min is None else f"{rule.min:g}"
    return f"{low} to {'any' if rule.max is None else f'{rule.max:g}'}"


def _step(facts: Facts) -> Halt | None:
    rule, value, present = _rule(facts), facts.request.value, facts.present
    if rule.step is None:
        return None
    if present is None or present.quality is not Quality.GOOD or not isinstance(present.value, int | float):
        return halt("value_unknown", f"there is no good present value of {facts.request.tag}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return halt("step", f"{value!r} is no number, and the rule limits the change of one")
    # The last digit of a float is no reason: 0.1 + 0.2 is a step of 0.2.
    change = abs(value - present.value)
    if change > rule.step and not math.isclose(change, rule.step, rel_tol=1e-9):
        reason = f"from {present.value} to {value} is more than {rule.step:g} at once"
        return halt("step", reason)
    return None


def _rate(facts: Facts) -> Halt | None:
    if facts.taken:
        return None
    for wait_s, whose in ((facts.own_wait_s, "of this rule"), (facts.all_wait_s, "of the gateway")):
        if wait_s > 0:
            return halt("rate", f"the rate {whose} allows the next in {wait_s:.1f} s", retry_after_s=wait_s)
    return None


def _arm(facts: Facts) -> Halt | None:
    if facts.taken or not _rule(facts).arm:
        return None
    request, arming = facts.request, facts.arming
    if not request.arm:
        return halt("not_armed", f"{request.target} has to be armed first")
    if arming is None:
        return halt("arm_expired", "it was never armed with that, or it has been used")
    if facts.now_s >= arming.until_s:
        return halt("arm_expired", f"it was armed more than {ARM_S_MAX:g} s ago")
    if arming.person != person(facts.by):
        return halt("arm_mismatch", "it was armed by another person")
    if arming.target != request.target or not same(arming.value, request.value):
        return halt("arm_mismatch", "it was armed for something else")
    return None


def _second_person(facts: Facts) -> Halt | None:
    if _rule(facts).second_person and not facts.approved:
        return Halt(APPROVAL_NEEDED, f"{facts.request.target} needs the approval of a second person")
    return None


#: Code of the one halt that is no refusal: the command waits.
APPROVAL_NEEDED = "approval_needed"


def _key(facts: Facts) -> Halt | None:
    if facts.reused:
        return halt("key_reused", "this Idempotency-Key came with another request before")
    return None


def _expiry(facts: Facts) -> Halt | None:
    not_after = facts.request.not_after
    if facts.now_s >= facts.until_s or (not_after is not None and facts.now >= not_after):
        return halt("expired", "its time is over, and nothing was sent")
    return None


def _audit(facts: Facts) -> Halt | None:
    if facts.audit is not None:
        return halt("audit_unavailable", f"the audit trail cannot be written: {facts.audit}")
    return None


#: Every question, in order.
STAGES: tuple[tuple[str, Stage], ...] = (
    ("writes", _writes),
    ("area", _area),
    ("allow-list", _allowed),
    ("role", _role),
    ("state", _state),
    ("value", _value),
    ("range", _range),
    ("step", _step),
    ("rate", _rate),
    ("arm", _arm),
    ("second person", _second_person),
    ("key", _key),
    ("expiry", _expiry),
    ("audit", _audit),
)

#: What is asked when a command is armed: whether it would be taken now.
FOR_ARMING = tuple(stage for stage in STAGES if stage[0] not in ("arm", "second person", "key", "expiry"))
#: What is asked again once a second person has approved: who asked was judged when it was accepted.
AGAIN = tuple(stage for stage in STAGES if stage[0] not in ("role", "area", "second person", "key"))
#: What can have changed since it was accepted: asked again in the last line before the write.
LAST = tuple(stage for stage in STAGES if stage[0] in ("writes", "state", "range", "step", "expiry"))


def judge(facts: Facts, stages: Sequence[tuple[str, Stage]] = STAGES) -> Halt | None:
    """The first halt, None when it may be done."""
    return next((found for _, stage in stages if (found := stage(facts)) is not None), None)


def place(found: Halt | None) -> int:
    """How far a judgement has come: of several rules for one thing, the one that comes furthest is told."""
    return len(_PLACES) if found is None else _PLACES.get(found.code, 0)


_PLACES = {
    code: number
    for number, code in enumerate((*REFUSALS, APPROVAL_NEEDED))  # the table of refusals has their order
}
_PLACES[APPROVAL_NEEDED] = len(_PLACES)


def rules_for(rules: Iterable[AllowSettings], request: CommandRequest) -> list[AllowSettings]:
    """The rules that name what is asked for."""
    if request.tag:
        return [rule for rule in rules if rule.tag == request.tag]
    return [
        rule
        for rule in rules
        if rule.packml is not None
        and rule.equipment == request.equipment
        and request.command in rule.packml.commands
    ]
