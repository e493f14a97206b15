"""The audit trail: reading it, judging it, taking it elsewhere. Who does so leaves a record in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission
from api.auditing import (
    Audit,
    AuditEntry,
    AuditFault,
    AuditHead,
    AuditRecord,
    AuditUnavailable,
    ExportDiffers,
    Scalar,
    Verdict,
)
from api.exporting import Export, begun
from api.hints import shown
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.params import Param, UnreadableError
from api.ports import HistoryUnavailable
from api.problems import Problem
from api.responses import BASE_HEADERS, NO_STORE, json_answer, list_answer
from api.settings import ApiSettings

_LINES = "application/x-ndjson"


class AuditPage(msgspec.Struct, frozen=True):
    """Records in order.

    `recorded` says that this reading is in the trail itself: it is, unless the trail cannot be written, and
    then it can be read all the same.
    """

    items: Sequence[AuditRecord]
    next: str | None
    head: int
    recorded: bool


class AuditVerdict(Verdict, frozen=True, kw_only=True):
    """A verdict, and whether asking for it is in the trail."""

    recorded: bool = True


class WantedRemoval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Records up to `through` may go; `sha256` is of their export, from the first record there is."""

    through: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Removal(msgspec.Struct, frozen=True):
    """What was removed: all records up to `removed_through`; 0 when no whole file holds only such records."""

    removed_through: int


async def read_audit(context: Context, call: Call) -> Response:
    """A page of records."""
    audit = _audit(context)
    asked = call.query
    limit = asked["limit"] or context.settings.page_limit
    detail = {name: _plain(value) for name, value in asked.items() if value is not None}
    recorded = await _told(audit, _entry(call, "audit.read", detail))
    try:
        items = await audit.read(
            after=asked["after"] or 0,
            limit=limit,
            action=asked["action"],
            actor=asked["actor"],
            from_=asked["from"],
            to=asked["to"],
        )
    except AuditUnavailable as error:
        raise _unavailable(context, error) from error
    next_ = str(items[-1].n) if len(items) == limit else None
    page = AuditPage(items, next_, audit.head().n, recorded)
    return await list_answer(page, call.headers, context.settings.gzip_bytes_min)


async def verify_audit(context: Context, call: Call) -> Response:
    """Judge the whole trail."""
    audit = _audit(context)
    recorded = await _told(audit, _entry(call, "audit.verify", {}))
    try:
        verdict = await audit.verify()
    except AuditUnavailable as error:
        raise _unavailable(context, error) from error
    told = {name: getattr(verdict, name) for name in verdict.__struct_fields__}
    return json_answer(AuditVerdict(**told, recorded=recorded))


async def get_audit_head(context: Context, _: Call) -> Response:
    """The signed head."""
    return json_answer(_audit(context).head())


async def export_audit(context: Context, call: Call) -> Response:
    """Records as they are kept."""
    audit = _audit(context)
    after = call.query["after"] or 0
    through = min(call.query["through"] or audit.head().n, audit.head().n)
    try:
        await audit.record(_entry(call, "export", {"after": after, "through": through}))
        lines = await begun(
            audit.export(after, through), lambda: context.guard.still(call.by), AuditUnavailable
        )
    except AuditUnavailable as error:
        raise _unavailable(context, error) from error
    response = Export(lines, media_type=_LINES)
    response.raw_headers += [NO_STORE, *BASE_HEADERS]
    return response


async def remove_audit(context: Context, call: Call) -> Response:
    """Remove what was exported."""
    audit = _audit(context)
    wanted: WantedRemoval = call.body
    through = min(wanted.through, audit.head().n)
    try:
        removed = await audit.remove(through, wanted.sha256, _entry(call, "audit.removed", {}))
    except AuditUnavailable as error:
        raise _unavailable(context, error) from error
    except ExportDiffers as error:
        raise Problem(
            "export_differs", f"This is not the checksum of the records up to {through}."
        ) from error
    return json_answer(Removal(removed))


@asynccontextmanager
async def on_record(
    context: Context, call: Call, action: str, target: str, **detail: Scalar
) -> AsyncIterator[dict[str, Scalar]]:
    """Do something that has to leave a trace: it is told as begun before, and as "ok" or "failed" after it.

    What is put into the dictionary is told with the end. Where the end cannot be told, or does not come (the
    gateway dies, the caller goes), the beginning stands alone: it may have been done.

    Raises:
        Problem: `audit_unavailable`, and nothing has begun.
    """
    audit = context.ports.audit
    ends: dict[str, Scalar] = {}
    if audit is None:
        yield ends
        return
    known = {name: value for name, value in detail.items() if value is not None}
    entry = msgspec.structs.replace(_entry(call, action, known), target=target, result="begun")
    try:
        n = await audit.record(entry)
    except AuditUnavailable as error:
        raise _unavailable(context, error) from error
    try:
        yield ends
    except (Problem, HistoryUnavailable) as error:
        code = error.kind.code if isinstance(error, Problem) else "history_unavailable"
        failed = {**known, "begun": n}
        await _told(audit, msgspec.structs.replace(entry, result="failed", code=code, detail=failed))
        raise
    done = {**known, **ends, "begun": n}
    await _told(audit, msgspec.structs.replace(entry, result="ok", detail=done))


def _audit(context: Context) -> Audit:
    audit = context.ports.audit
    if audit is None:
        raise Problem("audit_unavailable", "This gateway keeps no audit trail.")
    return audit


