"""The count of notification messages: nothing is lost silently, and nothing is called lost that was not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.opcua.sequence import REPUBLISH_MAX, Arrival, SequenceCount, next_number

LAST = 4_294_967_295


def data(count: SequenceCount, number: int, available: tuple[int, ...] | None = None) -> Arrival:
    return count.arrived(number, has_data=True, available=available)


def keep_alive(count: SequenceCount, number: int, available: tuple[int, ...] | None = None) -> Arrival:
    return count.arrived(number, has_data=False, available=available)


def test_messages_in_order_are_delivered() -> None:
    count = SequenceCount()
    assert [data(count, number) for number in (1, 2, 3)] == [Arrival(True)] * 3


def test_a_keep_alive_carries_the_next_number_and_takes_none() -> None:
    count = SequenceCount()
    data(count, 1)
    assert keep_alive(count, 2) == Arrival(False)
    assert keep_alive(count, 2) == Arrival(False)
    assert data(count, 2) == Arrival(True)


def test_a_pulse_lost_after_a_keep_alive_is_missed() -> None:
    # The values 0, 1, 2, 1: the keep-alive advertises 3, message 3 (value 2) is lost in flight, 4 arrives.
    # Whoever takes the keep-alive's number for a received one asks for nothing here, and the pulse is gone.
    count = SequenceCount()
    data(count, 1)
    data(count, 2)
    keep_alive(count, 3)
    assert data(count, 4, available=(3, 4)) == Arrival(True, republish=(3,))
    assert data(count, 5) == Arrival(True)


def test_a_keep_alive_tells_of_a_lost_message_too() -> None:
    count = SequenceCount()
    data(count, 1)
    assert keep_alive(count, 3) == Arrival(False, republish=(2,))
    assert data(count, 3) == Arrival(True)


def test_duplicates_and_late_copies_are_dropped() -> None:
    count = SequenceCount()
    for number in (1, 2, 3):
        data(count, number)
    assert data(count, 3) == Arrival(False)
    assert data(count, 1) == Arrival(False)
    assert data(count, 4) == Arrival(True)


def test_what_the_server_no_longer_has_is_lost_at_once() -> None:
    count = SequenceCount()
    assert data(count, 4, available=(3, 4)) == Arrival(True, republish=(3,), lost_count=2)
    assert data(SequenceCount(), 3, available=None) == Arrival(True, republish=(1, 2))


def test_zero_is_never_used_at_the_roll_over() -> None:
    assert next_number(LAST) == 1
    count = SequenceCount(expected=LAST - 1)
    assert [data(count, number) for number in (LAST - 1, LAST, 1, 2)] == [Arrival(True)] * 4
    count = SequenceCount(expected=LAST)
    assert data(count, 2) == Arrival(True, republish=(LAST, 1))
    assert data(count, LAST) == Arrival(False)


def test_a_wide_hole_is_not_asked_for_one_by_one() -> None:
    arrival = data(SequenceCount(), 10_001)
    assert arrival.republish == tuple(range(10_001 - REPUBLISH_MAX, 10_001))
    assert arrival.lost_count == 10_000 - REPUBLISH_MAX


def test_a_server_that_does_not_count_is_believed() -> None:
    count = SequenceCount()
    assert data(count, 0) == Arrival(True)
    assert keep_alive(count, 0) == Arrival(False)
    assert data(count, 1) == Arrival(True)


@settings(max_examples=300)
@given(
    st.sampled_from([1, 1000, LAST - 3]),
    st.lists(st.tuples(st.sampled_from(["sent", "lost", "twice", "alive"])), max_size=40),
)
def test_every_message_is_delivered_once_or_asked_for_once(first: int, script: list[tuple[str]]) -> None:
    count = SequenceCount(expected=first)
    number = first
    sent: list[int] = []
    had: list[int] = []

    def take(arrival: Arrival, carried: int) -> None:
        assert arrival.lost_count == 0
        had.extend(arrival.republish)
        if arrival.deliver:
            had.append(carried)

    for (what,) in script:
        if what == "alive":
            take(keep_alive(count, number), number)
            continue
        sent.append(number)
        for _ in range({"sent": 1, "lost": 0, "twice": 2}[what]):
            take(data(count, number), number)
        number = next_number(number)
    take(keep_alive(count, number), number)
    assert had == sent
