"""One connection for writing: rows and cursor in one transaction, or nothing.

The cursor moves by compare-and-set, first thing in the transaction: an earlier connection whose COMMIT is
still under way holds its row, so nothing can be written twice however a connection ended. After any failure
that is not a row's fault the connection is thrown away, never closed politely: a frozen server does not
answer. This module does not decide when to write or try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar

import asyncpg
import msgspec

from gateway.accounts.values import Losses
from gateway.config.schema import HistorianSettings
from gateway.errors import SinkRefused
from gateway.historian.connection import connect
from gateway.historian.copying import (
    HEADER,
    SAMPLE_COLUMNS,
    TRAILER,
    TRANSITION_COLUMNS,
    SampleEncoder,
    TransitionEncoder,
    UnknownTag,
)
from gateway.historian.failures import DATABASE_ERRORS, blames_a_row, sqlstate, translate
from gateway.historian.inserts import insert_events, meet_equipment
from gateway.historian.lanes import Held, held_of
from gateway.historian.migrate import SQL, inspect, migrate, use_timescale
from gateway.historian.portions import Missing, Portion
from gateway.historian.rollups import hours_touched
from gateway.historian.rows import clean, sample_in_words
from gateway.historian.values import EquipmentMeta, ServerInfo, TagMeta
from gateway.journal import Cursor
from statemodel.records import Recorded
from statemodel.types import TagSample

R = TypeVar("R")

#: From so many on, transitions are copied too; fewer are sooner inserted.
_COPY_FROM = 100
#: Transitions packed in one go.
_PACK_EVENTS = 200


class Packed(msgspec.Struct):
    """A portion as COPY takes it, in pieces. Without `transitions` they go with the other events."""

    samples: list[bytes]
    transitions: list[bytes]


_REASON_CHARS_MAX = 1000
#: More refused rows than this in one transaction are not bad rows but a changed table.
_SET_ASIDE_MAX = 1000


class CursorMoved(Exception):
    """Somebody else has moved our cursor, or our own lost COMMIT did take effect: read it again."""


class Refused(Exception):
    """The database will not take some row of what it was given; nothing was written."""


class Session:
    """A connection that is ready to write. Made by `open_session`."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        *,
        place: str,
        gateway: str,
        stream: str,
        info: ServerInfo,
        tags: Mapping[str, TagMeta],
        late: bool = False,
    ) -> None:
        self.info = info
        self._late = late
        self._connection, self._place = connection, place
        self._gateway, self._stream = gateway, stream
        self._tags = tags
        self._encoder = SampleEncoder({}, {})
        self._transitions = TransitionEncoder(gateway, stream)
        self._registered: Mapping[str, EquipmentMeta] = {}
        self._equipment: set[str] = set()
        self._given_up = 0
        self._ended = asyncio.Event()
        connection.add_termination_listener(lambda _: self._ended.set())

    def terminate(self) -> None:
        """Drop the connection without asking the server."""
        self._connection.terminate()

    async def ended(self) -> None:
        """Return when the server, or somebody between, has ended the connection."""
        await self._ended.wait()

    async def register(self, equipment: Mapping[str, EquipmentMeta]) -> None:
        """Tell the database what there is, and learn the numbers of tags."""
        self._registered = equipment
        names = list(equipment)
        await self._connection.execute(
            SQL["register_equipment"],
            self._gateway,
            names,
            [equipment[name].path for name in names],
            [equipment[name].model for name in names],
        )
        self._equipment.update(names)
        await self._register_tags(self._tags)
        await self._connection.execute(
            SQL["rename_units"],
            self._gateway,
            list(self._tags),
            [clean(meta.unit) for meta in self._tags.values()],
        )
        await self._connection.execute(SQL["begin_cursor"], self._gateway, self._stream)

    async def register_again(self) -> None:
        """Believe nothing learnt before: the database was perhaps put back from a backup under us, and may
        lack our cursor, and tags, or know them by other numbers.

        Raises:
            SinkUnavailable, SinkRefused: this session is over.
        """
        self._encoder = SampleEncoder({}, {})
        self._equipment.clear()
        await self._asking(self.register(self._registered))

    async def _register_tags(self, tags: Mapping[str, TagMeta]) -> None:
        await self._connection.execute(
            SQL["register_tags"],
            self._gateway,
            list(tags),
            [meta.connection for meta in tags.values()],
            [meta.name for meta in tags.values()],
            [clean(meta.unit) for meta in tags.values()],
        )
        rows = await self._connection.fetch(SQL["tag_ids"], self._gateway)
        self._encoder.learn(
            {row["tag"]: row["tag_id"] for row in rows}, {row["tag"]: row["kind"] for row in rows}
        )

    async def cursor(self) -> Cursor:
        """What the database certainly holds of this stream."""
        row = await self._asking(self._connection.fetchrow(SQL["cursor"], self._gateway, self._stream))
        return Cursor() if row is None else Cursor(row["seq"], row["batch"])

    async def held(self) -> Held:
        """What the database holds of this stream, in one look."""
        rows = await self._asking(self._connection.fetch(SQL["held"], self._gateway, self._stream))
        return held_of(rows) or Held()

    async def event_up_to(self, seq: int) -> tuple[int, bytes] | None:
        """Number and bytes of the newest event of this stream, up to a sequence, that the database holds."""
        row = await self._asking(
            self._connection.fetchrow(SQL["event_up_to"], self._gateway, self._stream, seq)
        )
        return None if row is None else (row["seq"], row["body"].encode())

    async def first_seq(self) -> int | None:
        """The first event of this stream the database holds."""
        found: int | None = await self._asking(
            self._connection.fetchval(SQL["first_seq"], self._gateway, self._stream)
        )
        return found

    async def has_other_streams(self) -> bool:
        """Whether this gateway had another journal before."""
        return bool(
            await self._asking(self._connection.fetchval(SQL["other_streams"], self._gateway, self._stream))
        )

    async def losses(self, since_batch: int) -> Losses:
        """What of this stream was set aside or missing so far; of batches only those beyond a number."""
        rows = await self._asking(
            self._connection.fetch(SQL["losses"], self._gateway, self._stream, since_batch)
        )
        return _losses(rows)

    # -- writing

    async def pack(self, portion: Portion) -> Packed | None:
        """The samples of a portion as COPY takes them, or None when a tag has no number yet.

        Does not speak to the server, so it may be done while an earlier portion is on its way, and lets
        others have their turn in between.
        """
        samples, transitions = [HEADER], [HEADER]
        try:
            for groups in portion.slices():
                samples.append(self._encoder.encode(groups))
                await asyncio.sleep(0)
        except UnknownTag:
            return None
        if sum(recorded.type == "transition" for recorded in portion.events) < _COPY_FROM:
            return Packed([*samples, TRAILER], [])
        for at in range(0, len(portion.events), _PACK_EVENTS):
            transitions.append(self._transitions.encode(portion.events[at : at + _PACK_EVENTS]))
            await asyncio.sleep(0)
        return Packed([*samples, TRAILER], [*transitions, TRAILER])

    async def write(self, portion: Portion, packed: Packed | None = None) -> None:
        """All of a portion and its cursor in one transaction; `packed` is what `pack` made of it.

        Raises:
            CursorMoved: the database does not stand where the portion begins; nothing was written.
            Refused: some row is not taken; nothing was written. `write_carefully` finds which.
            SinkUnavailable, SinkRefused: whether it was written is unknown; this session is over.
        """
        await self._transaction(portion, packed or await self._pack_all(portion))

    async def write_carefully(self, portion: Portion) -> int:
        """As `write`, but rows that are not taken go to `andon.set_aside`; says how many did."""
        return await self._transaction(portion, None)

    async def _transaction(self, portion: Portion, packed: Packed | None) -> int:
        set_aside = self._given_up = 0
        try:
            await self._connection.execute("BEGIN")
            before, after = portion.before, portion.after
            moved = await self._connection.fetchval(
                SQL["move_cursor" if portion.beyond is None else "extend_range"],
                self._gateway,
                self._stream,
                *(before.seq, before.batch, after.seq, after.batch),
                *(() if portion.beyond is None else (portion.beyond.seq, portion.beyond.batch)),
            )
            if not moved:
                await self._connection.execute("ROLLBACK")
                raise CursorMoved
            await meet_equipment(self._connection, self._gateway, portion.events, self._equipment)
            if packed is None:
                set_aside += await self._isolate(portion.events, self._insert_events, self._set_event_aside)
                rows = [
                    (number, batch.source_time, sample)
                    for number, batch in portion.batches
                    for sample in batch.samples
                ]
                set_aside += await self._isolate(rows, self._copy_rows, self._set_sample_aside)
            else:
                events = portion.events
                if packed.transitions:
                    await self._copy("transition", TRANSITION_COLUMNS, packed.transitions)
                    events = [recorded for recorded in events if recorded.type != "transition"]
                await self._insert_events(events)
                if portion.batches:
                    await self._copy("sample", SAMPLE_COLUMNS, packed.samples)
            for missing in portion.missing:
                await self._note_missing(missing)
            await self._touch(portion)
            kinds = await self._note_kinds()
            await self._connection.execute("COMMIT")
        except DATABASE_ERRORS as error:
            if blames_a_row(error) and not self._connection.is_closed():
                await self._asking(self._connection.execute("ROLLBACK"))
                raise Refused(str(error)) from error
            self.terminate()
            raise translate(error, self._place) from error
        except asyncio.CancelledError:
            self.terminate()
            raise
        self._encoder.kinds_are_kept(kinds)
        return set_aside

    async def _touch(self, portion: Portion) -> None:
        """Say which hours are to be rolled up again: last, so that nobody waits for it long."""
        if hours := hours_touched(batch for _, batch in portion.batches):
            await self._connection.execute(SQL["touch_hours"], self._gateway, hours)

    async def begin_range(self, hole_after: Cursor, at: Cursor, since: datetime | None) -> None:
        """Begin a range, and note that what lies between it and `hole_after` comes late; `since` is when the
        oldest of that was recorded.

        Raises:
            CursorMoved: the database stands elsewhere.
            SinkUnavailable, SinkRefused: this session is over.
        """
        hole = (hole_after.seq, hole_after.batch, at.seq, at.batch)
        ours, asking = (self._gateway, self._stream), self._connection.fetchval
        try:
            await self._asking(self._connection.execute("BEGIN"))
            # One of ours that got no answer may still be under way: whoever begins a range holds the cursor.
            await self._asking(asking(SQL["hold_cursor"], *ours))
            begun = await self._asking(asking(SQL["begin_range"], *ours, *hole, since))
            await self._asking(self._connection.execute("COMMIT" if begun else "ROLLBACK"))
        except asyncio.CancelledError:
            self.terminate()
            raise
        if not begun:
            raise CursorMoved

    async def join(self, held: Held) -> None:
        """The oldest hole is filled: move the cursor to the end of the range after it, which is no more.

        Raises:
            CursorMoved: the database stands elsewhere.
            SinkUnavailable, SinkRefused: this session is over.
        """
        first = held.beyond[0]
        ends = (first.after.seq, first.after.batch, first.up_to.seq, first.up_to.batch)
        asking = self._connection.fetchval
        await self._asking(self._connection.execute("BEGIN"))
        for name in ("move_cursor", "end_range"):
            if not await self._asking(asking(SQL[name], self._gateway, self._stream, *ends)):
                await self._asking(self._connection.execute("ROLLBACK"))
                raise CursorMoved
        await self._asking(asking(SQL["note_filled"], self._gateway, self._stream, *ends[:2]))
        await self._asking(self._connection.execute("COMMIT"))

    async def _pack_all(self, portion: Portion) -> Packed:
        """As `pack`, but tags that have left the configuration get numbers first."""
        while (packed := await self.pack(portion)) is None:
            unknown = {
                sample.tag: _meta_of(sample.tag)
                for _, batch in portion.batches
                for sample in batch.samples
                if self._encoder.tag_id(sample.tag) is None
            }
            await self._asking(self._register_tags(unknown))
        return packed

    async def _insert_events(self, events: Sequence[Recorded]) -> None:
        await insert_events(self._connection, self._gateway, self._stream, events)

    async def _copy(self, table: str, columns: Sequence[str], packed: Iterable[bytes]) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for chunk in packed:
                yield chunk

        await self._connection.copy_to_table(
            table, schema_name="andon", columns=columns, source=chunks(), format="binary"
        )

    async def _copy_rows(self, rows: Sequence[tuple[int, bool, TagSample]]) -> None:
        groups = [(source_time, (sample,)) for _, source_time, sample in rows]
        await self._copy("sample", SAMPLE_COLUMNS, [HEADER, self._encoder.encode(groups), TRAILER])

    # -- rows the database will not take

    async def _isolate(
        self,
        rows: Sequence[R],
        insert: Callable[[Sequence[R]], Awaitable[None]],
        give_up: Callable[[R, str, str], Awaitable[None]],
    ) -> int:
        """Insert rows, halving what is refused until the row at fault stands alone; how many there were."""
        if not rows:
            return 0
        await self._connection.execute("SAVEPOINT portion")
        try:
            await insert(rows)
        except DATABASE_ERRORS as error:
            if not blames_a_row(error) or self._connection.is_closed():
                raise
            await self._connection.execute("ROLLBACK TO SAVEPOINT portion")
            if len(rows) > 1:
                half = len(rows) // 2
                return await self._isolate(rows[:half], insert, give_up) + await self._isolate(
                    rows[half:], insert, give_up
                )
            await give_up(rows[0], sqlstate(error), str(error))
            self._given_up += 1
            if self._given_up > _SET_ASIDE_MAX:
                self.terminate()
                raise SinkRefused(
                    f"the database {self._place} refuses row after row: {error}",
                    hint="look for a constraint or trigger that was added to the tables in the schema "
                    "`andon`; the data waits in the journal",
                ) from error
            return 1
        await self._connection.execute("RELEASE SAVEPOINT portion")
        return 0

    async def _set_event_aside(self, recorded: Recorded, code: str, reason: str) -> None:
        body = recorded.json.decode()
        await self._set_aside("event", recorded.type, "event", recorded.seq, recorded.seq, code, reason, body)

    async def _set_sample_aside(self, row: tuple[int, bool, TagSample], code: str, reason: str) -> None:
        number, source_time, sample = row
        words = sample_in_words(sample, source_time)
        await self._set_aside("sample", "", "batch", number, number, code, reason, words)

    async def _note_missing(self, missing: Missing) -> None:
        reason = "the journal could not give these any more (freed or damaged)"
        await self._set_aside("missing", "", missing.numbering, missing.first, missing.last, "", reason, "")

    async def _set_aside(
        self, kind: str, type_: str, numbering: str, first: int, last: int, code: str, reason: str, body: str
    ) -> None:
        await self._connection.execute(
            SQL["set_aside"],
            self._gateway,
            self._stream,
            kind,
            type_,
            numbering,
            first,
            last,
            code,
            clean(reason)[:_REASON_CHARS_MAX],
            body,
        )

    # -- small things

    async def _note_kinds(self) -> Mapping[str, str]:
        """Say of which kind values are from now on; what was said, by tag."""
        changed = dict(self._encoder.changed_kinds)
        if changed:
            ids = [self._encoder.tag_id(tag) for tag in changed]
            await self._connection.execute(SQL["note_kinds"], ids, list(changed.values()), self._late)
        return changed

    async def _asking(self, answer: Awaitable[R]) -> R:
        """Await an answer of the server; any failure ends the session."""
        try:
            return await answer
        except DATABASE_ERRORS as error:
            self.terminate()
            raise translate(error, self._place) from error


