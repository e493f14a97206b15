"""What hosts ask of us: NCMD and DCMD, judged. Pure: decodes and judges, does nothing.

Every metric of a command is judged by itself and comes out as an order to carry out or as a `Refused` with
the reason; nothing raises, whatever arrives. Commands name metrics by alias, or by name where there is none:
the standard wants names left out (tck-id-payloads-alias-data-cmd-requirement) and yet forbids an alias for
Node Control/Rebirth (-rebirth-name-aliases), so both are taken. A sequence number, which commands should not
have (tck-id-payloads-ncmd-seq, -dcmd-seq), is passed over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from connectors.base import Written
from gateway.sparkplug import births
from gateway.sparkplug.datatypes import INTEGER_RANGE, DataType, shown
from gateway.sparkplug.messages import NODE
from gateway.sparkplug.names import Address, Verb
from gateway.sparkplug.payload import Metric, NotSparkplug, Payload, WrongValue, decode, resolve
from gateway.sparkplug.scalars import said
from gateway.sparkplug.session import Offered, Session
from gateway.sparkplug.typing_tags import fits
from statemodel.types import TagValue

#: Most metrics of one command; a message with more is refused as a whole.
COMMAND_METRICS_MAX = 1000
#: A command dated so far from now is not carried out: it was meant for another day, or a clock is wrong.
OFF_BY_MAX = timedelta(hours=1)

#: Why commands are refused, in one word each.
KINDS = (
    "topic",
    "retained",
    "garbage",
    "too_many",
    "empty",
    "unknown",
    "duplicate",
    "historical",
    "null",
    "time",
    "type",
    "value",
    "read_only",
    "off",
)

_CONTROLS = frozenset({births.NODE_REBIRTH, births.DEVICE_REBIRTH, births.NEXT_SERVER})


class CommandPort(Protocol):
    """Whoever carries writes to a device."""

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        """Write a value to a tag (full id). `equipment` is the device a host addressed, None for the node.

        Every failure is an outcome in the answer.
        """
        ...


class Rebirth(msgspec.Struct, frozen=True):
    """Births are asked for: all of them, or those of one device. For `Session.rebirth`."""

    device: str = NODE


class NextServer(msgspec.Struct, frozen=True):
    """The next broker of the list is asked for."""


class WriteOrder(msgspec.Struct, frozen=True):
    """A value for a tag, for the `CommandPort`. `equipment` is None when the node was addressed."""

    equipment: str | None
    tag: str
    value: TagValue
    source: str


class Refused(msgspec.Struct, frozen=True):
    """What was asked for will not be done. `kind` is one of `KINDS`, `reason` is for people."""

    kind: str
    reason: str


Order = Rebirth | NextServer | WriteOrder | Refused


class Commands:
    """Judges commands for one session.

    With `writes` off (the default) every write is refused with the reason "commands are off". `refused`
    counts metrics, or whole messages, by kind; it can hold no other kinds than `KINDS`.
    """

    def __init__(self, session: Session, *, writes: bool = False) -> None:
        self._session = session
        self._writes = writes
        self.refused: Counter[str] = Counter()

    def judge(self, topic: str, payload: bytes, at: datetime, *, retained: bool = False) -> tuple[Order, ...]:
        """Judge a message on a command topic of this edge node: what is to be done, in its order.

        A `retained` one is refused: the broker would repeat it at every connect.
        """
        orders = tuple(self._judged(topic, payload, at, retained))
        self.refused.update(order.kind for order in orders if isinstance(order, Refused))
        return orders

    def _judged(self, topic: str, payload: bytes, at: datetime, retained: bool) -> Iterable[Order]:
        address = self._session.names.address(topic)
        if address is None or address.verb not in (Verb.NCMD, Verb.DCMD):
            return [Refused("topic", f"{said(topic)} is no command topic of this edge node")]
        if retained:
            return [Refused("retained", "a retained command would be repeated at every connect")]
        try:
            message = decode(payload)
        except NotSparkplug as error:
            return [Refused("garbage", str(error))]
        if not message.metrics:
            return [Refused("empty", "the command has no metric")]
        if len(message.metrics) > COMMAND_METRICS_MAX:
            reason = f"{len(message.metrics)} metrics; at most {COMMAND_METRICS_MAX} are looked at"
            return [Refused("too_many", reason)]
        return self._metrics(address, message, at)

    def _metrics(self, address: Address, message: Payload, at: datetime) -> Iterable[Order]:
        meant = [self._session.offered(address.device, alias=m.alias, name=m.name) for m in message.metrics]
        times = Counter(offered.name for offered in meant if offered is not None)
        asked: set[str] = set()
        for metric, offered in zip(message.metrics, meant, strict=True):
            if offered is None:
                where = address.device or "the node"
                yield Refused("unknown", f"{_shown(metric)} is no metric {where} has been born with")
            elif offered.name in _CONTROLS:
                order = _control(address, metric, offered, message, at)
                if isinstance(order, Refused) or offered.name not in asked:
                    yield order
                asked.add(offered.name)
            elif times[offered.name] > 1:
                yield Refused("duplicate", f"{offered.name} is there {times[offered.name]} times")
            else:
                yield self._write(address, metric, offered, message, at)

    def _write(
        self, address: Address, metric: Metric, offered: Offered, message: Payload, at: datetime
    ) -> Order:
        if not offered.tag:
            return Refused("read_only", f"{offered.name} cannot be written")
        if not self._writes:
            return Refused("off", "commands are off")
        if not offered.writable:
            return Refused("read_only", f"{offered.name} is not configured as writable")
        value = _value(metric, offered)
        refused = _untimely(metric, offered, message, at) or value
        if isinstance(refused, Refused):
            return refused
        return WriteOrder(address.device or None, offered.tag, refused, f"sparkplug {address.verb}")


def _control(address: Address, metric: Metric, offered: Offered, message: Payload, at: datetime) -> Order:
    """Controls are asked for with true, and with nothing else (-ncmd-rebirth-value).

    A rebirth does no harm whenever it is asked for, so no host goes without for the sake of its clock.
    """
    value = _value(metric, offered)
    if isinstance(value, Refused):
        return value
    if value is not True:
        return Refused("value", f"{offered.name} is asked for with true")
    if offered.name == births.NEXT_SERVER:
        return _untimely(metric, offered, message, at) or NextServer()
    return Rebirth(address.device)


def _untimely(metric: Metric, offered: Offered, message: Payload, at: datetime) -> Refused | None:
    said_at = metric.at or message.at
    if said_at is None or abs(said_at - at) <= OFF_BY_MAX:
        return None
    return Refused("time", f"{offered.name} is dated {said_at:%Y-%m-%d %H:%M:%S}, too far from now")


def _value(metric: Metric, offered: Offered) -> bool | int | float | str | Refused:
    """The value in the type the metric was born with. Another type is taken only where nothing is lost."""
    if metric.historical:
        return Refused("historical", f"{offered.name} is marked historical; nothing can be done in the past")
    if metric.value is None:
        return Refused("null", f"{offered.name} has no value")
    try:
        value = resolve(metric, offered.datatype).value if metric.datatype is None else metric.value
    except WrongValue as error:
        return Refused("type", f"{offered.name}: {error}")
    if not isinstance(value, bool | int | float | str) or not _takes(offered.datatype, value):
        return Refused("type", f"{offered.name} is {shown(offered.datatype)}, not {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        return Refused("value", f"{offered.name}: {value} is no number")
    if offered.datatype in INTEGER_RANGE:
        low, high = INTEGER_RANGE[offered.datatype]
        if isinstance(value, int) and not low <= value <= high:
            return Refused("value", f"{offered.name}: {value} is not within {low} to {high}")
    if offered.datatype not in (DataType.FLOAT, DataType.DOUBLE) or isinstance(value, str):
        return value
    if not fits(float(value), offered.datatype):
        return Refused("value", f"{offered.name}: {value} is more than {shown(offered.datatype)} holds")
    return float(value)


def _takes(datatype: DataType, value: bool | int | float | str) -> bool:
    if isinstance(value, bool):
        return datatype is DataType.BOOLEAN
    if isinstance(value, str):
        return datatype is DataType.STRING
    if datatype in INTEGER_RANGE:
        return isinstance(value, int)
    return datatype in (DataType.FLOAT, DataType.DOUBLE)


def _shown(metric: Metric) -> str:
    return f"alias {metric.alias}" if metric.name is None else said(metric.name)
