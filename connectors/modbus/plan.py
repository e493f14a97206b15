"""From tags to the fewest read requests, and how to find the tag a device refuses. Pure.

A value is never split over two requests: registers of one value read at two instants can belong to two
different values. Knows no bytes and no socket; `isolate` asks its caller to do the reading.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from connectors.modbus.layout import BITS_PER_REGISTER, Signal, Table


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for. `gap_max` is in registers; of bits it is 16 times as many."""

    registers_per_request: int = 125
    bits_per_request: int = 2000
    gap_max: int = 8

    def count_max(self, table: Table) -> int:
        """Most addresses of one request."""
        return self.bits_per_request if table.of_bits else self.registers_per_request

    def gap_addresses_max(self, table: Table) -> int:
        """Most addresses read needlessly between two tags."""
        return self.gap_max * BITS_PER_REGISTER if table.of_bits else self.gap_max


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
    """The fewest requests that read every signal whole, in the order of tables and addresses.

    Taking as much as fits, from the lowest address on, is the least possible: the first signals of any two
    requests made this way could not share one, whatever else were in it.
    """
    requests: list[ReadRequest] = []
    for table in Table:
        count_max, gap_max = limits.count_max(table), limits.gap_addresses_max(table)
        taken: list[Signal] = []
        end = 0
        for signal in sorted((s for s in signals_of(signals, table)), key=lambda s: (s.start, s.end)):
            fits = taken and signal.end - taken[0].start <= count_max and signal.start - end <= gap_max
            if taken and not fits:
                requests.append(request_of(taken))
                taken = []
            end = max(end, signal.end) if taken else signal.end
            taken.append(signal)
        if taken:
            requests.append(request_of(taken))
    return tuple(requests)


def signals_of(signals: Iterable[Signal], table: Table) -> Iterable[Signal]:
    """Those that lie in a table."""
    return (signal for signal in signals if signal.address.table is table)


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
    if len(gap) > limits.gap_addresses_max(left.table):
        return None
    if any(signal.start < gap.stop and signal.end > gap.start for signal in refused):
        return None
    joined = request_of(signals)
    return joined if joined.count <= limits.count_max(left.table) else None
