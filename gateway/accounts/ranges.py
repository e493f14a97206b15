"""Numbers as ranges: which batches a sink has. Pure.

A row of ranges is a tuple of `(first, last)`, both included, in order, neither overlapping nor touching. A
sink that takes them in order has one; one that also writes ahead of a backlog has a few.
"""

from __future__ import annotations

from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]


def joined(*rows: Iterable[tuple[int, int]]) -> Ranges:
    """All numbers of some rows; ranges that are empty (`first > last`) do not count."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(pair for row in rows for pair in row if pair[0] <= pair[1]):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def without(row: Ranges, taken: Ranges) -> Ranges:
    """The numbers of a row that are not in another."""
    found: list[tuple[int, int]] = []
    for first, last in row:
        at = first
        for begin, end in taken:
            if end < at:
                continue
            if begin > last:
                break
            if begin > at:
                found.append((at, begin - 1))
            at = end + 1
        if at <= last:
            found.append((at, last))
    return tuple(found)


def beyond(row: Ranges, number: int) -> Ranges:
    """The numbers of a row that are greater than one."""
    return joined((max(first, number + 1), last) for first, last in row)


def count(row: Ranges) -> int:
    """How many numbers there are."""
    return sum(last - first + 1 for first, last in row)
