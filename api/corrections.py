"""Corrections of the past, as callers ask for them, and the port that makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Protocol

import msgspec

from statemodel.corrected import INTERVALS_MAX, NAME_CHARS_MAX, REASON_CHARS_MAX
from statemodel.records import Recorded

#: An instant that says in which zone it is meant.
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)]


def _in_utc(**instants: datetime | None) -> None:
    """Refuse what is an instant where it was written and none in UTC, at either end of the calendar.

    Raises:
        ValueError: says which.
    """
    for name, at in instants.items():
        try:
            if at is not None:
                at.astimezone(UTC)
        except OverflowError:
            raise ValueError(f'"{name.rstrip("_")}" is not a date and time that exists in UTC') from None


class WantedState(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}, kw_only=True
):
    """A state the equipment was in from `from` to before `to`."""

    state: Name
    from_: Instant
    to: Instant

    def __post_init__(self) -> None:
        """See `_in_utc`."""
        _in_utc(from_=self.from_, to=self.to)


class WantedCorrection(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}, kw_only=True
):
    """What was really the case between two instants, or an earlier correction that no longer counts.

    Give `from` and either `state`, for all of the time up to `to` (now when left out), or `intervals` within
    it; what they leave out stays as it was told. Or give `withdraws`, the `id` of an earlier correction, and
    none of these. `reason` and `author` are kept with it; without `author` it is the caller. Who has
    logged in speaks for nobody else.
    """

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=REASON_CHARS_MAX)]
    author: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)] = ""
    from_: Instant | None = None
    to: Instant | None = None
    state: Name | None = None
    intervals: Annotated[tuple[WantedState, ...], msgspec.Meta(max_length=INTERVALS_MAX)] | None = None
    withdraws: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)] | None = None

    def __post_init__(self) -> None:
        """See `_in_utc`."""
        _in_utc(from_=self.from_, to=self.to)


class NotRecorded(Exception):
    """It is not known to be durable: the journal did not take it in time. `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeyReused(Exception):
    """The key came with another correction before."""


class Corrections(Protocol):
    """Who makes corrections."""

    async def correct(self, equipment: str, wanted: WantedCorrection, key: str | None) -> Recorded:
        """Judge and record a correction; returns it once it is durable. The same key with the same correction
        gives the one that was made first.

        Raises:
            CorrectionRefused: it cannot be meant; says which field is at fault.
            KeyReused: the key came with another correction before.
            NotRecorded: the journal did not take it in time; it may have been recorded all the same.
            HistoryUnavailable: what it is judged by lies in the database, which does not answer.
        """
        ...
