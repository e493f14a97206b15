"""What was recorded, as replay takes it, read from the database: for what the journal has freed.

The database holds samples tag by tag. Batches are made again of what one connection sent at one instant of
receipt; within one, samples go by their source's time, then by tag, for their own order is not stored. It
changes nothing, and knows nothing of models.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import asyncpg
import msgspec

from gateway.config.schema import HistorianSettings
from gateway.errors import GatewayError, SinkRefused
from gateway.historian.connection import connect, place_of
from gateway.historian.failures import DATABASE_ERRORS, translate
from gateway.historian.migrate import SQL
from statemodel.machine import NO_COMMUNICATION, SOURCE_AHEAD_MAX, SOURCE_BEHIND_MAX
from statemodel.records import Recorded, event_id, read_told
from statemodel.replay import Recording, in_order
from statemodel.types import (
    Cause,
    Conformance,
    Quality,
    SampleBatch,
    SourceLost,
    TagSample,
    TagValue,
    Transition,
)

_QUALITY = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_AHEAD = datetime(9000, 1, 1, tzinfo=UTC)
_ROWS = 5_000
#: A month of samples takes longer to sort than a gateway waits for a write.
_QUESTION_MAX = timedelta(minutes=10)


class NothingInDatabase(GatewayError):
    """The database holds nothing of what was asked for."""


async def read_database(
    dsn: str,
    settings: HistorianSettings,
    gateway: str,
    *,
    equipment: Collection[str],
    tags: Collection[str],
    begin: datetime | None = None,
    end: datetime | None = None,
) -> Recording:
    """What the database holds of some equipment and tags, between two instants or all of it.

    Events are numbered anew, for those of several journals may be among them. It never calls itself whole:
    retention may have taken its beginning. While a backlog is written, it says which stretches lack.

    Raises:
        NothingInDatabase: there is nothing of it.
        SinkUnavailable, SinkRefused: the database is away, or will not have us.
    """
    place = place_of(dsn)
    patient = settings.model_copy(update={"command_timeout": max(settings.command_timeout, _QUESTION_MAX)})
    try:
        connection = await connect(dsn, patient, f"andon {gateway} replay")
        try:
            # One snapshot: the gateway may write meanwhile.
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await _read(connection, gateway, equipment, tags, begin, end)
        finally:
            connection.terminate()
    except asyncpg.UndefinedTableError as error:
        raise SinkRefused(
            f"the database {place} has no history of Andon", hint="check historian.dsn"
        ) from error
    except (*DATABASE_ERRORS, ValueError) as error:
        raise translate(error, place) from error


async def _read(
    connection: asyncpg.Connection[asyncpg.Record],
    gateway: str,
    equipment: Collection[str],
    tags: Collection[str],
    begin: datetime | None,
    end: datetime | None,
) -> Recording:
    from_, to = begin or _LONG_AGO, end or _FAR_AHEAD
    known = {row["tag_id"]: row for row in await connection.fetch(SQL["replay_tags"], gateway, list(tags))}
    carried: list[Recorded] = []
    if begin is not None:
        for name in equipment:
            body = await connection.fetchval(SQL["transition_before"], gateway, name, begin)
            carried += [read_told(body.encode(), "transition")] if body else []
        carried.sort(key=lambda recorded: (recorded.at, recorded.seq))
    connections = sorted({row["connection"] for row in known.values()})
    events = [
        read_told(row["body"].encode(), row["type"])
        for row in await connection.fetch(
            SQL["replay_events"], gateway, sorted(equipment), connections, from_, to
        )
    ]
    losses = {(r.event.connection, r.event.at) for r in events if isinstance(r.event, SourceLost)}
    samples: list[tuple[str, datetime, TagSample]] = []
    async for row in connection.cursor(
        SQL["replay_samples"],
        list(known),
        from_,
        to,
        from_ - SOURCE_BEHIND_MAX,
        to + SOURCE_AHEAD_MAX,
        prefetch=_ROWS,
    ):
        tag = known[row["tag_id"]]
        sample = sample_of(tag["tag"], tag["kind"], row)
        if not (_is_mark(sample) and (tag["connection"], sample.received_at) in losses):
            samples.append((tag["connection"], row["at"], sample))
    holes = await connection.fetch(SQL["replay_holes"], gateway, from_, to)
    lacking = tuple((row["begin_at"], row["end_at"]) for row in holes)
    if not events and not samples:
        if lacking:
            raise NothingInDatabase(
                "what was recorded in this time is still on its way to the database",
                hint="ask again when the gateway has caught up, or leave out --from-database",
            )
        raise NothingInDatabase(
            "the database holds nothing of this equipment in this time",
            hint="check --from and --to; samples go after historian.retention",
        )
    numbered = numbered_on((*carried, *events))
    carried, events = numbered[: len(carried)], numbered[len(carried) :]
    entries = tuple(in_order(with_marks(batches_of(samples), events), events))
    times = [e.received_at if isinstance(e, SampleBatch) else e.recorded_at for e in entries]
    later = end is not None and await connection.fetchval(SQL["replay_later"], gateway, list(known), end)
    return Recording(
        gateway=gateway,
        begin_at=begin or min(e.received_at if isinstance(e, SampleBatch) else e.at for e in entries),
        end_at=max([*times, end] if later and end is not None else times),
        first_seq=len(carried) + 1,
        whole=False,
        entries=(*carried, *entries),
        lacking=lacking,
    )


def numbered_on(events: Iterable[Recorded]) -> list[Recorded]:
    """Events numbered from 1; transitions of an equipment go on counting where a new journal began anew."""
    numbered: list[Recorded] = []
    last: dict[str, tuple[str, int, int]] = {}  # by equipment: stream, what is added, sequence
    for seq, recorded in enumerate(events, 1):
        event = recorded.event
        if isinstance(event, Transition):
            stream, added, sequence = last.get(event.equipment, (recorded.stream, 0, 0))
            if stream != recorded.stream:
                added = max(0, sequence + 1 - event.sequence)
            if added:
                event = msgspec.structs.replace(event, sequence=event.sequence + added)
            last[event.equipment] = (recorded.stream, added, event.sequence)
        numbered.append(msgspec.structs.replace(recorded, seq=seq, event=event))
    return numbered


def sample_of(tag: str, kind: str, row: asyncpg.Record | Mapping[str, Any]) -> TagSample:
    """A row of `andon.sample` as the sample it was; `kind` is what the tag's last value was."""
    at, received_at = row["at"], row["received_at"]
    return TagSample(
        tag=tag,
        value=joined_value(row["value"], row["text"], kind),
        quality=_QUALITY[row["quality"]],
        source_at=row["source_at"] or (at if at != received_at else None),
        received_at=received_at,
        substatus=row["substatus"] or "",
    )


