"""What a message is, said in its properties as CloudEvents 1.0 has it: binary content mode of MQTT 5. Pure.

The payload stays as it is; each attribute is a user property of the attribute's own name, and the media type
is the content type of the message (MQTT protocol binding 1.0, section 3.1). `source` and `id` together tell
an event from every other, also when it comes twice. `sequence` (the extension of that name) orders by text,
so it is padded.
"""

from __future__ import annotations

from datetime import datetime

from gateway.mqtt.properties import Id, number, pack, packed_number, packed_text
from statemodel.records import TYPE_OF, EquipmentState, Recorded
from statemodel.types import AuditAnchor, CommandTold, TagSample

#: Version of the specification that all this follows.
SPECVERSION = "1.0"
#: Media type of all payloads that are CloudEvents.
JSON = "application/json"

#: Types of CloudEvent. Consumers filter by them; they never change their meaning.
TYPES = {name: f"andon.{name}" for name in (*TYPE_OF.values(), "state", "tag")}

#: Subject of events that are about no equipment and no connection: an attribute is never empty.
_SUBJECTS_OF = {CommandTold: "commands", AuditAnchor: "audit"}

_LATE = bytes((Id.USER,)) + packed_text("late") + packed_text("true")
#: A user property up to its value.
_ID, _TIME, _SUBJECT, _SEQUENCE = (
    bytes((Id.USER,)) + packed_text(name) for name in ("id", "time", "subject", "sequence")
)


def dataschema(name: str) -> str:
    """The identity of a payload's JSON Schema, as `andon schema` prints it. It is no address."""
    return f"urn:andon:schema:{name}:1"


def source(enterprise: str, site: str, gateway: str) -> str:
    """The identity of a gateway as the source of CloudEvents."""
    return f"urn:andon:gateway:{enterprise}:{site}:{gateway}"


class CloudEvents:
    """The properties of all messages of one gateway and one journal (`stream`).

    `expiry_s` maps names of payloads (`state`, `tag`, types of event) to the expiry of their messages.
    """

    def __init__(self, source: str, stream: str, expiry_s: dict[str, int | None] | None = None) -> None:
        self._stream = stream
        expiries = expiry_s or {}
        self._fixed = {name: _fixed(name, source, expiries.get(name)) for name in TYPES}
        self._subjects: dict[str, bytes] = {}

    def event(self, event: Recorded, *, late: bool = False) -> bytes:
        """Of an event: its own id, which is the same on every delivery."""
        subject = event.equipment or getattr(event.event, "connection", "") or _SUBJECTS_OF[type(event.event)]
        parts = self._parts(event.type, event.id, event.at, subject)
        parts += _property(_SEQUENCE, b"%020d" % event.seq)
        return _with_length(parts + _LATE if late else parts)

    def state(self, state: EquipmentState) -> bytes:
        """Of a state. Its id is not that of the transition that led to it: those are two CloudEvents."""
        id_ = f"{self._stream}-{state.seq}-state"
        if not state.seq:  # before the first transition, each start of the gateway has one of its own
            id_ = f"{self._stream}-0-{state.equipment}-{_instant(state.since)}"
        parts = self._parts("state", id_, state.since, state.equipment)
        return _with_length(parts + _property(_SEQUENCE, b"%020d" % state.seq))

    def tag(self, sample: TagSample) -> bytes:
        """Of a sample of a tag: known again by the tag and its two times."""
        at = _instant(sample.received_at)
        by_source = _instant(sample.source_at) if sample.source_at is not None else ""
        parts = self._parts(
            "tag", f"{sample.tag}@{at}/{by_source}", sample.source_at or sample.received_at, sample.tag
        )
        return _with_length(parts)

    def _parts(self, name: str, id_: str, at: datetime, subject: str) -> bytes:
        known = self._subjects.get(subject)
        if known is None:
            if len(self._subjects) >= _SUBJECTS_MAX:
                self._subjects.clear()
            known = self._subjects[subject] = _property(_SUBJECT, subject.encode())
        time = _instant(at).encode()
        identity = id_.encode()
        return b"".join(
            (
                self._fixed[name],
                known,
                _ID,
                len(identity).to_bytes(2, "big"),
                identity,
                _TIME,
                len(time).to_bytes(2, "big"),
                time,
            )
        )


#: Subjects kept packed; beyond it they are packed anew.
_SUBJECTS_MAX = 50_000


def _fixed(name: str, source: str, expiry_s: int | None) -> bytes:
    """What all messages of one kind have in common, without the length."""
    user = (
        ("specversion", SPECVERSION),
        ("type", TYPES[name]),
        ("source", source),
        ("dataschema", dataschema(name)),
    )
    packed = pack(expiry_s=expiry_s, content_type=JSON, text=True, user=user)
    return packed[number(packed, 0)[1] :]


def _property(name: bytes, value: bytes) -> bytes:
    return name + len(value).to_bytes(2, "big") + value


def _with_length(parts: bytes) -> bytes:
    return packed_number(len(parts)) + parts


def _instant(at: datetime) -> str:
    """RFC 3339, in UTC."""
    text = at.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text
