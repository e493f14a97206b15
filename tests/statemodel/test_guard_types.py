"""Mistakes of type in guards."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from statemodel.guard import parse_guard
from statemodel.guard_program import decide
from statemodel.guard_types import Kind, type_errors
from statemodel.types import TagValue

KINDS: Mapping[str, Kind] = {"run": "bool", "count": "integer", "temp": "fraction", "mode": "text"}
VALUES: Mapping[Kind, TagValue] = {"bool": True, "integer": 3, "fraction": 21.5, "text": "auto"}


@pytest.mark.parametrize(
    ("guard", "column", "words"),
    [
        ('"temp" >= "x"', 1, "never change"),
        ('"temp" >= 180', 1, "write temp without quotes"),
        ('temp >= "180"', 1, "write 180 without quotes"),
        ("not temp", 5, "temp is a measured number"),
        ("  temp and run", 3, "measured number"),
        ("run and mode", 9, "mode is a text, which is neither true nor false"),
        ("mode", 1, "neither true nor false"),
        ("mode > 3", 1, "mode is a text and 3 is a number"),
        ("run == mode", 1, "run is true or false and mode is a text"),
        ("0 < count < mode", 5, "count is a number and mode is a text"),
        ("temp + mode > 4", 8, "cannot be calculated with"),
        ("-mode > 4", 2, "cannot be calculated with"),
        ("abs(mode) > 1", 5, "an argument of abs"),
        ("max(1, mode) > 1", 8, "an argument of max"),
        ('mode in ("auto", 3)', 1, "mode is a text and 3 is a number"),
        ('count in ("auto", "semi")', 1, "never decided"),
        ('"4" in count', 8, "only texts have parts"),
        ("rising(mode)", 8, "neither true nor false"),
        ('held(temp, "5s")', 6, "measured number"),
        ("age(count) > mode", 14, "no limit"),
        ('run or (count > 2 and "x" == mode + 1)', 30, "cannot be calculated with"),
    ],
)
def test_a_mistake_is_told_with_its_column(guard: str, column: int, words: str) -> None:
    errors = list(type_errors(parse_guard(guard), KINDS))
    assert errors, guard
    assert any(error.column == column and words in str(error) for error in errors), errors


@pytest.mark.parametrize(
    "guard",
    [
        "not run and count",
        "temp >= 180 and temp < count * 2",
        'mode == "auto" or mode in ("semi", "hand") or "E-STOP" in mode',
        "run == 1 and run != count",
        'age(mode) > "10s" and age(temp) <= count and changed(mode)',
        'held(temp > 4, "5s") or rising(count)',
        "min(temp, 3, run) > -count",
        "anything >= other and not anything and anything == 'x'",
        "True",
    ],
)
def test_sound_guards_are_let_through(guard: str) -> None:
    assert list(type_errors(parse_guard(guard), KINDS)) == []


def test_what_is_refused_is_never_decided_and_of_unknown_kind_nothing_is_said() -> None:
    for guard in ("mode > 3", 'temp >= "180"', "mode + 1 > 2", "not mode", 'count in ("a", "b")'):
        parsed = parse_guard(guard)
        assert decide(parsed, {name: VALUES[KINDS[name]] for name in parsed.names}) is None
        assert list(type_errors(parsed, {})) == []
