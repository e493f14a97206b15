"""Commands to machines: sending one, arming it, approving it, and what came of those that were sent.

The `Idempotency-Key` follows the IETF draft of that name: without it 400, with another request 422, while the
first is worked on 409, and after that the answer of the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission
from api.commanding import (
    Approval,
    Armed,
    CommandRefused,
    CommandRequest,
    Commands,
    CommandView,
    UnknownCommand,
    WantedArm,
    WantedCommand,
)
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.params import Param, UnreadableError, read_header
from api.problems import ParameterError, Problem
from api.refusals import REFUSALS
from api.responses import json_answer, list_answer
from api.settings import ApiSettings
from statemodel.durations import parse_duration
from statemodel.types import CommandStatus

_PATH = f"{PREFIX}/commands"
#: Refusals that only arming and approving give.
_APPROVING = tuple(code for code in REFUSALS if code.startswith("approval_"))
_SENDING = tuple(code for code in REFUSALS if code not in _APPROVING)


class CommandList(msgspec.Struct, frozen=True):
    """Commands in the order they came, as far as they are kept and may be seen."""

    items: Sequence[CommandView]
    next: str | None


async def send_command(context: Context, call: Call) -> Response:
    """Judge a command and carry it out."""
    wanted: WantedCommand = call.body
    header = call.headers.get(b"idempotency-key")
    if header is None:
        raise Problem("key_missing", "The request has no Idempotency-Key.")
    _judge_target(wanted.tag, wanted.value, wanted.equipment, wanted.command)
    request = CommandRequest(
        key=read_header(header, _KEY),
        tag=wanted.tag or "",
        value=wanted.value,
        equipment=wanted.equipment or "",
        command=wanted.command or "",
        expires_s=None if wanted.expires is None else _seconds(wanted.expires),
        dry_run=wanted.dry_run,
        arm=wanted.arm or "",
        note=wanted.note,
        peer=call.peer,
    )
    try:
        return _told(await _desk(context).submit(request, call.by, "rest"))
    except CommandRefused as refused:
        raise _problem(refused) from None


async def arm_command(context: Context, call: Call) -> Response:
    """Make ready for one command."""
    wanted: WantedArm = call.body
    _judge_target(wanted.tag, wanted.value, wanted.equipment, wanted.command)
    try:
        return json_answer(await _desk(context).arm(wanted, call.by, "rest", call.peer), 201)
    except CommandRefused as refused:
        raise _problem(refused) from None


async def approve_command(context: Context, call: Call) -> Response:
    """The second person."""
    approval: Approval = call.body
    await _found(context, call)
    try:
        return _told(await _desk(context).approve(call.path["id"], approval, call.by, call.peer))
    except CommandRefused as refused:
        raise _problem(refused) from None
    except UnknownCommand:
        raise _unknown() from None


async def get_command(context: Context, call: Call) -> Response:
    """One command and how far it has come."""
    return json_answer(await _found(context, call))


async def list_commands(context: Context, call: Call) -> Response:
    """Commands in the order they came."""
    limit = call.query["limit"] or context.settings.page_limit
    after, commands = call.query["after"] or 0, context.ports.commands
    items: Sequence[CommandView] = ()
    next_: str | None = None
    if commands is not None:
        try:
            items, last = await commands.list(after, limit)
        except CommandRefused as refused:
            raise _problem(refused) from None
        next_ = str(last) if len(items) == limit else None
    told = CommandList([view for view in items if call.by.sees(view.path)], next_)
    return await list_answer(told, call.headers, context.settings.gzip_bytes_min)


def _desk(context: Context) -> Commands:
    if context.ports.commands is None:
        raise Problem("writes_off", "Commands are off.")
    return context.ports.commands


async def _found(context: Context, call: Call) -> CommandView:
    """The command of the path, if the caller may know of it."""
    commands = context.ports.commands
    try:
        view = None if commands is None else await commands.find(call.path["id"])
    except CommandRefused as refused:
        raise _problem(refused) from None
    if view is None or not call.by.sees(view.path):
        raise _unknown()
    return view


def _unknown() -> Problem:
    return Problem("unknown_command", "There is no command of this id, or it is kept no more.")


def _told(view: CommandView) -> Response:
    return json_answer(view, 202 if view.status is CommandStatus.ACCEPTED else 200)


def _problem(refused: CommandRefused) -> Problem:
    headers = []
    if refused.view is not None:
        headers.append((b"location", f"{_PATH}/{refused.view.id}".encode()))
    if refused.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(refused.retry_after_s)))
    code = refused.code
    if code not in REFUSALS:  # one that was kept by another version
        code = "device_refused"
    return Problem(code, _sentence(refused.reason), hint=refused.hint, headers=headers)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."  # it may begin with a name, which stays as it is


def _judge_target(tag: str | None, value: Any, equipment: str | None, command: str | None) -> None:
    """Raises `invalid_body` unless there is either a tag with its value or an equipment with its command."""
    given = {"tag": tag, "value": value, "equipment": equipment, "command": command}
    one, other = ("tag", "value"), ("equipment", "command")
    if tag is not None or value is not None:
        wanted, strange = one, other
    else:
        wanted, strange = other, one
    hint = "Give either tag and value, or equipment and command."
    errors = [ParameterError("body", name, "it is missing", hint) for name in wanted if given[name] is None]
    errors += [
        ParameterError("body", name, f"it cannot be given with {wanted[0]}", hint)
        for name in strange
        if given[name] is not None
    ]
    if errors:
        detail = "; ".join(f'"{error.parameter}": {error.reason}' for error in errors)
        raise Problem("invalid_body", detail, hint=hint, errors=errors)


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as error:
        wrong = ParameterError("body", "expires", str(error), 'Write it with a unit, such as "10s".')
        raise Problem("invalid_body", f'"expires": {error}', hint=wrong.hint, errors=(wrong,)) from None
    return seconds


def _read_key(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,128}", text):
        raise UnreadableError("it is not 1 to 128 visible ASCII characters", "Send a UUID, for example.")
    return text


def _read_after(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UnreadableError("it is no place in the list", "Use next of the page before.")
    return int(text)


_KEY = Param(
    "Idempotency-Key",
    _read_key,
    {"type": "string"},
    "The caller's own name for this command: sent again, it is carried out once and answered alike.",
    "4f1c0f0e-2f6a-4f57-9d53-0a0b7a3c9f11",
    "header",
)
_ID = params.text("id", "Id of the command.", "5b1f0c7a9d2e4c6b8a1f0e3d", "path")

_AT = datetime(2026, 11, 21, 13, 5, tzinfo=UTC)
_VIEW = CommandView(
    id="5b1f0c7a9d2e4c6b8a1f0e3d",
    key="4f1c0f0e-2f6a-4f57-9d53-0a0b7a3c9f11",
    status=CommandStatus.VERIFIED,
    tag="filler-plc/speed_sp",
    value=90.0,
    equipment="filler-1",
    path="filling/line-1/filler-1",
    command="",
    requested_by="anna",
    requested_at=_AT,
    via="rest",
    expires_at=_AT + timedelta(seconds=10),
    finished_at=_AT + timedelta(seconds=1),
    previous=80.0,
    read=90.0,
    sends="filler-plc/speed_sp = 90.0 to opcua nsu=urn:plant;s=Filler.SetSpeed",
)
_EXAMPLE = msgspec.to_builtins(_VIEW)
_WAITING = msgspec.to_builtins(
    msgspec.structs.replace(
        _VIEW, status=CommandStatus.ACCEPTED, waits_for="approval", finished_at=None, read=None, sends=""
    )
)
_ARMED = Armed("Zk3v0x1uWq8rT5nB2cYd6pLhFgJmAeSi", _AT + timedelta(seconds=60))
_VALUE = {"tag": "filler-plc/speed_sp", "value": 90.0}
_BY_NAME = {"equipment": "filler-1", "command": "Start"}


def _answers(what: str) -> tuple[Answer, ...]:
    waits = "It waits for a second person, or is still on its way."
    return (
        Answer(200, what, "application/json", CommandView, {"verified": _EXAMPLE}),
        Answer(202, waits, "application/json", CommandView, {"waiting": _WAITING}),
    )


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            _PATH,
            "commands",
            "Command a machine",
            "Writes a value to a tag, or gives a PackML command, where a configured rule allows it. "
            "It is judged, written down, sent at most once and read back; the answer comes when its end is "
            "known. `written`, `mismatch` and `unknown` are answers too: `status` says what is known, and "
            "nothing is ever sent again. The same Idempotency-Key with the same body gives the same answer.",
            send_command,
            _answers("The command at its end."),
            (_KEY,),
            ("key_missing", *_SENDING),
            Body(
                WantedCommand,
                {
                    "a value": {**_VALUE, "expires": "5s"},
                    "a command": _BY_NAME,
                    "only to see": {**_VALUE, "dry_run": True},
                },
            ),
            needs=Permission.COMMAND,
            method="POST",
            scoped=True,
        ),
        Operation(
            _PATH,
            "commands",
            "The commands of late",
            "Commands in the order they came, refused ones too, for as long as they are kept.",
            list_commands,
            (
                Answer(
                    200,
                    "A page of commands.",
                    "application/json",
                    CommandList,
                    {"one": {"items": [_EXAMPLE], "next": None}},
                ),
            ),
            (
                Param(
                    "after",
                    _read_after,
                    {"type": "integer", "minimum": 0},
                    "Only what follows: `next` of the page before.",
                    "7",
                ),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            ("ledger_unavailable",),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{_PATH}/arm",
            "commands",
            "Arm a command",
            "Makes ready for one command, where a rule wants that: exactly this tag and value, by the same "
            "person, within 60 seconds. It is judged now and again when the command is sent.",
            arm_command,
            (
                Answer(
                    201,
                    "What the command is armed with.",
                    "application/json",
                    Armed,
                    {"armed": msgspec.to_builtins(_ARMED)},
                ),
            ),
            (),
            _SENDING,
            Body(WantedArm, {"a value": _VALUE, "a command": _BY_NAME}),
            needs=Permission.COMMAND,
            method="POST",
            scoped=True,
        ),
        Operation(
            f"{_PATH}/{{id}}",
            "commands",
            "One command",
            "A command and how far it has come.",
            get_command,
            (Answer(200, "The command.", "application/json", CommandView, {"verified": _EXAMPLE}),),
            (_ID,),
            ("unknown_command", "ledger_unavailable"),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{_PATH}/{{id}}/approve",
            "commands",
            "Approve a command",
            "The second person, where a rule wants one: another user, with the value that is meant. The "
            "command is judged again and carried out; the answer comes when its end is known.",
            approve_command,
            _answers("The command at its end."),
            (_ID,),
            ("unknown_command", *_SENDING, *_APPROVING),
            Body(Approval, {"a value": {"value": 90.0}, "a command": {"command": "Start"}}),
            needs=Permission.APPROVE,
            method="POST",
            scoped=True,
        ),
    )
