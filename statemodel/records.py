"""How an event is told: the one JSON form that REST, SSE, MQTT and the database all carry.

An event is encoded once, when the journal numbers it, and the same bytes travel everywhere after that.
This module knows the form; it does not know who stores or sends it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec

from statemodel.types import (
    UNKNOWN,
    AuditAnchor,
    Cause,
    CommandStatus,
    CommandTold,
    Conformance,
    CorrectedState,
    Correction,
    DeviceEvent,
    Gap,
    Recordable,
    Rejection,
    SourceLost,
    SourceRestored,
    TagValue,
    Transition,
)

#: Type word of each kind of event, as consumers see it.
TYPE_OF: dict[type, str] = {
    Transition: "transition",
    Rejection: "rejection",
    SourceLost: "source_lost",
    SourceRestored: "source_restored",
    Gap: "gap",
    DeviceEvent: "device_event",
    Correction: "correction",
    CommandTold: "command",
    AuditAnchor: "audit_anchor",
}


class Recorded(msgspec.Struct, frozen=True):
    """An event the journal holds: its number, its identity, and the bytes every consumer gets.

    `seq` counts all events of a `stream` from 1 without a gap. `id` is the same on every re-delivery.
    `equipment` and `path` are empty for events about a connection or about the gateway itself.
    """

    stream: str
    seq: int
    id: str
    type: str
    equipment: str
    path: str
    at: datetime
    recorded_at: datetime
    event: Recordable
    json: bytes


class ToldTransition(msgspec.Struct, frozen=True):
    """JSON form of a transition; the order of its fields is the order people read them in."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: str
    path: str
    model: str
    sequence: int
    from_state: str
    to_state: str
    code: int | None
    category: str | None
    at: datetime
    recorded_at: datetime
    duration_s: float
    conformance: Conformance
    skipped: tuple[str, ...]
    cause: Cause

    def event(self) -> Transition:
        """The transition without its envelope. Field by field: a seventh of the time, and most are these."""
        return Transition(
            self.equipment,
            self.path,
            self.model,
            self.sequence,
            self.from_state,
            self.to_state,
            self.code,
            self.category,
            self.at,
            self.duration_s,
            self.conformance,
            self.skipped,
            self.cause,
        )


class ToldRejection(msgspec.Struct, frozen=True):
    """JSON form of a refused move."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: str
    path: str
    model: str
    state: str
    attempted: str
    at: datetime
    recorded_at: datetime
    reason: str
    cause: Cause

    def event(self) -> Rejection:
        """The rejection without its envelope."""
        return _without_envelope(self, Rejection)


class ToldSource(msgspec.Struct, frozen=True, kw_only=True):
    """JSON form of an event about a connection: lost, restored, or a gap (then with `until`)."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: None = None
    connection: str
    at: datetime
    recorded_at: datetime
    reason: str
    until: datetime | msgspec.UnsetType = msgspec.UNSET
    tag: str | msgspec.UnsetType = msgspec.UNSET

    def event(self) -> SourceLost | SourceRestored | Gap:
        """The event without its envelope."""
        if self.type == "source_lost":
            return SourceLost(self.connection, self.at, self.reason)
        if self.type == "source_restored":
            return SourceRestored(self.connection, self.at, self.reason)
        return Gap(self.connection, self.at, self.until or self.at, self.reason, self.tag or "")


class ToldDeviceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """JSON form of a device's own event. It belongs to a connection, so `equipment` is null."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: None = None
    connection: str
    at: datetime
    recorded_at: datetime
    kind: str
    source: str
    severity: int | None
    message: str
    event_id: str
    source_at: datetime | None
    received_at: datetime
    source_node: str
    condition: str
    condition_node: str
    branch: str
    active: bool | None
    acknowledged: bool | None
    confirmed: bool | None
    suppressed: bool | None
    retain: bool | None
    comment: str
    user: str
    refreshed: bool

    def event(self) -> DeviceEvent:
        """The event without its envelope."""
        return _without_envelope(self, DeviceEvent)


class ToldCorrection(msgspec.Struct, frozen=True):
    """JSON form of a correction: what is known now of the time from `at` to before `until`."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: str
    path: str
    model: str
    at: datetime
    until: datetime
    recorded_at: datetime
    intervals: tuple[CorrectedState, ...]
    reason: str
    author: str
    withdraws: str | None
    key: str | None
    cause: Cause | None

    def event(self) -> Correction:
        """The correction without its envelope."""
        return _without_envelope(self, Correction)


