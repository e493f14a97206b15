"""PackML edge by edge, against a separate copy of the standard's table."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest

from statemodel.builtin import BUILTIN
from statemodel.check import check
from statemodel.packml import COMMAND_CODES
from statemodel.types import UNKNOWN, Conformance

_ROWS = list(csv.DictReader((Path(__file__).parent / "oracle_packml.csv").read_text().splitlines()))
_CODES = {
    1: "Clearing",
    2: "Stopped",
    3: "Starting",
    4: "Idle",
    5: "Suspended",
    6: "Execute",
    7: "Stopping",
    8: "Aborting",
    9: "Aborted",
    10: "Holding",
    11: "Held",
    12: "Unholding",
    13: "Suspending",
    14: "Unsuspending",
    15: "Resetting",
    16: "Completing",
    17: "Complete",
}
_WAIT = {"Stopped", "Idle", "Suspended", "Aborted", "Held", "Complete"}


def _oracle(revision: str) -> dict[tuple[str, str], str]:
    return {
        (source, row["to"]): row["trigger"]
        for row in _ROWS
        if row["rev"] in ("both", revision)
        for source in row["from"].split("|")
    }


@pytest.mark.parametrize(("name", "revision", "count"), [("packml", "2022", 49), ("packml-2015", "2015", 46)])
def test_every_tabled_move_is_legal_and_no_other(name: str, revision: str, count: int) -> None:
    model, oracle = BUILTIN[name], _oracle(revision)
    assert len(oracle) == len(model.edges) == count
    assert {(e.from_state, e.to_state): e.trigger for e in model.edges} == oracle
    for source in _CODES.values():
        for target in _CODES.values():
            if source != target:
                legal = model.judge(source, target).conformance is Conformance.LEGAL
                assert legal == ((source, target) in oracle), (source, target)


@pytest.mark.parametrize("name", ["packml", "packml-2015"])
def test_codes_and_kinds_are_the_standards(name: str) -> None:
    model = BUILTIN[name]
    assert {code: state for code, state in model.codes.items() if code} == _CODES
    assert model.codes[0] == UNKNOWN
    assert {state.name for state in model.states if not state.acting} == _WAIT
    assert check(model) == ()


@pytest.mark.parametrize("name", ["packml", "packml-2015"])
def test_closure_goes_exactly_through_short_acting_states(name: str) -> None:
    """Every legal-by-closure verdict is a shortest path of tabled moves through acting states but Execute."""
    model = BUILTIN[name]
    oracle = _oracle("2022" if name == "packml" else "2015")
    passing = set(_CODES.values()) - _WAIT - {"Execute"}
    for source in _CODES.values():
        shortest: dict[str, int] = {}
        frontier, length = {source}, 0
        while frontier:
            ahead = {b for a, b in oracle if a in frontier} - shortest.keys()
            shortest |= dict.fromkeys(ahead, length)
            frontier, length = ahead & passing, length + 1
        for target in _CODES.values():
            if source == target:
                continue
            verdict = model.judge(source, target)
            assert (verdict.conformance is Conformance.ILLEGAL) == (target not in shortest), (source, target)
            if target in shortest:
                assert len(verdict.skipped) == shortest[target]
                walk = [source, *verdict.skipped, target]
                assert all(pair in oracle for pair in pairwise(walk))
                assert set(verdict.skipped) <= passing


@pytest.mark.parametrize(
    ("source", "target", "skipped"),
    [
        ("Idle", "Execute", ("Starting",)),
        ("Execute", "Held", ("Holding",)),
        ("Aborted", "Stopped", ("Clearing",)),
        ("Execute", "Aborted", ("Aborting",)),
        ("Execute", "Complete", ("Completing",)),
    ],
)
def test_a_slow_poll_skips_acting_states(source: str, target: str, skipped: tuple[str, ...]) -> None:
    verdict = BUILTIN["packml"].judge(source, target)
    assert verdict.conformance is Conformance.LEGAL_BY_CLOSURE
    assert verdict.skipped == skipped


@pytest.mark.parametrize(
    ("source", "target"),
    [("Idle", "Held"), ("Stopped", "Execute"), ("Aborted", "Idle"), ("Stopped", "Held")],
)
def test_no_closure_through_a_wait_state_or_through_production(source: str, target: str) -> None:
    assert BUILTIN["packml"].judge(source, target).conformance is Conformance.ILLEGAL


def test_unknown_is_always_legal() -> None:
    model = BUILTIN["packml"]
    for state in _CODES.values():
        assert model.judge(UNKNOWN, state).conformance is Conformance.LEGAL
        assert model.judge(state, UNKNOWN).conformance is Conformance.LEGAL


def test_command_codes_are_those_of_the_table() -> None:
    assert {row["trigger"]: int(row["code"]) for row in _ROWS if row["code"]} == COMMAND_CODES
