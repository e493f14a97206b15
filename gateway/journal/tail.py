"""The newest records, kept in memory, so that sinks that are up to date never touch the disk.

Bounded by count; the oldest go first. Knows only numbers, which it expects without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Tail(Generic[T]):
    """The last items of a numbered row, with a weight each (such as the samples in a batch)."""

    def __init__(self, weight_max: int) -> None:
        self._weight_max = weight_max
        self._items: list[T] = []
        self._weights: list[int] = []
        self._weight = 0
        self._start = 0  # items before this index have been given up, but not yet moved out
        self._first = 1  # number of the item at `_start`

    def extend(self, first: int, items: Sequence[T], weights: Sequence[int]) -> None:
        """Add items numbered from `first`; a jump in the numbers drops what was before."""
        if first != self._first + len(self._items) - self._start:
            self._items, self._weights, self._weight, self._start, self._first = [], [], 0, 0, first
        self._items += items
        self._weights += weights
        self._weight += sum(weights)
        while self._weight > self._weight_max and self._start < len(self._items):
            self._weight -= self._weights[self._start]
            self._start += 1
            self._first += 1
        if self._start > len(self._items) // 2:
            del self._items[: self._start], self._weights[: self._start]
            self._start = 0

    def after(self, number: int, limit: int, weight_max: int | None = None) -> Sequence[tuple[int, T]] | None:
        """Up to `limit` numbered items after a number, or None when the tail does not reach back so far.

        With `weight_max` it ends with the item that reaches that weight.
        """
        skip = number + 1 - self._first
        if skip < 0:
            return None
        at = self._start + skip
        end = min(at + limit, len(self._items))
        if weight_max is not None:
            weight = 0
            for i in range(at, end):
                weight += self._weights[i]
                if weight >= weight_max:
                    end = i + 1
                    break
        return list(enumerate(self._items[at:end], number + 1))
