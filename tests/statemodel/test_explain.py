"""Why is it in this state: the answer from the record alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import msgspec
import pytest

from statemodel.builtin import BUILTIN
from statemodel.engine import Engine
from statemodel.explain import Explanation, explain
from statemodel.records import Recorded, read_told, tell
from statemodel.types import Event, Quality, Recordable, SourceLost
from tests.statemodel.support import OVEN, after, batch, batch_of, engine_for, model_of, sample


def _journal(engine: Engine, events: Iterable[Event]) -> list[Recorded]:
    """What a journal would hold, read back from its bytes."""
    made: list[Recordable] = []
    for event in events:
        outcome = engine.step(event)
        if isinstance(event, SourceLost):
            made.append(event)
        made += [*outcome.transitions, *outcome.rejections]
    told = []
    for seq, item in enumerate(made, 1):
        at = item.at + timedelta(milliseconds=4)
        recorded = tell(item, gateway="g", stream="s", seq=seq, recorded_at=at)
        told.append(read_told(recorded.json, recorded.type))
    return told


def test_a_code_is_explained_with_its_evidence() -> None:
    news = batch_of(41, sample("plc/state", 6, 41, source_s=40.75))
    journal = _journal(engine_for(BUILTIN["packml"]), [batch(1, state=4), news])
    told = explain(journal[1])
    assert told.text == (
        "m1 went from Idle to Execute at 2026-11-21 22:00:41.000 UTC.\n"
        "Why: plc/state read 6 (Execute).\n"
        "  plc/state = 6, good, source time 2026-11-21 22:00:40.750 UTC, "
        "received 2026-11-21 22:00:41.000 UTC\n"
        "Before: Idle for 40s.\n"
        "By the model: Idle to Execute is legal in packml by way of Starting, which passed unseen.\n"
        "Recorded: event 2, transition 2 of m1, 0.004 s after it happened.\n"
    )
    assert (told.state, told.from_state, told.from_duration_s, told.rule) == ("Execute", "Idle", 40.0, "code")
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told


def test_what_was_refused_before_and_since_belongs_to_it() -> None:
    events = [
        batch(1, run=True, temp=200.0, door=False),
        batch(2, temp=100.0),
        batch(3, temp=200.0),
        batch(9, run=False),
        batch(12, run=True),
        batch(13, run=False),
        batch(14, temp=100.0),
        batch(15, run=True),
    ]
    journal = _journal(engine_for(model_of(OVEN)), events)
    kinds = [(r.type, r.seq) for r in journal]
    assert kinds == [
        ("transition", 1),
        ("rejection", 2),
        ("transition", 3),
        ("rejection", 4),
        ("transition", 5),
    ]
    off = explain(journal[2], rejections=journal)
    assert off.state == "Off"
    assert [(r.seq, r.attempted) for r in off.refused_before] == [(2, "Heating")]
    assert [(r.seq, r.attempted) for r in off.refused_since] == [(4, "Baking")]
    assert "Refused before: Heating at 2026-11-21 22:00:02.000 UTC: Baking to Heating is not" in off.text
    heating = explain(journal[4], rejections=journal)
    assert [r.seq for r in heating.refused_before] == [4]
    assert heating.refused_since == ()
    assert explain(journal[4], rejections=journal[:3]).refused_before == ()
    first = explain(journal[0], rejections=journal)
    assert [r.seq for r in first.refused_since] == [2]


def test_what_was_refused_in_an_earlier_stay_belongs_to_that() -> None:
    events = [
        batch(1, run=True, temp=200.0, door=False),
        batch(2, temp=100.0),
        batch(3, run=False),
        batch(4, run=True),
        batch(5, run=False, temp=100.0),
        batch(6, run=True),
        batch(7, temp=200.0),
        batch(8, run=False),
    ]
    journal = _journal(engine_for(model_of(OVEN)), events)
    last = explain(journal[-1], rejections=journal)
    assert (last.from_state, last.state) == ("Baking", "Off")
    assert last.refused_before == ()
    assert any(r.type == "rejection" and r.at == after(2) for r in journal)


def test_what_was_before_and_after_is_told_where_it_is_known() -> None:
    journal = _journal(
        engine_for(BUILTIN["packml"]), [batch(1, state=4), batch(41, state=6), batch(50, state=4)]
    )
    alone = explain(journal[1])
    assert (alone.previous, alone.next, alone.lasted_s, alone.incomplete) == (None, None, None, None)
    told = explain(journal[1], previous=journal[0], following=journal[2], incomplete="the rest is away")
    assert told.previous is not None
    assert told.next is not None
    assert (told.previous.seq, told.previous.to_state, told.previous.at) == (1, "Idle", after(1))
    assert (told.next.seq, told.next.from_state, told.lasted_s) == (3, "Execute", 9.0)
    read = "plc/state read 4 (Idle)."
    entered = f"It was entered at 2026-11-21 22:00:01.000 UTC (event 1): {read}"
    assert f"Before: Idle for 40s. {entered}\n" in told.text
    left = f"then Idle at 2026-11-21 22:00:50.000 UTC (event 3): {read}"
    assert f"After: Execute for 9s, {left}\n" in told.text
    assert "Not all could be read: the rest is away.\n" in told.text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "Idle to Starting is legal in packml."),
        (11, "Idle to Held is not a transition of packml; recorded as it was shown, and flagged."),
        (77, "packml has no state for what was read; recorded and flagged."),
    ],
)
def test_the_judgement_in_words(value: int, words: str) -> None:
    journal = _journal(engine_for(BUILTIN["packml"]), [batch(1, state=4), batch(2, state=value)])
    assert f"By the model: {words}\n" in explain(journal[1]).text


def test_a_loss_shows_what_was_last_known() -> None:
    events: list[Event] = [batch(1, state=4), SourceLost("plc", after(7), "connection refused")]
    journal = _journal(engine_for(BUILTIN["packml"]), events)
    told = explain(journal[2])
    assert told.because == "plc lost: connection refused"
    assert "plc/state = 4, bad (no_communication), received 2026-11-21 22:00:01.000 UTC" in told.text
    assert told.inputs[0].quality is Quality.BAD
    with pytest.raises(ValueError, match="event 2 is a source_lost, not a transition"):
        explain(journal[1])
