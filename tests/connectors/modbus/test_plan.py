"""The planner: every tag read whole, no limit exceeded, no request too many. And the search for bad tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from connectors.modbus.layout import Address, DataType, Kind, Range, Signal, Table
from connectors.modbus.plan import Isolation, Limits, ReadRequest, isolate, join, plan_reads, request_of


def at(start: int, width: int = 1, table: Table = Table.HOLDING) -> Signal:
    """A signal that takes `width` addresses."""
    kind = DataType(Kind.BOOL) if table.of_bits else DataType(Kind.STRING, 2 * width)
    return Signal(f"plc/{table}-{start}-{width}", Address(table, start), kind)


def spans(requests: Iterable[ReadRequest]) -> list[tuple[int, int]]:
    return [(request.start, request.count) for request in requests]


def test_neighbours_share_a_request() -> None:
    assert spans(plan_reads([at(2), at(0), at(1)], Limits())) == [(0, 3)]


def test_a_gap_is_read_over_up_to_its_budget_and_not_beyond() -> None:
    assert spans(plan_reads([at(0), at(9)], Limits(gap_max=8))) == [(0, 10)]
    assert spans(plan_reads([at(0), at(9)], Limits(gap_max=7))) == [(0, 1), (9, 1)]
    assert plan_reads([at(0), at(9)], Limits(gap_max=8))[0].needless_count == 8


def test_a_gap_of_bits_is_sixteen_times_as_wide() -> None:
    coils = [at(0, table=Table.COIL), at(17, table=Table.COIL)]
    assert spans(plan_reads(coils, Limits(gap_max=1))) == [(0, 18)]
    assert len(plan_reads([coils[0], at(18, table=Table.COIL)], Limits(gap_max=1))) == 2


def test_a_value_that_straddles_the_limit_begins_the_next_request() -> None:
    words = [at(n) for n in range(124)]
    assert spans(plan_reads([*words, at(124, 2)], Limits())) == [(0, 124), (124, 2)]
    assert spans(plan_reads([*words, at(124, 1)], Limits())) == [(0, 125)]


def test_1000_registers_take_8_requests() -> None:
    requests = plan_reads([at(n) for n in range(1000)], Limits())
    assert spans(requests) == [(n * 125, 125) for n in range(8)]
    assert sum(request.needless_count for request in requests) == 0


def test_2001_coils_take_2_requests() -> None:
    assert len(plan_reads([at(n, table=Table.COIL) for n in range(2001)], Limits())) == 2


def test_tables_are_never_mixed() -> None:
    requests = plan_reads([at(0, table=table) for table in Table], Limits())
    assert [request.table for request in requests] == list(Table)


def test_tags_may_share_registers() -> None:
    requests = plan_reads([at(0, 4), at(1, 1), at(2, 4)], Limits(registers_per_request=4))
    assert spans(requests) == [(0, 4), (2, 4)]
    assert all(request.needless_count == 0 for request in requests)


def test_a_short_tag_inside_a_long_one_hides_no_neighbour() -> None:
    assert spans(plan_reads([at(0, 4), at(1), at(4)], Limits(gap_max=0))) == [(0, 5)]


def test_nothing_needs_no_request() -> None:
    assert plan_reads([], Limits()) == ()


def barred(start: int, count: int = 1, table: Table = Table.HOLDING) -> Range:
    return Range(table, start, start + count)


def test_of_the_fewest_requests_those_that_read_least() -> None:
    tags = [at(0, 100), at(105, 26)]
    assert spans(plan_reads(tags, Limits())) == [(0, 100), (105, 26)]
    parts = [at(0, 100), at(105, 20), at(125, 6)]
    assert spans(plan_reads(parts, Limits())) == [(0, 100), (105, 26)], "the gap is not read for nothing"


def test_a_forbidden_range_is_not_even_read_over() -> None:
    tags = [at(0), at(4)]
    assert spans(plan_reads(tags, Limits())) == [(0, 5)]
    assert spans(plan_reads(tags, Limits(forbidden=(barred(2),)))) == [(0, 1), (4, 1)]
    assert spans(plan_reads(tags, Limits(forbidden=(barred(2, table=Table.INPUT),)))) == [(0, 5)]
    assert spans(plan_reads(tags, Limits(forbidden=(barred(5, 100),)))) == [(0, 5)], "beside is not inside"


def test_a_signal_in_a_forbidden_range_is_never_planned() -> None:
    with pytest.raises(ValueError, match=r"holding:2-3, which is forbidden"):
        plan_reads([at(0, 3)], Limits(forbidden=(barred(2, 2),)))


def test_one_request_per_tag_reads_nothing_beyond_a_tag() -> None:
    quirk = Limits(one_request_per_tag=True)
    assert spans(plan_reads([at(0, 2), at(2, 2), at(2), at(9)], quirk)) == [(0, 2), (2, 1), (2, 2), (9, 1)]
    same = plan_reads([at(2, 2), at(2, 2)], quirk)
    assert spans(same) == [(2, 2)], "two tags in one place are one read"
    assert len(same[0].signals) == 2


@pytest.mark.parametrize(
    ("limit", "whole"),
    [
        (Limits(), True),
        (Limits(one_request_per_tag=True), False),
        (Limits(forbidden=(barred(1),)), False),
        (Limits(gap_max=0), False),
        (Limits(registers_per_request=4), False),
    ],
)
def test_what_a_search_has_parted_is_joined_only_as_a_plan_would(limit: Limits, whole: bool) -> None:
    joined = join(request_of([at(0)]), request_of([at(2, 3)]), limit, ())
    assert (joined is not None) == whole


def test_ten_thousand_tags_with_holes_are_planned_at_once() -> None:
    requests = plan_reads([at(start) for start in range(0, 60_000, 6)], Limits())
    assert len(requests) == -(-10_000 // 21), "21 tags and the holes between them fill 121 registers"
    assert sum(request.needless_count for request in requests) == 5 * (10_000 - len(requests))


ranges = st.builds(
    barred, st.integers(0, 45), st.integers(1, 4), st.sampled_from([Table.HOLDING, Table.COIL])
)
limits = st.builds(
    Limits,
    registers_per_request=st.integers(4, 12),
    bits_per_request=st.integers(1, 40),
    gap_max=st.integers(0, 3),
    forbidden=st.lists(ranges, max_size=3).map(tuple),
    one_request_per_tag=st.sampled_from([False, False, False, True]),
)
signals = st.lists(
    st.one_of(
        st.builds(at, st.integers(0, 40), st.integers(1, 4), st.sampled_from([Table.HOLDING, Table.INPUT])),
        st.builds(at, st.integers(0, 120), st.just(1), st.sampled_from([Table.COIL])),
    ),
    max_size=40,
)


def allowed(tags: Iterable[Signal], limit: Limits) -> list[Signal]:
    """Those a configuration may have."""
    return [tag for tag in tags if limit.forbids(tag.address.table, tag.start, tag.end) is None]


@given(signals, limits)
def test_every_tag_is_in_exactly_one_request_and_whole(tags: list[Signal], limit: Limits) -> None:
    tags = allowed(tags, limit)
    requests = plan_reads(tags, limit)
    placed = [signal for request in requests for signal in request.signals]
    assert sorted(placed, key=repr) == sorted(tags, key=repr)
    for request in requests:
        for signal in request.signals:
            assert signal.address.table is request.table
            assert request.start <= signal.start
            assert signal.end <= request.end


@given(signals, limits)
def test_no_request_breaks_a_limit(tags: list[Signal], limit: Limits) -> None:
    for request in plan_reads(allowed(tags, limit), limit):
        assert 1 <= request.count <= limit.count_max(request.table)
        for never in limit.forbidden:
            read = set(range(request.start, request.end)) if never.table is request.table else set()
            assert not read & set(range(never.start, never.end)), "a forbidden address is read"
        if limit.one_request_per_tag:
            assert {(signal.start, signal.end) for signal in request.signals} == {
                (request.start, request.end)
            }
        needed = {address for signal in request.signals for address in range(signal.start, signal.end)}
        assert {request.start, request.end - 1} <= needed, "nothing needless at the ends"
        assert request.needless_count == request.count - len(needed)
        for left, right in pairwise(sorted(needed)):
            assert right - left - 1 <= limit.gap_addresses_max(request.table)


def least(tags: Sequence[Signal], limit: Limits) -> tuple[int, int]:
    """Least number of requests, and of addresses they read, by trying every grouping of signals."""
    best = (len(tags) + 1, 0)

    def addresses(group: list[Signal]) -> int | None:
        """How many one request for all of these would read; None when it may not be."""
        needed = sorted({a for s in group for a in range(s.start, s.end)})
        read = range(needed[0], needed[-1] + 1)
        never = {a for r in limit.forbidden for a in range(r.start, r.end)}
        joins = all(b - a - 1 <= limit.gap_max for a, b in pairwise(needed)) and not never & set(read)
        return len(read) if joins and len(read) <= limit.registers_per_request else None

    def place(rest: Sequence[Signal], groups: list[list[Signal]]) -> None:
        nonlocal best
        if not rest:
            sizes = [addresses(group) for group in groups]
            if None not in sizes:
                best = min(best, (len(groups), sum(size or 0 for size in sizes)))
            return
        for group in groups:
            group.append(rest[0])
            place(rest[1:], groups)
            group.pop()
        if len(groups) < best[0]:
            groups.append([rest[0]])
            place(rest[1:], groups)
            groups.pop()

    place(tags, [])
    return best


@given(
    st.lists(st.builds(at, st.integers(0, 18), st.integers(1, 4)), min_size=1, max_size=6),
    st.builds(
        Limits,
        registers_per_request=st.integers(4, 8),
        gap_max=st.integers(0, 3),
        forbidden=st.lists(st.builds(barred, st.integers(0, 20), st.integers(1, 2)), max_size=1).map(tuple),
    ),
)
@example([at(0, 4), at(1, 4), at(2, 1), at(3, 3)], Limits(registers_per_request=4, gap_max=0))
@example([at(0, 3), at(5, 1), at(6, 1), at(8, 2)], Limits(registers_per_request=7, gap_max=3))
def test_no_other_way_needs_fewer_requests_or_reads_less(tags: list[Signal], limit: Limits) -> None:
    tags = allowed(tags, limit)
    assume(tags)
    requests = plan_reads(tags, limit)
    assert (len(requests), sum(request.count for request in requests)) == least(tags, limit)


# The search for what a device refuses.


class Device:
    """Refuses requests that touch certain addresses or are too long; counts what it is asked."""

    def __init__(self, holes: Iterable[int] = (), count_max: int = 125) -> None:
        self.holes = set(holes)
        self.count_max = count_max
        self.reads = 0

    def serves(self, request: ReadRequest) -> bool:
        self.reads += 1
        return request.count <= self.count_max and not self.holes & set(range(request.start, request.end))

    def search(self, request: ReadRequest, limit: Limits) -> Isolation:
        asking = isolate(request, limit)
        try:
            part = next(asking)
            while True:
                part = asking.send(self.serves(part))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def test_one_bad_tag_among_125_is_found_in_14_reads_and_costs_one_request() -> None:
    device = Device(holes=[77])
    found = device.search(request_of([at(n) for n in range(125)]), Limits())
    assert [signal.start for signal in found.refused] == [77]
    assert spans(found.served) == [(0, 77), (78, 47)]
    assert device.reads <= 14


def test_an_illegal_gap_is_told_from_a_bad_tag() -> None:
    device = Device(holes=[5])
    found = device.search(request_of([*(at(n) for n in range(4)), *(at(n) for n in range(8, 20))]), Limits())
    assert found.refused == ()
    assert spans(found.served) == [(0, 4), (8, 12)]


def test_a_request_that_is_only_too_long_is_halved() -> None:
    device = Device(count_max=70)
    found = device.search(request_of([at(n) for n in range(125)]), Limits())
    assert found.refused == ()
    assert all(request.count <= 70 for request in found.served)
    assert len(found.served) == 2


def test_all_bad_is_found_too() -> None:
    tags = [at(n) for n in range(8)]
    assert Device(holes=range(8)).search(request_of(tags), Limits()) == Isolation((), tuple(tags))


@given(
    st.lists(st.builds(at, st.integers(0, 60), st.integers(1, 4)), min_size=1, max_size=20),
    st.sets(st.integers(0, 64), max_size=6),
    st.integers(4, 64),
    st.integers(0, 6),
    st.lists(st.builds(barred, st.integers(0, 64), st.integers(1, 3)), max_size=2).map(tuple),
)
def test_the_search_ends_with_every_tag_served_or_rightly_refused(
    tags: list[Signal], holes: set[int], count_max: int, gap_max: int, forbidden: tuple[Range, ...]
) -> None:
    """Round after round, as polling does it, until nothing is refused any more."""
    limit = Limits(gap_max=gap_max, forbidden=forbidden)
    tags = allowed(tags, limit)
    device = Device(holes, count_max)
    waiting = list(plan_reads(tags, limit))
    served: list[ReadRequest] = []
    refused: list[Signal] = []
    for _ in range(200):
        if not waiting:
            break
        request = waiting.pop()
        if device.serves(request):
            served.append(request)
        else:
            found = device.search(request, limit)
            waiting.extend(found.served)
            refused.extend(found.refused)
    assert waiting == [], "the search goes on for ever"
    placed = [signal for request in served for signal in request.signals]
    assert sorted([*placed, *refused], key=repr) == sorted(tags, key=repr)
    for signal in refused:
        assert holes & set(range(signal.start, signal.end)) or signal.width > count_max
    for request in served:
        assert request.count <= limit.registers_per_request
        assert limit.forbids(request.table, request.start, request.end) is None


@pytest.mark.parametrize("request_", [request_of([at(3)]), request_of([at(3, 4)])])
def test_requests_are_written_as_people_read_them(request_: ReadRequest) -> None:
    assert str(request_) in ("holding:3", "holding:3-6")
