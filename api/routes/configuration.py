"""The configuration that runs: reading it, replacing it whole, and those that ran before."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission
from api.conditions import IF_MATCH, etag_of, version_of
from api.configuring import (
    MAIN_FILE,
    Change,
    Configuring,
    Difference,
    Edit,
    NotDone,
    Outcome,
    Refused,
    Revision,
    RevisionInfo,
    Running,
    Wish,
)
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.params import Param, UnreadableError
from api.problems import ParameterError, Problem
from api.responses import BASE_HEADERS, NO_STORE, REVALIDATE, Ready, encode_json, json_answer, matches
from api.settings import ApiSettings

#: A whole configuration with its tag lists, as JSON.
BODY_BYTES_MAX = 16_000_000
_T = TypeVar("_T")
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class WantedConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole configuration: files by their names relative to its folder. The configuration itself is
    `andon.toml`, whatever it is called on the gateway's disk. `reason` is kept with it."""

    files: Annotated[dict[str, str], msgspec.Meta(min_length=1, max_length=1000)]
    reason: _Reason


class WantedRestoration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an older configuration is to run again."""

    reason: _Reason


class RevisionList(msgspec.Struct, frozen=True):
    """The configurations that ran, the newest first."""

    items: Sequence[RevisionInfo]


async def get_configuration(context: Context, call: Call) -> Response:
    """What runs."""
    running = _of(context).running()
    tag = etag_of(running.hash)
    headers = (tag, REVALIDATE, *BASE_HEADERS)
    known = call.headers.get(b"if-none-match")
    if known is not None and matches(known, tag[1]):
        response = Response(status_code=304)
        response.raw_headers = list(headers)
        return response
    return Ready(encode_json(running), headers=headers)


async def put_configuration(context: Context, call: Call) -> Response:
    """Run another one."""
    wanted: WantedConfiguration = call.body
    wish = Wish(wanted.files, wanted.reason, version_of(call), call.query["dry_run"] == "true")
    return _told(await _asked(_of(context).apply(wish, call.by, call.peer)))


async def list_revisions(context: Context, _: Call) -> Response:
    """Those that ran."""
    return json_answer(RevisionList(await _of(context).revisions()))


async def get_revision(context: Context, call: Call) -> Response:
    """One of them."""
    found = await _of(context).revision(_number(call))
    if found is None:
        raise _unknown(call.path["number"])
    return Ready(encode_json(found), headers=(NO_STORE, *BASE_HEADERS, etag_of(found.info.hash)))


async def compare_revisions(context: Context, call: Call) -> Response:
    """What differs between two of them."""
    return json_answer(await _asked(_of(context).compare(_number(call), call.query["to"])))


async def restore_revision(context: Context, call: Call) -> Response:
    """Run an older one again."""
    expected, number = version_of(call), _number(call)
    dry_run = call.query["dry_run"] == "true"
    wanted: WantedRestoration = call.body
    return _told(
        await _asked(
            _of(context).restore(number, wanted.reason, expected, call.by, call.peer, dry_run=dry_run)
        )
    )


def _of(context: Context) -> Configuring:
    found = context.ports.configuring
    if found is None:
        raise Problem("configuration_unavailable", "The gateway has not started yet.")
    return found


async def _asked(answer: Awaitable[_T]) -> _T:
    try:
        return await answer
    except Refused as refused:
        errors = tuple(
            ParameterError("file", one.key, one.reason, one.hint, one.file, one.line, one.code)
            for one in refused.problems
        )
        raise Problem(
            "invalid_configuration", f"There are {refused}.".replace("are 1 ", "is 1 "), errors=errors
        ) from None
    except NotDone as failed:
        raise Problem(
            failed.code,
            f"{failed.reason[:1].upper()}{failed.reason[1:]}.",
            hint=failed.hint,
            running=failed.running,
        ) from None


def _told(outcome: Outcome) -> Response:
    return Ready(encode_json(outcome), headers=(NO_STORE, *BASE_HEADERS, etag_of(outcome.hash)))


def _number(call: Call) -> int:
    text = call.path["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _unknown(text)
    return int(text)


def _unknown(text: str) -> Problem:
    return Problem("unknown_revision", f'There is no revision "{text[:40]}".')


def _read_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or int(text) == 0:
        raise UnreadableError("it is not a number of a revision", "Write a whole number from 1, such as 7.")
    return int(text)


_INFO: dict[str, Any] = msgspec.to_builtins(
    RevisionInfo(
        8,
        datetime(2026, 11, 21, 22, 7, 3, tzinfo=UTC),
        "anna",
        "the filler is read twice as often",
        "9f2c41d08b7e" + 52 * "0",
        "rest",
    )
)
_FILES: Mapping[str, str] = {
    MAIN_FILE: '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n',
    "oven.csv": "name,address,type\ntemp,holding:1,uint16\n",
}
_DIFFERENCE: dict[str, Any] = msgspec.to_builtins(
    Difference(
        (
            Change(
                "connection",
                "filler-plc",
                "change",
                (Edit("groups.fast.interval", "1s", "500ms"),),
                ("filler-plc reconnects; filler-1 is Unknown meanwhile",),
            ),
        )
    )
)
_OUTCOME = {
    "status": "applied",
    "hash": _INFO["hash"],
    "revision": _INFO,
    "difference": _DIFFERENCE,
    "warnings": [],
}
_RUNNING = {"hash": _INFO["hash"], "files": _FILES, "revision": _INFO, "warnings": [], "trouble": ""}
_NUMBER = params.text("number", "Number of the revision.", "7", "path")
_DRY = params.one_of("dry_run", ("true", "false"), "Judge it and say what would change; change nothing.")
_TO = Param(
    "to",
    _read_number,
    {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    "Number of the other revision; what runs where it is left out.",
    "8",
)
_ETAG = {"ETag": "The hash of the configuration; send it as If-Match to replace it."}


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    config, revisions = f"{PREFIX}/config", f"{PREFIX}/config/revisions"
    changing = (
        *("version_required", "changed_meanwhile", "invalid_configuration", "audit_unavailable"),
        *("configuration_needs_admin", "configuration_edited_on_disk", "configuration_needs_restart"),
        *("configuration_not_exchanged", "configuration_not_writable", "configuration_unavailable"),
    )
    changed = Answer(200, "What became of it.", "application/json", Outcome, {"applied": _OUTCOME}, _ETAG)
    return (
        Operation(
            config,
            "configuration",
            "The configuration that runs",
            "Its files as they were written: secrets are references in them, never values. `trouble` says "
            "why the files on the gateway's disk are not what runs, where they are not.",
            get_configuration,
            (
                Answer(200, "What runs.", "application/json", Running, {"one": _RUNNING}, _ETAG),
                Answer(304, "The configuration is the one the client has already.", headers=_ETAG),
            ),
            problems=("configuration_unavailable",),
            needs=Permission.CONFIGURE,
        ),
        Operation(
            config,
            "configuration",
            "Run another configuration",
            "Judged as `andon check` does, then run whole or not at all; only what differs is disturbed. It "
            "is kept as a revision and written to the gateway's files. The same files again do nothing.",
            put_configuration,
            (changed,),
            (IF_MATCH, _DRY),
            changing,
            Body(
                WantedConfiguration,
                {"files": {"files": _FILES, "reason": _INFO["reason"]}},
                BODY_BYTES_MAX,
            ),
            needs=Permission.CONFIGURE,
            method="PUT",
        ),
        Operation(
            revisions,
            "configuration",
            "The configurations that ran",
            "The newest first. An edit of the files behind the gateway's back is one of them.",
            list_revisions,
            (Answer(200, "The revisions.", "application/json", RevisionList, {"one": {"items": [_INFO]}}),),
            problems=("configuration_unavailable",),
            needs=Permission.CONFIGURE,
        ),
        Operation(
            f"{revisions}/{{number}}",
            "configuration",
            "One configuration that ran",
            "With its files.",
            get_revision,
            (
                Answer(
                    200,
                    "The revision.",
                    "application/json",
                    Revision,
                    {"one": {"info": _INFO, "files": _FILES}},
                    {"ETag": "The hash of its files."},
                ),
            ),
            (_NUMBER,),
            ("unknown_revision", "configuration_unavailable"),
            needs=Permission.CONFIGURE,
        ),
        Operation(
            f"{revisions}/{{number}}/difference",
            "configuration",
            "What differs between two configurations",
            "From this revision to another one, or to what runs, and what each change would touch.",
            compare_revisions,
            (Answer(200, "The difference.", "application/json", Difference, {"one": _DIFFERENCE}),),
            (_NUMBER, _TO),
            ("unknown_revision", "invalid_configuration", "configuration_unavailable"),
            needs=Permission.CONFIGURE,
        ),
        Operation(
            f"{revisions}/{{number}}/restore",
            "configuration",
            "Run an older configuration again",
            "As a new revision that says which one it was restored from.",
            restore_revision,
            (changed,),
            (_NUMBER, IF_MATCH, _DRY),
            (*changing, "unknown_revision"),
            Body(WantedRestoration, {"back": {"reason": "the filler lost its counter"}}),
            needs=Permission.CONFIGURE,
            method="POST",
        ),
    )
