"""Carrying an order to the device and finding out what became of it: what the desk hands over, what it gets.

Each kind of command has a carrier of its own. A carrier calls `check` in the last line before its first
write, sends nothing when that refuses, never sends anything twice, and raises nothing for what a device or
its link may do. Knows no ledger and no audit trail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.config.control import AllowSettings
from statemodel.types import CommandStatus, TagValue


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. Either `tag` and `value`, or `command` of `equipment`; `rule` is what allows it.

    `previous` is the newest good value of the tag before, `source` says who asked, for the log.
    """

    id: str
    rule: AllowSettings
    equipment: str
    tag: str = ""
    value: TagValue = None
    command: str = ""
    previous: TagValue = None
    source: str = ""


class Halt(msgspec.Struct, frozen=True):
    """Why something is not done: a code of `api.refusals.REFUSALS`, a reason and a hint for people."""

    code: str
    reason: str
    hint: str = ""
    retry_after_s: float | None = None


class Carried(msgspec.Struct, frozen=True):
    """What became of an order: a final status, why, and what was read back."""

    status: CommandStatus
    code: str = ""
    reason: str = ""
    read: TagValue = None


#: Asked in the last line before the first write; a halt means nothing may be sent any more.
Check = Callable[[], Halt | None]


class Carrier(Protocol):
    """Carries one kind of order."""

    def sends(self, order: Order) -> str:
        """What would go to the device, in words. Pure."""
        ...

    async def carry(self, order: Order, check: Check) -> Carried:
        """Carry it out, at most once, and read back what came of it."""
        ...

    def news(self, order: Order, carried: Carried) -> Carried:
        """The same in the light of what has been read since: asked right before it is told. Memory only."""
        ...


def halted(halt: Halt) -> Carried:
    """What became of an order whose last check refused it."""
    status = CommandStatus.EXPIRED if halt.code == "expired" else CommandStatus.REFUSED
    return Carried(status, halt.code, halt.reason)
