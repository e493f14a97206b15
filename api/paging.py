"""Cutting answers into pages. Pure: sequences in, a page and the cursor of the next one out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar

from api.params import invalid_parameter
from api.ports import Interval

Item = TypeVar("Item")


def page_by_key(
    items: Sequence[Item],
    key: Callable[[Item], str],
    after: str | None,
    limit: int,
    keep: Callable[[Item], bool] = lambda _: True,
) -> tuple[Sequence[Item], str | None]:
    """The items behind the one whose key is `after` that are to be kept, at most `limit`, and the key to go
    on with. The one at `after` need not be among those any more: it has been on the page before.

    Raises:
        Problem: `invalid_parameter`, when nothing has that key (any more).
    """
    start = 0
    if after is not None:
        found = next((index for index, item in enumerate(items) if key(item) == after), None)
        if found is None:
            raise invalid_parameter(
                "after", "nothing in the list has this name (any more)", "Begin again without after."
            )
        start = found + 1
    kept = list(islice(filter(keep, islice(items, start, None)), limit + 1))
    return kept[:limit], key(kept[limit - 1]) if len(kept) > limit else None


def page_in_order(
    items: Sequence[Item], key: Callable[[Item], str], after: str | None, limit: int
) -> tuple[Sequence[Item], str | None]:
    """The same of items in ascending order of their keys: it goes on also where `after` was, when that has
    left the list."""
    start = 0 if after is None else bisect_right(items, after, key=key)
    page = items[start : start + limit]
    return page, key(page[-1]) if page and start + limit < len(items) else None


def page_of_intervals(
    items: Sequence[Interval], limit: int, complete: bool
) -> tuple[Sequence[Interval], datetime | None] | None:
    """The first `limit` intervals and the instant at which the next page begins.

    An instant can carry intervals of no length (several transitions at once). Pages are never cut among
    them, and those at the very start are left to the page before, so that every page moves on. None means
    that the cut lies behind the given items: more are needed, unless they are `complete`.
    """
    first = 0
    while first < len(items) and _is_instant(items[first]):
        first += 1
    cut = first + limit
    while cut < len(items) and _is_instant(items[cut]):
        cut += 1
    if cut < len(items):
        return items[first:cut], items[cut].from_
    return (items[first:], None) if complete else None


def _is_instant(interval: Interval) -> bool:
    return interval.to == interval.from_
