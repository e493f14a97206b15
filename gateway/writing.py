"""Hands a value for a tag to the connector that can write it, and says in plain words what became of it.

Nobody who may not write comes here: whoever takes orders from outside (see `sparkplug`) asks only when the
configuration allows it. Knows no protocol, and nothing of who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from connectors.base import Connector, Write, WriteOutcome, Writer, Written
from connectors.errors import ConnectorError


def _can_write(connector: Connector | Writer) -> TypeGuard[Writer]:
    return callable(getattr(connector, "write", None))


class Writing:
    """The connectors by the names of their connections; asked for each time, since they come late."""

    def __init__(self, connectors: Callable[[], Mapping[str, Connector]]) -> None:
        self._connectors = connectors

    async def write(self, writes: Sequence[Write]) -> Sequence[Written]:
        """Write each value, in order; the answers are in the same order. Raises for no device."""
        return [await self._one(write) for write in writes]

    async def _one(self, write: Write) -> Written:
        name = write.tag.partition("/")[0]
        connector = self._connectors().get(name)
        if connector is None:
            return _refused(write, f'there is no connection "{name}"')
        if not _can_write(connector):
            return _refused(write, f'the protocol of "{name}" cannot write')
        try:
            (written,) = await connector.write([write])
        except ConnectorError as error:
            return _refused(write, error.reason)
        return written


def _refused(write: Write, reason: str) -> Written:
    return Written(write.tag, WriteOutcome.REFUSED, reason)
