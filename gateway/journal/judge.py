"""Whether the commits of a segment are what was written: seals, numbers, and the chain of digests. Pure.

A seal says that the records of a commit are whole and in their place. The chain says that nothing was
removed, exchanged or rewritten, seals and all.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from gateway.journal.codec import Coder, Numbers, Unreadable, chained, to_us
from gateway.journal.places import Places

BROKEN = "it does not follow the commit before it: something was removed, exchanged or rewritten"

#: Sequence number or 0, batch number or 0, reason.
Problem = tuple[int, int, str]


class _Peek(msgspec.Struct, frozen=True, gc=False):
    """What the index needs of an event's JSON."""

    seq: int
    type: str
    equipment: str | None
    at: datetime


_peek = msgspec.json.Decoder(_Peek).decode


def gather(places: dict[str, Places], seq: int, body: bytes) -> None:
    """Note where an event is, if it is a transition.

    Raises:
        Unreadable: it is not the event of that number.
    """
    try:
        event = _peek(body)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from error
    if event.seq != seq:
        raise Unreadable("its number is wrong")
    if event.type == "transition" and event.equipment:
        note(places, event.equipment, seq, to_us(event.at))


def note(places: dict[str, Places], equipment: str, seq: int, at_us: int) -> None:
    """Note the next transition of one equipment."""
    of_one = places.get(equipment)
    if of_one is None:
        of_one = places[equipment] = Places()
    of_one.add(seq, at_us)


def held(coder: Coder, number: object, first: object, count: object, sealed: object) -> list[bytes]:
    """The records of a commit, whose number and count the row says as well.

    Raises:
        Unreadable: they are not what was written.
    """
    if sealed == b"" and count == 0:
        return []
    bodies = coder.unpack(number, first, sealed)
    if len(bodies) != count:
        raise Unreadable("it holds another number of records than it says")
    return bodies


class _Row:
    """What one of the two numberings comes to: where it stands, and since when nothing could be read."""

    def __init__(self, word: str, first: int) -> None:
        self.word, self.next = word, first
        self.words = "batches" if word == "batch" else f"{word}s"
        self._damaged = ""

    def damaged(self, reason: str) -> None:
        self._damaged = self._damaged or reason

    def come_to(self, first: int) -> list[tuple[int, str]]:
        """Records go on at a number: what is missing before it."""
        wanted, reason = self.next, self._damaged
        self.next, self._damaged = first, ""
        if reason:
            through = f"{self.words} {wanted} to {first - 1} cannot be read: " if first > wanted + 1 else ""
            return [(wanted, f"{through}{reason}")]
        if first != wanted:
            return [(wanted, f"{self.word} {wanted} is missing before {self.word} {first}")]
        return []

    def end(self, last: int | None) -> list[tuple[int, str]]:
        if self._damaged or last is None:
            return self.come_to(self.next if last is None else last + 1)
        return (
            [(self.next, f"{self.words} {self.next} to {last} are missing")] if self.next != last + 1 else []
        )


class Judge:
    """Reads the blocks of a segment in order. `found` is what is wrong, `places` where transitions are."""

    def __init__(self, coder: Coder, begin: bytes, first_seq: int, first_batch: int) -> None:
        self._coder = coder
        self._events, self._batches = _Row("event", first_seq), _Row("batch", first_batch)
        #: What the next block may follow: the digest the last one has, and the one it should have.
        self._before = {begin}
        self.found: list[Problem] = []
        self.places: dict[str, Places] = {}

    def read(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Judge rows of a block's numbers, their checksum, digest, sealed events and sealed samples."""
        for row in rows:
            told = len(self.found)
            digest, events, samples = row[6:]
            before, self._before = self._before, {digest}
            try:
                numbers = Numbers.read(row)
            except Unreadable as error:
                self._events.damaged(str(error))
                self._batches.damaged(str(error))
                continue
            self._hold(self._events, numbers.number, numbers.seq, numbers.events, events)
            self._hold(self._batches, numbers.number, numbers.batch, numbers.batches, samples)
            if type(events) is not bytes or type(samples) is not bytes:
                continue
            digests = {chained(one, numbers, events, samples) for one in before if type(one) is bytes}
            self._before |= digests
            if digest not in digests and len(self.found) == told:
                self.found.append((numbers.seq, 0, BROKEN) if numbers.events else (0, numbers.batch, BROKEN))

    def _hold(self, row: _Row, number: int, first: int, count: int, sealed: object) -> None:
        if count or sealed != b"":
            self._tell(row, row.come_to(first))
            row.next = first + count
        try:
            bodies = held(self._coder, number, first, count, sealed)
        except Unreadable as error:
            through = f"{row.words} {first} to {row.next - 1} cannot be read: " if count > 1 else ""
            self._tell(row, [(first, f"{through}{error}")])
            return
        if row is self._events:
            for seq, body in enumerate(bodies, first):
                try:
                    gather(self.places, seq, body)
                except Unreadable as error:
                    self.found.append((seq, 0, str(error)))

    def end(self, last_seq: int | None, last_batch: int | None) -> None:
        """Say what is missing at the end, when it is known where the segment must end."""
        self._tell(self._events, self._events.end(last_seq))
        self._tell(self._batches, self._batches.end(last_batch))

    def _tell(self, row: _Row, found: list[tuple[int, str]]) -> None:
        self.found += [(n, 0, why) if row is self._events else (0, n, why) for n, why in found]
