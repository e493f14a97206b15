"""The books of a journal as it lies in its folder, whether its gateway runs or not. Changes nothing.

What the journal keeps of them is brought up to its end by counting what came after. Asked for every tag, it
counts what is buffered from the batches themselves: then the books are proved, not only read.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from gateway.accounts.books import Books, Line, Unreadable
from gateway.accounts.keeper import KEPT
from gateway.accounts.ranges import Ranges, count, joined, without
from gateway.journal.codec import Unreadable as Damaged
from gateway.journal.copied import copy_of_newest
from gateway.journal.segment import Segment, SegmentId
from gateway.journal.values import Cursor
from statemodel.types import SampleBatch

_AT_ONCE = 500


class TagLines(msgspec.Struct, frozen=True):
    """One tag: recorded, shed, and its line in the books of each sink."""

    tag: str
    recorded: int
    shed: int
    sinks: Mapping[str, Line]

    @property
    def adds_up(self) -> bool:
        """Whether nothing of it is unaccounted for."""
        return all(line.difference == 0 for line in self.sinks.values())


class BooksView(msgspec.Struct, frozen=True):
    """The books of a journal since `since`. `tags` is empty unless they were asked for."""

    since: datetime
    adds_up: bool
    recorded: int
    shed: int
    uncounted_batches: int
    sinks: Mapping[str, Line]
    tags: Sequence[TagLines] = ()


def look_at_books(directory: Path, *, tags: bool) -> BooksView | None:
    """The books of the journal in a folder; None where there is none, or it keeps none.

    With `tags` all that is buffered is read.

    Raises:
        JournalForeign, JournalDamaged: the newest part of the journal is not one that this version reads.
        sqlite3.Error: it changed while it was read, or cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="andon-accounts-") as scratch:
        copied = copy_of_newest(directory, Path(scratch))
        if copied is None:
            return None
        reader = _Reader(directory, *copied)
        books = reader.books()
        if books is None:
            return None
        buffered = {sink: reader.buffered(books, sink) for sink in books.sinks()} if tags else {}
    return _view(books, buffered, tags=tags)


def _view(books: Books, buffered: Mapping[str, _Found], *, tags: bool) -> BooksView:
    lines = {sink: books.lines(sink) for sink in books.sinks()}
    totals = {sink: books.total(sink) for sink in books.sinks()}
    for sink, found in buffered.items():
        lines[sink] = {tag: found.proved(tag, line) for tag, line in lines[sink].items()}
        totals[sink] = _sum(lines[sink].values())
    recorded, shed = books.sums()
    told = [
        TagLines(
            tag, books.recorded(tag), books.shed_of(tag), {s: of[tag] for s, of in lines.items() if tag in of}
        )
        for tag in books.tags()
    ]
    return BooksView(
        since=books.since,
        adds_up=all(one.adds_up for one in told),
        recorded=recorded,
        shed=shed,
        uncounted_batches=books.uncounted,
        sinks=totals,
        tags=told if tags else (),
    )


class _Found(msgspec.Struct, frozen=True):
    """What lies in the journal beyond a sink, by tag, and how many batches there cannot be read."""

    samples: Mapping[str, int]
    unreadable: int

    def proved(self, tag: str, line: Line) -> Line:
        """A line with what was found in the journal instead of what is said to be there."""
        found = self.samples.get(tag, 0)
        lacking = line.buffered - found
        missing = lacking if self.unreadable and lacking > 0 else 0
        return msgspec.structs.replace(
            line,
            buffered=found,
            missing=line.missing + missing,
            difference=line.difference + lacking - missing,
        )


def _sum(lines: Iterable[Line]) -> Line:
    sums = [0] * len(Line.__struct_fields__)
    for line in lines:
        sums = [so_far + value for so_far, value in zip(sums, msgspec.structs.astuple(line), strict=True)]
    return Line(*sums)


class _Reader:
    """The batches of a folder by their numbers."""

    def __init__(self, directory: Path, ids: Sequence[SegmentId], newest: Path) -> None:
        self._directory, self._ids, self._newest = directory, ids, newest
        with closing(Segment.open_newest(newest)) as opened:
            self._stream, carried = opened.origin().stream, opened.carried()
            last = opened.bounds()[2]
        self._kept, self._cursors = carried.kept, carried.cursors
        self.last_batch = ids[-1].first_batch - 1 if last is None else last

    def books(self) -> Books | None:
        """As its gateway would find them if it began now."""
        body = self._kept.get(KEPT)
        if body is None:
            return None
        try:
            books = Books.decode(body)
        except Unreadable:
            return None
        if books.stream != self._stream or not self._ids[0].first_batch - 1 <= books.at <= self.last_batch:
            return None
        for last, batches in self._slices(((books.at + 1, self.last_batch),)):
            books.read_again(batches, last)
        for sink in books.sinks():
            cursor = self._cursors.get(sink, Cursor())
            told = joined(((books.begun_at(sink) + 1, cursor.batch),))
            for _, batches in self._slices(without(told, books.covered(sink))):
                ranges = joined((number, number) for number, _ in batches)
                books.handed(sink, ranges, batches, None)
            books.handed(sink, told, (), None)
        return books

    def buffered(self, books: Books, sink: str) -> _Found:
        """What lies in the journal beyond a sink."""
        counts: Counter[str] = Counter()
        batches_found = 0
        rest = without(joined(((books.begun_at(sink) + 1, self.last_batch),)), books.covered(sink))
        for _, batches in self._slices(rest):
            counts.update([sample.tag for _, batch in batches for sample in batch.samples])
            batches_found += len(batches)
        return _Found(counts, count(rest) - batches_found)

    def _slices(self, ranges: Ranges) -> Iterator[tuple[int, Sequence[tuple[int, SampleBatch]]]]:
        """The readable batches of some ranges, piece by piece, and the number each piece reaches up to."""
        for first, last in ranges:
            piece: list[tuple[int, SampleBatch]] = []
            for number, batch in self._batches(first, last):
                piece.append((number, batch))
                if len(piece) >= _AT_ONCE:
                    yield number, piece
                    piece = []
            yield last, piece

    def _batches(self, first: int, last: int) -> Iterator[tuple[int, SampleBatch]]:
        ends = [*(id_.first_batch - 1 for id_ in self._ids[1:]), self.last_batch]
        for id_, end in zip(self._ids, ends, strict=True):
            if end < first or id_.first_batch > last:
                continue
            is_newest = id_ == self._ids[-1]
            path = self._newest if is_newest else self._directory / id_.name
            try:
                with closing(
                    Segment.open_newest(path) if is_newest else Segment.open_finished(path)
                ) as opened:
                    for number, batch in opened.batches(first - 1, -1):
                        if number > last:
                            break
                        if not isinstance(batch, Damaged):
                            yield number, batch
            except sqlite3.Error:
                continue  # `andon journal verify` says what is wrong with it
