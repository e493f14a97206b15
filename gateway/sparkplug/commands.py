"""What hosts ask of us: NCMD and DCMD, judged. Pure: decodes and judges, does nothing.

Every metric of a command is judged by itself and comes out as an `Order` to carry out or a `Refused` with the
reason; nothing raises, whatever arrives. Commands name metrics by alias, or by name where there is none
(tck-id-payloads-alias-data-cmd-requirement against -rebirth-name-aliases: both are accepted).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Protocol

import msgspec

from connectors.base import Written
from gateway.sparkplug.session import Session
from statemodel.types import TagValue


class CommandPort(Protocol):
    """Whoever carries writes to a device."""

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        """Write a value to a tag (full id). `equipment` is the device a host addressed, None for the node.

        Every failure is an outcome in the answer.
        """
        ...


class Rebirth(msgspec.Struct, frozen=True):
    """Births are asked for: all of them, or those of one device."""

    device: str = ""


class NextServer(msgspec.Struct, frozen=True):
    """The next broker of the list is asked for."""


class WriteOrder(msgspec.Struct, frozen=True):
    """A value for a tag, for the `CommandPort`. `equipment` is None when the node was addressed."""

    equipment: str | None
    tag: str
    value: TagValue
    source: str


class Refused(msgspec.Struct, frozen=True):
    """What was asked for will not be done. `kind` is one of a few words for metrics, `reason` is for people."""

    kind: str
    reason: str


Order = Rebirth | NextServer | WriteOrder | Refused


class Commands:
    """Judges commands for one session.

    With `writes` off (the default) writing is refused with the reason "commands are off".
    `refused` counts by kind; the kinds are `KINDS`, so it is bounded.
    """

    def __init__(self, session: Session, *, writes: bool = False) -> None:
        self._session = session
        self._writes = writes
        self.refused: Counter[str] = Counter()

    def judge(self, topic: str, payload: bytes, at: datetime, *, retained: bool = False) -> tuple[Order, ...]:
        """Judge a message on a command topic of this edge node."""
        ...
