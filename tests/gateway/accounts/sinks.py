"""A sink with the manners of a database: rows and cursor in one transaction, rows refused, answers lost."""

from __future__ import annotations

from collections import Counter

from gateway.accounts.keeper import Accounts
from gateway.accounts.values import Losses
from gateway.journal import Cursor, Journal
from statemodel.types import SampleBatch

SINK = "historian"


class Kept:
    """What the database has: it outlives every process."""

    def __init__(self) -> None:
        self.batch = 0
        self.rows: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.missing: list[int] = []

    def losses(self, since: int) -> Losses:
        """As the historian reads them."""
        missing = len([number for number in self.missing if number > since])
        return Losses(dict(self.refused), missing_batches=missing)


class SmallSink:
    """One process's connection to it. `refuses` says which samples it will not take, by their value."""

    def __init__(self, kept: Kept, journal: Journal, accounts: Accounts) -> None:
        self.kept, self.journal, self.accounts = kept, journal, accounts
        self.drained = 0
        journal.require(SINK, events=False, batches=True)

    async def meet(self) -> None:
        """Connect: go on from where the database is."""
        losses = self.kept.losses(self.accounts.since_batch(SINK))
        await self.accounts.stands_at(SINK, ((1, self.kept.batch),), losses)
        await self._move_to(self.kept.batch)

    async def take(self, limit: int, *, answer_lost: bool = False, refuse: int = 0) -> None:
        """One transaction of up to `limit` batches; `answer_lost`: it took effect and we never heard."""
        found = await self.journal.read_batches(self.drained, limit)
        last = self.journal.position.last_batch
        if not found and last == self.drained:
            return
        end = found[-1][0] if found else last
        self._write(found, end, refuse)
        if answer_lost:
            return
        losses = self.kept.losses(self.accounts.since_batch(SINK))
        self.accounts.handed_over(SINK, self.drained + 1, end, found, losses)
        await self._move_to(end)

    def _write(self, found: list[tuple[int, SampleBatch]] | object, end: int, refuse: int) -> None:
        assert isinstance(found, list)
        got = {number for number, _ in found}
        self.kept.missing += [n for n in range(self.kept.batch + 1, end + 1) if n not in got]
        for number, batch in found:
            assert number > self.kept.batch, "a batch is written twice"
            for place, sample in enumerate(batch.samples):
                aside = refuse and (number + place) % refuse == 0
                (self.kept.refused if aside else self.kept.rows)[sample.tag] += 1
        self.kept.batch = end

    async def _move_to(self, batch: int) -> None:
        self.drained = batch
        await self.journal.advance(SINK, Cursor(batch=batch))
