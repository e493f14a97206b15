"""A desk with everything around it that a test can hold in its hand: a machine that keeps its own ledger of
what it was sent, an audit trail and a journal in lists, and a ledger that can fail or stop at any step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from api.access import Principal, Role
from api.auditing import AuditEntry, AuditRecord, AuditUnavailable
from api.commanding import CommandRequest, CommandView
from connectors.base import WriteOutcome, Written
from gateway.clock import SystemClock
from gateway.config.control import AllowSettings, CommandsSettings
from gateway.control.desk import CommandDesk
from gateway.control.facts import Kind
from gateway.control.ledger import Ledger, LedgerFailed, SqliteLedger
from gateway.control.readings import Readings
from gateway.control.tags import TagCarrier
from gateway.errors import JournalFailed
from statemodel.records import Recorded, tell
from statemodel.types import CommandTold, Quality, SampleBatch, TagSample, TagValue
from tests.support.loop_time import later

TAG, SHOWN = "plc/sp", "plc/shown"

#: How long anything may take that has to come some day: well beyond what a busy machine stands still.
PATIENCE_S = 45.0
#: How long a value may take to be read back.
WITHIN_S = 30.0

RULES: dict[str, Any] = {
    "enabled": True,
    "allow": [
        {
            "equipment": "m-1",
            "tag": TAG,
            "states": ["Idle", "Stopped"],
            "min": 0.0,
            "max": 120.0,
            "step": 50.0,
            "readback": {"tag": SHOWN, "within": "30s", "tolerance": 0.5},
        }
    ],
}


def rules(**changed: Any) -> CommandsSettings:
    """The rules above; keys of the section, or of its one rule with `rule_` before them."""
    rule = {**RULES["allow"][0], **{k[5:]: v for k, v in changed.items() if k.startswith("rule_")}}
    section = {k: v for k, v in changed.items() if not k.startswith("rule_")}
    return CommandsSettings.model_validate({**RULES, "allow": [rule], **section})


ANNA = Principal("anna", "user", frozenset((Role.OPERATOR,)))
BERTA = Principal("berta", "user", frozenset((Role.ENGINEER,)))
VIEWER = Principal("vera", "user", frozenset((Role.VIEWER,)))


class ShiftedClock(SystemClock):
    """The time of the machine, and as much more as a test says."""

    shift_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.shift_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.shift_s


class Machine:
    """A device with two tags. Everything it was sent stands in `received`, whatever it made of it."""

    def __init__(self, clock: SystemClock) -> None:
        self.clock, self.received = clock, list[tuple[str, TagValue]]()
        self.state, self.value = "Idle", 50.0
        self.standstill: str | None = None
        self.outcome = WriteOutcome.ACCEPTED
        self.acts, self.shows = True, True
        self.before: Callable[[], Awaitable[None]] | None = None
        self.off_by = 0.0
        #: How often the connector has read both tags.
        self.shown = 0
        self.later: float | None = None
        self.readings = Readings(clock, {TAG: "all", SHOWN: "all"})
        self.samples: dict[str, TagSample] = {}
        self.lies_at = "holding:1"
        self.show()

    def show(self, quality: Quality = Quality.GOOD) -> None:
        """The connector reads both tags."""
        self.shown += 1
        now = self.clock.now()
        batch = SampleBatch(
            "plc", now, tuple(TagSample(tag, self.value, quality, None, now) for tag in (TAG, SHOWN))
        )
        self.samples.update((sample.tag, sample) for sample in batch.samples)
        self.readings.batch(batch)

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        if self.before is not None:
            await self.before()
        self.received.append((tag, value))
        if self.acts and self.outcome is not WriteOutcome.REFUSED:
            assert isinstance(value, int | float)
            self.value = value + self.off_by
        if self.shows:
            asyncio.get_running_loop().call_later(0.01, self.show)
        reason = "" if self.outcome is WriteOutcome.ACCEPTED else "so it was made"
        return Written(tag, self.outcome, reason)

    # What the desk asks of the plant.

    def state_of(self, equipment: str) -> str | None:
        return self.state if equipment == "m-1" else None


class FakePlant:
    """Implements `gateway.control.plant.Plant` over a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def state(self, equipment: str) -> str | None:
        return self.machine.state_of(equipment)

    def standstill(self) -> str | None:
        return self.machine.standstill

    def path(self, equipment: str) -> str:
        return "hall/line/m-1" if equipment == "m-1" else ""

    def basis(self, rule: AllowSettings) -> str:
        return f"{rule} {self.machine.lies_at}"

    def kind(self, tag: str) -> Kind | None:
        return "fraction"

    def present(self, tag: str) -> TagSample | None:
        return self.machine.samples.get(tag)