async def _told(audit: Audit, entry: AuditEntry) -> bool:
    """Whether it is recorded. A trail that cannot be written can be read: that is when it has to be."""
    try:
        await audit.record(entry)
    except AuditUnavailable:
        return False
    return True


def _entry(call: Call, action: str, detail: Mapping[str, Scalar]) -> AuditEntry:
    return AuditEntry(
        action=action,
        actor=call.by.name,
        kind=call.by.kind,
        via="rest",
        target="audit",
        result="ok",
        detail=detail,
        peer=call.peer,
    )


def _plain(value: object) -> Scalar:
    return value if isinstance(value, int) else str(value)


def _unavailable(context: Context, error: AuditUnavailable) -> Problem:
    retry = (b"retry-after", b"%d" % context.settings.retry_after_s)
    return Problem(
        "audit_unavailable", f"The audit trail is not available: {error.reason}.", headers=(retry,)
    )


def _read_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UnreadableError(f'"{shown(text)}" is not the number of a record', "Numbers begin at 1.")
    return int(text)


def _number(name: str, description: str, example: str) -> Param:
    schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
    return Param(name, _read_number, schema, description, example)


_AT = datetime(2026, 11, 22, 9, 14, 2, 120_000, UTC)
_RECORD = AuditRecord(
    n=812,
    previous="4f9c" * 16,
    at=_AT,
    action="command",
    actor="ada",
    kind="user",
    via="rest",
    target="filler-plc/speed_sp",
    result="verified",
    code="",
    detail={"equipment": "filler-1", "id": "c-5f0a", "read": 80.0, "value": 80.0},
    peer="10.0.0.9",
    hash="b01d" * 16,
)
_HEAD = AuditHead(812, _RECORD.hash, _AT, "5c" * 64, "a7" * 32)
_SOUND = AuditVerdict(
    sound=True,
    records=812,
    first_n=1,
    last_n=812,
    segments=1,
    anchors=31,
    anchored_n=809,
    seconds=0.01,
    key=_HEAD.key,
)
_HARMED = msgspec.structs.replace(
    _SOUND,
    sound=False,
    faults=(
        AuditFault(
            "missing",
            640,
            "records-000000000001.jsonl:640",
            "record 640 is missing before this line",
            "keep the folder as it is for whoever investigates; compare it with a backup or an export",
        ),
    ),
)


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    unavailable = ("audit_unavailable",)
    return (
        Operation(
            f"{PREFIX}/audit",
            "audit",
            "The audit trail",
            "Who did what, oldest first, a page at a time. That it was read is recorded too, before it is.",
            read_audit,
            (
                Answer(
                    200,
                    "A page of records.",
                    "application/json",
                    AuditPage,
                    {"one": AuditPage([_RECORD], None, 812, recorded=True)},
                ),
            ),
            (
                params.text(
                    "action", "Only this action and those below: command finds command.arm.", "command"
                ),
                params.text("actor", "Only what this user, key or program did.", "ada"),
                params.time("from", "Only records of this time and later."),
                params.time("to", "Only records of before this time."),
                _number("after", "Only what follows this record: next of the page before.", "811"),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            unavailable,
            needs=Permission.AUDIT,
        ),
        Operation(
            f"{PREFIX}/audit/head",
            "audit",
            "The signed head of the audit trail",
            "Number and hash of the newest record, signed. Keep it elsewhere: `andon audit verify --head` "
            "shows later that nothing up to it was changed, removed or computed anew.",
            get_audit_head,
            (Answer(200, "The head.", "application/json", AuditHead, {"one": _HEAD}),),
            problems=unavailable,
            needs=Permission.AUDIT,
        ),
        Operation(
            f"{PREFIX}/audit/verify",
            "audit",
            "Whether the audit trail is what was written",
            "Reads every record and judges the chain, the signed head, and what journal and database "
            "hold of earlier heads. Takes some seconds for a million records.",
            verify_audit,
            (
                Answer(
                    200,
                    "The verdict; not sound when there are faults.",
                    "application/json",
                    AuditVerdict,
                    {"sound": _SOUND, "a record removed": _HARMED},
                ),
            ),
            problems=unavailable,
            needs=Permission.AUDIT,
        ),
        Operation(
            f"{PREFIX}/audit/export",
            "audit",
            "Records as they are kept",
            "One line of JSON each, byte for byte as in the gateway's files, so that the chain can be "
            "verified anywhere. The export is recorded first; without that there is none. Where it cannot go "
            "on, or the right to it ends, the connection is cut: what ends in order is whole.",
            export_audit,
            (
                Answer(
                    200,
                    "Lines of records.",
                    _LINES,
                    {"type": "string"},
                    {"one": msgspec.json.encode(_RECORD).decode() + "\n"},
                ),
            ),
            (
                _number("after", "Only what follows this record.", "0"),
                _number("through", "Only up to this record; the newest when left out.", "812"),
            ),
            unavailable,
            needs=Permission.AUDIT,
        ),
        Operation(
            f"{PREFIX}/audit/removals",
            "audit",
            "Remove the oldest records once they are exported",
            "Removes whole files of records up to a number, under a signed checkpoint that keeps the rest "
            "verifiable, and records who wanted it. `sha256` is that of an export of all records from the "
            "first there is up to `through`.",
            remove_audit,
            (Answer(200, "How far they were removed.", "application/json", Removal, {"one": Removal(640)}),),
            problems=("audit_unavailable", "export_differs"),
            body=Body(WantedRemoval, {"one": {"through": 700, "sha256": "9e" * 32}}),
            needs=Permission.AUDIT,
            method="POST",
        ),
    )
