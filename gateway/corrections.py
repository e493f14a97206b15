"""The corrections of the past: those the journal still holds in memory, the older ones in the database.

Whoever asks for the past lays them over what was told (see `statemodel.corrected`). Where they lie in the
journal is kept with it, so that a start need not look through all of it. Without a database a correction
lasts as long as the journal holds it: `journal.keep`, like everything else. It makes none and judges none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from api.ports import HistoryUnavailable
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.historian.historian import Historian
from gateway.journal import Journal
from statemodel.records import Recorded
from statemodel.types import Correction

log = structlog.get_logger("andon.corrections")

#: Corrections held in memory and found again at a start; those of one answer.
REMEMBERED_MAX: Final = 10_000
ANSWER_MAX: Final = 20_000
#: Newest events looked through at a start, for a correction whose place was not kept before the end.
_LOOKED_THROUGH_MAX: Final = 10_000
_PAGE: Final = 1_000
#: The name under which the journal keeps where they lie.
_KEPT: Final = "corrections"


class CorrectionBook:
    """All corrections that can still be read. Made by `open`; `announce` tells it news; `run` is its task."""

    def __init__(self, journal: Journal, historian: Historian | None) -> None:
        self._journal, self._historian = journal, historian
        self._of: dict[str, deque[Recorded]] = {}
        self._order: deque[tuple[str, int]] = deque()
        #: Recorded before this nothing is in memory, though the journal may have it.
        self._forgotten_at: datetime | None = None
        self._begins: tuple[int, datetime | None] = (0, None)
        self._news = asyncio.Event()

    @classmethod
    async def open(cls, journal: Journal, historian: Historian | None) -> CorrectionBook:
        """Read those the journal holds."""
        book = cls(journal, historian)
        kept = await journal.kept(_KEPT)
        seqs: list[int] = [] if kept is None else msgspec.msgpack.decode(kept, type=list[int])
        position = journal.position
        after = max(position.first_seq - 1, position.last_seq - _LOOKED_THROUGH_MAX)
        for seq in seqs:
            if position.first_seq <= seq <= after:
                book.announce(await journal.read(seq - 1, 1))
        while after < position.last_seq and (found := await journal.read(after, _PAGE)):
            book.announce(found)
            after = found[-1].seq
        if len(seqs) >= REMEMBERED_MAX and book._forgotten_at is None and book._order:
            name, _ = book._order[0]
            book._forgotten_at = book._of[name][0].recorded_at  # there was no place for those before it
        return book

    def use(self, historian: Historian | None) -> None:
        """From now on ask this database, or none."""
        self._historian = historian

    def announce(self, recorded: Sequence[Recorded]) -> None:
        """Events that have just become durable."""
        for one in recorded:
            if one.type == "correction":
                self._of.setdefault(one.equipment, deque()).append(one)
                self._order.append((one.equipment, one.seq))
                self._news.set()
        while len(self._order) > REMEMBERED_MAX:
            name, _ = self._order.popleft()
            self._forgotten_at = self._of[name].popleft().recorded_at

    def samples(self, samples: object) -> None:
        """Samples move no correction."""

    async def run(self) -> None:
        """Keep with the journal where they lie."""
        while True:
            await self._news.wait()
            self._news.clear()
            first = self._journal.position.first_seq
            seqs = [seq for _, seq in self._order if seq >= first]
            await self._journal.keep(_KEPT, msgspec.msgpack.encode(seqs))

    def last(self, equipment: str) -> Recorded | None:
        """The newest correction of an equipment in memory."""
        found = self._of.get(equipment)
        return found[-1] if found else None

    async def between(
        self, equipment: str, from_: datetime, to: datetime, known_at: datetime | None = None
    ) -> Sequence[Recorded]:
        """The corrections of one equipment that touch a range, recorded up to `known_at`, with those that
        withdraw them; oldest first.

        Raises:
            HistoryUnavailable: only the database knows, and it does not answer; or there are too many.
        """
        found: dict[str, Recorded] = {}
        historian = self._historian
        if historian is not None and not await self._suffices(historian, from_):
            try:
                stored = await historian.corrections(equipment, from_, to, known_at, ANSWER_MAX + 1)
            except (SinkUnavailable, SinkRefused) as error:
                raise HistoryUnavailable(error.reason) from error
            found = {recorded.id: recorded for recorded in stored}
        for recorded in self._of.get(equipment, ()):
            event = recorded.event
            if (
                isinstance(event, Correction)
                and event.until > from_
                and event.at < to
                and (known_at is None or recorded.recorded_at <= known_at)
            ):
                found[recorded.id] = recorded
        if len(found) > ANSWER_MAX:
            raise HistoryUnavailable(
                f"more than {ANSWER_MAX} corrections lie in the range: ask for a shorter one"
            )
        return sorted(found.values(), key=lambda r: (r.recorded_at, r.seq, r.stream))

    async def _suffices(self, historian: Historian, from_: datetime) -> bool:
        """Whether every correction of what came after an instant is in memory: a correction is recorded after
        all that it corrects."""
        position = self._journal.position
        if self._forgotten_at is not None and from_ <= self._forgotten_at:
            return False
        if position.first_seq == 1 and not historian.has_other_streams:
            return True
        if self._begins[0] != position.first_seq:
            first = await self._journal.read(position.first_seq - 1, 1)
            self._begins = (position.first_seq, first[0].recorded_at if first else None)
        begins_at = self._begins[1]
        return begins_at is not None and from_ >= begins_at
