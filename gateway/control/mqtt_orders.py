"""Commands on MQTT topics: which topics, what a message says, and what is answered. Pure.

    {enterprise}/{site}/{path}/_command           a request, to one equipment
    {enterprise}/{site}/{path}/_command/{id}      the answer, under the id of the request

A request is one JSON object. It says when it was sent, since a broker can hold a message back for as long as
it likes, and has an id, since MQTT delivers at least once: one id is one command, however often it comes. The
rest is the desk's to judge. Knows no connection and no desk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from api.commanding import TEXT_CHARS_MAX, CommandRefused, CommandRequest, CommandView, Text, Value
from gateway.config.control import AllowSettings
from gateway.mqtt.terms import Message
from statemodel.durations import parse_duration
from statemodel.types import TagValue

#: Last level of the topic of requests.
COMMAND_LEVEL = "_command"
#: Longest request that is looked at.
REQUEST_BYTES_MAX = 4096
#: A request that says it was sent later than this from now comes from a clock that is wrong.
AHEAD_MAX = timedelta(seconds=5)
_EXPIRES_S_MAX = 3600.0

#: Why a request is turned away before it reaches the desk, in one word each.
KINDS = ("retained", "qos", "too_large", "garbage", "ahead", "elsewhere", "overrun")

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]


class WantedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request as it comes. Either `tag` and `value`, or `command`; the topic says for which equipment.

    `expires` (a duration) counts from `sent_at`. `requested_by` is whom the sender acts for: it is kept, and
    gives no rights.
    """

    id: Id
    sent_at: Annotated[datetime, msgspec.Meta(tz=True)]
    tag: Text | None = None
    value: Value | None = None
    command: Text | None = None
    expires: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    requested_by: Annotated[str, msgspec.Meta(max_length=TEXT_CHARS_MAX)] = ""
    dry_run: bool = False


class _Named(msgspec.Struct):
    id: Id


class Asked(msgspec.Struct, frozen=True):
    """A request for the desk, and where its answer goes."""

    request: CommandRequest
    id: str
    answer_to: str


class TurnedAway(msgspec.Struct, frozen=True):
    """A request that never reaches the desk. `kind` is one of `KINDS`; without `answer_to` nobody is told."""

    kind: str
    reason: str
    id: str = ""
    answer_to: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is said under the id of a request. `status` as in `CommandView`; `command_id` is the desk's."""

    id: str
    status: str
    code: str = ""
    reason: str = ""
    hint: str = ""
    command_id: str = ""
    tag: str = ""
    command: str = ""
    value: TagValue = None
    read: TagValue = None
    at: datetime


_decode = msgspec.json.Decoder(WantedOrder).decode
_decode_id = msgspec.json.Decoder(_Named).decode
_encode = msgspec.json.Encoder().encode


class Orders:
    """What may come to one section's broker. `rules` are those that MQTT may use, `paths` all equipment."""

    def __init__(
        self,
        sink: str,
        place: tuple[str, str],
        rules: Iterable[AllowSettings],
        paths: Mapping[str, str],
        expires: timedelta,
    ) -> None:
        self._sink, self._expires = sink, expires
        self._tags: dict[str, set[str]] = {}
        self._equipment: dict[str, str] = {}
        for rule in rules:
            if "mqtt" not in rule.via or rule.equipment not in paths:
                continue
            topic = "/".join((*place, paths[rule.equipment], COMMAND_LEVEL))
            self._equipment[topic] = rule.equipment
            self._tags.setdefault(topic, set()).update(() if rule.tag is None else (rule.tag,))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to listen to: one for each equipment that a rule is for, and no others."""
        return tuple(self._equipment)

    def read(self, message: Message, now: datetime) -> Asked | TurnedAway:
        """Make out a message on one of the topics."""
        id_, answer_to = _who(message)
        if message.retained:
            # Nobody is answered: it may have been there for years, and would be answered at every connect.
            return TurnedAway(
                "retained", f"a retained request on {message.topic} would come at every connect"
            )

        def away(kind: str, reason: str) -> TurnedAway:
            return TurnedAway(kind, reason, id_, answer_to)

        if len(message.payload) > REQUEST_BYTES_MAX:
            return away(
                "too_large", f"{len(message.payload)} bytes; a request has {REQUEST_BYTES_MAX} at most"
            )
        if not message.qos:
            return away("qos", "came with QoS 0, which loses messages in silence; send it with 1 or 2")
        try:
            wanted = _decode(message.payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return away("garbage", f"cannot be understood: {error}")
        if (wanted.tag is None) == (wanted.command is None) or (wanted.tag is None) != (wanted.value is None):
            return away("garbage", "says neither tag and value nor command, or both")
        try:
            expires = self._expires if wanted.expires is None else parse_duration(wanted.expires)
        except ValueError as error:
            return away("garbage", f"expires: {error}")
        if not 0 < expires.total_seconds() <= _EXPIRES_S_MAX:
            return away("garbage", f"expires must be above 0 and at most {_EXPIRES_S_MAX:g} s")
        if wanted.sent_at - now > AHEAD_MAX:
            return away("ahead", f"says it was sent at {wanted.sent_at:%H:%M:%S}, which is not yet")
        equipment = self._equipment.get(message.topic)
        if equipment is None or (wanted.tag is not None and wanted.tag not in self._tags[message.topic]):
            return away("elsewhere", f"no rule allows {wanted.tag or wanted.command} on {message.topic}")
        request = CommandRequest(
            key=f"{self._sink}:{wanted.id}",
            tag=wanted.tag or "",
            value=wanted.value,
            equipment=equipment if wanted.command is not None else "",
            command=wanted.command or "",
            not_after=wanted.sent_at + expires,
            expires_s=expires.total_seconds(),
            dry_run=wanted.dry_run,
            note=wanted.requested_by,
            peer=self._sink,
        )
        return Asked(request, wanted.id, answer_to)


def _who(message: Message) -> tuple[str, str]:
    """The id of a request, where one can be made out at all, and the topic of its answer."""
    try:
        named = _decode_id(message.payload[:REQUEST_BYTES_MAX])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "", ""
    return named.id, f"{message.topic}/{named.id}"


def told(id_: str, view: CommandView, now: datetime) -> bytes:
    """The answer to a request that the desk took."""
    return _encode(
        Answer(
            id=id_,
            status=view.status,
            code=view.code,
            reason=view.reason,
            hint=view.hint,
            command_id=view.id,
            tag=view.tag,
            command=view.command,
            value=view.value,
            read=view.read,
            at=view.finished_at or now,
        )
    )


def refused(id_: str, error: CommandRefused, now: datetime) -> bytes:
    """The answer to a request that the desk refused."""
    if error.view is not None:
        return told(id_, error.view, now)
    answer = Answer(id=id_, status="refused", code=error.code, reason=error.reason, hint=error.hint, at=now)
    return _encode(answer)


def turned_away(away: TurnedAway, now: datetime) -> bytes:
    """The answer to a request that never reached the desk."""
    return _encode(Answer(id=away.id, status="refused", code=away.kind, reason=away.reason, at=now))
