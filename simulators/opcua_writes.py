"""Writes to the OPC UA servers: judged by the plant itself, put down, and handed to the machines.

Stands in the place of asyncua's attribute service, where every client's write ends up whatever its session
did before. A value outside a variable's range is refused with Bad_OutOfRange: a PLC guards itself, whoever
asks. What the plant writes does not come through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from asyncua import ua as _ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService

from simulators.writes import EXECUTED, IGNORED, REFUSED, Trouble

ua: Any = _ua
_OUT_OF_RANGE: Final = 0x803C_0000
Note = Callable[[str, object, str, int], None]
"""Told (node, value, what was done, status code) of each value a client wrote."""
Executed = Callable[[Any, Any, Any], None]
"""Told (node id, value before, value after) when a client's value has been taken over."""


class JudgedWrites(AttributeService):
    """The attribute service of one server. `ranges` are (least, most) by node id."""

    def __init__(
        self,
        space: AddressSpace,
        ranges: Mapping[Any, tuple[float, float]],
        trouble: Trouble,
        note: Note,
        executed: Executed,
    ) -> None:
        super().__init__(space)
        self._ranges, self._trouble = ranges, trouble
        self._note, self._executed = note, executed

    async def write(self, params: Any, user: User = User(role=UserRole.Admin)) -> list[Any]:  # noqa: B008
        """Judge, carry out and put down each value in turn; the status codes."""
        return [await self._one(item, user) for item in params.NodesToWrite]

    async def _one(self, item: Any, user: User) -> Any:
        variant = item.Value.Value
        value = None if variant is None else variant.Value
        is_value = item.AttributeId == ua.AttributeIds.Value
        before = self._present(item.NodeId) if is_value else None
        low, high = self._ranges.get(item.NodeId, (None, None))
        if is_value and low is not None and not _lies_within(value, low, high):
            done, status = REFUSED, ua.StatusCode(_OUT_OF_RANGE)
        elif self._trouble.ignores():
            done, status = IGNORED, ua.StatusCode(0)
        else:
            one: Any = ua.WriteParameters()
            one.NodesToWrite = [item]
            (status,) = await super().write(one, user)
            done = EXECUTED if status.is_good() else REFUSED
        name = item.NodeId.Identifier
        self._note(f"{name}" if is_value else f"{name}#{item.AttributeId}", value, done, int(status.value))
        if is_value and done == EXECUTED:
            self._executed(item.NodeId, before, value)
        return status

    def _present(self, node_id: Any) -> Any:
        held: Any = self._aspace.read_attribute_value(node_id, ua.AttributeIds.Value).Value
        return None if held is None else held.Value


def _lies_within(value: Any, low: float, high: Any) -> bool:
    # A value that is no number is left to the server, which knows the variable's type.
    return isinstance(value, bool) or not isinstance(value, int | float) or low <= value <= high