def moved(row: asyncpg.Record, equipment: str) -> Recorded:
    """A row of `moves_by_time`: the state, when and by which event. All else is empty."""
    stream, seq, to_state, code, category, at, recorded_at = row.values()
    event = Transition(
        *(equipment, "", "", 0, "", to_state, code, category, at, 0.0, Conformance.LEGAL, (), _NO_CAUSE)
    )
    return Recorded(
        stream, seq, event_id(stream, seq), "transition", equipment, "", at, recorded_at, event, b""
    )


_NO_CAUSE = Cause("", ())


def joined_value(number: float | None, text: str | None, kind: str) -> TagValue:
    """What `split_value` took apart."""
    if number is None:
        if text is not None and kind == "float" and text in ("NaN", "Infinity", "-Infinity"):
            return float(text)
        if text is not None and kind == "int" and text.removeprefix("-").startswith("0x"):
            return int(text, 16)
        return text
    if text is not None:
        return int(text)
    if kind == "bool" and number in (0.0, 1.0):
        return bool(number)
    return int(number) if kind in ("int", "bool") and number.is_integer() else number


def batches_of(samples: Iterable[tuple[str, datetime, TagSample]]) -> list[SampleBatch]:
    """Samples in order of receipt, each with its connection and the time it is filed under, as batches.

    A batch is dated by its source where one of its samples is filed under another time than its receipt.
    """
    batches = []
    for (connection, received_at), group in groupby(samples, lambda item: (item[0], item[2].received_at)):
        items = list(group)
        batches.append(
            SampleBatch(
                connection,
                received_at,
                tuple(sample for _, _, sample in items),
                source_time=any(at != received_at for _, at, _ in items),
            )
        )
    return batches


def _is_mark(sample: TagSample) -> bool:
    return sample.value is None and sample.substatus == NO_COMMUNICATION


def with_marks(batches: Sequence[SampleBatch], events: Iterable[Recorded]) -> list[SampleBatch]:
    """Batches with an empty one in the place of each loss, which `in_order` takes for where it goes.

    A loss goes where it was recorded, yet before anything its connection sent after it.
    """
    received = [batch.received_at for batch in batches]
    marks: list[tuple[int, SampleBatch]] = []
    for recorded in events:
        if isinstance(loss := recorded.event, SourceLost):
            place = bisect_right(received, recorded.recorded_at)
            first = bisect_right(received, loss.at)
            own = (n for n in range(first, place) if batches[n].connection == loss.connection)
            marks.append((next(own, place), SampleBatch(loss.connection, loss.at, ())))
    marked, done = list[SampleBatch](), 0
    for place, mark in sorted(marks, key=lambda item: item[0]):
        marked += [*batches[done:place], mark]
        done = place
    return [*marked, *batches[done:]]
