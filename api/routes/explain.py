"""Why an equipment is, or was, in a state: the record's own answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from starlette.responses import Response

from api import params
from api.access import Permission, Principal
from api.cursor import Cursor, resume_after, too_old
from api.examples import EXAMPLE_CURSOR, EXPLANATION
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.params import Param, invalid_parameter, read_cursor, write_time
from api.ports import EquipmentView, HistoryUnavailable, TooOld
from api.problems import Problem
from api.responses import json_answer
from api.routes.equipment import NAME
from api.routes.find import find_equipment
from api.settings import ApiSettings
from statemodel.explain import Explanation, corrected_between, explain
from statemodel.records import Recorded

_INSTANT = timedelta(microseconds=1)


async def explain_state(context: Context, call: Call) -> Response:
    """Explain the transition that led to the state now, at an instant, or the one of a sequence."""
    view = find_equipment(context.ports.live, call.path["name"], call.by)
    seq, at = call.query["seq"], call.query["at"]
    if seq is not None and at is not None:
        raise invalid_parameter("at", "it cannot be given together with seq", "Leave one of them out.")
    if seq is not None:
        recorded = await _transition_numbered(context, view.name, seq, call.by)
    else:
        recorded = await _transition_in_force(context, view, at)
    history = context.ports.history
    around = await history.surroundings(recorded)
    incomplete = [around.incomplete] if around.incomplete else []
    if seq is None:
        begin = context.now() if at is None else at
        end = begin + _INSTANT
    else:
        begin, end = recorded.at, context.now() if around.next is None else around.next.at
    corrections: Sequence[Recorded] = ()
    try:
        corrections = await history.corrections(view.name, begin, max(end, begin + _INSTANT))
    except HistoryUnavailable as error:
        incomplete.append(f"whether it was corrected ({error.reason})")
    told = explain(
        recorded,
        rejections=around.rejections,
        previous=around.previous,
        following=around.next,
        corrected=corrected_between(corrections, begin, end),
        incomplete="; ".join(incomplete) or None,
    )
    return json_answer(told)


async def _transition_in_force(context: Context, view: EquipmentView, at: datetime | None) -> Recorded:
    now = context.now()
    recorded = await context.ports.history.transition_at(view.name, now if at is None else at)
    if recorded is not None:
        return recorded
    if at is not None and at < now:
        raise Problem("no_state_yet", f"Nothing is recorded of {view.name} at {write_time(at)} or before.")
    reason = f": {view.state.reason}" if view.state.reason else ""
    raise Problem(
        "no_state_yet",
        f"{view.name} has made no transition yet{reason}.",
        hint="Look at its connections: GET /api/v1/connections.",
    )


async def _transition_numbered(context: Context, name: str, cursor: Cursor, by: Principal) -> Recorded:
    """The transition of this number.

    Raises:
        Problem: `other_stream`, `from_the_future`, `too_old`, or `unknown_transition` with what the number
            is instead.
    """
    position = context.ports.live.position()
    if cursor.seq < 1:
        raise invalid_parameter("seq", "it is less than 1", "Events are numbered from 1.")
    resume_after(Cursor(cursor.stream, max(cursor.seq, position.first_seq)), position)
    try:
        recorded = await context.ports.history.event(cursor.seq)
    except TooOld as error:
        raise too_old(cursor.seq - 1, error.position) from None
    if recorded is None:
        raise Problem("unknown_transition", f"Event {cursor.seq} is not held any more.")
    if recorded.equipment != name and not by.sees(recorded.path):
        raise Problem("unknown_transition", f"Event {cursor.seq} is not a transition of {name}.")
    if recorded.type != "transition" or recorded.equipment != name:
        kind = recorded.type.replace("_", " ")
        about = f" of {recorded.equipment}" if recorded.equipment else ""
        path = f"{PREFIX}/equipment/{recorded.equipment}/explain?seq={cursor.seq}"
        hint = f"GET {path}." if recorded.type == "transition" else ""
        raise Problem(
            "unknown_transition",
            f"Event {cursor.seq} is a {kind}{about}, not a transition of {name}.",
            hint=hint,
        )
    return recorded


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/equipment/{{name}}/explain",
            "equipment",
            "Why it is, or was, in a state",
            "Explains one transition from the record alone: the rule or code that decided, its inputs with "
            "value, quality and the times of source and receipt, the moves refused before and since, the "
            "state before and how long it lasted, and the transitions around it. Without parameters the one "
            "that led to the present state; with `at` the one that led to the state then; with `seq` the "
            "one of that number, which stays the same answer years later. Corrections that lie over the time "
            "asked for are told in `corrected`. What could not be read of the surroundings is left out and "
            "said in `incomplete`.",
            explain_state,
            (Answer(200, "The explanation.", "application/json", Explanation, {"a move": EXPLANATION}),),
            (
                NAME,
                Param(
                    "seq",
                    read_cursor,
                    {"type": "string"},
                    "Number of the transition's event: a sequence number, or `stream:seq`.",
                    EXAMPLE_CURSOR,
                ),
                params.time("at", "Explain the state that was in force at this instant."),
            ),
            (
                "unknown_equipment",
                "unknown_transition",
                "no_state_yet",
                "too_old",
                "other_stream",
                "from_the_future",
                "history_unavailable",
            ),
            needs=Permission.READ,
            scoped=True,
        ),
    )
