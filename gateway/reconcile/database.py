"""What the database says, asked in bounded questions, and events written there again.

Knows the tables and nothing of what is compared with them. Writing is inserting what is not there: no row is
ever changed.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from gateway.historian.connection import Readers
from gateway.historian.lanes import Held, held_of
from gateway.historian.migrate import SQL as HISTORIAN
from gateway.historian.rows import QUALITY_CODE, EventRows, clean, event_rows
from gateway.journal.sqlfile import read_statements
from gateway.reconcile.compare import Digest, StoredState
from statemodel.records import Recorded
from statemodel.types import Quality

SQL = {
    name: text.replace("/* events_after */", HISTORIAN["events_after"])
    for name, text in read_statements(__package__, "sql/queries.sql").items()
}
#: Events in one slice, and slices asked for at once.
SLICE_EVENTS = 1_000
SLICES_MAX = 5
#: Transitions of one equipment looked at in one question.
CHAIN_MAX = 20_000
_SET_ASIDE_MAX = 10_000
_TOLD_MAX = 50


class Known(msgspec.Struct, frozen=True):
    """Ranges of numbers that are in `andon.set_aside`: refused by the database, or lost by the journal."""

    firsts: Sequence[int]
    lasts: Sequence[int]

    def holds(self, number: int) -> bool:
        """Whether a number lies in one."""
        return self.touches(number, number)

    def touches(self, first: int, last: int) -> bool:
        """Whether any number of a range lies in one."""
        place = bisect.bisect_right(self.firsts, last)
        return any(self.lasts[i] >= first for i in range(place))


class Broken(msgspec.Struct, frozen=True):
    """A transition that does not follow from the one before it."""

    seq: int
    expected: str
    found: str
    before_seq: int


class Database:
    """One gateway's rows of one stream.

    Every method raises SinkUnavailable or SinkRefused when there is no answer.
    """

    def __init__(self, readers: Readers, gateway: str, stream: str) -> None:
        self._readers, self._gateway, self._stream = readers, gateway, stream

    async def held(self) -> Held | None:
        """What it says it has; None when it has never met this stream."""
        return held_of(await self._readers.fetch(HISTORIAN["held"], self._gateway, self._stream))

    async def first_after(self, seq: int) -> int | None:
        """The first number after one that has a row."""
        rows = await self._readers.fetch(HISTORIAN["events_after"], self._gateway, self._stream, seq, 1)
        return rows[0]["seq"] if rows else None

    async def states(self) -> Mapping[str, StoredState]:
        """`andon.current_state` of this gateway."""
        rows = await self._ask("states")
        return {row["equipment"]: StoredState(**dict(row)) for row in rows}

    async def set_aside(self, numbering: str, first: int, last: int) -> Known:
        """What of a range is in `andon.set_aside`; numbering is `event` or `batch`."""
        rows = await self._ask("set_aside", self._stream, numbering, first, last, _SET_ASIDE_MAX)
        return Known([row["first"] for row in rows], [row["last"] for row in rows])

    async def digests(self, first_slice: int, slices: int, last: int) -> dict[int, Digest]:
        """Count and hash of some slices, up to an event."""
        after = first_slice * SLICE_EVENTS
        end = min(last, after + slices * SLICE_EVENTS)
        rows = await self._ask("digests", self._stream, after, 2 * (end - after), SLICE_EVENTS, end)
        return {row["slice"]: Digest(row["count"], row["digest"]) for row in rows}

    async def bodies(self, after: int, last: int) -> dict[int, str]:
        """Hash of each event with `after < seq <= last`."""
        rows = await self._ask("bodies", self._stream, after, 2 * (last - after), last)
        return {row["seq"]: row["digest"] for row in rows}

    async def broken_columns(self, after: int, last: int) -> Sequence[tuple[str, Broken]]:
        """Transitions, with their equipment, whose columns are not what their body says."""
        rows = await self._ask("broken_columns", self._stream, after, last, _TOLD_MAX)
        return [
            (
                row["equipment"],
                Broken(
                    row["seq"],
                    f"{row['told_from']} to {row['told_to']}, sequence {row['told_sequence']}",
                    f"{row['from_state']} to {row['to_state']}, sequence {row['sequence']}",
                    row["seq"],
                ),
            )
            for row in rows
        ]

    async def chain(self, equipment: str, after: int, last: int) -> tuple[Sequence[Broken], int | None]:
        """Where a page of transitions does not follow from each other, and where the next page begins: the
        last transition of this one belongs to both. None when there is no more."""
        rows = await self._ask("chain", self._stream, equipment, after, last, CHAIN_MAX)
        broken = [
            Broken(
                row["seq"],
                f"sequence {row['before_sequence'] + 1} from {row['before_to']}",
                f"sequence {row['sequence']} from {row['from_state']}",
                row["before_seq"],
            )
            for row in rows
            if row["broken"]
        ]
        return broken[:_TOLD_MAX], rows[-1]["seq"] - 1 if rows else None

    async def sample_counts(
        self, wanted: Mapping[tuple[str, datetime, datetime, Quality], int]
    ) -> Sequence[tuple[str, datetime, int, int]]:
        """Tag, time, wanted and held, of samples (tag, time, time of receipt, quality) not held as often as
        wanted.

        The quality belongs to it: a new stream tells of its beginning, as bad, at the instant of the last
        good sample of the stream before.
        """
        keys = list(wanted)
        rows = await self._ask(
            "samples",
            *([key[i] for key in keys] for i in range(3)),
            [QUALITY_CODE[key[3]] for key in keys],
            [wanted[key] for key in keys],
        )
        return [(row["tag"], row["at"], row["wanted"], row["held"]) for row in rows]

    async def write_again(self, events: Sequence[Recorded]) -> None:
        """Insert events; those that are there stay as they are."""
        named = [event for event in events if event.equipment]
        if named:
            await self._readers.fetch(
                HISTORIAN["meet_equipment"],
                self._gateway,
                [clean(event.equipment) for event in named],
                [clean(event.path) for event in named],
                [clean(getattr(event.event, "model", "")) for event in named],
            )
        rows = event_rows(events)
        for table in EventRows.__struct_fields__:
            if columns := getattr(rows, table):
                await self._readers.fetch(HISTORIAN[f"insert_{table}"], self._gateway, self._stream, *columns)

    async def _ask(self, name: str, *args: Any) -> Sequence[Any]:
        return await self._readers.fetch(SQL[name], self._gateway, *args)
