"""A command on its way, in values: from the request to what is kept, told and audited. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from api.access import Principal
from api.auditing import AuditEntry, Scalar
from api.commanding import Approval, CommandRefused, CommandRequest, CommandView
from api.refusals import REFUSALS
from gateway.config.control import AllowSettings
from gateway.control.carrying import Carried, Halt
from gateway.control.facts import Facts
from gateway.control.ledger import Entry, Stage
from statemodel.types import CommandStatus, CommandTold

_encode = msgspec.json.Encoder(order="deterministic").encode

#: Statuses whose answer is a refusal.
REFUSED = frozenset((CommandStatus.REFUSED, CommandStatus.EXPIRED))


def fingerprint(request: CommandRequest, by: Principal) -> str:
    """What makes two requests the same: all that was asked for, and who asked. A text is no number in it."""
    asked = {**msgspec.structs.asdict(request), "peer": "", "by": (by.kind, by.name)}
    return hashlib.blake2b(_encode(asked), digest_size=16).hexdigest()


def label_of(rule: AllowSettings) -> str:
    """Under which a rule's commands are counted."""
    return rule.tag or f"{rule.equipment}:packml"


def begun(
    id_: str,
    request: CommandRequest,
    by: Principal,
    via: str,
    rule: AllowSettings | None,
    *,
    path: str,
    at: datetime,
    expires_at: datetime,
    stage: Stage,
) -> Entry:
    """A command as it is first kept, accepted."""
    view = CommandView(
        id=id_,
        key=request.key,
        status=CommandStatus.ACCEPTED,
        tag=request.tag,
        value=request.value,
        equipment=request.equipment if rule is None else rule.equipment,
        path=path,
        command=request.command,
        requested_by=by.name,
        requested_at=at,
        via=via,
        expires_at=expires_at,
        waits_for={Stage.WAITING: "approval", Stage.GOING: "device"}.get(stage, ""),
        dry_run=request.dry_run,
        note=request.note,
    )
    return Entry(
        view=view,
        fingerprint=fingerprint(request, by),
        label="" if rule is None else label_of(rule),
        stage=stage,
        by_kind=by.kind,
        made_by=by.made_by,
        peer=request.peer,
        not_after=request.not_after,
    )


def taken(id_: str, facts: Facts, stage: Stage) -> Entry:
    """A command as it is first kept, with what it was judged by."""
    entry = begun(
        id_,
        facts.request,
        facts.by,
        facts.via,
        facts.rule,
        path=facts.path,
        at=facts.now,
        expires_at=facts.now + timedelta(seconds=facts.until_s - facts.now_s),
        stage=stage,
    )
    previous = None if facts.present is None else facts.present.value
    dry_run = facts.request.dry_run or facts.settings.dry_run
    view = msgspec.structs.replace(entry.view, previous=previous, dry_run=dry_run)
    return msgspec.structs.replace(entry, previous=previous, basis=facts.basis, view=view)


def left_s(entry: Entry, now: datetime) -> float:
    """How long it may still wait, in seconds; never more than its lifetime, whatever the clock was set to."""
    view = entry.view
    return min(view.expires_at - now, view.expires_at - view.requested_at).total_seconds()


def request_of(entry: Entry) -> CommandRequest:
    """What was asked for, of an entry: for what goes on later. Its arming has been used."""
    view = entry.view
    return CommandRequest(
        key=view.key,
        tag=view.tag,
        value=view.value,
        equipment="" if view.tag else view.equipment,
        command=view.command,
        not_after=entry.not_after,
        dry_run=view.dry_run,
        note=view.note,
        peer=entry.peer,
    )


def ended(entry: Entry, carried: Carried, at: datetime) -> Entry:
    """The same at its end, which is still to be told and audited."""
    hint = REFUSALS[carried.code].hint if carried.code in REFUSALS else ""
    view = msgspec.structs.replace(
        entry.view,
        status=carried.status,
        waits_for="",
        finished_at=at,
        code=carried.code,
        reason=carried.reason,
        hint=hint,
        read=carried.read,
    )
    return msgspec.structs.replace(entry, view=view, stage=Stage.DONE, told=False, audited=False)


def refused(entry: Entry, halt: Halt, at: datetime) -> Entry:
    """The same, refused before anything was sent."""
    status = CommandStatus.EXPIRED if halt.code == "expired" else CommandStatus.REFUSED
    done = ended(entry, Carried(status, halt.code, halt.reason), at)
    return msgspec.structs.replace(done, view=msgspec.structs.replace(done.view, hint=halt.hint))


def answer(entry: Entry) -> CommandView:
    """What the caller is told.

    Raises:
        CommandRefused: that it was refused.
    """
    view = entry.view
    if view.status in REFUSED:
        raise CommandRefused(view.code, view.reason, view.hint, view=view)
    return view


def told(entry: Entry, at: datetime) -> CommandTold:
    """The event that says how far it has come."""
    view = entry.view
    return CommandTold(
        command_id=view.id,
        equipment=view.equipment if view.path else "",
        path=view.path,
        tag=view.tag,
        command=view.command,
        value=view.value,
        requested_by=view.requested_by,
        via=view.via,
        status=view.status,
        at=at,
        code=view.code,
        reason=view.reason,
        read=view.read,
        approved_by=view.approved_by,
        dry_run=view.dry_run,
        key=view.key,
    )


def audited(entry: Entry) -> AuditEntry:
    """The record that opens it, or closes it: then its result is final."""
    view = entry.view
    detail: dict[str, Scalar] = {"id": view.id, "key": view.key, "value": view.value}
    more: Mapping[str, Scalar] = {
        "equipment": view.equipment,
        "reason": view.reason,
        "read": view.read,
        "previous": entry.previous,
        "approved_by": view.approved_by,
        "note": view.note,
        "dry_run": view.dry_run,
    }
    detail |= {name: value for name, value in more.items() if value not in ("", None, False)}
    return AuditEntry(
        action="command",
        actor=view.requested_by,
        kind=entry.by_kind,
        via=view.via,
        target=view.tag or f"{view.equipment}:{view.command}",
        result=view.status.value,
        code=view.code,
        detail=detail,
        peer=entry.peer,
    )


def attempt(
    action: str, request: CommandRequest, by: Principal, via: str, halt: Halt | None, **more: Scalar
) -> AuditEntry:
    """The record of an attempt that is not kept: one act, opened and closed at once."""
    detail: dict[str, Scalar] = {"value": request.value, **more}
    if request.key:
        detail["key"] = request.key
    if halt is not None:
        detail["reason"] = halt.reason
    return AuditEntry(
        action=action,
        actor=by.name,
        kind=by.kind,
        via=via,
        target=request.target,
        result="ok" if halt is None else "refused",
        code="" if halt is None else halt.code,
        detail=detail,
        peer=request.peer,
    )


def vain_approval(id_: str, entry: Entry | None, word: Approval, by: Principal, peer: str) -> AuditEntry:
    """The record of an approval of what does not wait for one; `entry` is None where there is none."""
    found = Halt("unknown_command", "there is no command of this id, or it is kept no more")
    target, via = "", "rest"
    if entry is not None:
        reason = f"it is {entry.view.status}, and does not wait for an approval"
        found, via = Halt("approval_not_needed", reason), entry.view.via
        target = request_of(entry).target
    said = word.value if word.command is None else word.command
    request = CommandRequest(key="", value=said, peer=peer)
    told = attempt("command.approve", request, by, via, found, id=id_[:100])
    return msgspec.structs.replace(told, target=target or f"command {id_}"[:200])
