"""Equipment: which there is, the state it is or was in, its transitions and its timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission
from api.cursor import resume_after, write_cursor
from api.examples import EQUIPMENT_LIST, EQUIPMENT_VIEW, EXAMPLE_EQUIPMENT, STATE, TIMELINE, TRANSITION_LIST
from api.hints import did_you_mean, shown
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.paging import page_by_key, page_of_intervals
from api.params import earlier, invalid_parameter, write_time
from api.ports import EquipmentView, Models
from api.problems import Problem
from api.ranges import KNOWN_AT, known_at_of
from api.responses import encode_json, list_answer, tagged_answer
from api.routes.find import find_equipment, seen_equipment, seen_models
from api.schemas import EquipmentList, Timeline, TransitionList
from api.settings import ApiSettings
from api.waiting import wait_param, waiting
from statemodel.model import CATEGORIES
from statemodel.records import EquipmentState
from statemodel.types import UNKNOWN


async def list_equipment(context: Context, call: Call) -> Response:
    """All equipment with its states."""
    live = context.ports.live
    position = live.position()  # taken first: the states then hold at least everything up to it
    limit = call.query["limit"] or context.settings.page_limit
    seen = seen_equipment(live, call.by)
    models = seen_models(context.ports.models, live, call.by)
    _refuse_unknown_states(call, context.ports.models, models, seen)
    keep = _wanted(call, models)
    items, next_ = page_by_key(seen, lambda view: view.name, call.query["after"], limit, keep)
    page = EquipmentList(items, next_, position.stream, position.last_seq)
    return await list_answer(
        page, call.headers, context.settings.gzip_bytes_min, first_seq=position.first_seq
    )


def _refuse_unknown_states(
    call: Call, models: Models, names: Sequence[str], seen: Sequence[EquipmentView]
) -> None:
    """A state no model has is a slip, which an empty answer would hide."""
    there = {view.state.state for view in seen} | {UNKNOWN}  # most often enough, and the models cost more
    strange = [state for state in call.query["state"] or () if state not in there]
    if not strange:
        return
    for name in names:
        there.update(state["name"] for state in (models.model(name) or {}).get("states", ()))
    if wrong := next((state for state in strange if state not in there), None):
        reason = f'no state model has a state "{shown(wrong)}"'
        otherwise = "GET /api/v1/models names the models, and each names its states."
        raise invalid_parameter("state", reason, did_you_mean(wrong, sorted(there), otherwise))


def _wanted(call: Call, models: Sequence[str]) -> Callable[[EquipmentView], bool]:
    """Whether an equipment is one of those asked for."""
    query = call.query
    path, model, states, categories = query["path"], query["model"], query["state"], query["category"]
    if model is not None and model not in models:
        reason = f'no state model is named "{shown(model)}"'
        raise invalid_parameter("model", reason, did_you_mean(model, models))
    if path is None and model is None and states is None and categories is None:
        return lambda _: True
    below = None if path is None else f"{path.strip('/')}/"

    def keep(view: EquipmentView) -> bool:
        return (
            (below is None or f"{view.path}/".startswith(below))
            and (model is None or view.model == model)
            and (states is None or view.state.state in states)
            and (categories is None or view.state.category in categories)
        )

    return keep


async def get_equipment(context: Context, call: Call) -> Response:
    """One equipment with its state."""
    view = find_equipment(context.ports.live, call.path["name"], call.by)
    stream = context.ports.live.position().stream
    return tagged_answer(encode_json(view), write_cursor(stream, view.state.seq), call.headers)


async def get_equipment_state(context: Context, call: Call) -> Response:
    """The state now, or at an instant."""
    live = context.ports.live
    view = find_equipment(live, call.path["name"], call.by)
    at, known_at = call.query["at"], known_at_of(context, call)
    then = at or known_at
    if call.query["wait"] is not None:
        return waiting(context, call, view)
    if call.query["after"] is not None:
        reason = "it says what to wait for, and wait is left out"
        raise invalid_parameter("after", reason, "Add wait=30s, or leave after out.")
    state = view.state if then is None else await _state_at(context, view.name, then, known_at)
    return tagged_answer(encode_json(state), write_cursor(live.position().stream, state.seq), call.headers)


async def _state_at(context: Context, name: str, at: datetime, known_at: datetime | None) -> EquipmentState:
    now = context.now()
    if at > now + timedelta(seconds=context.settings.clock_skew_s):
        reason = "it lies in the future, where no state is known"
        raise invalid_parameter("at", reason, f"It is {write_time(now)} here.")
    if known_at is not None and at > known_at:
        reason = "it lies after known_at, when nothing was known of it"
        raise invalid_parameter("at", reason, "Ask for an instant at or before known_at.")
    state = await context.ports.history.state_at(name, at, known_at)
    if state is None:
        raise Problem("no_state_yet", f"Nothing is recorded of {name} at {write_time(at)} or before.")
    return state


async def list_transitions(context: Context, call: Call) -> Response:
    """Transitions after a cursor, oldest first, as they were journalled."""
    live = context.ports.live
    view = find_equipment(live, call.path["name"], call.by)
    from_, to = call.query["from"], call.query["to"]
    if from_ is not None and to is not None and from_ >= to:
        raise _window_refused()
    position = live.position()  # taken first: everything up to it is then in the answer or before it
    cursor = call.query["after"]
    after = 0 if cursor is None else resume_after(cursor, position)
    limit = call.query["limit"] or context.settings.page_limit
    found = await context.ports.history.transitions(
        view.name, after=after, from_=from_, to=to, limit=limit + 1
    )
    items = found[:limit]
    seq = max(position.last_seq, items[-1].seq if items else 0)
    next_ = write_cursor(position.stream, items[-1].seq) if len(found) > limit else None
    page = TransitionList([msgspec.Raw(item.json) for item in items], next_, position.stream, seq)
    return await list_answer(page, call.headers, context.settings.gzip_bytes_min)


async def get_timeline(context: Context, call: Call) -> Response:
    """The states between two instants as intervals."""
    live = context.ports.live
    view = find_equipment(live, call.path["name"], call.by)
    now = context.now()
    known_at = known_at_of(context, call)
    now = now if known_at is None else min(now, known_at)
    to = min(call.query["to"] or now, now)  # what has not happened yet is not told
    from_ = call.query["from"]
    if from_ is None:
        from_ = earlier(to, timedelta(seconds=context.settings.timeline_s))
    if from_ >= to:
        raise _window_refused()
    position = live.position()
    limit = call.query["limit"] or context.settings.page_limit_max
    page, asked = None, limit + 1
    while page is None:
        found = await context.ports.history.timeline(view.name, from_, to, asked, known_at)
        page = page_of_intervals(found, limit, complete=len(found) < asked)
        asked *= 2
    items, rest = page
    timeline = Timeline(
        view.name,
        from_,
        rest or to,
        items,
        write_time(rest) if rest else None,
        position.stream,
        position.last_seq,
    )
    return await list_answer(timeline, call.headers, context.settings.gzip_bytes_min)


def _window_refused() -> Problem:
    return invalid_parameter("from", "it is not before to", "Exchange from and to, or move one of them.")


NAME = params.text("name", "Name of the equipment, as configured.", EXAMPLE_EQUIPMENT, "path")
_AFTER = params.cursor(
    "Only transitions after this event: a sequence number, or `stream:seq` as `next` gives it. It promises "
    "continuation without a hole, so a cursor that is too old is refused."
)


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    limit = params.limit(settings.page_limit, settings.page_limit_max)
    long_limit = params.limit(settings.page_limit_max, settings.page_limit_max)
    return (
        Operation(
            f"{PREFIX}/equipment",
            "equipment",
            "All equipment and the state of each",
            "The snapshot to begin with: open the event stream with `after=stream:seq` from this answer and "
            "nothing is missed in between.",
            list_equipment,
            (
                Answer(
                    200,
                    "A page of equipment.",
                    "application/json",
                    EquipmentList,
                    {"one": EQUIPMENT_LIST},
                    tagged=True,
                ),
            ),
            (
                params.text("path", "Only equipment at or below this place.", "filling/line-1"),
                params.text("model", "Only equipment of this model.", "packml"),
                params.names(
                    "state", "Only equipment in one of these states, separated by commas.", "Execute"
                ),
                params.some_of("category", CATEGORIES, "Only equipment in states of these categories."),
                params.text("after", "Only what follows this name: `next` of the page before.", "filler-1"),
                limit,
            ),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/equipment/{{name}}",
            "equipment",
            "One equipment",
            "Its place, model, the tags it is bound to, and its state.",
            get_equipment,
            (
                Answer(
                    200,
                    "The equipment.",
                    "application/json",
                    EquipmentView,
                    {"one": EQUIPMENT_VIEW},
                    tagged=True,
                ),
            ),
            (NAME,),
            ("unknown_equipment",),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/equipment/{{name}}/state",
            "equipment",
            "The state, now or at an instant",
            "Without `at` the state in force, from memory. With `at` the state that was in force then, from "
            "the record, with corrections laid over it. `seq` is that of the transition that led to it, or "
            "of the correction that tells it (then `corrected` is true). With `wait` it answers when the "
            "state moves beyond `after`, at once if it has already, and with the same state when the time is "
            "over. While `stale` is there the gateway can record nothing, and `reason` says why.",
            get_equipment_state,
            (
                Answer(
                    200,
                    "The state.",
                    "application/json",
                    EquipmentState,
                    {"producing": STATE},
                    {"Andon-Wait": "With `wait`: `moved`, or `over` when nothing happened in that time."},
                    tagged=True,
                ),
            ),
            (
                NAME,
                params.time("at", "The instant asked for. It must not lie in the future."),
                KNOWN_AT,
                wait_param(settings),
                params.cursor(
                    "With `wait`: the `seq` of the state the client knows. The present one when left out."
                ),
            ),
            (
                *("unknown_equipment", "no_state_yet", "history_unavailable"),
                *("other_stream", "from_the_future", "too_many_streams", "stopping"),
            ),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/equipment/{{name}}/transitions",
            "equipment",
            "Transitions, oldest first",
            "Transitions with `from <= at < to`, exactly as journalled. Page with `next`; to poll, go on "
            "with `after=stream:seq` of the last page.",
            list_transitions,
            (
                Answer(
                    200,
                    "A page of transitions.",
                    "application/json",
                    TransitionList,
                    {"one": TRANSITION_LIST},
                    tagged=True,
                ),
            ),
            (
                NAME,
                _AFTER,
                params.time("from", "Only transitions at or after this instant.", "2026-11-21T00:00:00Z"),
                params.time("to", "Only transitions before this instant.", "2026-11-22T00:00:00Z"),
                limit,
            ),
            ("unknown_equipment", "too_old", "other_stream", "from_the_future", "history_unavailable"),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/equipment/{{name}}/timeline",
            "equipment",
            "The states as intervals",
            "Every state between two instants, cut exactly at both and without holes. What has not happened "
            "yet is not told: a `to` in the future is taken as now. Corrections are laid over what was told; "
            "their intervals are `corrected`, with the correction's `seq`.",
            get_timeline,
            (
                Answer(
                    200,
                    "The intervals.",
                    "application/json",
                    Timeline,
                    {"a change": TIMELINE},
                    tagged=True,
                ),
            ),
            (
                NAME,
                params.time(
                    "from",
                    f"Where to begin; {settings.timeline_s / 3600:g} h before `to` when left out.",
                    "2026-11-21T22:00:00Z",
                ),
                params.time("to", "Where to end; now when left out.", "2026-11-21T23:00:00Z"),
                KNOWN_AT,
                long_limit,
            ),
            ("unknown_equipment", "history_unavailable"),
            needs=Permission.READ,
            scoped=True,
        ),
    )
