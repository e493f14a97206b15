"""What a tag was worth: the database for what it has been handed, the journal for the rest, without a seam.

Both are asked for the same instant: the database tells with its rows how far the journal had been handed
over, and only later batches are taken from the journal. What of an answer may be missing is said in words.
Implements `api.ports.TagHistory`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from api.ports import HistoryUnavailable, TagBuckets, TagSamples
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.historian.historian import Historian
from gateway.historian.lanes import NO_END
from gateway.historian.rows import QUALITY_CODE, split_value
from gateway.historian.rows import dated as filed_at
from gateway.history import TAKEN_OUT
from gateway.journal import Journal
from statemodel.tag_history import DatedSample, SampleBucket, dated, summed_up

#: Samples of the journal looked through for one answer, and how many at a time, so that commits go on.
SCAN_SAMPLES_MAX = 500_000
_PAGE_SAMPLES = 5_000
#: Questions asked anew because the journal freed what was asked for meanwhile.
_TRIES = 5
#: Samples read one by one to sum up what the database does not have yet.
_LOOSE_SAMPLES_MAX = 200_000


class JoinedTagHistory:
    """Journal and, where there is one, database as one history of tags. `unrecorded` are left out of both."""

    def __init__(
        self, journal: Journal, historian: Historian | None, *, unrecorded: Collection[str] = ()
    ) -> None:
        self._journal, self._historian = journal, historian
        self._unrecorded = frozenset(unrecorded)

    def use(self, historian: Historian | None) -> None:
        """From now on ask this database, or none."""
        self._historian = historian

    def leave_out(self, unrecorded: Collection[str]) -> None:
        """From now on these tags are left out."""
        self._unrecorded = frozenset(unrecorded)

    async def samples(
        self, tag: str, from_: datetime, to: datetime, *, limit: int, skip: int = 0
    ) -> TagSamples:
        """The newest sample before `from_`, then all with `from_ <= at < to` in order but the first `skip`.

        Raises:
            HistoryUnavailable: the database does not answer.
        """
        found, missing = await self._read(tag, from_, to, skip + limit)
        before = max((sample for sample in found if sample.at < from_), key=_order, default=None)
        inside = sorted((sample for sample in found if sample.at >= from_), key=_order)
        return TagSamples(before, inside[skip : skip + limit], missing)

    async def buckets(self, tag: str, bounds: Sequence[datetime]) -> TagBuckets:
        """The tag between each two neighbouring bounds.

        Raises:
            HistoryUnavailable: the database does not answer.
        """
        begin, end = bounds[0], bounds[-1]
        done: list[SampleBucket] = []
        gone: str | None = None
        if self._historian is not None:
            # Only from where the journal knows more than the database is anything summed up here.
            loose, gone = await self._journalled(tag, self._historian.batches_missing, end)
            first = min((sample.at for sample in loose), default=end)
            whole = sum(1 for bound in bounds[1:] if bound <= first)
            if whole:
                done, missing = await self._stored_buckets(tag, bounds[: whole + 1])
                gone = missing or gone
        rest = bounds[len(done) :]
        if len(rest) < 2:
            return TagBuckets(done, gone)
        begin = rest[0]
        found = await self.samples(tag, begin, end, limit=_LOOSE_SAMPLES_MAX)
        missing = gone or found.incomplete
        if len(found.items) == _LOOSE_SAMPLES_MAX:
            missing = f"what came after {found.items[-1].at.isoformat()}: ask for a shorter range"
        return TagBuckets([*done, *summed_up(found.before, found.items, rest)], missing)

    async def _stored_buckets(
        self, tag: str, bounds: Sequence[datetime]
    ) -> tuple[list[SampleBucket], str | None]:
        if self._historian is None:
            raise HistoryUnavailable(TAKEN_OUT)
        try:
            found, missing = await self._historian.sample_buckets(tag, bounds)
        except (SinkUnavailable, SinkRefused) as error:
            raise HistoryUnavailable(error.reason) from error
        return list(found) or summed_up(None, (), bounds), missing

    async def _read(
        self, tag: str, from_: datetime, to: datetime, limit: int
    ) -> tuple[Sequence[DatedSample], str | None]:
        """Samples from the newest before `from_` on, in no order: at least the first `limit` of the range,
        and what may be missing among them."""
        if tag in self._unrecorded:
            return (), "the tag is not recorded (record = false)"
        if self._historian is None:
            after = self._journal.position.first_batch - 1
            found, left_out = await self._journalled(tag, ((after, NO_END),), to)
            gone = "what the journal no longer holds, for there is no database to keep it"
            return found, gone if after else left_out
        for _ in range(_TRIES):
            first = self._journal.position.first_batch
            if self._historian is None:
                raise HistoryUnavailable(TAKEN_OUT)
            try:
                lacking, stored, kept_from = await self._historian.tag_samples(tag, from_, to, limit=limit)
            except (SinkUnavailable, SinkRefused) as error:
                raise HistoryUnavailable(error.reason) from error
            journalled, left_out = await self._journalled(tag, lacking, to)
            if self._journal.position.first_batch <= max(first, lacking[0][0] + 1):
                break
            # What the database lacked when it was asked went from the journal meanwhile: by now it has it.
        else:
            left_out = "samples which the journal has just freed: ask again"
        if kept_from is not None and from_ < kept_from:
            gone = f"samples before {kept_from:%Y-%m-%dT%H:%MZ}, deleted by now: only whole hours are kept"
            left_out = f"{gone}; {left_out}" if left_out else gone
        return (*stored, *journalled), left_out

    async def _journalled(
        self, tag: str, stretches: Sequence[tuple[int, int]], to: datetime
    ) -> tuple[list[DatedSample], str | None]:
        """Samples of a tag before `to` in stretches of batches, and what could not be looked through.

        Each stretch is what comes after one batch, up to another. The newest is looked through first: it is
        short, and what most people ask for.
        """
        found: list[DatedSample] = []
        last, looked = self._journal.position.last_batch, 0
        for after, up_to in (*stretches[-1:], *stretches[:-1]):
            while after < min(up_to, last):
                if looked > SCAN_SAMPLES_MAX:
                    return found, "samples which the database has not been handed yet"
                limit = min(1_000, up_to - after)
                batches = await self._journal.read_batches(after, limit, samples_max=_PAGE_SAMPLES)
                if not batches:
                    break
                for number, batch in batches:
                    looked += 1 + len(batch.samples)
                    after = number  # goes on from there
                    if number > up_to or not tag.startswith(f"{batch.connection}/"):
                        continue
                    found.extend(
                        dated(sample, at)
                        for sample in batch.samples
                        if sample.tag == tag and (at := filed_at(sample, batch.source_time)) < to
                    )
        return found, None


def _order(sample: DatedSample) -> tuple[datetime, datetime, int, tuple[bool, float, bool, str]]:
    """By time; the rest is how the database orders what it has of one instant."""
    number, text = split_value(sample.value)
    rank = QUALITY_CODE[sample.quality]
    rest = (number is not None, number or 0.0, text is not None, text or "")
    return sample.at, sample.received_at, rank, rest
