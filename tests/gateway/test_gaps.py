"""Losses that go on and on are told now and then, and what is told covers every one of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.gaps import KINDS_MAX, TOLD_EVERY_S, Gaps
from statemodel.types import Gap

AT = datetime(2026, 3, 1, tzinfo=UTC)


def loss(
    second: float, tag: str = "plc/a", reason: str = "the queue overflowed", lasted_s: float = 0.1
) -> Gap:
    at = AT + timedelta(seconds=second)
    return Gap("plc", at, at + timedelta(seconds=lasted_s), reason, tag)


def test_the_first_is_told_at_once_and_a_single_second_one_later_as_it_was() -> None:
    gaps = Gaps()
    gaps.note(loss(0), 0)
    assert gaps.due(0) == [loss(0)]

    gaps.note(loss(1), 1)
    assert gaps.due(1) == []
    assert gaps.due(TOLD_EVERY_S) == [loss(1)]
    assert gaps.due(100) == []


def test_a_thousand_a_second_are_one_every_ten_seconds() -> None:
    gaps, told = Gaps(), []
    for number in range(60_000):
        gaps.note(loss(number / 1000), number / 1000)
        told += gaps.due(number / 1000)
    told += gaps.rest()

    assert len(told) == 1 + 60 / TOLD_EVERY_S
    assert told[1].reason == "the queue overflowed (10,000 times)"
    assert (told[1].at, told[1].tag) == (loss(0.001).at, "plc/a")


def test_many_tags_for_many_reasons_become_losses_of_the_connection() -> None:
    gaps = Gaps()
    for number in range(50_000):
        gaps.note(loss(number, f"plc/{number}", f"reason {number}"), 0)

    told = [*gaps.due(0), *gaps.rest()]
    assert len(told) == KINDS_MAX + 2
    assert told[-1].tag == ""
    assert told[-1].until == loss(49_999).until


@given(
    st.lists(st.tuples(st.floats(0, 8), st.sampled_from(["plc/a", "plc/b"]), st.floats(0, 5)), max_size=60)
)
def test_every_loss_lies_within_one_that_is_told(losses: list[tuple[float, str, float]]) -> None:
    gaps, second, told, noted = Gaps(), 0.0, [], []
    for pause_s, tag, lasted_s in losses:
        second += pause_s
        noted.append(loss(second, tag, lasted_s=lasted_s))
        gaps.note(noted[-1], second)
        told += gaps.due(second)
    told += gaps.rest()

    for item in noted:
        assert any(gap.tag == item.tag and gap.at <= item.at and item.until <= gap.until for gap in told), (
            "a loss nobody heard of"
        )
