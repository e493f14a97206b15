"""Writes of Sparkplug hosts, taken to the desk as everybody's are, and answered as an edge node counts them.

NCMD and DCMD have no id and no answer of their own: each order is a command under a key of its own, sent at
most once, and what became of it shows in the metric that is read back. A broker says nothing of who wrote, so
the caller is that of the section.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from api.access import Principal
from api.commanding import CommandRefused, CommandRequest, Commands
from connectors.base import WriteOutcome, Written
from statemodel.types import CommandStatus, TagValue

_DONE = (CommandStatus.VERIFIED, CommandStatus.WRITTEN)
_NOT_DONE = (CommandStatus.REFUSED, CommandStatus.EXPIRED)


class SparkplugOrders:
    """Keeps `gateway.sparkplug.commands.CommandPort` with the desk. `desk` is asked for each time."""

    def __init__(self, sink: str, caller: Principal, desk: Callable[[], Commands | None]) -> None:
        self._sink, self._caller, self._desk = sink, caller, desk

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        """See `CommandPort.write`."""
        desk = self._desk()
        if desk is None:
            return Written(tag, WriteOutcome.REFUSED, "writes_off: there is no [commands]")
        # The equipment a host addressed is not asked for: whose tag it is says the rule that allows it.
        request = CommandRequest(
            key=f"{self._sink}:{uuid.uuid4()}", tag=tag, value=value, note=source, peer=self._sink
        )
        try:
            view = await desk.submit(request, self._caller, "sparkplug")
        except CommandRefused as error:
            return Written(tag, WriteOutcome.REFUSED, f"{error.code}: {error.reason}")
        if view.status in _DONE:
            return Written(tag, WriteOutcome.ACCEPTED)
        if view.status is CommandStatus.ACCEPTED:
            return Written(tag, WriteOutcome.UNKNOWN, f"waits for {view.waits_for or 'its turn'}")
        outcome = WriteOutcome.REFUSED if view.status in _NOT_DONE else WriteOutcome.UNKNOWN
        return Written(tag, outcome, f"{view.code or view.status}: {view.reason}")
