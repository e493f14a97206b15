"""Hands a value for a tag to the connector that can write it, and says in plain words what became of it.

Keeps `gateway.sparkplug.commands.CommandPort`. Nobody who may not write comes here: whoever takes orders from
outside asks only when the configuration allows it. Knows no protocol. As with reading (`supervisor.py`), an
error nobody foresaw in one connector must not take the others with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeGuard

import structlog

from connectors.base import Connector, Write, WriteOutcome, Writer, Written
from connectors.errors import ConnectorError
from statemodel.types import TagValue

log = structlog.get_logger(__name__)


def _can_write(connector: Connector | Writer) -> TypeGuard[Writer]:
    return callable(getattr(connector, "write", None))


class Writing:
    """The connectors by the names of their connections; asked for each time, since they come late."""

    def __init__(self, connectors: Callable[[], Mapping[str, Connector]]) -> None:
        self._connectors = connectors

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        """Write a value to a tag (full id), once. `equipment` is whom it was meant for, `source` who asked.

        Raises nothing for what a device or its link may do: that is in the answer.
        """
        connection = tag.partition("/")[0]
        connector = self._connectors().get(connection)
        if connector is None:
            return Written(tag, WriteOutcome.REFUSED, f'there is no connection "{connection}"')
        if not _can_write(connector):
            return Written(tag, WriteOutcome.REFUSED, f'the protocol of "{connection}" cannot write')
        try:
            (written,) = await connector.write([Write(tag, value)])
        except ConnectorError as error:
            written = Written(tag, WriteOutcome.REFUSED, error.reason)
        except Exception as error:  # see the head of this file
            log.exception("connector failed unexpectedly at a write", connection=connection, tag=tag)
            reason = f"unexpected failure in the connector: {type(error).__name__}: {error}"
            written = Written(tag, WriteOutcome.UNKNOWN, reason)
        log.info(
            "write", equipment=equipment, tag=tag, value=value, asked_by=source, outcome=str(written.outcome)
        )
        return written
