"""Heads of the audit trail, told to the one sequence when they moved, and gathered again to verify.

As an event of the journal a head rides to the database, the broker and every stream: out of reach of whoever
holds the gateway's files. That is what finds a trail that was cut off or computed anew with its own key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from api.auditing import AuditHead
from connectors.base import Clock
from gateway.audit.trail import Anchors, AuditTrail
from gateway.audit.verifying import Anchor
from gateway.errors import GatewayError
from statemodel.records import Recorded
from statemodel.types import AuditAnchor

log = structlog.get_logger(__name__)

#: Longest wait for the journal to take one; it takes it later all the same.
RECORD_S_MAX: Final = 10.0
#: Most anchors kept in memory, and most asked of the database.
ANCHORS_MAX: Final = 10_000
#: So many of the newest events of the journal are looked through for anchors.
EVENTS_MAX: Final = 20_000
_PAGE: Final = 1_000


class Journal(Protocol):
    """The part of the journal that is asked."""

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events after a sequence, in order."""
        ...

    @property
    def position(self) -> Any:
        """What is held; has `first_seq` and `last_seq`."""
        ...


#: Rows (n, hash, signature, key, at) the database holds, newest first; raises `GatewayError` when it is away.
Stored = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]


class Anchoring:
    """Tells the heads of one trail. `run` is its one task; `gathered` is what `AuditTrail.anchors` asks."""

    def __init__(
        self,
        trail: AuditTrail,
        *,
        record: Callable[[AuditAnchor], Awaitable[Recorded]],
        journal: Journal,
        stored: Stored | None,
        clock: Clock,
        every_s: float = 60.0,
    ) -> None:
        self._trail, self._record, self._journal = trail, record, journal
        self._stored, self._clock, self._every_s = stored, clock, every_s
        self._told: deque[Anchor] = deque(maxlen=ANCHORS_MAX)
        #: The newest number anchored since the start, and when.
        self.anchored_n = -1
        self.anchored_at: datetime | None = None

    async def run(self) -> None:
        """Anchor what moved, for ever."""
        while True:
            await self._clock.sleep(self._every_s)
            await self.anchor()

    async def anchor(self) -> bool:
        """Anchor the head unless it is already; whether it is now."""
        head = self._trail.head()
        if not head.signature or head.n == self.anchored_n:
            return head.n == self.anchored_n
        try:
            async with asyncio.timeout(RECORD_S_MAX):
                await self._record(AuditAnchor(head.n, head.hash, head.signature, head.key, head.at))
        except TimeoutError:
            log.warning("the journal has not taken the head of the audit trail", waited_s=RECORD_S_MAX)
            return False
        except GatewayError as error:
            log.warning("the journal has not taken the head of the audit trail", reason=error.reason)
            return False
        self._told.append(_anchor(head, "the journal"))
        self.anchored_n, self.anchored_at = head.n, self._clock.now()
        return True

    async def gathered(self) -> Anchors:
        """Every anchor that can be found, and a sentence for each place that did not answer."""
        found = {(one.n, one.hash, one.key): one for one in self._told}
        silent = []
        position = self._journal.position
        after = max(position.first_seq - 1, position.last_seq - EVENTS_MAX)
        try:
            while events := await self._journal.read(after, _PAGE):
                after = events[-1].seq
                for event in events:
                    if isinstance(event.event, AuditAnchor):
                        one = _anchor(event.event, f"event {event.seq} of the journal")
                        found.setdefault((one.n, one.hash, one.key), one)
        except GatewayError as error:
            silent.append(f"the journal was not asked for anchors: {error.reason}")
        if self._stored is not None:
            try:
                for row in await self._stored():
                    one = Anchor(
                        row["n"], row["hash"], row["key"], row["at"], row["signature"], "the database"
                    )
                    found[one.n, one.hash, one.key] = one
            except GatewayError as error:
                silent.append(f"the database was not asked for anchors: {error.reason}")
        return tuple(found.values()), tuple(silent)


def _anchor(head: AuditHead | AuditAnchor, where: str) -> Anchor:
    return Anchor(head.n, head.hash, head.key, head.at, head.signature, where)