class FakeAudit:
    """An audit trail in a list; `reason` makes it unavailable."""

    def __init__(self, clock: SystemClock) -> None:
        self.clock, self.records, self.reason = clock, list[AuditRecord](), ""
        self.fail_at = -1
        #: What it says of itself; it takes records all the same.
        self.says = ""
        #: Keeps the record it then denies.
        self.denies = False

    async def record(self, entry: AuditEntry) -> int:
        await asyncio.sleep(0)
        failing = bool(self.reason) or len(self.records) == self.fail_at
        if not failing or self.denies:
            fields = msgspec.structs.asdict(entry)
            n = len(self.records) + 1
            self.records.append(AuditRecord(n=n, previous="", at=self.clock.now(), hash="", **fields))
        if failing:
            self.fail_at = -1
            raise AuditUnavailable(self.reason or "made so")
        return len(self.records)

    def available(self) -> str | None:
        return self.says or self.reason or None

    async def read(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        action: str | None = None,
        from_: datetime | None = None,
    ) -> Sequence[AuditRecord]:
        found = [r for r in self.records if r.n > after and (action is None or r.action.startswith(action))]
        return found[:limit]

    def of(self, id_: str) -> list[str]:
        """The results of one command's records, in order."""
        return [r.result for r in self.records if r.action == "command" and r.detail.get("id") == id_]


class Bench:
    """A desk and what is around it. `open` one, use it, `kill` it, open another over the same files."""

    def __init__(self, folder: Path, settings: CommandsSettings | None = None) -> None:
        self.folder, self.settings = folder, settings or rules()
        self.clock = ShiftedClock()
        self.machine = Machine(self.clock)
        self.audit = FakeAudit(self.clock)
        self.told: list[CommandTold] = []
        self.journal_reason = ""

    async def record(self, event: CommandTold) -> Recorded:
        await asyncio.sleep(0)
        if self.journal_reason:
            raise JournalFailed(self.journal_reason)
        self.told.append(event)
        return tell(event, gateway="g", stream="s", seq=len(self.told), recorded_at=self.clock.now())

    @asynccontextmanager
    async def open(
        self, wrap: Callable[[Ledger], Ledger] = lambda ledger: ledger, *, runs: bool = True
    ) -> AsyncIterator[CommandDesk]:
        """A desk as one process has it."""
        file = await SqliteLedger.open(self.folder / "ledger.sqlite")
        carrier = TagCarrier(self.machine.write, self.machine.readings, self.clock)
        desk = CommandDesk(
            self.settings,
            plant=FakePlant(self.machine),
            ledger=wrap(file),
            audit=self.audit,
            record=self.record,
            carriers={"tag": carrier},
            clock=self.clock,
        )
        running: asyncio.Task[None] | None = None
        try:
            await desk.begin()
            running = asyncio.create_task(desk.run()) if runs else None
            yield desk
        finally:
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await desk.stop()
            await file.close()

    def statuses(self, id_: str) -> list[str]:
        """What the journal was told of one command."""
        return [event.status.value for event in self.told if event.command_id == id_]


class Killed(BaseException):
    """The process is gone: nothing after this runs."""


class DyingLedger:
    """Passes on to a ledger until the n-th write, then dies before or after it."""

    def __init__(self, ledger: Ledger, at: int, *, after: bool) -> None:
        self._ledger, self._at, self._after, self.puts = ledger, at, after, 0

    async def put(self, entry: Any) -> None:
        self.puts += 1
        if self.puts == self._at and not self._after:
            raise Killed
        if self.puts > self._at:
            raise Killed
        await self._ledger.put(entry)
        if self.puts == self._at:
            raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


class FailingLedger:
    """A ledger whose disk is full from the n-th write on."""

    def __init__(self, ledger: Ledger, at: int) -> None:
        self._ledger, self._at, self.puts = ledger, at, 0

    async def put(self, entry: Any) -> None:
        self.puts += 1
        if self.puts >= self._at:
            raise LedgerFailed("no space left on device")
        await self._ledger.put(entry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has to come."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def in_vain(bench: Bench, desk: CommandDesk, *, after: Callable[[], bool]) -> CommandView:
    """How a command ends whose time to be read back goes by, once this much has happened."""
    sending = asyncio.create_task(desk.submit(request(), ANNA, "rest"))
    await until(lambda: after() and bool(bench.machine.readings._waiting))
    later(WITHIN_S)
    return await sending


def request(value: TagValue = 90.0, key: str = "k-1", **more: Any) -> CommandRequest:
    """A request for the tag."""
    fields: Mapping[str, Any] = {"tag": TAG, "value": value, **more}
    return CommandRequest(key=key, **fields)
