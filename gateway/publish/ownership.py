"""Whether what lies retained on a topic we have left is still ours. Asks the record; never the broker.

Nothing in MQTT says who published a retained message, and another gateway may have taken over the equipment
and now publish under the very same topic. So a topic is ours only where that can be proved:

- a state: the transition it shows is on our record, or, before the first, it is the beginning we noted;
- what stands below an equipment (availability, tags): the state of that equipment is ours, and a tag's value
  is older than this start;
- a tag of no equipment: its value is the very one we said last, as noted when leaving; when a person asks for
  it, that it is older than this start is enough;
- what stands below `andon/` and our own id: always.

Everything else may be ours, but nothing proves it: it is left alone, and told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from gateway.errors import GatewayError
from gateway.publish import payloads
from gateway.publish.holdings import Held
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import Transition

_read_state = msgspec.json.Decoder(EquipmentState).decode
_read_tag = msgspec.json.Decoder(payloads.ToldTag).decode


class Record(Protocol):
    """Where it is looked up what this gateway recorded."""

    async def last_transitions(self) -> Mapping[str, Recorded]:
        """The newest of each equipment, also of equipment that is gone."""
        ...

    async def event(self, seq: int) -> Recorded | None:
        """One event of the present stream, or None when it cannot be read."""
        ...


class Ownership:
    """Judges retained topics. `started_at`: a tag's value that is newer is not ours. `last` has the newest
    transition of each equipment as it was at the start: what the process before this one said last.
    """

    def __init__(
        self,
        record: Record,
        *,
        gateway: str,
        started_at: datetime,
        last: Mapping[str, Recorded] | None = None,
    ) -> None:
        self._record, self._gateway, self._started_at = record, gateway, started_at
        self._last = last or {}

    async def proof(
        self,
        topic: str,
        held: Held,
        payload: bytes,
        *,
        owns_path: Callable[[str], Awaitable[bool]],
        asked: bool = False,
    ) -> bool | None:
        """Whether it is ours: True, False, or None: perhaps, but nothing proves it.

        `owns_path` tells whether the state of the equipment at a path is ours. `asked`: a person wants it.
        """
        if held.kind == "state":
            return await self._state(held, payload)
        if held.kind == "tag":
            tag = read_tag(payload)
            if tag is None or tag.tag != held.about or tag.received_at >= self._started_at:
                return False
            if held.mark == mark_of_tag(tag.received_at) or asked:
                return True
            return True if held.path and await owns_path(held.path) else None
        if payload not in (payloads.ONLINE, payloads.OFFLINE):
            return False
        if held.kind == "availability":
            return True if held.path and await owns_path(held.path) else None
        return True if topic.startswith(f"andon/{self._gateway}/") else None

    async def _state(self, held: Held, payload: bytes) -> bool | None:
        state = read_state(payload)
        if state is None or state.equipment != held.about:
            return False
        if state.seq == 0:
            return True if mark_of_state(state) in held.mark.split() else None
        last = self._last.get(held.about)
        if last is None or last.seq != state.seq:
            last = (await self._record.last_transitions()).get(held.about)
        if last is None or last.seq != state.seq:
            try:
                last = await self._record.event(state.seq)
            except GatewayError:
                last = None
        if last is None:
            return None
        if not isinstance(last.event, Transition) or last.equipment != held.about:
            return False
        recorded = state_after(last.event, last.seq)
        return state.path in (held.path, recorded.path) and is_told_of(recorded, state)


def mark_of_state(state: EquipmentState) -> str:
    """What to remember of a state: its beginning, while no transition on record can tell it."""
    return state.since.isoformat() if state.seq == 0 else ""


def mark_of_tag(received_at: datetime) -> str:
    """What to remember of a tag's value."""
    return received_at.isoformat()


def essence(state: EquipmentState) -> tuple[Any, ...]:
    """Everything but the reason, which may change while the state lasts."""
    return msgspec.structs.astuple(msgspec.structs.replace(state, reason=None))


def is_told_of(recorded: EquipmentState, state: EquipmentState) -> bool:
    """Whether a state is the one a transition led to, wherever it is shown: another configuration gives the
    equipment another path, or its model another name, and no transition comes of that."""
    return essence(recorded) == essence(
        msgspec.structs.replace(state, path=recorded.path, model=recorded.model)
    )


def read_state(payload: bytes) -> EquipmentState | None:
    """The state in a payload, if it is one."""
    try:
        return _read_state(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_tag(payload: bytes) -> payloads.ToldTag | None:
    """The tag value in a payload, if it is one."""
    try:
        return _read_tag(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
