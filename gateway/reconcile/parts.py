"""The parts of a reconciliation that memory, journal and database are compared in: each looks, some mend.

A part is asked to look at everything, or, with a focus, only at what a first look found. It awaits answers
and leaves the judging to `compare`. That something is away is no failure: the part says what it could not
compare.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from connectors.base import Clock
from gateway.errors import GatewayError
from gateway.historian.lanes import Held
from gateway.historian.rows import dated
from gateway.journal import Cursor, Journal
from gateway.reconcile.compare import (
    Tally,
    compare_engine,
    compare_events,
    compare_live,
    compare_states,
    unequal,
)
from gateway.reconcile.database import SLICE_EVENTS, SLICES_MAX, Database
from gateway.reconcile.kinds import Finding
from statemodel.engine import EquipmentMemory
from statemodel.records import EquipmentState, Recorded
from statemodel.types import Quality

#: Newest events compared in a look that is not at everything.
NEWEST_EVENTS = 20_000
#: Differences one part tells; beyond it they are only counted.
FINDINGS_MAX = 200
#: Newest samples compared one by one.
_SAMPLES_MAX = 2_000
#: Events read from the journal at once, a few milliseconds of its time.
_PAGE_EVENTS = 250
_BATCHES_MAX = 200


class Look(msgspec.Struct, frozen=True):
    """What one part has seen: findings, those only counted, things compared, and why not all were."""

    findings: Sequence[Finding]
    compared: int
    reason: str | None = None
    left_out: int = 0
    failed: bool = False


class Part(Protocol):
    """One part of a reconciliation."""

    @property
    def name(self) -> str:
        """Its word in reports."""
        ...

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        """Compare; with a focus, at least what was found there.

        Raises:
            GatewayError: somebody who is needed is away.
        """
        ...

    async def repair(self, findings: Sequence[Finding]) -> None:
        """Mend what can be mended of these; another look says whether it helped.

        Raises:
            GatewayError: as for `look`.
        """
        ...


class NotCompared(GatewayError):
    """A part cannot be compared now; `reason` says why."""


class MemoryPart:
    """Live states and the engine's memory against the journal."""

    name = "memory"

    def __init__(
        self,
        journal: Journal,
        live: Callable[[], Sequence[EquipmentState]],
        memories: Callable[[], Sequence[EquipmentMemory]],
    ) -> None:
        self._journal, self._live, self._memories = journal, live, memories

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        if reason := self._journal.stats().full:
            # What the engine has made of the last samples waits for room: it is ahead, and rightly so.
            raise NotCompared(f"the journal takes nothing more: {reason}")
        last = await self._journal.last_transitions()
        live, memories = self._live(), self._memories()
        return Look([*compare_live(last, live), *compare_engine(last, memories)], len(live) + len(memories))

    async def repair(self, findings: Sequence[Finding]) -> None:
        return None


class StatesPart:
    """The newest state of each equipment in the database against the journal."""

    name = "states"

    def __init__(self, journal: Journal, database: Callable[[], Database]) -> None:
        self._journal, self._database = journal, database

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        database, journal = self._database(), self._journal
        there = await held_by(database)
        stored = await database.states()
        last = await journal.last_transitions()
        held = {name: await self._newest_held(there, recorded) for name, recorded in last.items()}
        seqs = [recorded.seq for recorded in (*last.values(), *held.values()) if recorded] or [0]
        known = await database.set_aside("event", min(seqs), max(seqs))
        findings, compared = compare_states(last, held, stored, stream=journal.stream, set_aside=known.holds)
        return Look(findings, compared)

    async def _newest_held(self, there: Held, last: Recorded) -> Recorded | None:
        """The newest transition of an equipment the database says it has; `last` is the journal's newest."""
        if last.stream != self._journal.stream or there.holds_event(last.seq):
            return last
        stretches = [(0, there.cursor.seq), *((r.after.seq, r.up_to.seq) for r in there.beyond)]
        for after, up_to in reversed(stretches):
            found = await self._journal.transition_up_to(last.equipment, up_to)
            if found is not None and found.stream == last.stream and found.seq > after:
                return found
        return None

    async def repair(self, findings: Sequence[Finding]) -> None:
        await write_again(self._journal, self._database(), findings)


