"""From tags to the fewest read requests, and how to find the tag a device refuses. Pure.

A value is never split over two requests: registers of one value read at two instants can belong to two
different values. Knows no bytes and no socket; `isolate` asks its caller to do the reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from connectors.modbus.layout import BITS_PER_REGISTER, Range, Signal, Table


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for. `gap_max` is in registers; of bits it is 16 times as many.

    `forbidden` is never read, not even between two tags. With `one_request_per_tag` nothing is read beyond
    the addresses of one tag.
    """

    registers_per_request: int = 125
    bits_per_request: int = 2000
    gap_max: int = 8
    forbidden: tuple[Range, ...] = ()
    one_request_per_tag: bool = False

    def count_max(self, table: Table) -> int:
        """Most addresses of one request."""
        return self.bits_per_request if table.of_bits else self.registers_per_request

    def gap_addresses_max(self, table: Table) -> int:
        """Most addresses read needlessly between two tags."""
        return self.gap_max * BITS_PER_REGISTER if table.of_bits else self.gap_max

    def forbids(self, table: Table, start: int, end: int) -> Range | None:
        """The forbidden range that addresses `start` up to and without `end` touch; None when none."""
        for barred in self.forbidden:
            if barred.table is table and barred.start < end and start < barred.end:
                return barred
        return None

    def bridges(self, table: Table, start: int, end: int) -> bool:
        """Whether the addresses between two tags, `start` up to and without `end`, may be read over."""
        return end - start <= self.gap_addresses_max(table) and self.forbids(table, start, end) is None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One read: `count` addresses of a table from `start`, for the sake of `signals` (ordered by address)."""

    table: Table
    start: int
    count: int
    signals: tuple[Signal, ...]

    @property
    def end(self) -> int:
        """First address after it."""
        return self.start + self.count

    @property
    def needless_count(self) -> int:
        """Addresses read that no signal needs: the price of joining."""
        needed = 0
        reached = self.start
        for signal in self.signals:
            needed += max(0, signal.end - max(signal.start, reached))
            reached = max(reached, signal.end)
        return self.count - needed

    def __str__(self) -> str:
        return f"{self.table}:{self.start}" + (f"-{self.end - 1}" if self.count > 1 else "")


def request_of(signals: Sequence[Signal]) -> ReadRequest:
    """The one request that covers these signals, which lie in one table and are ordered by address."""
    start = signals[0].start
    end = max(signal.end for signal in signals)
    return ReadRequest(signals[0].address.table, start, end - start, tuple(signals))


def plan_reads(signals: Iterable[Signal], limits: Limits) -> tuple[ReadRequest, ...]:
    """The fewest requests that read every signal whole, and of those the ones that read fewest addresses.

    They come in the order of tables and addresses.

    Raises:
        ValueError: a signal lies in a forbidden range; the settings refuse that.
    """
    of_table: dict[Table, dict[tuple[int, int], list[Signal]]] = {}
    for signal in signals:
        if (barred := limits.forbids(signal.address.table, signal.start, signal.end)) is not None:
            raise ValueError(f"{signal.tag} lies in {barred}, which is forbidden")
        places = of_table.setdefault(signal.address.table, {})
        places.setdefault((signal.start, signal.end), []).append(signal)
    requests: list[ReadRequest] = []
    for table in Table:
        places = of_table.get(table, {})
        if limits.one_request_per_tag:
            requests.extend(request_of(places[place]) for place in sorted(places))
        else:
            requests.extend(_joined(table, places, limits))
    return tuple(requests)


def _joined(
    table: Table, places: Mapping[tuple[int, int], Sequence[Signal]], limits: Limits
) -> Iterator[ReadRequest]:
    """Signals of one table, by (start, end), as requests."""
    spans: list[tuple[int, int]] = []
    inside: list[list[tuple[int, int]]] = []
    for place in sorted(places, key=lambda place: (place[0], -place[1])):
        if spans and place[1] <= spans[-1][1]:  # within the last one: wherever that goes, it comes along
            inside[-1].append(place)
        else:
            spans.append(place)
            inside.append([place])
    cuts = [i for i in range(1, len(spans)) if not limits.bridges(table, spans[i - 1][1], spans[i][0])]
    for first, last in pairwise([0, *cuts, len(spans)]):
        begin = first
        for end in _ends(spans[first:last], limits.count_max(table)):
            taken = sorted(place for whole in inside[begin : first + end] for place in whole)
            yield request_of([signal for place in taken for signal in places[place]])
            begin = first + end


def _ends(spans: Sequence[tuple[int, int]], count_max: int) -> list[int]:
    """Where to end each request so that they are fewest, and read least: indices one past its last span.

    Both ends of the spans ascend. The least for the first n spans follows from the least for some m < n and
    one request for the rest; which m is best changes only forwards, so it is kept in a queue, and every span
    is looked at twice.
    """
    if not spans:
        return []
    # For the first n spans: (requests, addresses read), and where the last of those requests begins.
    least, begins = [(0, 0)], [0]
    # Begins that may still be best, best first: (requests, addresses minus start) before them, index.
    best: deque[tuple[tuple[int, int], int]] = deque()
    for index, (start, end) in enumerate(spans):
        count, addresses = least[index]
        worth = count, addresses - start
        while best and best[-1][0] >= worth:
            best.pop()
        best.append((worth, index))
        while best[0][1] < index and end - spans[best[0][1]][0] > count_max:
            best.popleft()
        (count, addresses), begin = best[0]
        least.append((count + 1, addresses + end))
        begins.append(begin)
    ends = []
    at = len(spans)
    while at:
        ends.append(at)
        at = begins[at]
    return ends[::-1]


@dataclass(frozen=True, slots=True)
class Isolation:
    """What became of a request the device refused: the parts it serves, the signals it does not."""

    served: tuple[ReadRequest, ...] = ()
    refused: tuple[Signal, ...] = ()
    whole: bool = field(default=False)
    """It was served in one piece."""


def isolate(request: ReadRequest, limits: Limits) -> Generator[ReadRequest, bool, Isolation]:
    """Find out what a refused request fails for, in as few reads as halving takes.

    Yields a request to be read and is sent whether the device served it. Signals that fail alone are
    refused. Where both halves are served although the whole was not, what lies between them (or the sheer
    size) was the cause, and they stay apart; all other parts are joined again, as far as limits allow.
    """
    if len(request.signals) == 1:
        return Isolation(refused=request.signals)
    parts: list[Isolation] = []
    for half in halves(request):
        if (yield half):
            parts.append(Isolation(served=(half,), whole=True))
        else:
            parts.append((yield from isolate(half, limits)))
    left, right = parts
    served = left.served + right.served
    refused = left.refused + right.refused
    if left.served and right.served and not (left.whole and right.whole):
        joined = join(left.served[-1], right.served[0], limits, refused)
        if joined is not None:
            served = (*left.served[:-1], joined, *right.served[1:])
    return Isolation(served, refused)


def halves(request: ReadRequest) -> tuple[ReadRequest, ReadRequest]:
    """A request of two or more signals as two, neither reading more than its signals need at its ends."""
    middle = len(request.signals) // 2
    return request_of(request.signals[:middle]), request_of(request.signals[middle:])


def join(
    left: ReadRequest, right: ReadRequest, limits: Limits, refused: Sequence[Signal]
) -> ReadRequest | None:
    """Two requests as one, or None where limits or a refused signal between them forbid it."""
    signals = sorted((*left.signals, *right.signals), key=lambda s: (s.start, s.end))
    gap = range(left.end, right.start)
    if limits.one_request_per_tag or not limits.bridges(left.table, left.end, right.start):
        return None
    if any(signal.start < gap.stop and signal.end > gap.start for signal in refused):
        return None
    joined = request_of(signals)
    return joined if joined.count <= limits.count_max(left.table) else None
