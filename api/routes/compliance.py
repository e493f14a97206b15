"""Compliance: the rules and how they stand, where they were not kept, and the reasons people give."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission, Principal
from api.compliance import RuleView, Violation, WantedReason
from api.corrections import WantedCorrection
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.params import earlier, invalid_parameter
from api.ports import TooOld
from api.problems import ParameterError, Problem
from api.responses import Ready, json_answer, list_answer
from api.routes.audit import on_record
from api.routes.corrections import EXAMPLE_CORRECTION, corrected
from api.routes.equipment import NAME
from api.routes.find import find_equipment
from api.settings import ApiSettings
from statemodel.records import Recorded, ToldCorrection
from statemodel.types import Transition

#: Longest range that is judged at once.
RANGE_MAX = timedelta(days=31)
#: Kinds that tell of people, keys and commands: for auditors.
_OF_PEOPLE = frozenset(("stale_keys", "password_age", "command_verified", "audit_anchored"))


class RuleList(msgspec.Struct, frozen=True):
    """Rules in the order of the configuration."""

    items: Sequence[RuleView]


class ViolationList(msgspec.Struct, frozen=True):
    """Violations, oldest first. `incomplete` has a sentence for each rule that could not be judged."""

    items: Sequence[Violation]
    next: str | None
    incomplete: Sequence[str]


async def list_rules(context: Context, call: Call) -> Response:
    """All rules."""
    compliance = context.ports.compliance
    rules = await compliance.rules() if compliance is not None else ()
    return json_answer(RuleList([rule for rule in rules if _may_know(call.by, rule.kind)]))


async def list_violations(context: Context, call: Call) -> Response:
    """What was not kept within a range."""
    now = context.now()
    to = call.query["to"] or now
    from_ = call.query["from"] or earlier(to, timedelta(days=1))
    if from_ >= to:
        raise invalid_parameter("from", "it is not before to", "Give an earlier from, or a later to.")
    if to - from_ > RANGE_MAX:
        raise invalid_parameter("from", "the range is longer than 31 days", "Ask for a month at a time.")
    compliance = context.ports.compliance
    if compliance is None:
        return json_answer(ViolationList((), None, ()))
    found = await compliance.violations(from_, to)
    seen = [
        one
        for one in found.items
        if _may_know(call.by, one.kind)
        and call.by.sees(one.path)
        and call.query["rule"] in (None, one.rule)
        and call.query["equipment"] in (None, one.equipment)
    ]
    limit = call.query["limit"] or context.settings.page_limit
    begin = 0
    if (after := call.query["after"]) is not None:
        places = [place for place, one in enumerate(seen) if one.id == after]
        if not places:
            raise invalid_parameter(
                "after", "there is no such violation in the range", "Begin anew without it."
            )
        begin = places[0] + 1
    page = seen[begin : begin + limit]
    next_ = page[-1].id if begin + limit < len(seen) else None
    # Which rules could not be judged says nothing of an area.
    incomplete = found.incomplete if call.by.areas is None else ()
    return await list_answer(
        ViolationList(page, next_, incomplete), call.headers, context.settings.gzip_bytes_min
    )


async def give_reason(context: Context, call: Call) -> Response:
    """Say why an equipment was in a state: a correction that names the same state, with the reason."""
    view = find_equipment(context.ports.live, call.path["name"], call.by)
    wanted: WantedReason = call.body
    transition = await _transition(context, view.name, wanted.seq)
    event = transition.event
    assert isinstance(event, Transition), "looked for"
    around = await context.ports.history.surroundings(transition)
    correction = WantedCorrection(
        reason=wanted.reason,
        author=call.by.name,
        from_=event.at,
        to=None if around.next is None else around.next.at,
        state=event.to_state,
    )
    async with on_record(context, call, "correction.reason", view.name, seq=wanted.seq) as ends:
        recorded = await corrected(context, view.name, correction, None)
        ends["id"] = recorded.id
    return Ready(recorded.json, 201)


async def _transition(context: Context, equipment: str, seq: int) -> Recorded:
    try:
        found = await context.ports.history.event(seq)
    except TooOld:
        found = None
    if found is None or found.equipment != equipment or not isinstance(found.event, Transition):
        hint = f"GET {PREFIX}/equipment/{equipment}/transitions lists them with their seq."
        wrong = ParameterError("body", "seq", "it is not a transition of this equipment", hint)
        raise Problem("invalid_body", f'"seq": {wrong.reason}', hint=hint, errors=(wrong,))
    return found


def _may_know(by: Principal, kind: str) -> bool:
    return kind not in _OF_PEOPLE or by.may(Permission.AUDIT)


_AT = datetime(2026, 11, 21, 13, 5, tzinfo=UTC)
_VIOLATION = Violation(
    id="5d0c1b8e9af32c17",
    rule="downtime-has-a-reason",
    kind="reason_within",
    equipment="filler-1",
    path="filling/line-1/filler-1",
    from_=_AT,
    to=_AT + timedelta(minutes=35),
    settled_at=None,
    reason="Aborted for 35m without a reason within 30m",
    recommendation="say why: andon reason filler-1 1042 --reason TEXT",
)
_RULE = RuleView(
    name="downtime-has-a-reason",
    kind="reason_within",
    scope="filling",
    says="unscheduled-down longer than 5m has a reason within 30m",
    state="violated",
    violations=1,
    judged_at=_AT + timedelta(hours=1),
    reason=None,
)


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/compliance",
            "compliance",
            "The compliance rules and how they stand",
            "Each rule of the configuration, judged now over the last day. What tells of people, keys and "
            "commands only those see who may read the audit trail.",
            list_rules,
            (Answer(200, "The rules.", "application/json", RuleList, {"one": RuleList([_RULE])}),),
            needs=Permission.READ,
        ),
        Operation(
            f"{PREFIX}/compliance/violations",
            "compliance",
            "Where a rule was not kept",
            "Violations within a range of at most 31 days, each with what to do about it. `id` is the same "
            "whenever it is evaluated. What tells of people, keys and commands only those see who may read "
            "the audit trail.",
            list_violations,
            (
                Answer(
                    200,
                    "A page of violations.",
                    "application/json",
                    ViolationList,
                    {"one": ViolationList([_VIOLATION], None, ())},
                ),
            ),
            (
                params.time("from", "Begin; a day before the end when left out.", "2026-11-21T06:00:00Z"),
                params.time("to", "End; now when left out.", "2026-11-21T14:00:00Z"),
                params.text("rule", "Only of this rule.", _RULE.name),
                params.text("equipment", "Only of this equipment.", "filler-1"),
                params.text("after", "Only what follows: `next` of the page before.", _VIOLATION.id),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/equipment/{{name}}/reasons",
            "compliance",
            "Give the reason of a state",
            "Says why the equipment went, or stood, as the transition `seq` tells. Recorded as a correction "
            "that names the same state from its beginning to its end, or to now, with the reason and the "
            "caller's name; nothing that is recorded is changed.",
            give_reason,
            (
                Answer(
                    201,
                    "The correction as recorded.",
                    "application/json",
                    ToldCorrection,
                    {"one": EXAMPLE_CORRECTION},
                ),
            ),
            (NAME,),
            ("unknown_equipment", "not_recorded", "history_unavailable", "audit_unavailable"),
            Body(WantedReason, {"one": {"seq": 1042, "reason": "the light barrier was unplugged"}}),
            needs=Permission.CORRECT,
            method="POST",
            scoped=True,
        ),
    )