class ToldCommand(msgspec.Struct, frozen=True):
    """JSON form of a command that was accepted, or has ended. `equipment` is null when it is for none."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: str | None
    path: str
    command_id: str
    tag: str
    command: str
    value: TagValue
    status: CommandStatus
    code: str
    reason: str
    read: TagValue
    requested_by: str
    approved_by: str
    via: str
    dry_run: bool
    key: str
    at: datetime
    recorded_at: datetime

    def event(self) -> CommandTold:
        """The command without its envelope."""
        told = msgspec.structs.replace(self, equipment=self.equipment or "")
        return _without_envelope(told, CommandTold)


class ToldAuditAnchor(msgspec.Struct, frozen=True, kw_only=True):
    """JSON form of where the audit trail stood. It is about the gateway, so `equipment` is null."""

    stream: str
    seq: int
    id: str
    type: str
    gateway: str
    equipment: None = None
    at: datetime
    recorded_at: datetime
    n: int
    hash: str
    signature: str
    key: str

    def event(self) -> AuditAnchor:
        """The anchor without its envelope."""
        return _without_envelope(self, AuditAnchor)


class EquipmentState(msgspec.Struct, frozen=True):
    """JSON form of a state: what retained MQTT topics and `GET /equipment/{name}/state` give.

    `reason` is a sentence when the state is `Unknown`, else null. `seq` is that of the transition that led
    here, 0 before the first. `corrected` is there, and true, when a correction tells it: then `seq` is that
    of the correction. `stale` is there, and true, while the gateway can record nothing: the equipment may
    have moved since, and `reason` says why that is not known.
    """

    equipment: str
    path: str
    model: str
    state: str
    code: int | None
    category: str | None
    since: datetime
    seq: int
    sequence: int
    reason: str | None
    corrected: bool | msgspec.UnsetType = msgspec.UNSET
    stale: bool | msgspec.UnsetType = msgspec.UNSET


Told = (
    ToldTransition
    | ToldRejection
    | ToldSource
    | ToldDeviceEvent
    | ToldCorrection
    | ToldCommand
    | ToldAuditAnchor
)

_TOLD_AS: dict[type, type[Told]] = {
    Transition: ToldTransition,
    Rejection: ToldRejection,
    SourceLost: ToldSource,
    SourceRestored: ToldSource,
    Gap: ToldSource,
    DeviceEvent: ToldDeviceEvent,
    Correction: ToldCorrection,
    CommandTold: ToldCommand,
    AuditAnchor: ToldAuditAnchor,
}

_E = TypeVar("_E", Rejection, DeviceEvent, Correction, CommandTold, AuditAnchor)


def _without_envelope(told: Told, event: type[_E]) -> _E:
    return event(*(getattr(told, field) for field in event.__struct_fields__))


_encode = msgspec.json.Encoder().encode
_decode_transition = msgspec.json.Decoder(ToldTransition).decode
_decode_rejection = msgspec.json.Decoder(ToldRejection).decode
_decode_device_event = msgspec.json.Decoder(ToldDeviceEvent).decode
_decode_correction = msgspec.json.Decoder(ToldCorrection).decode
_decode_command = msgspec.json.Decoder(ToldCommand).decode
_decode_audit_anchor = msgspec.json.Decoder(ToldAuditAnchor).decode
_decode_source = msgspec.json.Decoder(ToldSource).decode


def event_id(stream: str, seq: int) -> str:
    """Identity of an event: unique over all gateways, computable by anyone who has stream and seq."""
    return f"{stream}-{seq}"


def tell(event: Recordable, *, gateway: str, stream: str, seq: int, recorded_at: datetime) -> Recorded:
    """Give an event its number and its bytes."""
    if type(event) is Transition:  # what there is most of, and what is waited for
        return _tell_transition(event, gateway, stream, seq, recorded_at)
    type_ = TYPE_OF[type(event)]
    fields = msgspec.structs.asdict(event)
    if type_ == "command":
        fields["equipment"] = fields["equipment"] or None
    told = _TOLD_AS[type(event)](
        stream=stream,
        seq=seq,
        id=event_id(stream, seq),
        type=type_,
        gateway=gateway,
        recorded_at=recorded_at,
        **fields,
    )
    return _recorded(told, event, _encode(told))


def _tell_transition(
    event: Transition, gateway: str, stream: str, seq: int, recorded_at: datetime
) -> Recorded:
    """The same as for all others, field by field: a third of the time."""
    id_ = event_id(stream, seq)
    told = ToldTransition(
        stream,
        seq,
        id_,
        "transition",
        gateway,
        event.equipment,
        event.path,
        event.model,
        event.sequence,
        event.from_state,
        event.to_state,
        event.code,
        event.category,
        event.at,
        recorded_at,
        event.duration_s,
        event.conformance,
        event.skipped,
        event.cause,
    )
    return Recorded(
        stream,
        seq,
        id_,
        "transition",
        event.equipment,
        event.path,
        event.at,
        recorded_at,
        event,
        _encode(told),
    )


def read_told(json: bytes, type_: str) -> Recorded:
    """The event in the bytes `tell` made.

    Raises:
        msgspec.MsgspecError: the bytes are not such an event.
    """
    told: Told
    if type_ == "transition":  # what there is most of
        told = _decode_transition(json)
        return Recorded(
            told.stream,
            told.seq,
            told.id,
            told.type,
            told.equipment,
            told.path,
            told.at,
            told.recorded_at,
            told.event(),
            json,
        )
    if type_ == "rejection":
        told = _decode_rejection(json)
    elif type_ == "device_event":
        told = _decode_device_event(json)
    elif type_ == "correction":
        told = _decode_correction(json)
    elif type_ == "command":
        told = _decode_command(json)
    elif type_ == "audit_anchor":
        told = _decode_audit_anchor(json)
    else:
        told = _decode_source(json)
    return _recorded(told, told.event(), json)


def _recorded(told: Told, event: Recordable, json: bytes) -> Recorded:
    return Recorded(
        stream=told.stream,
        seq=told.seq,
        id=told.id,
        type=told.type,
        equipment=told.equipment or "",
        path="" if isinstance(told, ToldSource | ToldDeviceEvent | ToldAuditAnchor) else told.path,
        at=told.at,
        recorded_at=told.recorded_at,
        event=event,
        json=json,
    )


def state_after(transition: Transition, seq: int) -> EquipmentState:
    """The state a transition leads to, in its told form."""
    return EquipmentState(
        equipment=transition.equipment,
        path=transition.path,
        model=transition.model,
        state=transition.to_state,
        code=transition.code,
        category=transition.category,
        since=transition.at,
        seq=seq,
        sequence=transition.sequence,
        reason=transition.cause.text or transition.cause.rule if transition.to_state == UNKNOWN else None,
    )
