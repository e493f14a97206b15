"""The examples in the documentation, made by the code that makes the answers.

An example that no longer fits the types cannot be built, so the documentation cannot show one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from api.cursor import write_cursor
from api.ports import ConnectionView, EquipmentView, Interval, TagView
from api.reconciliation import ComparedPart, Difference, Reconciliation
from api.schemas import (
    BucketView,
    ConnectionList,
    EquipmentList,
    KpiReport,
    Liveness,
    ModelList,
    ModelName,
    TagBucketList,
    TagList,
    TagSampleList,
    Timeline,
    TransitionList,
)
from statemodel.explain import explain
from statemodel.figures import Stretch, figures
from statemodel.records import state_after, tell
from statemodel.tag_history import dated
from statemodel.timeline import Span
from statemodel.types import Cause, CauseInput, Conformance, Quality, TagSample, Transition

EXAMPLE_EQUIPMENT = "filler-1"
EXAMPLE_CONNECTION = "filler-plc"
EXAMPLE_TAG = "state"

_STREAM = "7d0c3b9e-5a2f-4e0b-9a57-2f1c8f6f4b1d"
_SEQ = 1042
_AT = datetime(2026, 11, 21, 22, 7, 3, 250_000, UTC)
_TAG = f"{EXAMPLE_CONNECTION}/{EXAMPLE_TAG}"

EXAMPLE_CURSOR = write_cursor(_STREAM, _SEQ)

_sample = TagSample(_TAG, 3, Quality.GOOD, _AT, _AT + timedelta(milliseconds=12))
_earlier = TagSample(_TAG, 2, Quality.GOOD, None, _AT - timedelta(minutes=20))
_transition = Transition(
    equipment=EXAMPLE_EQUIPMENT,
    path="filling/line-1/filler-1",
    model="packml",
    sequence=37,
    from_state="Idle",
    to_state="Starting",
    code=3,
    category="standby",
    at=_AT,
    duration_s=41.25,
    conformance=Conformance.LEGAL,
    skipped=(),
    cause=Cause("code", (CauseInput(_TAG, 3, Quality.GOOD, _AT, _sample.received_at),)),
)
_told = tell(
    _transition, gateway="line-1", stream=_STREAM, seq=_SEQ, recorded_at=_AT + timedelta(milliseconds=15)
)
_state = state_after(_transition, _SEQ)
_equipment = EquipmentView(EXAMPLE_EQUIPMENT, _transition.path, "packml", {"state": _TAG}, _state)
_tag = TagView(_TAG, EXAMPLE_CONNECTION, EXAMPLE_TAG, "fast", "", _sample)
_connection = ConnectionView(
    name=EXAMPLE_CONNECTION,
    protocol="opcua",
    endpoint="opc.tcp://10.0.0.5:4840",
    link="up",
    since=_AT - timedelta(hours=3),
    last_seen_at=_AT,
    last_error=None,
    last_error_at=None,
    retry_at=None,
    attempts=1,
    tags=2,
    cycles={
        "fast": {
            "interval_s": 0.25,
            "count": 240,
            "duration_mean_s": 0.012,
            "duration_max_s": 0.031,
            "lateness_mean_s": 0.001,
            "lateness_max_s": 0.004,
            "skipped": 0,
        }
    },
    bad_tags={f"{EXAMPLE_CONNECTION}/speed": "BadNodeIdUnknown"},
    warnings={"certificate": "the client certificate expires in 12 days"},
)
_from = _AT.replace(minute=0, second=0, microsecond=0)
_to = _from + timedelta(hours=1)
_intervals = (
    Interval("Idle", 4, "standby", _from, _AT, (_AT - _from).total_seconds(), 1030),
    Interval("Starting", 3, "standby", _AT, _to, (_to - _AT).total_seconds(), _SEQ),
)
_spans = tuple(Span(i.state, i.category, i.from_, i.to) for i in _intervals if i.to is not None)
_whole, *_parts = figures(
    _spans, (Stretch(_from, _to), Stretch(_from, _AT, "early"), Stretch(_AT, _to, "late")), UTC
)


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


_before = msgspec.structs.replace(
    _transition,
    sequence=36,
    from_state="Resetting",
    to_state="Idle",
    code=4,
    at=_AT - timedelta(seconds=41.25),
    duration_s=2.5,
    cause=Cause("code", (), f"{_TAG} read 4 (Idle)"),
)
_told_before = tell(_before, gateway="line-1", stream=_STREAM, seq=1030, recorded_at=_before.at)

STATE = _plain(_state)
EXPLANATION = _plain(explain(_told, previous=_told_before))
EQUIPMENT_VIEW = _plain(_equipment)
EQUIPMENT_LIST = _plain(EquipmentList((_equipment,), None, _STREAM, _SEQ))
TRANSITION_LIST = _plain(TransitionList((msgspec.Raw(_told.json),), None, _STREAM, _SEQ))
TIMELINE = _plain(Timeline(EXAMPLE_EQUIPMENT, _from, _to, _intervals, None, _STREAM, _SEQ))
KPI = _plain(KpiReport(EXAMPLE_EQUIPMENT, _from, _to, "UTC", "shift", _whole, _parts, _STREAM, _SEQ))
TAG_VIEW = _plain(_tag)
TAG_SAMPLES = _plain(
    TagSampleList(
        _TAG,
        "",
        _AT - timedelta(minutes=5),
        _AT + timedelta(minutes=5),
        dated(_earlier, _earlier.received_at),
        [dated(_sample, _AT)],
        None,
        None,
    )
)
TAG_BUCKETS = _plain(
    TagBucketList(
        "oven-plc/temp",
        "°C",
        _AT - timedelta(hours=1),
        _AT,
        "1h",
        [BucketView(_AT - timedelta(hours=1), _AT, 214, 178.5, 201.0, 189.92, 188.5, 3600.0)],
        None,
    )
)
TAG_LIST = _plain(TagList((_tag,), None, _STREAM, _SEQ))
CONNECTION_VIEW = _plain(_connection)
CONNECTION_LIST = _plain(ConnectionList((_connection,), None, _STREAM, _SEQ))
MODEL_LIST = _plain(ModelList((ModelName("packml"), ModelName("oven")), None, _STREAM, _SEQ))
MODEL: dict[str, Any] = {
    "name": "oven",
    "initial": "Off",
    "states": [{"name": "Off", "category": "non-scheduled"}, {"name": "Baking", "category": "productive"}],
    "transitions": [{"from": "Off", "to": "Baking"}, {"from": "*", "to": "Off"}],
    "rules": [{"state": "Off", "when": "not run"}, {"state": "Baking", "when": "temp >= 180"}],
}
RECONCILIATION = _plain(
    Reconciliation(
        started_at=_AT,
        ended_at=_AT + timedelta(seconds=5),
        trigger="request",
        full=False,
        repair=True,
        agree=True,
        parts=[
            ComparedPart("memory", 12, None),
            ComparedPart("events", 1042, None),
            ComparedPart("broker", 0, "not compared: the publisher is not connected to the broker"),
        ],
        differences=[
            Difference(
                kind="event_missing",
                equipment=EXAMPLE_EQUIPMENT,
                place="event 1041",
                expected="transition 2026-11-21T22:06:22.000Z",
                found="no row",
                since=_AT,
                remedy="the gateway writes it again from the journal",
                harmless=True,
                outcome="repaired",
            )
        ],
        left_out=0,
    )
)
LIVE = _plain(Liveness("ok"))
READY: dict[str, Any] = {
    "status": "degraded",
    "ready": True,
    "parts": {
        "journal": {"ok": True, "reason": None},
        "historian": {"ok": False, "reason": "the database does not answer", "lag_events": 412},
    },
}
METRICS = 'andon_link_up{connection="filler-plc"} 1\n'
EVENT_STREAM = (
    f"retry: 2000\nid: {write_cursor(_STREAM, _SEQ - 1)}\n\n"
    f"id: {EXAMPLE_CURSOR}\nevent: {_told.type}\ndata: {_told.json.decode()}\n\n"
    ": heartbeat\n\n"
)
#: Details that fill in a problem document of each code, where the code alone does not say enough.
PROBLEM_DETAILS: dict[str, dict[str, Any]] = {
    "unknown_parameter": {
        "detail": '"form": there is no such parameter',
        "hint": 'Did you mean "from"?',
        "errors": [
            {
                "place": "query",
                "parameter": "form",
                "reason": "there is no such parameter",
                "hint": 'Did you mean "from"?',
            }
        ],
    },
    "invalid_parameter": {
        "detail": '"at": "2026-11-21T22:07:03 01:00" is not an RFC 3339 time',
        "hint": 'A "+" in a URL means a space: write the offset as %2B01:00, or use Z.',
        "errors": [
            {
                "place": "query",
                "parameter": "at",
                "reason": '"2026-11-21T22:07:03 01:00" is not an RFC 3339 time',
                "hint": 'A "+" in a URL means a space: write the offset as %2B01:00, or use Z.',
            }
        ],
    },
    "unknown_equipment": {
        "detail": 'No equipment is named "filer-1".',
        "hint": 'Did you mean "filler-1"?',
    },
    "unknown_transition": {
        "detail": "Event 1041 is a source lost, not a transition of filler-1.",
    },
    "too_old": {
        "detail": "Events after 12 were asked for; the first one still held is 480.",
        "stream": _STREAM,
        "first_seq": 480,
        "last_seq": _SEQ,
    },
    "other_stream": {
        "detail": f"The cursor belongs to stream 0b6c; this gateway's stream is {_STREAM}.",
        "stream": _STREAM,
        "first_seq": 1,
        "last_seq": _SEQ,
    },
    "from_the_future": {
        "detail": f"The cursor says 5000, but the last event of the stream is {_SEQ}.",
        "stream": _STREAM,
        "first_seq": 1,
        "last_seq": _SEQ,
    },
    "internal_error": {"reference": "5f0f9d2c"},
}
