"""Rows that were set aside: looked at, written after all, or left. Works beside a running gateway.

A row is written and leaves `andon.set_aside` in one transaction that holds it, so it is written exactly once
whoever else tries. What is refused again stays, with the new reason and one more try. A row somebody decides
to leave is marked and never deleted: the books count it, and streams tell its event.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from gateway.historian.failures import DATABASE_ERRORS, blames_a_row, sqlstate
from gateway.historian.inserts import insert_events
from gateway.historian.migrate import SQL
from gateway.historian.rollups import hour_of
from gateway.historian.rows import QUALITY_CODE, clean, dated, split_value
from statemodel.records import read_told
from statemodel.types import Quality, TagSample

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_REASON_CHARS_MAX = 1000
_KINDS = {bool: "bool", int: "int", float: "float", str: "text"}


class SetAside(msgspec.Struct, frozen=True):
    """A row of `andon.set_aside`. `numbering` says whether `first` to `last` number events or batches."""

    id: int
    kind: str
    type: str
    stream: str
    numbering: str
    first: int
    last: int
    sqlstate: str
    reason: str
    body: str
    set_aside_at: datetime
    tries: int
    tried_at: datetime | None
    dropped_at: datetime | None


class Retried(msgspec.Struct, frozen=True):
    """What came of trying again, by the numbers of rows; `empty` are those with nothing to write."""

    written: tuple[int, ...]
    refused: tuple[int, ...]
    empty: tuple[int, ...]


class _Words(msgspec.Struct):
    """A sample as `rows.sample_in_words` puts it. Older rows do not say `source_time`."""

    tag: str
    value: str
    quality: Quality
    source_at: datetime | None
    received_at: datetime
    substatus: str = ""
    source_time: bool | None = None


async def set_aside_rows(
    connection: Connection, gateway: str, *, dropped: bool = False
) -> Sequence[SetAside]:
    """The rows of a gateway that wait, oldest first; those somebody has left only where asked for.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does; so for all of these.
    """
    rows = await connection.fetch(SQL["list_set_aside"], gateway, dropped)
    return [SetAside(**{**row, "stream": str(row["stream"])}) for row in rows]


async def drop(connection: Connection, gateway: str, ids: Sequence[int]) -> Sequence[int]:
    """Leave rows at that; the numbers of those that waited."""
    rows = await connection.fetch(SQL["drop_set_aside"], gateway, list(ids))
    return [row["id"] for row in rows]


async def retry(
    connection: Connection, gateway: str, ids: Sequence[int], source_time: Callable[[str], bool]
) -> Retried:
    """Write rows again, each in a transaction of its own.

    `source_time` says of a tag whether its connection asks for source time, for rows that do not say.
    """
    done: dict[str, list[int]] = {"written": [], "refused": [], "empty": [], "gone": []}
    for number in ids:
        done[await _retry(connection, gateway, number, source_time)].append(number)
    return Retried(tuple(done["written"]), tuple(done["refused"]), tuple(done["empty"]))


async def _retry(
    connection: Connection, gateway: str, number: int, source_time: Callable[[str], bool]
) -> str:
    async with connection.transaction():
        row = await connection.fetchrow(SQL["hold_set_aside"], gateway, number)
        if row is None:
            return "gone"  # another has it
        if row["kind"] == "missing":
            return "empty"
        try:
            async with connection.transaction():
                await _write(connection, gateway, row, source_time)
                await connection.execute(SQL["forget_set_aside"], gateway, number)
        except (*DATABASE_ERRORS, msgspec.MsgspecError, ValueError, SyntaxError) as error:
            if isinstance(error, DATABASE_ERRORS) and not blames_a_row(error):
                raise
            reason = clean(str(error))[:_REASON_CHARS_MAX]
            await connection.execute(SQL["refused_again"], gateway, number, sqlstate(error), reason)
            return "refused"
    return "written"


async def _write(
    connection: Connection, gateway: str, row: asyncpg.Record, source_time: Callable[[str], bool]
) -> None:
    if row["kind"] == "event":
        recorded = read_told(row["body"].encode(), row["type"])
        if recorded.equipment:
            model = clean(getattr(recorded.event, "model", ""))
            names = [[clean(recorded.equipment)], [clean(recorded.path)], [model]]
            await connection.execute(SQL["meet_equipment"], gateway, *names)
        await insert_events(connection, gateway, str(row["stream"]), [recorded])
        return
    words = msgspec.json.decode(row["body"], type=_Words)
    by_source = source_time(words.tag) if words.source_time is None else words.source_time
    value = _value(words.value)
    sample = TagSample(words.tag, value, words.quality, words.source_at, words.received_at, words.substatus)
    at = dated(sample, by_source)
    name, _, rest = words.tag.partition("/")
    await connection.execute(SQL["register_tags"], gateway, [words.tag], [name], [rest], [""])
    number, text = split_value(value)
    await connection.execute(
        SQL["insert_sample"],
        *(gateway, words.tag, QUALITY_CODE[sample.quality], at, sample.received_at),
        *(None if sample.source_at == at else sample.source_at, number, text),
        *(clean(sample.substatus) or None, _KINDS.get(type(value), "")),
    )
    await connection.execute(SQL["touch_hours"], gateway, [hour_of(at)])


def _value(written: str) -> Any:
    """What `repr` wrote of a value."""
    not_finite = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    return not_finite[written] if written in not_finite else ast.literal_eval(written)
