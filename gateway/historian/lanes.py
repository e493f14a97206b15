"""What the database holds of one journal: all up to a cursor, and perhaps stretches beyond it. Pure.

After an outage what comes now is written at once, and what gathered meanwhile beside it. Then there is a
hole: everything up to the cursor is there, and so is everything in each `Range`; what lies between is on its
way, oldest first. When a hole is filled the cursor moves to the end of the range after it. Only the cursor
frees the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.journal import Cursor, JournalPosition

#: Beyond every number a journal will give.
NO_END = 2**62


class Range(msgspec.Struct, frozen=True):
    """A stretch the database holds beyond its cursor: what comes after one cursor, up to another."""

    after: Cursor
    up_to: Cursor


class Held(msgspec.Struct, frozen=True):
    """Everything up to `cursor`, and the ranges beyond it in order."""

    cursor: Cursor = Cursor()
    beyond: tuple[Range, ...] = ()

    @property
    def newest(self) -> Cursor:
        """Where what comes now is written on."""
        return self.beyond[-1].up_to if self.beyond else self.cursor

    @property
    def hole_end(self) -> Cursor | None:
        """Where the oldest hole ends; None when there is none."""
        return self.beyond[0].after if self.beyond else None

    def holds_event(self, seq: int) -> bool:
        """Whether an event is there: up to the cursor, or in a range."""
        return seq <= self.cursor.seq or any(r.after.seq < seq <= r.up_to.seq for r in self.beyond)

    def begun(self, at: Cursor) -> Held:
        """With a new range, empty yet, after everything else."""
        return Held(self.cursor, (*self.beyond, Range(at, at)))

    def moved(self, beyond: Cursor | None, after: Cursor) -> Held:
        """After a portion was written: on from the cursor, or in the range that begins at `beyond`."""
        if beyond is None:
            return Held(after, self.beyond)
        return Held(
            self.cursor, tuple(Range(r.after, after) if r.after == beyond else r for r in self.beyond)
        )

    def joined(self) -> Held:
        """After the oldest hole was filled."""
        return Held(self.beyond[0].up_to, self.beyond[1:])

    def unsent(self, position: JournalPosition) -> tuple[int, int]:
        """Events and batches of the journal that the database does not hold yet."""
        events = position.last_seq - self.cursor.seq - sum(r.up_to.seq - r.after.seq for r in self.beyond)
        batches = (
            position.last_batch - self.cursor.batch - sum(r.up_to.batch - r.after.batch for r in self.beyond)
        )
        return max(0, events), max(0, batches)

    def in_holes(self) -> tuple[int, int]:
        """Events and batches that wait in holes: the backlog."""
        events = batches = 0
        before = self.cursor
        for r in self.beyond:
            events += r.after.seq - before.seq
            batches += r.after.batch - before.batch
            before = r.up_to
        return events, batches

    def batches_missing(self) -> Sequence[tuple[int, int]]:
        """The batches the database lacks, each stretch as `after` and `up_to`; the last has no end."""
        return missing_between(self.cursor.batch, [(r.after.batch, r.up_to.batch) for r in self.beyond])


def held_of(rows: Sequence[Any]) -> Held | None:
    """What the rows of the statement `held` say; None when there are none."""
    if not rows:
        return None
    ranges = tuple(
        Range(Cursor(row["after_seq"], row["after_batch"]), Cursor(row["up_to_seq"], row["up_to_batch"]))
        for row in rows
        if row["after_seq"] is not None
    )
    return Held(Cursor(rows[0]["seq"], rows[0]["batch"]), ranges)


def missing_between(first: int, held: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What lies after a number and in none of the stretches held, which are in order and overlap nowhere."""
    starts, ends = [first, *(up_to for _, up_to in held)], [*(after for after, _ in held), NO_END]
    return [(after, up_to) for after, up_to in zip(starts, ends, strict=True) if after < up_to]
