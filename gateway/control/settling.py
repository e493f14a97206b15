"""Leaves the traces of commands: the event in the one sequence, the record in the audit trail.

Before anything is sent both must have taken that the command is accepted, else it is not sent. Its end is
told to both as soon as they take it, however long that is; what is owed is kept in the ledger, so that it is
made good after a crash too. A command's audit record is closed exactly once: before one that failed is
written again, it is looked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
import structlog

from api.auditing import AuditEntry, AuditRecord, AuditUnavailable
from connectors.base import Clock
from gateway.control.carrying import Halt
from gateway.control.entries import audited, told
from gateway.control.facts import halt
from gateway.control.ledger import Entry, Ledger, LedgerFailed
from gateway.errors import JournalFailed
from statemodel.records import Recorded
from statemodel.types import CommandStatus, CommandTold

_log = structlog.get_logger("andon.commands")

#: Longest wait for the journal to take a command before it is sent.
JOURNAL_S_MAX = 5.0
#: How long an answer waits until its traces are left.
SETTLE_S_MAX = 5.0
#: How long a stop waits for ends to be told; what is owed then is told by the next process.
STOP_S_MAX = 2.0
#: Most ends that are made good at once.
_PORTION = 50
_PAGE = 500

Record = Callable[[CommandTold], Awaitable[Recorded]]


class Trail(Protocol):
    """The part of `api.auditing.Audit` that commands need."""

    async def record(self, entry: AuditEntry) -> int:
        """See `Audit.record`."""
        ...

    def available(self) -> str | None:
        """See `Audit.available`."""
        ...

    async def read(
        self, *, after: int = ..., limit: int = ..., action: str | None = ..., from_: datetime | None = ...
    ) -> Sequence[AuditRecord]:
        """See `Audit.read`."""
        ...


class Settling:
    """Tells of commands, and owns the tasks that do."""

    def __init__(self, ledger: Ledger, audit: Trail, record: Record, clock: Clock) -> None:
        self._ledger, self._audit, self._record, self._clock = ledger, audit, record, clock
        self._open: dict[str, asyncio.Task[None]] = {}
        #: Settled since what is owed was last asked for: the answer may not know of it yet.
        self._lately: set[str] = set()
        #: Ends the ledger has not taken. As few as were under way: without a ledger nothing is begun.
        self._unkept: dict[str, Entry] = {}

    @property
    def unsettled(self) -> int:
        """Commands whose end is being told."""
        return len(self._open)

    async def accepted(self, entry: Entry) -> Halt | None:
        """Tell that a command is accepted; why it must not be sent, if that cannot be told."""
        try:
            async with asyncio.timeout(JOURNAL_S_MAX):
                await self._record(told(entry, entry.view.requested_at))
        except TimeoutError:
            return halt("journal_unavailable", f"the journal has not taken it within {JOURNAL_S_MAX:g} s")
        except JournalFailed as error:
            return halt("journal_unavailable", error.reason)
        try:
            await self._audit.record(audited(entry))
        except AuditUnavailable as error:
            return halt("audit_unavailable", f"the audit trail cannot be written: {error.reason}")
        return None

    async def ended(self, entry: Entry) -> None:
        """Tell of an end; returns when it is told, or when it takes too long for somebody who waits."""
        task = self._settle(entry, is_first=True)
        await asyncio.wait([task], timeout=SETTLE_S_MAX)

    async def make_good(self) -> None:
        """Begin to tell what is still owed.

        Raises:
            LedgerFailed: it is not known what that is.
        """
        for id_, entry in tuple(self._unkept.items()):
            kept = await self._ledger.by_key(entry.view.key)
            if kept is None or kept.view.id == id_:  # else its key was free, and has been used since
                await self._ledger.put(entry)
            self._unkept.pop(id_, None)
        self._lately.clear()
        for entry in await self._ledger.owing(_PORTION):
            if entry.view.id not in self._open and entry.view.id not in self._lately:
                self._settle(entry, is_first=False)

    async def stop(self) -> None:
        """End the tasks; what is owed stays in the ledger."""
        tasks = tuple(self._open.values())
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S_MAX)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _settle(self, entry: Entry, *, is_first: bool) -> asyncio.Task[None]:
        id_ = entry.view.id
        task = asyncio.create_task(self._tell(entry, is_first), name=f"command {id_} told")
        self._open[id_] = task
        task.add_done_callback(lambda _: self._close(id_))
        return task

    def _close(self, id_: str) -> None:
        self._open.pop(id_, None)
        self._lately.add(id_)

    async def _tell(self, entry: Entry, is_first: bool) -> None:
        if not entry.audited:
            try:
                if is_first or not await self._is_closed(entry):
                    await self._audit.record(audited(entry))
                entry = msgspec.structs.replace(entry, audited=True)
            except AuditUnavailable as error:
                _log.warning("the end of a command is not audited yet", id=entry.view.id, reason=error.reason)
        if not entry.told:
            try:
                await self._record(told(entry, entry.view.finished_at or self._clock.now()))
                entry = msgspec.structs.replace(entry, told=True)
            except JournalFailed as error:
                _log.warning("the end of a command is not told yet", id=entry.view.id, reason=error.reason)
        try:
            await self._ledger.put(entry)
        except LedgerFailed as error:
            self._unkept[entry.view.id] = entry
            _log.warning("the ledger of commands cannot be written", reason=error.reason)

    async def _is_closed(self, entry: Entry) -> bool:
        """Whether the trail has the end of a command already."""
        after, from_ = 0, entry.view.requested_at - timedelta(seconds=1)
        while True:
            found = await self._audit.read(after=after, limit=_PAGE, action="command", from_=from_)
            for record in found:
                is_end = record.action == "command" and record.result != CommandStatus.ACCEPTED
                if is_end and record.detail.get("id") == entry.view.id:
                    return True
            if len(found) < _PAGE:
                return False
            after = found[-1].n
