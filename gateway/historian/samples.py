"""Rows of recorded samples as what they were. Pure; the queries are `tag_samples` and `sample_buckets`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from gateway.historian.recorded import joined_value
from statemodel.tag_history import DatedSample, SampleBucket
from statemodel.types import Quality, TagValue

_QUALITY = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD)

Row = asyncpg.Record | Mapping[str, Any]


def stored_sample(row: Row) -> DatedSample:
    """A row of `tag_samples` as the sample it was. `kind` is what the tag's last value was."""
    at, received_at = row["at"], row["received_at"]
    return DatedSample(
        at,
        joined_value(row["value"], row["text"], row["kind"]),
        _QUALITY[row["quality"]],
        row["source_at"] or (at if at != received_at else None),
        received_at,
        row["substatus"] or "",
    )


def stored_bucket(row: Row, begin: datetime, end: datetime) -> SampleBucket:
    """A row of `sample_buckets`."""
    kind, known_s = row["kind"], row["known_s"]
    known = row["quality"] is not None and _QUALITY[row["quality"]] is not Quality.BAD
    return SampleBucket(
        begin,
        end,
        row["recorded"],
        _number(row["min"], kind),
        _number(row["max"], kind),
        row["integral"] / known_s if known_s else None,
        joined_value(row["value"], row["text"], kind) if known else None,
        known_s,
    )


def _number(number: float | None, kind: str) -> float | int | None:
    """Extremes of a boolean are 0 and 1, of an integer integers."""
    value: TagValue = joined_value(number, None, kind)
    return int(value) if isinstance(value, bool) else value  # type: ignore[return-value]  # it has no text