class EventsPart:
    """Every event both hold, byte for byte, newest first; and that transitions follow from each other."""

    name = "events"

    def __init__(
        self, journal: Journal, database: Callable[[], Database], clock: Clock, *, gentle: Callable[[], bool]
    ) -> None:
        self._journal, self._database, self._clock, self._gentle = journal, database, clock, gentle

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        database, journal = self._database(), self._journal
        cursor = await cursor_of(database)
        findings: list[Finding] = []
        ahead = await database.first_after(journal.position.last_seq)
        if ahead is not None and ahead > (last := journal.position.last_seq):
            findings.append(
                Finding("database_ahead", "numbers", f"none after {last}", f"event {ahead}", seq=ahead)
            )
        position = journal.position
        first, last = position.first_seq, min(position.last_seq, cursor.seq)
        if not full:
            first = max(first, last - NEWEST_EVENTS + 1)
        if focus is not None:
            slices = sorted({(found.seq - 1) // SLICE_EVENTS for found in focus if found.seq}, reverse=True)
            blocks = [(number, 1) for number in slices]
        else:
            blocks = _blocks(first, last)
        left_out = 0
        for number, count in blocks:
            began_s = self._clock.monotonic()
            more, over = await self._block(database, number, count, first, last, FINDINGS_MAX - len(findings))
            findings += more
            left_out += over
            if self._gentle() and focus is None:
                await self._clock.sleep(self._clock.monotonic() - began_s)
        compared = max(0, last - first + 1)
        return Look(findings, compared, None, left_out)

    async def _block(
        self, database: Database, number: int, count: int, first: int, last: int, room: int
    ) -> tuple[list[Finding], int]:
        """A few slices, and what they differ in; the findings there is no room for are counted."""
        after, end = max(first - 1, number * SLICE_EVENTS), min(last, (number + count) * SLICE_EVENTS)
        if end <= after:
            return [], 0
        tally = Tally(SLICE_EVENTS)
        async for page in pages_of(self._journal, after, end):
            tally.add(page)
        ours = tally.digests()
        # The oldest slice may begin in the middle for the journal: there the bodies are compared one by one.
        whole = after == number * SLICE_EVENTS
        theirs = await database.digests(number, count, end) if whole else {}
        findings = [
            Finding("columns_differ", f"event {broken.seq}", broken.expected, broken.found, name, broken.seq)
            for name, broken in await database.broken_columns(after, end)
        ]
        left_out = 0
        for different in unequal(ours, theirs):
            begin, stop = (
                max(after, different * SLICE_EVENTS),
                min(end, (different + 1) * SLICE_EVENTS),
            )
            known = await database.set_aside("event", begin + 1, stop)
            held = await database.bodies(begin, stop)
            mine = {event.seq: event async for page in pages_of(self._journal, begin, stop) for event in page}
            findings += compare_events(mine, held, missing=known.holds)
        left_out = max(0, len(findings) - room)
        return findings[: max(0, room)], left_out

    async def repair(self, findings: Sequence[Finding]) -> None:
        await write_again(self._journal, self._database(), findings)


class SequencePart:
    """That the transitions of each equipment in the database follow from each other without a gap."""

    name = "sequence"

    def __init__(self, journal: Journal, database: Callable[[], Database]) -> None:
        self._journal, self._database = journal, database

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        database, journal = self._database(), self._journal
        cursor = await cursor_of(database)
        names = sorted(
            await journal.last_transitions() if focus is None else {found.equipment for found in focus}
        )
        after = 0 if full else max(0, cursor.seq - NEWEST_EVENTS)
        findings: list[Finding] = []
        left_out = 0
        for name in names:
            begin: int | None = after
            while begin is not None:
                broken, following = await database.chain(name, begin, cursor.seq)
                for item in broken:
                    known = await database.set_aside("event", item.before_seq, item.seq)
                    if known.touches(item.before_seq + 1, item.seq - 1):
                        continue
                    if len(findings) < FINDINGS_MAX:
                        place = f"transition {item.seq} of {name}"
                        findings.append(
                            Finding("sequence_gap", place, item.expected, item.found, name, item.seq)
                        )
                    else:
                        left_out += 1
                begin = following if following is not None and following > begin else None
        return Look(findings, len(names), None, left_out)

    async def repair(self, findings: Sequence[Finding]) -> None:
        return None


class SamplesPart:
    """The newest samples the database should have: each there, and as often as the journal has it."""

    name = "samples"

    def __init__(
        self,
        journal: Journal,
        database: Callable[[], Database],
        clock: Clock,
        *,
        kept_s: float | None,
    ) -> None:
        self._journal, self._database, self._clock, self._kept_s = journal, database, clock, kept_s

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        database, journal = self._database(), self._journal
        cursor = await cursor_of(database)
        position = journal.position
        last = min(cursor.batch, position.last_batch)
        after = max(position.first_batch - 1, last - _BATCHES_MAX)
        known = await database.set_aside("batch", after + 1, last)
        wanted: Counter[tuple[str, datetime, datetime, Quality]] = Counter()
        now, oldest_at, cut = self._clock.now(), None, after >= position.first_batch
        for number, batch in reversed(await journal.read_batches(after, last - after)):
            if number > last or known.holds(number):
                continue
            # What retention may have taken is nobody's loss.
            if self._kept_s is not None and (now - batch.received_at).total_seconds() > self._kept_s / 2:
                continue
            if wanted.total() + len(batch.samples) > _SAMPLES_MAX:
                cut = True
                break
            oldest_at = batch.received_at
            wanted.update(
                (sample.tag, dated(sample, batch.source_time), sample.received_at, sample.quality)
                for sample in batch.samples
            )
        if cut:  # what was received with the oldest of them may lie in batches before it as well
            wanted = Counter({key: count for key, count in wanted.items() if key[2] != oldest_at})
        wrong = await database.sample_counts(wanted) if wanted else ()
        findings = [
            Finding(
                "samples_missing" if held < count else "samples_doubled",
                f"{tag} at {at.isoformat()}",
                f"{count} rows",
                f"{held} rows",
            )
            for tag, at, count, held in wrong
        ]
        return Look(
            findings[:FINDINGS_MAX], wanted.total(), None, left_out=max(0, len(findings) - FINDINGS_MAX)
        )

    async def repair(self, findings: Sequence[Finding]) -> None:
        return None


async def cursor_of(database: Database) -> Cursor:
    """How far the database says it has come without a hole.

    Raises:
        NotCompared: it has not met this journal yet.
    """
    return (await held_by(database)).cursor


async def held_by(database: Database) -> Held:
    """What the database says it has, also beyond its cursor.

    Raises:
        NotCompared: it has not met this journal yet.
    """
    held = await database.held()
    if held is None:
        raise NotCompared("the database has not met this journal yet")
    return held


async def pages_of(journal: Journal, after: int, last: int) -> AsyncIterator[Sequence[Recorded]]:
    """The events with `after < seq <= last` the journal can give, some at a time: reading many at once would
    hold up whoever wants to write, and everybody else in this process."""
    while after < last:
        page = await journal.read(after, min(_PAGE_EVENTS, last - after))
        if not page:
            return
        after = page[-1].seq
        yield [event for event in page if event.seq <= last]
        await asyncio.sleep(0)


async def write_again(journal: Journal, database: Database, findings: Sequence[Finding]) -> None:
    """Insert the events of findings from the journal, where the database says it has them."""
    there = await held_by(database)
    events: list[Recorded] = []
    for seq in sorted({found.seq for found in findings if found.seq > 0 and there.holds_event(found.seq)}):
        events += (event for event in await journal.read(seq - 1, 1) if event.seq == seq)
    if events:
        await database.write_again(events)


def _blocks(first: int, last: int) -> list[tuple[int, int]]:
    """First slice and number of slices of each block that covers a range, newest first."""
    if last < first:
        return []
    lowest, highest = (first - 1) // SLICE_EVENTS, (last - 1) // SLICE_EVENTS
    blocks = []
    while highest >= lowest:
        begin = max(lowest, highest - SLICES_MAX + 1)
        blocks.append((begin, highest - begin + 1))
        highest = begin - 1
    return blocks
