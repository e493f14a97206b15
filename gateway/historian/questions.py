"""What the database is asked: one statement each, by few connections, answers as what was recorded.

Knows nothing of writing. What was written beyond the gap-free beginning of the present stream is told only
where a question says how to join it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gateway.config.schema import HistorianSettings
from gateway.historian.connection import Readers
from gateway.historian.lanes import NO_END, missing_between
from gateway.historian.migrate import SQL
from gateway.historian.recorded import moved
from gateway.historian.rollups import Hours, cut, hour_of, hour_row, joined
from gateway.historian.samples import stored_bucket, stored_sample
from statemodel.records import Recorded, read_told
from statemodel.tag_history import DatedSample, SampleBucket


class Questions:
    """What may be asked of the database from any task. `stream` is the present journal's."""

    def __init__(self, dsn: str, *, gateway: str, stream: str, settings: HistorianSettings) -> None:
        self._gateway, self._stream = gateway, stream
        self._readers = Readers(dsn, settings, gateway)

    async def transition_before(
        self, equipment: str, at: datetime, known_at: datetime | None = None
    ) -> Recorded | None:
        """The newest transition of one equipment at or before an instant, of whatever stream, among those
        recorded up to `known_at`.

        Raises:
            SinkUnavailable, SinkRefused: the database does not answer; so for all questions.
        """
        if known_at is None:
            rows = await self._readers.fetch(SQL["transition_before"], self._gateway, equipment, at)
        else:
            rows = await self._readers.fetch(
                SQL["transition_before_as_known"], self._gateway, equipment, at, known_at
            )
        return read_told(rows[0]["body"].encode(), "transition") if rows else None

    async def transitions_by_seq(
        self,
        equipment: str,
        *,
        after: int,
        up_to: int,
        from_: datetime | None,
        to: datetime | None,
        limit: int,
    ) -> Sequence[Recorded]:
        """Transitions of this stream with `after < seq <= up_to` and `from <= at < to`, in order."""
        rows = await self._readers.fetch(
            SQL["transitions_by_seq"],
            self._gateway,
            equipment,
            self._stream,
            after,
            up_to,
            from_,
            to,
            limit,
        )
        return [read_told(row["body"].encode(), "transition") for row in rows]

    async def transitions_by_time(
        self, equipment: str, from_: datetime, to: datetime, limit: int, *, up_to: int = NO_END
    ) -> Sequence[Recorded]:
        """Transitions with `from < at < to`, in order of time: of the present stream with `seq <= up_to`, and
        of any other."""
        rows = await self._readers.fetch(
            SQL["transitions_by_time"], self._gateway, equipment, from_, to, limit, self._stream, up_to
        )
        return [read_told(row["body"].encode(), "transition") for row in rows]

    async def moves_by_time(
        self, equipment: str, from_: datetime, to: datetime, limit: int, *, up_to: int = NO_END
    ) -> Sequence[Recorded]:
        """As `transitions_by_time`, with what a timeline needs alone: which state, when, by which event."""
        rows = await self._readers.fetch(
            SQL["moves_by_time"], self._gateway, equipment, from_, to, limit, self._stream, up_to
        )
        return [moved(row, equipment) for row in rows]

    async def corrections(
        self, equipment: str, from_: datetime, to: datetime, known_at: datetime | None, limit: int
    ) -> Sequence[Recorded]:
        """Corrections of one equipment that touch a range, recorded up to `known_at`, oldest first; those
        that are withdrawn come too, with what withdraws them."""
        rows = await self._readers.fetch(
            SQL["corrections"], self._gateway, equipment, from_, to, known_at, limit
        )
        return [read_told(row["body"].encode(), "correction") for row in rows]

    async def events_after(self, seq: int, limit: int, *, up_to: int = NO_END) -> Sequence[Recorded]:
        """Events of this stream with `seq < number <= up_to`, byte for byte as they were first told."""
        rows = await self._readers.fetch(SQL["events_after"], self._gateway, self._stream, seq, limit)
        return [read_told(row["body"].encode(), row["type"]) for row in rows if row["seq"] <= up_to]

    async def rejections_between(
        self, equipment: str, stream: str, after: int, before: int, limit: int
    ) -> Sequence[Recorded]:
        """Moves of one equipment refused in a stream with `after < seq < before`, in order."""
        rows = await self._readers.fetch(
            SQL["rejections_between"], self._gateway, equipment, stream, after, before, limit
        )
        return [read_told(row["body"].encode(), "rejection") for row in rows]

    async def tag_samples(
        self, tag: str, from_: datetime, to: datetime, *, limit: int
    ) -> tuple[Sequence[tuple[int, int]], Sequence[DatedSample], datetime | None]:
        """The newest sample of a tag before `from_` and the first `limit` with `from_ <= at < to`.

        Before them comes which batches of the present stream the database lacked at that moment, as `after`
        and `up_to`; behind them from when on no sample has been deleted (None: none have been at all).
        """
        rows = await self._readers.fetch(
            SQL["tag_samples"], self._gateway, self._stream, tag, from_, to, limit
        )
        missing = missing_between(rows[0]["batch"], rows[0]["beyond"])
        found = [stored_sample(row) for row in rows if row["at"] is not None]
        return missing, found, rows[0]["samples_from"]

    async def sample_buckets(
        self, tag: str, bounds: Sequence[datetime]
    ) -> tuple[Sequence[SampleBucket], str | None]:
        """A tag between each two neighbouring bounds, as far as the database knows, and what may be missing;
        none for a tag it never met.

        Whole hours come from `andon.tag_hour`, which outlives the samples; the rest from the samples.
        """
        parts = cut(bounds)
        loose, whole = ([part for part in parts if part.whole is whole] for whole in (False, True))
        hours = await self._tag_hours(tag, parts[0].begin, whole[-1].end if whole else parts[0].begin)
        if hours is None:
            return [], None
        found = {part: hours.between(part.begin, part.end) for part in whole}
        if loose:
            ends = [part.begin for part in loose], [part.end for part in loose]
            rows = await self._readers.fetch(SQL["sample_buckets"], self._gateway, tag, *ends)
            pairs = zip(rows, loose, strict=True)
            found |= {part: stored_bucket(row, part.begin, part.end) for row, part in pairs}
        buckets: list[list[SampleBucket]] = [[] for _ in bounds[1:]]
        for part in parts:
            buckets[part.bucket].append(found[part])
        return [joined(bucket) for bucket in buckets], hours.missing(loose)

    async def _tag_hours(self, tag: str, begin: datetime, end: datetime) -> Hours | None:
        rows = await self._readers.fetch(SQL["tag_hours"], self._gateway, tag, hour_of(begin), end)
        if not rows:
            return None
        items = [hour_row(row, row["kind"]) for row in rows if row["hour"] is not None]
        return Hours(items, rows[0]["samples_from"])
