"""Corrections of an equipment's past: making one, withdrawing one, and those there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission, Principal
from api.corrections import KeyReused, NotRecorded, WantedCorrection
from api.cursor import write_cursor
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.paging import page_by_key
from api.params import Param, UnreadableError, read_header
from api.problems import ParameterError, Problem
from api.ranges import KNOWN_AT, known_at_of
from api.responses import Ready, list_answer
from api.routes.audit import on_record
from api.routes.equipment import NAME
from api.routes.find import find_equipment
from api.settings import ApiSettings
from statemodel.corrected import CorrectionRefused
from statemodel.records import Recorded, ToldCorrection, tell
from statemodel.types import CorrectedState, Correction

#: Kinds of callers whose name is that of a person, proven.
_PERSONS = ("user", "token")
_LONG_AGO, _FAR_AHEAD = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class CorrectionList(msgspec.Struct, frozen=True):
    """Corrections of one equipment, in the order they were recorded, each exactly as it was journalled.

    Those that were withdrawn are there too, and so is what withdraws them.
    """

    items: Sequence[msgspec.Raw]
    next: str | None
    stream: str
    seq: int


async def correct_equipment(context: Context, call: Call) -> Response:
    """Record a correction."""
    view = find_equipment(context.ports.live, call.path["name"], call.by)
    header = call.headers.get(b"idempotency-key")
    key = None if header is None else read_header(header, _KEY)
    wanted = _authored(call.body, call.by)
    told = {"author": wanted.author, "withdraws": wanted.withdraws, "key": key}
    async with on_record(context, call, "correction", view.name, **told) as ends:
        recorded = await corrected(context, view.name, wanted, key)
        ends["id"] = recorded.id
    return Ready(recorded.json, 201)


def _authored(wanted: WantedCorrection, by: Principal) -> WantedCorrection:
    """The correction with the name of whoever says so: programs and the gateway's own machine may pass on
    another's, a person who has logged in is known.

    Raises:
        Problem: it is another's name.
    """
    if not wanted.author:
        return msgspec.structs.replace(wanted, author=by.name)
    if by.kind in _PERSONS and wanted.author != by.name:
        reason = f'it is not "{by.name}", who has logged in'
        hint = "Leave it out: it is the caller then."
        wrong = ParameterError("body", "author", reason, hint)
        raise Problem("invalid_body", f'"author": {reason}', hint=hint, errors=(wrong,))
    return wanted


async def corrected(context: Context, equipment: str, wanted: WantedCorrection, key: str | None) -> Recorded:
    """Record a correction.

    Raises:
        Problem: it is refused, or not known to be recorded.
    """
    try:
        return await context.ports.corrections.correct(equipment, wanted, key)
    except CorrectionRefused as error:
        detail = f'"{error.place}": {error.reason}'
        wrong = ParameterError("body", error.place, error.reason, error.hint)
        raise Problem("invalid_body", detail, hint=error.hint, errors=(wrong,)) from error
    except KeyReused as error:
        raise Problem("key_reused", "This Idempotency-Key came with another correction before.") from error
    except NotRecorded as error:
        retry = (b"retry-after", b"%d" % context.settings.retry_after_s)
        raise Problem("not_recorded", error.reason, headers=(retry,)) from error


async def list_corrections(context: Context, call: Call) -> Response:
    """Corrections that touch a range."""
    view = find_equipment(context.ports.live, call.path["name"], call.by)
    known_at = known_at_of(context, call)
    position = context.ports.live.position()
    from_, to = call.query["from"] or _LONG_AGO, call.query["to"] or _FAR_AHEAD
    found = await context.ports.history.corrections(view.name, from_, to, known_at)
    limit = call.query["limit"] or context.settings.page_limit
    page, next_ = page_by_key(found, lambda r: write_cursor(r.stream, r.seq), call.query["after"], limit)
    told = CorrectionList([msgspec.Raw(r.json) for r in page], next_, position.stream, position.last_seq)
    return await list_answer(told, call.headers, context.settings.gzip_bytes_min)


def _read_key(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,128}", text):
        raise UnreadableError("it is not 1 to 128 visible ASCII characters", "Send a UUID, for example.")
    return text


_KEY = Param(
    "Idempotency-Key",
    _read_key,
    {"type": "string"},
    "The caller's own name for this request: sent again, it is done once and answered alike.",
    "4f1c0f0e-2f6a-4f57-9d53-0a0b7a3c9f11",
    "header",
)

_AT = datetime(2026, 11, 21, 13, 5, tzinfo=UTC)
_WANTED: dict[str, Any] = {
    "from": "2026-11-21T13:05:00Z",
    "to": "2026-11-21T13:40:00Z",
    "state": "Held",
    "reason": "the light barrier was unplugged; the line stood for lack of caps",
    "author": "anna",
}
_TOLD = tell(
    Correction(
        "filler-1",
        "filling/line-1/filler-1",
        "packml",
        _AT,
        _AT + timedelta(minutes=35),
        (CorrectedState("Held", 11, "unscheduled-down", _AT, _AT + timedelta(minutes=35)),),
        _WANTED["reason"],
        _WANTED["author"],
    ),
    gateway="line-1",
    stream="7d0c3b9e-5a2f-4e0b-9a57-2f1c8f6f4b1d",
    seq=1043,
    recorded_at=_AT + timedelta(hours=2),
)
EXAMPLE_CORRECTION = msgspec.json.decode(_TOLD.json)


_AFTER = params.text("after", "Only what follows: `next` of the page before.", write_cursor(_TOLD.stream, 7))


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    path = f"{PREFIX}/equipment/{{name}}/corrections"
    return (
        Operation(
            path,
            "equipment",
            "Correct the past",
            "Says what the equipment really was in between two instants. Nothing recorded is changed: the "
            "correction is an event of its own, durable when the answer is there, and laid over what was "
            "told wherever the past is asked for. A later one wins over an earlier one. The present state is "
            "not touched.",
            correct_equipment,
            (
                Answer(
                    201,
                    "The correction as recorded.",
                    "application/json",
                    ToldCorrection,
                    {"one": EXAMPLE_CORRECTION},
                ),
            ),
            (NAME, _KEY),
            ("unknown_equipment", "key_reused", "not_recorded", "history_unavailable", "audit_unavailable"),
            Body(
                WantedCorrection,
                {
                    "a state": _WANTED,
                    "taking it back": {
                        "withdraws": _TOLD.id,
                        "reason": "it was the other filler",
                        "author": "anna",
                    },
                },
            ),
            needs=Permission.CORRECT,
            method="POST",
            scoped=True,
        ),
        Operation(
            path,
            "equipment",
            "The corrections of an equipment",
            "Those that touch the time between two instants, in the order they were recorded, with those "
            "that were withdrawn. Where no database keeps them, as far back as the journal goes.",
            list_corrections,
            (
                Answer(
                    200,
                    "A page of corrections.",
                    "application/json",
                    CorrectionList,
                    {
                        "one": {
                            "items": [EXAMPLE_CORRECTION],
                            "next": None,
                            "stream": _TOLD.stream,
                            "seq": _TOLD.seq,
                        }
                    },
                ),
            ),
            (
                NAME,
                params.time("from", "Only those that touch time after this.", "2026-11-21T00:00:00Z"),
                params.time("to", "Only those that touch time before this.", "2026-11-22T00:00:00Z"),
                KNOWN_AT,
                params.text(
                    "after", "Only what follows: `next` of the page before.", write_cursor(_TOLD.stream, 7)
                ),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            ("unknown_equipment", "history_unavailable"),
            needs=Permission.READ,
            scoped=True,
        ),
    )
