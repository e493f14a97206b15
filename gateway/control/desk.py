"""The desk where commands are handed in: the one file that carries a command from the request to its end.

    key known? -> its line -> judge -> ledger (accepted) -> journal and audit trail -> ledger (sending)
    -> last check and write -> read back -> ledger (done) -> audit trail and journal

Each arrow is crossed only when the step before it is durable, so that whatever dies when, a command is sent
at most once: an entry found at `sending` is `unknown` for ever, one before it was never sent. Commands for
one tag or equipment go one after the other, in the order they came, and only so many wait. What is judged is
in `judging`, what is kept in `ledger`, how it is told in `settling`, how it is sent in the carriers.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from api.access import Principal
from api.auditing import AuditEntry, AuditUnavailable
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
from gateway.config.control import AllowSettings, CommandsSettings
from gateway.control import entries
from gateway.control.bench import Bench, Verdict
from gateway.control.carrying import Carried, Carrier, Halt, Order
from gateway.control.judging import (
    ARM_S_MAX,
    EXPIRES_S_MAX,
    FOR_ARMING,
    Facts,
    Seconding,
    halt,
    judge_second,
    rules_for,
)
from gateway.control.ledger import Entry, Ledger, LedgerFailed, Stage
from gateway.control.lines import Lines
from gateway.control.plant import Plant
from gateway.control.rates import Brake
from gateway.control.refusing import AGAIN, no_ledger, refusal, reused
from gateway.control.settling import Record, Settling, Trail
from statemodel.types import CommandStatus

_log = structlog.get_logger("andon.commands")

#: How long a command waits for the ledger to be read at the start, in seconds.
OPEN_S_MAX = 2.0
#: Most commands that wait for one tag or equipment, and that are under way altogether.
LINE_MAX, COMMANDS_MAX = 8, 256
#: Most that wait for a second person.
WAITING_MAX = 1000
#: How long a command that needs a second person waits for one, unless it says otherwise.
APPROVAL_S = 60.0
#: How long a stop waits for what is under way.
STOP_S_MAX = 5.0
#: When somebody should try again who came while it was busy, or while the same was worked on.
RETRY_S = 1.0
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
        self._ledger, self._audit, self._carriers, self._clock = ledger, audit, carriers, clock
        self._bench = Bench(settings, plant, audit.available, clock)
        self._settling = Settling(ledger, audit, record, clock)
        #: Keys being worked on, with their fingerprints.
        self._keys: dict[str, str] = {}
        #: Those that wait for a second person: entry, rule, and until when (monotonic).
        self._waiting: dict[str, tuple[Entry, AllowSettings, float]] = {}
        self._lines, self._brake = Lines(LINE_MAX), Brake()
        self._tasks: set[asyncio.Task[CommandView]] = set()
        self._stopping = False
        self.counts: Counter[str] = Counter()
        self.alarms: dict[str, str] = {}
        self.ledger_trouble = ""
        self._is_open, self._opened = False, asyncio.Event()

    @property
    def waiting(self) -> int:
        """Commands that wait for a second person."""
        return len(self._waiting)

    def follow(self, settings: CommandsSettings) -> None:
        """Go by other rules from now on. What waits under one that has changed is ended by `run`."""
        self._bench.follow(settings)
        labels = {entries.label_of(rule) for rule in settings.allow}
        self.alarms = {label: words for label, words in self.alarms.items() if label in labels}

    # -- life ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Put what an earlier process left in order. Until then nothing is taken; `run` does it too.

        Raises:
            LedgerFailed: it cannot be read.
        """
        now, now_s = self._clock.now(), self._clock.monotonic()
        for entry in await self._ledger.unfinished():
            await self._take_up(entry, now, now_s)
        since = now - timedelta(seconds=self._bench.window_s)
        self._bench.taken_before(await self._ledger.taken_since(since))
        self._is_open = True
        self._opened.set()

    async def _take_up(self, entry: Entry, now: datetime, now_s: float) -> None:
        view = entry.view
        lifetime = view.expires_at - view.requested_at  # more is never left, whatever the clock was set to
        left_s = min(view.expires_at - now, lifetime).total_seconds()
        rules = rules_for(self._bench.settings.allow, entries.request_of(entry))
        rule = next((rule for rule in rules if self._bench.rests(rule, entry.basis) is None), None)
        is_in_time = 0 < left_s <= EXPIRES_S_MAX
        if entry.stage is Stage.WAITING and rule is not None and is_in_time:
            self._waiting[view.id] = entry, rule, now_s + left_s
            return
        if entry.stage is Stage.SENDING:
            reason = "the gateway was stopped while it was on its way; it may have been carried out"
            entry = entries.ended(entry, Carried(CommandStatus.UNKNOWN, "interrupted", reason), now)
            self.alarms[entry.label] = f"{view.tag or view.command}: {reason}"
        elif entry.stage is Stage.WAITING and is_in_time:
            entry = entries.refused(
                entry, halt("rule_changed", "what it rests on was changed meanwhile"), now
            )
        elif entry.stage is Stage.WAITING:
            entry = entries.refused(entry, halt("expired", "nobody approved it in time"), now)
        else:
            entry = entries.refused(
                entry, halt("interrupted", "the gateway was stopped before it was sent"), now
            )
        _log.warning("command of before", id=view.id, status=entry.view.status, reason=entry.view.reason)
        self.counts[entry.view.status] += 1
        await self._ledger.put(entry)

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
                self.ledger_trouble = ""
            except LedgerFailed as error:
                if error.reason != self.ledger_trouble:
                    _log.warning("the ledger of commands fails", reason=error.reason)
                self.ledger_trouble = error.reason
            self._bench.disarm()
            await self._clock.sleep(1.0)

    async def _end_waits(self, now_s: float) -> None:
        """End what has waited too long, and what would reach something else than was asked for."""
        for id_, (entry, rule, until_s) in tuple(self._waiting.items()):
            status, over = "refused", self._bench.rests(rule, entry.basis)
            if now_s >= until_s:
                status, over = "expired", halt("approval_expired", "nobody approved it in time")
            if over is not None and self._waiting.pop(id_, None) is not None:
                _log.warning("a command waits no more", id=id_, status=status, reason=over.reason)
                await self._end(entries.refused(entry, over, self._clock.now()), status=status)

    async def stop(self) -> None:
        """Take nothing more, and let what is under way come to its end for a moment."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_S_MAX)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
                raise await self._turned_away(reused(), request, by, via)
            raise refusal(halt("key_running", "it is being worked on", retry_after_s=RETRY_S))
        self._room(request.tag or request.equipment)
        self._keys[request.key] = print_
        return await self._owned(self._taken(request, by, via, print_), f"command {request.key}")

    async def approve(self, id_: str, approval: Approval, by: Principal, peer: str = "") -> CommandView:
        """See `api.commanding.Commands.approve`."""
        found = self._waiting.get(id_)
        if found is None:
            entry = await self._found(self._ledger.by_id(id_))
            attempt = entries.vain_approval(id_, entry, approval, by, peer)
            if self._brake.lets(f"{by.kind} {by.name}", self._clock.monotonic()):
                await self._tried(attempt)
            if entry is None:
                raise UnknownCommand
            raise refusal(halt(attempt.code, str(attempt.detail["reason"])))
        entry, rule, until_s = found
        view = entry.view
        asked, said = (view.value, approval.value) if view.tag else (view.command, approval.command)
        word = Seconding(
            rule=rule,
            path=view.path,
            requested_by=view.requested_by,
            made_by=entry.made_by,
            by=by,
            asked=asked,
            said=said,
            now_s=self._clock.monotonic(),
            until_s=until_s,
        )
        self._room(view.tag or view.equipment)
        refused = judge_second(word)
        if refused is None:
            del self._waiting[id_]  # before anything is awaited: nobody approves it twice
        try:
            request = msgspec.structs.replace(entries.request_of(entry), peer=peer, key="")
            told = entries.attempt("command.approve", request, by, view.via, refused, id=id_)
            await self._audit.record(told)
        except (AuditUnavailable, asyncio.CancelledError) as error:
            if refused is None:
                self._waiting[id_] = found
            if isinstance(error, AuditUnavailable):
                raise refusal(halt("audit_unavailable", error.reason)) from error
            raise
        if refused is not None:
            raise refusal(refused)
        entry = msgspec.structs.replace(entry, view=msgspec.structs.replace(view, approved_by=by.name))
        return await self._owned(self._seconded(entry, rule, until_s), f"command {id_}")

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
        entry = await self._found(self._ledger.by_id(id_))
        return None if entry is None else entry.view

    async def list(self, after: int, limit: int) -> tuple[Sequence[CommandView], int]:
        """See `api.commanding.Commands.list`."""
        found, last = await self._found(self._ledger.page(after, limit))
        return [entry.view for entry in found], last

    # -- on its way ------------------------------------------------------------------------------------------

    async def _taken(self, request: CommandRequest, by: Principal, via: str, print_: str) -> CommandView:
        """A request whose key is ours for as long as this lasts."""
        try:
            until_s = self._clock.monotonic() + self._bench.lives_s(request)
            known = await self._found(self._ledger.by_key(request.key))
            if known is not None and known.fingerprint == print_:
                if known.stage in (Stage.GOING, Stage.SENDING):
                    raise refusal(halt("key_running", "it is being worked on", retry_after_s=RETRY_S))
                return entries.answer(known)
            async with self._lines.turn(request.tag or request.equipment):
                verdict = self._bench.judged(request, by, via, until_s, reused=known is not None)
                if verdict.halt is not None and not verdict.waits:
                    if known is not None or verdict.halt.code in _NOT_KEPT:
                        raise await self._turned_away(verdict.halt, request, by, via)
                    entry = self._begun(verdict.facts, Stage.GOING)
                    entry = entries.refused(entry, verdict.halt, verdict.facts.now)
                    return entries.answer(await self._end(entry))
                return await self._accepted(verdict)
        finally:
            self._keys.pop(request.key, None)

    async def _accepted(self, verdict: Verdict) -> CommandView:
        """Its place in the rates and its arming are used up before anything is awaited."""
        facts, rule, until_s = verdict.facts, verdict.rule, verdict.facts.until_s
        assert rule is not None, "nothing else is allowed"
        request, is_waiting = facts.request, verdict.waits
        if is_waiting:
            if len(self._waiting) >= WAITING_MAX:
                raise refusal(halt("busy", f"{WAITING_MAX} wait for approval", retry_after_s=RETRY_S))
            if request.expires_s is None:
                until_s = max(until_s, facts.now_s + APPROVAL_S)
        self._bench.take(facts, rule)
        facts = msgspec.structs.replace(facts, until_s=until_s)
        entry = self._begun(facts, Stage.WAITING if is_waiting else Stage.GOING)
        try:
            await self._ledger.put(entry)
        except LedgerFailed as error:
            raise await self._turned_away(no_ledger(error), request, facts.by, facts.via) from error
        if (found := await self._settling.accepted(entry)) is not None:
            return entries.answer(await self._end(entries.refused(entry, found, self._clock.now())))
        if is_waiting:
            self._waiting[entry.view.id] = entry, rule, until_s
            return entry.view
        return await self._go(entry, facts, rule)

    async def _seconded(self, entry: Entry, asked: AllowSettings, until_s: float) -> CommandView:
        """One that a second person has approved: judged again by what holds now, then carried out."""
        view = entry.view
        async with self._lines.turn(view.tag or view.equipment):
            request = entries.request_of(entry)
            by = Principal(view.requested_by, entry.by_kind, frozenset())  # type: ignore[arg-type]
            verdict = self._bench.judged(request, by, view.via, until_s, taken=True, stages=AGAIN)
            facts, rule, found = verdict.facts, verdict.rule, self._bench.rests(asked, entry.basis)
            found = found or verdict.halt
            if rule is None or found is not None:
                found = found or halt("not_allowed", "no rule allows it any more")
                return entries.answer(await self._end(entries.refused(entry, found, facts.now)))
            entry = msgspec.structs.replace(
                entry, stage=Stage.GOING, view=msgspec.structs.replace(entry.view, waits_for="device")
            )
            try:
                await self._ledger.put(entry)
            except LedgerFailed as error:
                found = no_ledger(error)
                return entries.answer(await self._end(entries.refused(entry, found, facts.now)))
            return await self._go(entry, facts, rule)

    async def _go(self, entry: Entry, facts: Facts, rule: AllowSettings) -> CommandView:
        """An accepted command, on record everywhere: send it, once, and see what came of it."""
        view = entry.view
        order = Order(
            id=view.id,
            rule=rule,
            equipment=rule.equipment,
            tag=view.tag,
            value=view.value,
            command=view.command,
            previous=entry.previous,
            source=f"{view.via} {view.requested_by}",
        )
        carrier = self._carriers["tag" if rule.tag is not None else "packml"]
        entry = msgspec.structs.replace(entry, view=msgspec.structs.replace(view, sends=carrier.sends(order)))

        def check() -> Halt | None:
            return self._bench.last(facts)

        if self._bench.settings.dry_run or view.dry_run:
            found = check()
            dry = msgspec.structs.replace(entry, view=msgspec.structs.replace(entry.view, dry_run=True))
            if found is not None:
                return entries.answer(await self._end(entries.refused(dry, found, self._clock.now())))
            carried = Carried(CommandStatus.WRITTEN, "dry_run", "dry run: nothing was written")
            return entries.answer(await self._end(entries.ended(dry, carried, self._clock.now())))
        entry = msgspec.structs.replace(entry, stage=Stage.SENDING)
        try:
            await self._ledger.put(entry)
        except LedgerFailed as error:
            found = no_ledger(error)
            return entries.answer(await self._end(entries.refused(entry, found, self._clock.now())))
        try:
            carried = carrier.news(order, await carrier.carry(order, check))
        except Exception as error:  # noqa: BLE001 - a command must come to an end, whatever nobody foresaw
            _log.exception("a command failed unexpectedly", id=view.id)
            reason = f"unexpected failure: {type(error).__name__}: {error}"
            carried = Carried(CommandStatus.UNKNOWN, "failed", reason)
        return entries.answer(await self._end(entries.ended(entry, carried, self._clock.now())))

    async def _end(self, entry: Entry, *, status: str | None = None) -> Entry:
        """The end of a command: kept, told, audited. Its answer does not depend on any of the three."""
        if status is not None:
            view = msgspec.structs.replace(entry.view, status=CommandStatus(status))
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

    def _begun(self, facts: Facts, stage: Stage) -> Entry:
        left_s = facts.until_s - facts.now_s
        entry = entries.begun(
            secrets.token_hex(12),
            facts.request,
            facts.by,
            facts.via,
            facts.rule,
            path=facts.path,
            at=facts.now,
            expires_at=facts.now + timedelta(seconds=left_s),
            stage=stage,
        )
        previous = None if facts.present is None else facts.present.value
        return msgspec.structs.replace(
            entry,
            previous=previous,
            basis=facts.basis,
            view=msgspec.structs.replace(
                entry.view, previous=previous, dry_run=facts.request.dry_run or facts.settings.dry_run
            ),
        )

    # -- small things ----------------------------------------------------------------------------------------

    def _room(self, name: str) -> None:
        """Raises a refusal when nothing more can be taken."""
        if self._stopping:
            raise refusal(halt("stopping", "the gateway is shutting down", retry_after_s=5.0))
        if not self._is_open:
            found = halt("ledger_unavailable", self.ledger_trouble or "it has not been read yet")
            raise refusal(msgspec.structs.replace(found, retry_after_s=RETRY_S))
        if self._lines.is_full(name):
            raise refusal(halt("busy", f"{LINE_MAX} commands wait for {name}", retry_after_s=RETRY_S))
        if len(self._tasks) + self._settling.unsettled >= COMMANDS_MAX:
            raise refusal(halt("busy", f"{COMMANDS_MAX} commands are under way", retry_after_s=RETRY_S))

    async def _owned(self, work: Coroutine[Any, Any, CommandView], name: str) -> CommandView:
        """Work that goes on when whoever waits for it is gone."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._let_go)
        return await asyncio.shield(task)

    def _let_go(self, task: asyncio.Task[CommandView]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CommandRefused | UnknownCommand):
            _log.error("a command failed unexpectedly", command=task.get_name(), exc_info=error)

    async def _turned_away(
        self, found: Halt, request: CommandRequest, by: Principal, via: str
    ) -> CommandRefused:
        """A refusal that is not kept, on record as an attempt all the same, where that is possible."""
        self.counts[CommandStatus.REFUSED] += 1
        await self._tried(entries.attempt("command", request, by, via, found))
        return refusal(found)

    async def _tried(self, attempt: AuditEntry) -> None:
        try:
            await self._audit.record(attempt)
        except AuditUnavailable as error:
            _log.warning("a refused command is not audited", code=attempt.code, reason=error.reason)

    async def _found(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await work
        except LedgerFailed as error:
            self.ledger_trouble = error.reason
            raise refusal(no_ledger(error)) from error
