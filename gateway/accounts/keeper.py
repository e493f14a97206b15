"""The books of a running gateway: opened with its journal, told of every delivery, kept with the journal.

What is kept may be a minute old when a process dies: the batches after it are still in the journal, and are
counted again from there (see `Journal.watch`). Knows the journal and nothing of databases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import structlog

from connectors.base import Clock
from gateway.accounts.books import Books, Unreadable
from gateway.accounts.ranges import Ranges, beyond, joined, without
from gateway.accounts.values import Losses
from gateway.journal import Journal
from statemodel.types import SampleBatch

log = structlog.get_logger(__name__)

#: Name of the books among what the journal keeps.
KEPT = "accounts"
#: They are kept so often, and after so many batches, so that little has to be counted again at a start.
_KEEP_EVERY_S = 60.0
_KEEP_EVERY_BATCHES = 2_000
_LOOK_EVERY_S = 1.0
#: Read from the journal in one go: a millisecond or two of its thread.
_BATCHES_MAX, _SAMPLES_MAX = 500, 5_000


class Accounts:
    """Implements `Deliveries` for sinks and `JournalWatcher` for the journal."""

    name = KEPT

    def __init__(self, books: Books, journal: Journal, clock: Clock) -> None:
        self.books = books
        self._journal, self._clock = journal, clock
        self._held_from = 0
        self._kept_at = books.at
        #: Samples recorded before this process began, and shed.
        self.before = books.sums()
        self.opened_at = clock.now()

    @classmethod
    async def open(cls, journal: Journal, clock: Clock) -> Accounts:
        """The books that belong to a journal, brought up to its end, or new ones from here on.

        Nothing may be appended meanwhile. From then on the journal tells them of every append.
        """
        books = await _found(journal)
        if books is None:
            books = Books(journal.stream, clock.now(), journal.position.last_batch)
        # What was shed the journal knows to the last: after a crash it knows more than the books kept.
        books.shed(journal.stats().shed)
        accounts = cls(books, journal, clock)
        for sink in books.sinks():
            cursor = await journal.cursor(sink)
            await accounts.stands_at(sink, joined(books.covered(sink), ((1, cursor.batch),)), None)
        await journal.watch(accounts)
        return accounts

    @property
    def last_seq(self) -> int:
        """The last event that is recorded."""
        return self._journal.position.last_seq

    async def run(self) -> None:
        """Keep the books now and then, for ever."""
        due_s = self._clock.monotonic() + _KEEP_EVERY_S
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            self.books.shed(self._journal.stats().shed)
            many = self.books.at - self._kept_at >= _KEEP_EVERY_BATCHES
            if many or self._clock.monotonic() >= due_s:
                due_s = self._clock.monotonic() + _KEEP_EVERY_S
                await self._journal.keep_watched()

    async def close(self) -> None:
        """Keep them a last time; the journal must still be open."""
        await self._journal.keep_watched()

    # -- for the journal, in its thread

    def appended(self, first: int, batches: Sequence[SampleBatch]) -> None:
        """Batches are durable."""
        self.books.appended(first, batches)

    def to_keep(self) -> bytes:
        """The books as bytes."""
        # Read before the bytes are made, so that it is not said of them what is true only later.
        self._held_from, self._kept_at = self.books.held_from(), self.books.at
        return self.books.encode()

    def held_from(self) -> int:
        """What was given to keep last needs all batches beyond this number."""
        return self._held_from

    # -- for sinks

    def since_batch(self, sink: str) -> int:
        """The books of a sink count batches beyond this number."""
        self.books.begin_sink(sink)
        return self.books.begun_at(sink)

    def handed_over(
        self,
        sink: str,
        first: int,
        last: int,
        batches: Sequence[tuple[int, SampleBatch]],
        losses: Losses | None,
    ) -> None:
        """A sink holds batches for certain from now on."""
        self.books.handed(sink, ((first, last),), batches, losses)

    async def stands_at(self, sink: str, ranges: Ranges, losses: Losses | None) -> None:
        """What a sink itself says it holds; what we knew otherwise is counted again from the journal."""
        self.books.begin_sink(sink)
        since, known = self.books.begun_at(sink), self.books.covered(sink)
        told = beyond(ranges, since)
        news, retracted = without(told, known), without(known, told)
        if any(first < self._journal.position.first_batch for first, _ in (*news, *retracted)):
            log.warning(
                "what a sink has got is not known any more; its account begins anew",
                sink=sink,
                reason="the journal does not hold the samples it was handed meanwhile",
            )
            self.books.begin_sink(sink, anew=True)
            news = retracted = ()
            losses = None  # those are counted from where it began before
        for range_ in retracted:
            async for first, last, batches in self._slices(range_):
                self.books.taken_back(sink, ((first, last),), batches, losses)
        for range_ in news:
            async for first, last, batches in self._slices(range_):
                self.books.handed(sink, ((first, last),), batches, losses)
        self.books.handed(sink, (), (), losses)

    async def _slices(
        self, range_: tuple[int, int]
    ) -> AsyncIterator[tuple[int, int, Sequence[tuple[int, SampleBatch]]]]:
        async for slice_ in _slices(self._journal, *range_):
            yield slice_


async def _found(journal: Journal) -> Books | None:
    """The books the journal keeps, brought up to its end; None when they cannot go on."""
    body, position = await journal.kept(KEPT), journal.position
    if body is None:
        return None
    try:
        books = Books.decode(body)
    except Unreadable as error:
        log.warning("the books of what was recorded cannot be read; new ones begin", reason=str(error))
        return None
    if books.stream != position.stream:
        return None  # of the journal before; it was put aside with what they are about
    if not position.first_batch - 1 <= books.at <= position.last_batch:
        log.error(
            "the books of what was recorded do not meet the journal; new ones begin",
            batch=books.at,
            first=position.first_batch,
            last=position.last_batch,
        )
        return None
    async for _, last, batches in _slices(journal, books.at + 1, position.last_batch):
        books.read_again(batches, last)
    return books


async def _slices(
    journal: Journal, first: int, last: int
) -> AsyncIterator[tuple[int, int, Sequence[tuple[int, SampleBatch]]]]:
    """The batches of a range as the journal gives them, piece by piece: first and last number, batches."""
    while first <= last:
        found = await journal.read_batches(first - 1, _BATCHES_MAX, samples_max=_SAMPLES_MAX)
        batches = [(number, batch) for number, batch in found if number <= last]
        end = found[-1][0] if len(batches) == len(found) and found else last
        yield first, end, batches
        first = end + 1
