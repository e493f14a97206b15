"""Records of who came and went. They are asked for, but nobody is kept out because they cannot be written.

An operator has to be able to look at the plant, and to log in to mend a full disk. Whatever changes something
is recorded elsewhere, and is not done without its record. What is missing here is counted and said.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from api.auditing import AuditEntry, AuditUnavailable
from connectors.base import Clock

#: A reason is not said again sooner than this.
SAY_S = 60.0

_log = structlog.get_logger("andon.access")


class Records(Protocol):
    """What is needed of the audit trail here."""

    async def record(self, entry: AuditEntry) -> int:
        """Keep an entry; returns once it is durable.

        Raises:
            AuditUnavailable: it is not kept.
        """
        ...

    def available(self) -> str | None:
        """The reason it cannot be written now, None when it can."""
        ...


class Trail:
    """The audit trail where there is one."""

    def __init__(self, audit: Records | None, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._said_s = float("-inf")
        #: Records that could not be written since the start.
        self.missed = 0

    async def tell(self, entry: AuditEntry) -> None:
        """Record an entry if that is possible."""
        if self._audit is None:
            return
        try:
            await self._audit.record(entry)
        except AuditUnavailable as failure:
            self.missed += 1
            if self._clock.monotonic() - self._said_s >= SAY_S:
                self._said_s = self._clock.monotonic()
                _log.error(
                    "logins are not in the audit trail", reason=failure.reason, missed_count=self.missed
                )
