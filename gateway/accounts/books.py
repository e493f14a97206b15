"""The books of one journal: per tag what was recorded, what each sink was handed, what it lost.

    recorded = delivered + buffered + set aside + missing        for each tag and each sink of samples

`recorded` is counted when a batch is durable, `handed` from what a sink has taken for certain, each by the
numbers of batches, so that nothing is counted twice. `delivered` is what was handed less what the sink set
aside. `buffered` is the rest, while there is one: what the journal holds beyond the sink. When that stands
at the end of the journal there may be no rest but what is known to be missing; else the books do not add up.

Written by the journal's thread and by the sinks' tasks, so behind a lock. Knows no files, no sinks' names.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime

import msgspec
import zstandard

from gateway.accounts.ranges import Ranges, beyond, count, joined, without
from gateway.accounts.values import Losses
from statemodel.types import SampleBatch

_FORMAT = 1
_BYTES_MAX = 256_000_000


class Line(msgspec.Struct, frozen=True):
    """One line of the books: `recorded` is the sum of the others. `difference` is 0 when all is well."""

    recorded: int
    delivered: int
    buffered: int
    set_aside: int
    missing: int
    difference: int


class _KeptSink(msgspec.Struct, array_like=True):
    since_batch: int
    base: list[int]
    covered: Ranges
    handed: list[int]
    set_aside: list[int]
    missing: list[int]
    told_missing: int
    events: int
    missing_batches: int
    missing_events: int


class _Kept(msgspec.Struct, array_like=True):
    format: int
    stream: str
    since: datetime
    since_batch: int
    at: int
    uncounted: int
    tags: list[str]
    recorded: list[int]
    shed: list[int]
    sinks: dict[str, _KeptSink]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class Unreadable(Exception):
    """The bytes are not books this version reads."""


class SinkBook:
    """One sink: which batches it has, and what came of them. Numbers to `since_batch` do not concern it."""

    def __init__(self, since_batch: int, base: Mapping[str, int]) -> None:
        self.since_batch = since_batch
        #: What had been recorded before it began.
        self.base: Counter[str] = Counter(base)
        self.covered: Ranges = ()
        self.handed: Counter[str] = Counter()
        self.losses = Losses()
        #: Samples of batches the journal could not give; known once the sink has reached the journal's end.
        self.missing: Counter[str] = Counter()
        self.told_missing = 0


class Books:
    """All accounts of one journal, from batch `since_batch` + 1 on."""

    def __init__(self, stream: str, since: datetime, since_batch: int) -> None:
        self.stream, self.since, self.since_batch = stream, since, since_batch
        #: The last batch that is counted.
        self.at = since_batch
        #: Batches that were damaged before they could be counted.
        self.uncounted = 0
        self._recorded: Counter[str] = Counter()
        self._shed: Counter[str] = Counter()
        self._sinks: dict[str, SinkBook] = {}
        self._lock = threading.Lock()

    # -- writing

    def appended(self, first: int, batches: Sequence[SampleBatch]) -> None:
        """Batches, numbered from `first`, are durable. Numbers that are counted already are passed over."""
        with self._lock:
            last = first + len(batches) - 1
            if last > self.at:
                fresh = batches[max(0, self.at + 1 - first) :]
                self._recorded.update([sample.tag for batch in fresh for sample in batch.samples])
                self.at = last

    def read_again(self, batches: Sequence[tuple[int, SampleBatch]], last: int) -> None:
        """What the journal holds up to batch `last` and was not kept; what it cannot read is noted."""
        with self._lock:
            fresh = [batch for number, batch in batches if self.at < number <= last]
            self._recorded.update([sample.tag for batch in fresh for sample in batch.samples])
            self.uncounted += last - self.at - len(fresh)
            self.at = last

    def shed(self, counts: Mapping[str, int]) -> None:
        """Samples that were not recorded because there was no room, by tag: all there ever were."""
        with self._lock:
            self._shed = Counter(counts)

    def begin_sink(self, sink: str, *, anew: bool = False) -> None:
        """A sink there is; `anew`: what it has got is not known any more, and counts from the present on."""
        with self._lock:
            if anew:
                self._sinks[sink] = SinkBook(self.at, self._recorded)
            elif sink not in self._sinks:
                self._sinks[sink] = SinkBook(self.since_batch, {})

    def handed(
        self,
        sink: str,
        ranges: Ranges,
        batches: Iterable[tuple[int, SampleBatch]],
        losses: Losses | None,
    ) -> None:
        """A sink has got the batches of some ranges; those it had before do not count again."""
        with self._lock:
            book = self._sinks[sink]
            fresh = without(beyond(ranges, book.since_batch), book.covered)
            if fresh:
                if count(fresh) != count(ranges):
                    batches = [item for item in batches if any(a <= item[0] <= b for a, b in fresh)]
                book.handed.update([sample.tag for _, batch in batches for sample in batch.samples])
                book.covered = joined(book.covered, fresh)
            if losses is not None:
                book.losses = losses
            self._settle(book)

    def taken_back(
        self, sink: str, ranges: Ranges, batches: Iterable[tuple[int, SampleBatch]], losses: Losses | None
    ) -> None:
        """A sink does not have some ranges after all: it was put back to an earlier state."""
        with self._lock:
            book = self._sinks[sink]
            book.handed.subtract([sample.tag for _, batch in batches for sample in batch.samples])
            book.covered = without(book.covered, ranges)
            if losses is not None:
                book.losses = losses

    def _settle(self, book: SinkBook) -> None:
        if book.losses.missing_batches != book.told_missing and self._at_end(book):
            rest = {tag: n - book.base[tag] - book.handed[tag] for tag, n in self._recorded.items()}
            book.missing = Counter({tag: n for tag, n in rest.items() if n > 0})
            book.told_missing = book.losses.missing_batches

    def _at_end(self, book: SinkBook) -> bool:
        return self.at <= book.since_batch or book.covered == ((book.since_batch + 1, self.at),)

    # -- reading

    def sinks(self) -> Sequence[str]:
        """Those that are on the books."""
        with self._lock:
            return tuple(self._sinks)

    def covered(self, sink: str) -> Ranges:
        """The batches a sink has, as far as its books go."""
        with self._lock:
            return self._sinks[sink].covered

    def begun_at(self, sink: str) -> int:
        """The books of a sink count batches beyond this number."""
        with self._lock:
            return self._sinks[sink].since_batch

    def losses(self, sink: str) -> Losses:
        """What a sink has noted instead of taking it."""
        with self._lock:
            return self._sinks[sink].losses

    def tags(self) -> Sequence[str]:
        """Every tag of which anything was recorded or shed, in order."""
        with self._lock:
            return sorted(self._recorded.keys() | self._shed.keys())

    def recorded(self, tag: str) -> int:
        """Samples of a tag that are durable."""
        with self._lock:
            return self._recorded[tag]

    def shed_of(self, tag: str) -> int:
        """Samples of a tag for which there was no room."""
        with self._lock:
            return self._shed[tag]

    def sums(self) -> tuple[int, int]:
        """Samples recorded and shed, of all tags."""
        with self._lock:
            return self._recorded.total(), self._shed.total()

    def line(self, sink: str, tag: str) -> Line:
        """The line of one tag in the books of a sink."""
        with self._lock:
            book = self._sinks[sink]
            return self._line(book, tag, at_end=self._at_end(book))

    def lines(self, sink: str) -> Mapping[str, Line]:
        """The lines of all tags in the books of a sink, at one moment."""
        with self._lock:
            book = self._sinks[sink]
            at_end = self._at_end(book)
            tags = self._recorded.keys() | book.handed.keys()
            return {tag: self._line(book, tag, at_end=at_end) for tag in sorted(tags)}

    def total(self, sink: str) -> Line:
        """All tags of the books of a sink in one line. Differences do not cancel each other out."""
        with self._lock:
            book = self._sinks[sink]
            recorded, handed = self._recorded.total() - book.base.total(), book.handed.total()
            set_aside, missing = sum(book.losses.samples.values()), book.missing.total()
            difference = sum(self._differences(book).values())
            buffered = recorded - handed - missing - difference
            return Line(recorded, handed - set_aside, buffered, set_aside, missing, difference)

    def differences(self, sink: str) -> Mapping[str, int]:
        """The tags of which something is unaccounted for (below 0: there is too much), and how much."""
        with self._lock:
            return self._differences(self._sinks[sink])

    def _differences(self, book: SinkBook) -> dict[str, int]:
        recorded, handed = self._recorded, book.handed
        at_end = self._at_end(book)
        if at_end and not book.base and not book.missing and dict.__eq__(recorded, handed):
            return {}
        tags = recorded.keys() | handed.keys()
        lines = ((tag, self._line(book, tag, at_end=at_end)) for tag in tags)
        return {tag: line.difference for tag, line in lines if line.difference}

    def _line(self, book: SinkBook, tag: str, *, at_end: bool) -> Line:
        recorded, handed = self._recorded[tag] - book.base[tag], book.handed[tag]
        set_aside, missing = book.losses.samples.get(tag, 0), book.missing[tag]
        rest = recorded - handed - missing
        buffered = 0 if at_end else max(0, rest)
        return Line(recorded, handed - set_aside, buffered, set_aside, missing, rest - buffered)

    # -- keeping

    def encode(self) -> bytes:
        """All of it, for `decode`."""
        # Only copied under the lock: what is made of them takes many times as long, and others wait.
        with self._lock:
            since_batch, at, uncounted = self.since_batch, self.at, self.uncounted
            recorded, shed = dict(self._recorded), dict(self._shed)
            books = {name: _copied(book) for name, book in self._sinks.items()}
        tags = sorted(
            recorded.keys()
            | shed.keys()
            | {tag for book in books.values() for tag in (*book.handed, *book.losses.samples)}
        )

        def column(counts: Mapping[str, int]) -> list[int]:
            return [counts.get(tag, 0) for tag in tags] if counts else []

        sinks = {
            name: _KeptSink(
                book.since_batch,
                column(book.base),
                book.covered,
                column(book.handed),
                column(book.losses.samples),
                column(book.missing),
                book.told_missing,
                book.losses.events,
                book.losses.missing_batches,
                book.losses.missing_events,
            )
            for name, book in books.items()
        }
        columns = column(recorded), column(shed)
        kept = _Kept(_FORMAT, self.stream, self.since, since_batch, at, uncounted, tags, *columns, sinks)
        return zstandard.ZstdCompressor(level=1).compress(_encode(kept))

    def held_from(self) -> int:
        """The journal must hold all batches beyond this number, to go on from what `encode` says."""
        with self._lock:
            return min([self.at, *(_whole_up_to(book) for book in self._sinks.values())])

    @classmethod
    def decode(cls, body: bytes) -> Books:
        """The books `encode` made bytes of.

        Raises:
            Unreadable: they are not.
        """
        try:
            kept = _decode(zstandard.ZstdDecompressor().decompress(body, max_output_size=_BYTES_MAX))
        except (msgspec.MsgspecError, zstandard.ZstdError) as error:
            raise Unreadable(str(error)) from error
        if kept.format != _FORMAT:
            raise Unreadable(f"they have format {kept.format}")

        def counts(column: Sequence[int]) -> Counter[str]:
            return Counter({tag: n for tag, n in zip(kept.tags, column, strict=False) if n})

        books = cls(kept.stream, kept.since, kept.since_batch)
        books.at, books.uncounted = kept.at, kept.uncounted
        books._recorded, books._shed = counts(kept.recorded), counts(kept.shed)
        for name, sink in kept.sinks.items():
            book = books._sinks[name] = SinkBook(sink.since_batch, counts(sink.base))
            book.covered, book.handed, book.missing = sink.covered, counts(sink.handed), counts(sink.missing)
            book.told_missing = sink.told_missing
            book.losses = Losses(
                counts(sink.set_aside), sink.events, sink.missing_batches, sink.missing_events
            )
        return books


def _copied(book: SinkBook) -> SinkBook:
    """A book that stays as it is now. `losses` and `covered` are replaced, never changed: they are shared."""
    copied = copy(book)
    copied.base, copied.handed, copied.missing = book.base.copy(), book.handed.copy(), book.missing.copy()
    return copied


def _whole_up_to(book: SinkBook) -> int:
    """The last batch before the first that a sink does not have."""
    if book.covered and book.covered[0][0] == book.since_batch + 1:
        return book.covered[0][1]
    return book.since_batch
