"""The dictionary of a segment: JSON of the kind it is going to hold, which its events are compressed against.

Examples of every kind of event, as this version tells them, then the newest transition of each equipment. So
the first event of a segment already takes few bytes, though it is compressed alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from gateway.journal.codec import dictionary_of
from statemodel.records import Recorded, tell
from statemodel.types import (
    Cause,
    CauseInput,
    Conformance,
    DeviceEvent,
    Gap,
    Quality,
    Recordable,
    Rejection,
    SourceLost,
    SourceRestored,
    Transition,
)


def dictionary_for(gateway: str, stream: str, created_at: datetime, last: Iterable[Recorded]) -> bytes:
    """The dictionary of a segment begun at an instant, with what it carries."""
    at = created_at.astimezone(UTC)
    told = [tell(event, gateway=gateway, stream=stream, seq=1, recorded_at=at) for event in _examples(at)]
    carried = sorted(last, key=lambda recorded: recorded.seq)
    return dictionary_of([recorded.json for recorded in (*told, *carried)])


def _examples(at: datetime) -> Iterable[Recordable]:
    """Rare kinds first: what stands last is found best."""
    seen = CauseInput("connection/state", 6, Quality.GOOD, at, at)
    bad = CauseInput("connection/state", None, Quality.BAD, at, at, "no_communication")
    yield DeviceEvent("connection", at, "BaseEventType", "source", 500, "message", "00", at, at)
    yield Rejection(
        "equipment", "area/line/unit", "packml", "Idle", "Execute", at, "reason", Cause("code", ())
    )
    yield Gap("connection", at, at, "reason", "connection/tag")
    yield SourceRestored("connection", at)
    yield SourceLost("connection", at, "no answer: timed out")
    for before, after, code, category, conformance, skipped, cause in (
        ("Execute", "Unknown", None, None, Conformance.LEGAL, (), Cause("source_lost", (bad,), "lost")),
        ("Held", "Aborted", 9, "unscheduled-down", Conformance.ILLEGAL, (), Cause("code", (seen,))),
        (
            "Idle",
            "Execute",
            6,
            "productive",
            Conformance.LEGAL_BY_CLOSURE,
            ("Starting",),
            Cause("code", (seen,)),
        ),
        ("Execute", "Idle", 4, "standby", Conformance.LEGAL, (), Cause("code", (seen,))),
    ):
        yield Transition(
            equipment="equipment",
            path="area/line/unit",
            model="packml",
            sequence=1,
            from_state=before,
            to_state=after,
            code=code,
            category=category,
            at=at,
            duration_s=12.345,
            conformance=conformance,
            skipped=skipped,
            cause=cause,
        )
