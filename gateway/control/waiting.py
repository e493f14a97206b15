"""Commands that wait for a second person: for how long, on what they rest, and the word that lets them go.

Memory, over the entries in the ledger: what waited when the gateway was stopped is taken up again. Each goes
once: it is taken out before anything is awaited. What is asked of the second person is in `seconding`; what
happens to a command that may go is the desk's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime

import msgspec

from api.access import Principal
from api.auditing import AuditUnavailable
from api.commanding import Approval
from connectors.base import Clock
from gateway.config.control import AllowSettings
from gateway.control import entries
from gateway.control.bench import Bench
from gateway.control.carrying import Halt
from gateway.control.facts import EXPIRES_S_MAX, halt
from gateway.control.judging import rules_for
from gateway.control.ledger import Entry, Stage
from gateway.control.refusing import refusal
from gateway.control.seconding import Seconding, judge_second
from gateway.control.settling import Trail
from statemodel.types import CommandStatus

#: Most that wait for a second person.
WAITING_MAX = 1000


class Wait(msgspec.Struct, frozen=True):
    """One that waits: the rule that asks for the second person, and until when (monotonic)."""

    entry: Entry
    rule: AllowSettings
    until_s: float


class Waits:
    """All that wait, by the id of the command."""

    def __init__(self, bench: Bench, audit: Trail, clock: Clock) -> None:
        self._bench, self._audit, self._clock = bench, audit, clock
        self._waits: dict[str, Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def get(self, id_: str) -> Wait | None:
        """The one of an id, while it waits."""
        return self._waits.get(id_)

    def put(self, wait: Wait) -> None:
        """Let one wait. Whoever does that has seen that there is room (`WAITING_MAX`)."""
        self._waits[wait.entry.view.id] = wait

    def take_up(self, entry: Entry, now: datetime, now_s: float) -> bool:
        """Let one of an earlier process go on waiting; False where it has nothing to wait for any more."""
        if entry.stage is not Stage.WAITING:
            return False
        left_s = entries.left_s(entry, now)
        rules = rules_for(self._bench.settings.allow, entries.request_of(entry))
        rule = next((rule for rule in rules if self._bench.rests(rule, entry.basis) is None), None)
        if rule is None or not 0 < left_s <= EXPIRES_S_MAX:
            return False
        self.put(Wait(entry, rule, now_s + left_s))
        return True

    def over(self, now_s: float) -> Iterator[tuple[Entry, CommandStatus, Halt]]:
        """Take out what has waited too long, and what would reach something else than was asked for."""
        for id_, wait in tuple(self._waits.items()):
            status, found = CommandStatus.REFUSED, self._bench.rests(wait.rule, wait.entry.basis)
            if now_s >= wait.until_s:
                status = CommandStatus.EXPIRED
                found = halt("approval_expired", "nobody approved it in time")
            if found is not None and self._waits.pop(id_, None) is not None:
                yield wait.entry, status, found

    async def approve(self, wait: Wait, approval: Approval, by: Principal, peer: str) -> Entry:
        """Judge a second person's word and audit it; the entry, approved and waiting no more.

        Raises:
            CommandRefused: it is not approved, or cannot be audited; it waits on.
        """
        view, id_ = wait.entry.view, wait.entry.view.id
        asked, said = (view.value, approval.value) if view.tag else (view.command, approval.command)
        word = Seconding(
            rule=wait.rule,
            path=view.path,
            requested_by=view.requested_by,
            made_by=wait.entry.made_by,
            by=by,
            asked=asked,
            said=said,
            now_s=self._clock.monotonic(),
            until_s=wait.until_s,
        )
        refused = judge_second(word)
        if refused is None:
            del self._waits[id_]  # before anything is awaited: nobody approves it twice
        try:
            request = msgspec.structs.replace(entries.request_of(wait.entry), peer=peer, key="")
            told = entries.attempt("command.approve", request, by, view.via, refused, id=id_)
            await self._audit.record(told)
        except (AuditUnavailable, asyncio.CancelledError) as error:
            if refused is None:
                self.put(wait)
            if isinstance(error, AuditUnavailable):
                raise refusal(halt("audit_unavailable", error.reason)) from error
            raise
        if refused is not None:
            raise refusal(refused)
        return msgspec.structs.replace(wait.entry, view=msgspec.structs.replace(view, approved_by=by.name))