@asynccontextmanager
async def open_session(
    dsn: str,
    *,
    place: str,
    gateway: str,
    stream: str,
    settings: HistorianSettings,
    tags: Mapping[str, TagMeta],
    equipment: Mapping[str, EquipmentMeta],
    late: bool = False,
) -> AsyncIterator[Session]:
    """Connect, bring the database into shape, register what there is. A session that is `late` writes what
    others have overtaken.

    Raises:
        SinkUnavailable, SinkRefused: the database is away, or will not have us.
    """
    try:
        connection = await connect(dsn, settings, f"andon {gateway}")
    except (*DATABASE_ERRORS, ValueError) as error:
        raise translate(error, place) from error
    try:
        try:
            info = await inspect(connection)
            await migrate(connection)
            info = await use_timescale(connection, info, settings)
            if not info.durable:
                await connection.execute("SET synchronous_commit = on")
            session = Session(
                connection, place=place, gateway=gateway, stream=stream, info=info, tags=tags, late=late
            )
            await session.register(equipment)
        except DATABASE_ERRORS as error:
            raise translate(error, place) from error
        yield session
    finally:
        connection.terminate()


def _meta_of(tag: str) -> TagMeta:
    connection, _, name = tag.partition("/")
    return TagMeta(connection, name)


def _losses(rows: Sequence[asyncpg.Record]) -> Losses:
    counts = {(row["kind"] == "missing", row["numbering"], row["tag"]): int(row["count"]) for row in rows}
    return Losses(
        samples={tag: n for (missing, _, tag), n in counts.items() if tag and not missing},
        events=counts.get((False, "event", ""), 0),
        missing_batches=counts.get((True, "batch", ""), 0),
        missing_events=counts.get((True, "event", ""), 0),
    )
