"""How connections share a link, and what is called too much for it."""

from __future__ import annotations

import pytest

from connectors.planned import (
    PlannedConnection,
    PlannedGroup,
    duration_text,
    percent,
    whole_plan,
)


def connection(
    name: str, link: str, *groups: tuple[str, float, float | None], remedies: tuple[str, ...] = ()
) -> PlannedConnection:
    """Groups as (name, interval, cycle)."""
    planned = tuple(
        PlannedGroup(group, interval_s, 1, (), cycle_s, remedies) for group, interval_s, cycle_s in groups
    )
    return PlannedConnection(name, "toy", link, planned, link)


def test_connections_of_one_endpoint_fill_one_link() -> None:
    plan = whole_plan(
        [
            connection("a", "tcp://h:502", ("g", 1.0, 0.25)),
            connection("b", "tcp://h:502", ("g", 1.0, 0.125), ("slow", 10.0, 1.25)),
            connection("c", "tcp://other:502", ("g", 1.0, 0.1)),
            connection("pushed", "", ("g", 1.0, None)),
        ],
        0.005,
    )
    assert [(link.name, link.connections, link.use) for link in plan.links] == [
        ("tcp://h:502", ("a", "b"), 0.5),
        ("tcp://other:502", ("c",), 0.1),
    ]
    assert plan.warnings == ()


def test_from_80_percent_on_there_is_a_warning_with_a_way_out() -> None:
    assert whole_plan([connection("a", "l", ("g", 1.0, 0.79))], 0.005).warnings == ()
    (warning,) = whole_plan([connection("a", "l", ("g", 1.0, 0.8))], 0.005).warnings
    assert warning == (
        "l is busy 80 % of the time, and nothing may go wrong on it; raise the interval of g to 1.25s"
    )
    shared = [connection("a", "l", ("g", 1.0, 0.5)), connection("b", "l", ("h", 1.0, 0.6))]
    (warning,) = whole_plan(shared, 0.005).warnings
    assert "busy 110 % of the time, most of it by b/h, and its groups cannot all keep" in warning
    assert "raise the interval of h to 3s" in warning  # 0.6 s in the 20 % that are left to 70


def test_a_group_that_is_too_slow_by_itself_is_named_and_the_link_is_not_blamed_again() -> None:
    slow = connection("a", "l", ("g", 0.1, 0.25), remedies=("set limits.gap_max = 16",))
    (warning,) = whole_plan([slow], 0.005).warnings
    assert warning == (
        "a/g cannot keep its interval: one reading takes 250ms, and it is due every 100ms; "
        "raise its interval to 400ms, or set limits.gap_max = 16"
    )


def test_a_proposed_interval_is_enough() -> None:
    for cycle_s in (0.003, 0.081, 0.25, 0.9, 4.0, 70.0):
        slow = connection("a", "l", ("g", cycle_s / 2, cycle_s))
        (warning,) = whole_plan([slow], 0.005).warnings
        proposed = warning.partition("raise its interval to ")[2]
        seconds = float(proposed[:-2]) / 1000 if proposed.endswith("ms") else float(proposed[:-1])
        assert whole_plan([connection("a", "l", ("g", seconds, cycle_s * 0.999))], 0.005).warnings == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00401, "4.01ms"),
        (0.25, "250ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1.349, "1.35s"),
        (3600, "3600s"),
    ],
)
def test_durations_have_three_figures(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.004, "0.4 %"), (0.0994, "9.9 %"), (0.0996, "10 %"), (1.2, "120 %")]
)
def test_shares_are_said_in_percent(share: float, text: str) -> None:
    assert percent(share) == text
