"""The end of a command: kept, counted, shown in health, told and audited, whichever of these fails.

Also what is turned away before it was ever one, and what the ledger has to say of itself. Decides nothing and
sends nothing; what is still owed of telling and auditing is made good by `settling`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog

from api.access import Principal
from api.auditing import AuditEntry, AuditUnavailable
from api.commanding import CommandRefused, CommandRequest, CommandView
from connectors.base import Clock
from gateway.control import entries
from gateway.control.carrying import Carried, Halt
from gateway.control.facts import EXPIRES_S_MAX, halt
from gateway.control.ledger import Entry, Ledger, LedgerFailed, Stage
from gateway.control.refusing import no_ledger, refusal
from gateway.control.settling import Settling, Trail
from statemodel.types import CommandStatus

_log = structlog.get_logger("andon.commands")

T = TypeVar("T")


class Ends:
    """`counts` by status; `alarms` in words, by label, until the next command there is verified."""

    def __init__(self, ledger: Ledger, audit: Trail, settling: Settling, clock: Clock) -> None:
        self._ledger, self._audit, self._settling, self._clock = ledger, audit, settling, clock
        self.counts: Counter[str] = Counter()
        self.alarms: dict[str, str] = {}
        self.ledger_trouble = ""

    def follow(self, labels: Iterable[str]) -> None:
        """Keep the alarms of these labels alone."""
        kept = set(labels)
        self.alarms = {label: words for label, words in self.alarms.items() if label in kept}

    async def end(self, entry: Entry, *, status: CommandStatus | None = None) -> Entry:
        """The end of a command: kept, told, audited. Its answer does not depend on any of the three."""
        if status is not None:
            view = msgspec.structs.replace(entry.view, status=status)
            entry = msgspec.structs.replace(entry, view=view)
        view = entry.view
        self.counts[view.status] += 1
        if view.status in (CommandStatus.MISMATCH, CommandStatus.UNKNOWN):
            self.alarms[entry.label] = f"{view.tag or view.command} {view.status}: {view.reason}"
        elif view.status is CommandStatus.VERIFIED:
            self.alarms.pop(entry.label, None)
        try:
            await self._ledger.put(entry)
        except LedgerFailed as error:
            self.ledger_trouble = error.reason
            _log.warning("the end of a command is not in the ledger", id=view.id, reason=error.reason)
        await self._settling.ended(entry)
        return entry

    async def carried(self, entry: Entry, carried: Carried) -> CommandView:
        """End a command as its carrier says; the answer.

        Raises:
            CommandRefused: that is a refusal.
        """
        return entries.answer(await self.end(entries.ended(entry, carried, self._clock.now())))

    async def refused(self, entry: Entry, found: Halt, at: datetime | None = None) -> CommandView:
        """End a command that was not sent; raises `CommandRefused`, as `entries.answer` does."""
        return entries.answer(await self.end(entries.refused(entry, found, at or self._clock.now())))

    async def left_behind(self, entry: Entry, now: datetime) -> None:
        """End what an earlier process has left under way. It owes its telling to `settling`.

        Raises:
            LedgerFailed: it cannot be kept.
        """
        view = entry.view
        entry = _left_behind(entry, now)
        if entry.view.status is CommandStatus.UNKNOWN:
            self.alarms[entry.label] = f"{view.tag or view.command}: {entry.view.reason}"
        _log.warning("command of before", id=view.id, status=entry.view.status, reason=entry.view.reason)
        self.counts[entry.view.status] += 1
        await self._ledger.put(entry)

    async def turned_away(
        self, found: Halt, request: CommandRequest, by: Principal, via: str
    ) -> CommandRefused:
        """A refusal that is not kept, on record as an attempt all the same, where that is possible."""
        self.counts[CommandStatus.REFUSED] += 1
        await self.tried(entries.attempt("command", request, by, via, found))
        return refusal(found)

    async def tried(self, attempt: AuditEntry) -> None:
        """Audit a vain attempt, where that is possible."""
        try:
            await self._audit.record(attempt)
        except AuditUnavailable as error:
            _log.warning("a refused command is not audited", code=attempt.code, reason=error.reason)

    async def found(self, work: Coroutine[object, object, T]) -> T:
        """What the ledger answers.

        Raises:
            CommandRefused: it cannot.
        """
        try:
            return await work
        except LedgerFailed as error:
            self.ledger_trouble = error.reason
            raise refusal(no_ledger(error)) from error


def _left_behind(entry: Entry, now: datetime) -> Entry:
    """What became of an entry that was under way, or waited, when its process ended."""
    if entry.stage is Stage.SENDING:
        reason = "the gateway was stopped while it was on its way; it may have been carried out"
        return entries.ended(entry, Carried(CommandStatus.UNKNOWN, "interrupted", reason), now)
    if entry.stage is not Stage.WAITING:
        found = halt("interrupted", "the gateway was stopped before it was sent")
    elif 0 < entries.left_s(entry, now) <= EXPIRES_S_MAX:
        found = halt("rule_changed", "what it rests on was changed meanwhile")
    else:
        found = halt("expired", "nobody approved it in time")
    return entries.refused(entry, found, now)
