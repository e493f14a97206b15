"""States and tags as JSON, and which of two states is told: values in, values out."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from gateway.publish import payloads
from gateway.publish.states import newer
from statemodel.records import state_after
from statemodel.types import Quality, TagSample
from tests.gateway.publish.support import T0, recorded, transition


def test_a_state_is_told_as_rest_tells_it() -> None:
    event = recorded(1042, transition("filler-1", 37))
    assert json.loads(payloads.state(state_after(transition("filler-1", 37), event.seq))) == {
        "equipment": "filler-1",
        "path": "filling/line-1/filler-1",
        "model": "packml",
        "state": "Starting",
        "code": 3,
        "category": "productive",
        "since": "2026-11-21T22:00:37Z",
        "seq": 1042,
        "sequence": 37,
        "reason": None,
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [(True, True), (2**53 + 1, 2**53 + 1), (1.5, 1.5), (float("nan"), None), ("°", "°"), (None, None)],
)
def test_a_tag_keeps_the_type_of_its_value(value: bool | float | str | None, told: object) -> None:
    got = json.loads(payloads.tag(TagSample("plc/x", value, Quality.UNCERTAIN, None, T0, "stale"), "bar"))
    assert got == {
        "tag": "plc/x",
        "value": told,
        "quality": "uncertain",
        "substatus": "stale",
        "unit": "bar",
        "source_at": None,
        "received_at": "2026-11-21T22:00:00Z",
    }
    assert type(got["value"]) is type(told)


def test_of_a_state_and_a_transition_the_newer_is_told() -> None:
    old, new = recorded(4, transition("a", 1)), recorded(9, transition("a", 2))
    state = state_after(transition("a", 1), 4)
    assert newer(state, None) is state
    assert newer(state, old) is state
    assert newer(state, new) == state_after(transition("a", 2), 9)
    assert newer(None, old) == state
    assert newer(None, None) is None


def test_newer_needs_the_number_not_the_clock() -> None:
    early = recorded(9, transition("a", 2), at=datetime(1970, 1, 1, tzinfo=UTC))
    assert newer(state_after(transition("a", 1), 4), early) == state_after(transition("a", 2), 9)
