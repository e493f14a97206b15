"""The desk where commands are handed in: takes them one by one, and leads each from the request to its end.

    key known? -> its line -> judge -> ledger (accepted) -> journal and audit trail -> ledger (sending)
    -> last check and write -> read back -> ledger (done) -> audit trail and journal

Each arrow is crossed only when the step before it is durable, so that whatever dies when, a command is sent
at most once: an entry found at `sending` is `unknown` for ever, one before it was never sent. Commands for
one tag or equipment go one after the other, in the order they came, and only so many wait. What is judged is
in `judging` (over the facts that `bench` gathers), what waits for a second person in `waiting`, what is kept
in `ledger`, how it is sent in `sending` and the carriers, how it ends in `ending`, and how that is told in
`settling`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

import msgspec
import structlog

from api.access import Principal
from api.auditing import AuditUnavailable
from api.commanding import (
    Approval,
    Armed,
    CommandRefused,
    CommandRequest,
    CommandView,
    UnknownCommand,
    WantedArm,
)
from connectors.base import Clock
from gateway.config.control import CommandsSettings
from gateway.control import entries
from gateway.control.bench import Bench, Verdict
from gateway.control.carrying import Carrier
from gateway.control.ending import Ends
from gateway.control.facts import ARM_S_MAX, halt
from gateway.control.judging import AGAIN, FOR_ARMING
from gateway.control.ledger import Entry, Ledger, LedgerFailed, Stage
from gateway.control.plant import Plant
from gateway.control.rates import Brake
from gateway.control.refusing import no_ledger, refusal, reused
from gateway.control.sending import Sending
from gateway.control.settling import Record, Settling, Trail
from gateway.control.under_way import RETRY_S, UnderWay
from gateway.control.waiting import WAITING_MAX, Wait, Waits

_log = structlog.get_logger("andon.commands")

#: How long a command waits for the ledger to be read at the start, in seconds.
OPEN_S_MAX = 2.0
#: How long a command that needs a second person waits for one, unless it says otherwise.
APPROVAL_S = 60.0
#: Refusals that leave the key free: the same request may well be taken a moment later.
_NOT_KEPT = frozenset(
    ("rate", "busy", "key_running", "key_reused", "audit_unavailable", "ledger_unavailable", "stopping")
)


class CommandDesk:
    """Implements `api.commanding.Commands`. `begin` before the first one, `run` beside them, then `stop`."""

    def __init__(
        self,
        settings: CommandsSettings,
        *,
        plant: Plant,
        ledger: Ledger,
        audit: Trail,
        record: Record,
        carriers: Mapping[str, Carrier],
        clock: Clock,
    ) -> None:
        """`carriers` has one for `tag` and one for `packml`."""
        self._ledger, self._audit, self._clock = ledger, audit, clock
        self._bench = Bench(settings, plant, audit.available, clock)
        self._settling = Settling(ledger, audit, record, clock)
        self._ends = Ends(ledger, audit, self._settling, clock)
        self._sending = Sending(self._bench, ledger, carriers, self._ends)
        self._waits = Waits(self._bench, audit, clock)
        #: Keys being worked on, with their fingerprints.
        self._keys: dict[str, str] = {}
        self._under_way, self._brake = UnderWay(lambda: self._settling.unsettled), Brake()
        self._stopping = False
        self._is_open, self._opened = False, asyncio.Event()

    @property
    def counts(self) -> Counter[str]:
        """Commands that have come to an end since the start, by status."""
        return self._ends.counts

    @property
    def alarms(self) -> Mapping[str, str]:
        """What nobody may overlook, in words: tags and equipment whose last command went wrong, by label."""
        return self._ends.alarms

    @property
    def ledger_trouble(self) -> str:
        """Why the ledger cannot be used, empty while it can."""
        return self._ends.ledger_trouble

    @property
    def waiting(self) -> int:
        """Commands that wait for a second person."""
        return len(self._waits)

    def follow(self, settings: CommandsSettings) -> None:
        """Go by other rules from now on. What waits under one that has changed is ended by `run`."""
        self._bench.follow(settings)
        self._ends.follow(entries.label_of(rule) for rule in settings.allow)

    # -- life ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Put what an earlier process left in order. Until then nothing is taken; `run` does it too.

        Raises:
            LedgerFailed: it cannot be read.
        """
        now, now_s = self._clock.now(), self._clock.monotonic()
        for entry in await self._ledger.unfinished():
            if not self._waits.take_up(entry, now, now_s):
                await self._ends.left_behind(entry, now)
        since = now - timedelta(seconds=self._bench.window_s)
        self._bench.taken_before(await self._ledger.taken_since(since))
        self._is_open = True
        self._opened.set()

    async def run(self) -> None:
        """Let what waits expire, make good what is owed, and forget what is old, for ever."""
        trim_at_s = 0.0
        while True:
            now_s = self._clock.monotonic()
            try:
                if not self._is_open:
                    await self.begin()
                await self._end_waits(now_s)
                await self._settling.make_good()
                if now_s >= trim_at_s:
                    trim_at_s = now_s + 60.0
                    await self._ledger.trim(self._clock.now() - self._bench.settings.keep)
                self._ends.ledger_trouble = ""
            except LedgerFailed as error:
                if error.reason != self.ledger_trouble:
                    _log.warning("the ledger of commands fails", reason=error.reason)
                self._ends.ledger_trouble = error.reason
            self._bench.disarm()
            await self._clock.sleep(1.0)

    async def _end_waits(self, now_s: float) -> None:
        for entry, status, found in self._waits.over(now_s):
            _log.warning("a command waits no more", id=entry.view.id, status=status, reason=found.reason)
            await self._ends.end(entries.refused(entry, found, self._clock.now()), status=status)

    async def stop(self) -> None:
        """Take nothing more, and let what is under way come to its end for a moment."""
        self._stopping = True
        await self._under_way.stop()
        await self._settling.stop()

    # -- the port --------------------------------------------------------------------------------------------

    async def submit(self, request: CommandRequest, by: Principal, via: str) -> CommandView:
        """See `api.commanding.Commands.submit`."""
        if not self._opened.is_set() and not self.ledger_trouble and not self._stopping:
            with contextlib.suppress(TimeoutError):  # in the first moments after the start
                async with asyncio.timeout(OPEN_S_MAX):
                    await self._opened.wait()
        print_ = entries.fingerprint(request, by)
        running = self._keys.get(request.key)
        if running is not None:
            if running != print_:
                raise await self._ends.turned_away(reused(), request, by, via)
            raise refusal(halt("key_running", "it is being worked on", retry_after_s=RETRY_S))
        self._room(request.tag or request.equipment)
        self._keys[request.key] = print_
        return await self._under_way.owned(self._taken(request, by, via, print_), f"command {request.key}")

    async def approve(self, id_: str, approval: Approval, by: Principal, peer: str = "") -> CommandView:
        """See `api.commanding.Commands.approve`."""
        wait = self._waits.get(id_)
        if wait is None:
            raise await self._waits_not(id_, approval, by, peer)
        self._room(wait.entry.view.tag or wait.entry.view.equipment)
        entry = await self._waits.approve(wait, approval, by, peer)
        return await self._under_way.owned(self._seconded(entry, wait), f"command {id_}")

    async def _waits_not(
        self, id_: str, approval: Approval, by: Principal, peer: str
    ) -> CommandRefused | UnknownCommand:
        entry = await self._ends.found(self._ledger.by_id(id_))
        attempt = entries.vain_approval(id_, entry, approval, by, peer)
        if self._brake.lets(f"{by.kind} {by.name}", self._clock.monotonic()):
            await self._ends.tried(attempt)
        if entry is None:
            return UnknownCommand()
        return refusal(halt(attempt.code, str(attempt.detail["reason"])))

    async def arm(self, wanted: WantedArm, by: Principal, via: str, peer: str = "") -> Armed:
        """See `api.commanding.Commands.arm`."""
        request = CommandRequest(
            key="",
            tag=wanted.tag or "",
            value=wanted.value,
            equipment=wanted.equipment or "",
            command=wanted.command or "",
            peer=peer,
        )
        now_s = self._clock.monotonic()
        verdict = self._bench.judged(request, by, via, now_s + ARM_S_MAX, stages=FOR_ARMING)
        found = verdict.halt or self._bench.no_room()
        try:
            await self._audit.record(entries.attempt("command.arm", request, by, via, found))
        except AuditUnavailable as error:
            raise refusal(halt("audit_unavailable", error.reason)) from error
        if found is not None:
            raise refusal(found)
        until = self._clock.now() + timedelta(seconds=ARM_S_MAX)
        return Armed(self._bench.arm(request, by), until)

    async def find(self, id_: str) -> CommandView | None:
        """See `api.commanding.Commands.find`."""
        entry = await self._ends.found(self._ledger.by_id(id_))
        return None if entry is None else entry.view

    async def list(self, after: int, limit: int) -> tuple[Sequence[CommandView], int]:
        """See `api.commanding.Commands.list`."""
        found, last = await self._ends.found(self._ledger.page(after, limit))
        return [entry.view for entry in found], last

    # -- on its way ------------------------------------------------------------------------------------------

    async def _taken(self, request: CommandRequest, by: Principal, via: str, print_: str) -> CommandView:
        """A request whose key is ours for as long as this lasts."""
        try:
            until_s = self._clock.monotonic() + self._bench.lives_s(request)
            known = await self._ends.found(self._ledger.by_key(request.key))
            if known is not None and known.fingerprint == print_:
                if known.stage in (Stage.GOING, Stage.SENDING):
                    raise refusal(halt("key_running", "it is being worked on", retry_after_s=RETRY_S))
                return entries.answer(known)
            async with self._under_way.turn(request.tag or request.equipment):
                verdict = self._bench.judged(request, by, via, until_s, reused=known is not None)
                if verdict.halt is not None and not verdict.waits:
                    if known is not None or verdict.halt.code in _NOT_KEPT:
                        raise await self._ends.turned_away(verdict.halt, request, by, via)
                    entry = entries.taken(_new_id(), verdict.facts, Stage.GOING)
                    return await self._ends.refused(entry, verdict.halt, verdict.facts.now)
                return await self._accepted(verdict)
        finally:
            self._keys.pop(request.key, None)

    async def _accepted(self, verdict: Verdict) -> CommandView:
        """Its place in the rates and its arming are used up before anything is awaited."""
        facts, rule, until_s = verdict.facts, verdict.rule, verdict.facts.until_s
        assert rule is not None, "nothing else is allowed"
        request, is_waiting = facts.request, verdict.waits
        if is_waiting:
            if len(self._waits) >= WAITING_MAX:
                raise refusal(halt("busy", f"{WAITING_MAX} wait for approval", retry_after_s=RETRY_S))
            if request.expires_s is None:
                until_s = max(until_s, facts.now_s + APPROVAL_S)
        self._bench.take(facts, rule)
        facts = msgspec.structs.replace(facts, until_s=until_s)
        entry = entries.taken(_new_id(), facts, Stage.WAITING if is_waiting else Stage.GOING)
        try:
            await self._ledger.put(entry)
        except LedgerFailed as error:
            raise await self._ends.turned_away(no_ledger(error), request, facts.by, facts.via) from error
        if (found := await self._settling.accepted(entry)) is not None:
            return await self._ends.refused(entry, found)
        if is_waiting:
            self._waits.put(Wait(entry, rule, until_s))
            return entry.view
        return await self._sending.go(entry, facts, rule)

    async def _seconded(self, entry: Entry, wait: Wait) -> CommandView:
        """One that a second person has approved: judged again by what holds now, then carried out."""
        view = entry.view
        async with self._under_way.turn(view.tag or view.equipment):
            request = entries.request_of(entry)
            by = Principal(view.requested_by, entry.by_kind, frozenset())  # type: ignore[arg-type]
            verdict = self._bench.judged(request, by, view.via, wait.until_s, taken=True, stages=AGAIN)
            facts, rule, found = verdict.facts, verdict.rule, self._bench.rests(wait.rule, entry.basis)
            found = found or verdict.halt
            if rule is None or found is not None:
                found = found or halt("not_allowed", "no rule allows it any more")
                return await self._ends.refused(entry, found, facts.now)
            entry = msgspec.structs.replace(
                entry, stage=Stage.GOING, view=msgspec.structs.replace(entry.view, waits_for="device")
            )
            try:
                await self._ledger.put(entry)
            except LedgerFailed as error:
                return await self._ends.refused(entry, no_ledger(error), facts.now)
            return await self._sending.go(entry, facts, rule)

    # -- small things ----------------------------------------------------------------------------------------

    def _room(self, name: str) -> None:
        """Raises a refusal when nothing more can be taken."""
        if self._stopping:
            raise refusal(halt("stopping", "the gateway is shutting down", retry_after_s=5.0))
        if not self._is_open:
            reason = self.ledger_trouble or "it has not been read yet"
            raise refusal(halt("ledger_unavailable", reason, retry_after_s=RETRY_S))
        if (found := self._under_way.no_room(name)) is not None:
            raise refusal(found)


def _new_id() -> str:
    return secrets.token_hex(12)
