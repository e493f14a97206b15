"""The JSON Schemas of what is told: everything the code makes is valid, and what it never makes is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from gateway.publish import payloads
from gateway.publish.cloudevents import TYPES, dataschema
from gateway.publish.schemas import NAMES, schema
from statemodel.records import TYPE_OF, EquipmentState, state_after, tell
from statemodel.types import (
    AuditAnchor,
    Cause,
    CauseInput,
    CommandStatus,
    CommandTold,
    Conformance,
    CorrectedState,
    Correction,
    DeviceEvent,
    Gap,
    Quality,
    Recordable,
    Rejection,
    SourceLost,
    SourceRestored,
    TagSample,
    Transition,
)
from tests.docs.pages import DOCS, blocks

SCHEMAS: dict[str, dict[str, Any]] = {name: json.loads(schema(name)) for name in NAMES}
VALIDATORS = {name: Draft202012Validator(found) for name, found in SCHEMAS.items()}

TEXT = st.text(max_size=20)
NAME = st.text(min_size=1, max_size=20)
TIME = st.datetimes(timezones=st.just(UTC))
COUNT = st.integers(1, 2**63 - 1)
CODE = st.none() | st.integers(-(2**63), 2**64 - 1)
VALUE = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT
QUALITY = st.sampled_from(Quality)
MAYBE = st.none() | st.booleans()
INPUT = st.builds(CauseInput, NAME, VALUE, QUALITY, st.none() | TIME, st.none() | TIME, TEXT)
CAUSE = st.builds(Cause, TEXT, st.lists(INPUT, max_size=3).map(tuple), TEXT)
INTERVAL = st.builds(CorrectedState, NAME, CODE, st.none() | TEXT, TIME, TIME)
TRANSITION = st.builds(
    Transition,
    *(NAME, NAME, NAME, COUNT, NAME, NAME, CODE, st.none() | TEXT, TIME),
    *(st.floats(0, 1e12), st.sampled_from(Conformance), st.lists(NAME, max_size=3).map(tuple), CAUSE),
)
EVENTS: dict[type, st.SearchStrategy[Any]] = {
    Transition: TRANSITION,
    Rejection: st.builds(Rejection, NAME, NAME, NAME, NAME, NAME, TIME, TEXT, CAUSE),
    SourceLost: st.builds(SourceLost, NAME, TIME, TEXT),
    SourceRestored: st.builds(SourceRestored, NAME, TIME, TEXT),
    Gap: st.builds(Gap, NAME, TIME, TIME, TEXT, TEXT),
    DeviceEvent: st.builds(
        DeviceEvent,
        *(NAME, TIME, TEXT, TEXT, st.none() | st.integers(1, 1000), TEXT, TEXT, st.none() | TIME, TIME),
        *(TEXT, TEXT, TEXT, TEXT, MAYBE, MAYBE, MAYBE, MAYBE, MAYBE, TEXT, TEXT, st.booleans()),
    ),
    Correction: st.builds(
        Correction,
        *(NAME, NAME, NAME, TIME, TIME, st.lists(INTERVAL, max_size=3).map(tuple), TEXT, TEXT),
        *(st.none() | TEXT, st.none() | TEXT, st.none() | CAUSE),
    ),
    CommandTold: st.builds(
        CommandTold,
        *(NAME, TEXT, TEXT, TEXT, TEXT, VALUE, TEXT, TEXT, st.sampled_from(CommandStatus), TIME),
        *(TEXT, TEXT, VALUE, TEXT, st.booleans(), TEXT),
    ),
    AuditAnchor: st.builds(AuditAnchor, COUNT, TEXT, TEXT, TEXT, TIME),
}
SAMPLE = st.builds(TagSample, NAME, VALUE, QUALITY, st.none() | TIME, TIME, TEXT)


def valid(name: str, payload: bytes) -> dict[str, Any]:
    """The payload, which its schema takes and whose fields are those the schema tells of."""
    told: dict[str, Any] = json.loads(payload)
    VALIDATORS[name].validate(told)
    assert told.keys() <= SCHEMAS[name]["properties"].keys()
    return told


def test_there_is_a_schema_for_all_that_is_told_in_json() -> None:
    assert set(NAMES) == set(TYPES) == {*TYPE_OF.values(), "state", "tag"}
    assert set(EVENTS) == set(TYPE_OF)
    for name, found in SCHEMAS.items():
        Draft202012Validator.check_schema(found)
        assert (found["$id"], found["title"]) == (dataschema(name), name)
        assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        undescribed = [key for key, value in found["properties"].items() if "description" not in value]
        assert all("$ref" in found["properties"][key] for key in undescribed), undescribed


@pytest.mark.parametrize("kind", EVENTS, ids=TYPE_OF.get)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), seq=COUNT, at=TIME)
def test_every_event_is_valid(kind: type, data: st.DataObject, seq: int, at: datetime) -> None:
    event: Recordable = data.draw(EVENTS[kind])
    told = tell(event, gateway="line-1", stream="s", seq=seq, recorded_at=at)
    valid(told.type, told.json)


@settings(max_examples=60, deadline=None)
@given(TRANSITION, COUNT, st.sampled_from([None, True]))
def test_every_state_is_valid(transition: Transition, seq: int, corrected: bool | None) -> None:
    state: EquipmentState = state_after(transition, seq)
    if corrected is not None:
        state = msgspec.structs.replace(state, corrected=corrected)
    valid("state", payloads.state(state))


@settings(max_examples=100, deadline=None)
@given(SAMPLE, TEXT)
def test_every_tag_is_valid(sample: TagSample, unit: str) -> None:
    valid("tag", payloads.tag(sample, unit))


WRONG: tuple[Any, ...] = (None, "", 1.5, True, [], {}, "2026-11-21T22:07:03+01:00", -1)


@pytest.mark.parametrize("kind", EVENTS, ids=TYPE_OF.get)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_wrong_is_not_valid(kind: type, data: st.DataObject) -> None:
    told = tell(data.draw(EVENTS[kind]), gateway="line-1", stream="s", seq=1, recorded_at=datetime.now(UTC))
    good = valid(told.type, told.json)
    validator = VALIDATORS[told.type]
    for field in good:
        assert not validator.is_valid({key: value for key, value in good.items() if key != field}), field
        assert any(not validator.is_valid({**good, field: wrong}) for wrong in WRONG), field
    for field in ("at", "recorded_at"):
        for wrong in WRONG:
            assert not validator.is_valid({**good, field: wrong})
    for other in TYPE_OF.values():
        assert validator.is_valid({**good, "type": other}) == (other == told.type)


def test_what_is_wrong_inside_a_cause_is_not_valid() -> None:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    cause = Cause("code", (CauseInput("plc/a", 3, Quality.GOOD, at, at),))
    rejection = Rejection("e", "p", "m", "Idle", "Held", at, "no", cause)
    good = valid("rejection", tell(rejection, gateway="g", stream="s", seq=1, recorded_at=at).json)
    (given_,) = good["cause"]["inputs"]
    for wrong in ({"quality": "fine"}, {"value": [1]}, {"source_at": "yesterday"}, {"tag": ""}):
        bad = {**good, "cause": {"rule": "code", "inputs": [{**given_, **wrong}]}}
        with pytest.raises(ValidationError):
            VALIDATORS["rejection"].validate(bad)


def shown() -> list[tuple[str, dict[str, Any]]]:
    """The payloads the pages show, by the kind they say they are; what is left out with … filled in."""
    found = []
    for page in ("mqtt.md", "rest.md"):
        for block in blocks(DOCS / page):
            text = block.text.replace("[…]", "[]").replace('"…"', '"x"')
            if block.info != "json" or not text.lstrip().startswith("{"):
                continue
            try:
                told = json.loads(text)
            except ValueError:
                continue
            name = told.get("type") or ("tag" if "tag" in told else "state" if "since" in told else "")
            if name in NAMES:
                for time in ("recorded_at", "received_at"):
                    told.update({time: "2026-11-21T22:07:03Z"} if told.get(time) == "x" else {})
                found.append((name, told))
    return found


def test_the_payloads_the_pages_show_are_valid() -> None:
    told = shown()
    assert {"state", "tag", "transition", "device_event", "correction"} <= {name for name, _ in told}
    for name, payload in told:
        VALIDATORS[name].validate(payload)
        assert payload.keys() <= SCHEMAS[name]["properties"].keys(), name
