"""The plant without wires: it is deterministic, legal, and never faster than it promises."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.machine import Pace, Profile
from simulators.oven import BAKES_AT_C
from simulators.packml import CODES, COMPLETED, EDGES, MOVES
from simulators.plant import EQUIPMENT, LINE, Change, Plant
from simulators.play import Play, rehearse
from simulators.scenario import built_in, load

SEEDS = st.integers(0, 2**32)
OVEN_MOVES = {
    ("Off", "Heating"),
    ("Heating", "Baking"),
    ("Heating", "DoorOpen"),
    ("Baking", "DoorOpen"),
    ("DoorOpen", "Heating"),
    ("DoorOpen", "Baking"),
    ("Heating", "Off"),
    ("Baking", "Off"),
    ("DoorOpen", "Off"),
}
COMPRESSOR_MOVES = {
    ("Stopped", "Unloaded"),
    ("Unloaded", "Loaded"),
    ("Loaded", "Unloaded"),
    ("Unloaded", "Stopped"),
}


STANDARD = """
reset       Stopped Complete > Resetting
start       Idle > Starting
stop        Starting Idle Suspended Execute Holding Held Unholding Suspending Unsuspending > Stopping
stop        Resetting Completing Complete > Stopping
hold        Execute Suspended > Holding
unhold      Held > Unholding
suspend     Execute > Suspending
unsuspend   Suspended > Unsuspending
abort       Clearing Stopped Starting Idle Suspended Execute Stopping Holding Held > Aborting
abort       Unholding Suspending Unsuspending Resetting Completing Complete > Aborting
clear       Aborted > Clearing
complete    Execute Suspended Held > Completing
SC          Clearing Stopping > Stopped
SC          Starting Unholding Unsuspending > Execute
SC          Aborting > Aborted
SC          Holding > Held
SC          Suspending > Suspended
SC          Resetting > Idle
SC          Completing > Complete
"""
"""ISA-TR88.00.02-2022, written out again: the oracle for the simulators' own table."""


def standard_edges() -> set[tuple[str, str, str]]:
    edges = set()
    for line in STANDARD.strip().splitlines():
        trigger, rest = line.split(maxsplit=1)
        sources, target = rest.split(" > ")
        edges |= {(trigger, source, target) for source in sources.split()}
    return edges


def by_equipment(changes: tuple[Change, ...]) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.equipment].append(change)
    return found


def test_the_packml_table_is_the_2022_revision() -> None:
    ours = {(word, source, target) for (source, word), target in MOVES.items()}
    ours |= {("SC", source, target) for source, target in COMPLETED.items()}
    assert ours == standard_edges()
    assert len(EDGES) == 49
    assert sorted(CODES.values()) == list(range(1, 18))
    assert [CODES[state] for state in ("Stopped", "Idle", "Execute", "Aborted", "Complete")] == [
        2,
        4,
        6,
        9,
        17,
    ]


@pytest.mark.parametrize("name", built_in())
def test_same_seed_same_story(name: str) -> None:
    scenario = load(name)
    assert rehearse(scenario, 7, 60.0) == rehearse(scenario, 7, 60.0)
    assert rehearse(scenario, 7, 60.0) != rehearse(scenario, 8, 60.0)


@given(
    seed=SEEDS,
    name=st.sampled_from(["demo", "story", "faults"]),
    speed=st.sampled_from([0.5, 1.0, 10.0, 50.0]),
)
@settings(max_examples=40, deadline=None)
def test_every_change_is_legal_continuous_and_long_enough(seed: int, name: str, speed: float) -> None:
    scenario = load(name)
    floor_s = scenario.profile.min_dwell_s * speed
    moves = {**dict.fromkeys(LINE, EDGES), "oven-1": OVEN_MOVES, "compressor-1": COMPRESSOR_MOVES}
    for equipment, changes in by_equipment(rehearse(scenario, seed, 90.0 * speed, speed)).items():
        assert changes[0].from_state is None
        for left, entered in pairwise(changes):
            assert entered.from_state == left.to_state
            assert (left.to_state, entered.to_state) in moves[equipment]
            assert entered.at_s - left.at_s >= floor_s - 1e-9, (equipment, left, entered)


@pytest.mark.parametrize("seed", range(1, 9))
def test_the_story_keeps_its_promises(seed: int) -> None:
    play = Play(load("story"), seed)
    changes = list(play.begin().moment.changes)
    at_s, done = 0.0, False
    while not done:
        beat = play.step()
        at_s, done = beat.moment.at_s, beat.done
        changes.extend(beat.moment.changes)
    assert at_s < 40.0
    assert sum(change.from_state is not None for change in changes) >= 200
    assert set(by_equipment(tuple(changes))) == set(EQUIPMENT)
    for equipment, own in by_equipment(tuple(changes)).items():
        assert len(own) >= 8, equipment
    assert play.plant.resting
    # What rests, stays at rest.
    while play.next_s < at_s + 30.0:
        assert play.step().moment.changes == ()


def test_demo_is_lively_and_starts_at_once() -> None:
    changes = rehearse(load("demo"), 1, 60.0)
    at = [change.at_s for change in changes]
    assert sum(at_s == 0.0 for at_s in at) == len(EQUIPMENT)
    assert max(later - earlier for earlier, later in pairwise(at)) < 5.0


@given(seed=SEEDS, speed=st.sampled_from([1.0, 4.0, 20.0]), name=st.sampled_from(["demo", "story"]))
@settings(max_examples=40, deadline=None)
def test_the_oven_state_follows_from_its_published_tags(seed: int, speed: float, name: str) -> None:
    """The rules as a model would have them, on what is published; no chatter that trips a `for`."""
    play = Play(load(name), seed, speed)
    beat = play.begin()
    tags: dict[str, Any] = {}
    told = opened_s = None
    while beat.moment.at_s < 90.0 * speed and not beat.done:
        moment = beat.moment
        was_open, was_hot = tags.get("door"), tags.get("temp", 0.0) >= BAKES_AT_C
        tags.update({tag: value for owner, tag, value in moment.values if owner == "oven-1"})
        told = next((change.to_state for change in moment.changes if change.equipment == "oven-1"), told)
        hot = tags["temp"] >= BAKES_AT_C
        by_rule = "Off" if not tags["run"] else "DoorOpen" if tags["door"] else "Baking" if hot else "Heating"
        assert told == by_rule, moment
        if tags["door"] and not was_open:
            opened_s = moment.at_s
        if was_open and opened_s is not None:
            if not tags["door"]:
                assert moment.at_s - opened_s >= 5.0 * speed - 1e-9
            if hot != was_hot:
                assert moment.at_s - opened_s >= 3.0 * speed - 1e-9
        beat = play.step()


def test_bottles_are_neither_made_nor_lost_between_machines() -> None:
    play = Play(load("demo"), 3)
    beat = play.begin()
    counts: dict[str, Any] = {}
    while beat.moment.at_s < 300.0:
        for owner, tag, value in beat.moment.values:
            if tag in ("ProdProcessedCount", "processed"):
                assert int(value) >= counts.get(owner, 0), "a counter went backwards"
                counts[owner] = value
        for before, behind in pairwise(LINE):
            waiting = (
                counts[before] - counts[behind]
            )  # the buffer held 20 to begin with, and holds 40 at most
            assert -21 <= waiting <= 21
        beat = play.step()
    assert counts["palletiser-1"] > 100


def test_line_machines_suspend_for_their_neighbours() -> None:
    play = Play(load("demo"), 5)
    beat = play.begin()
    causes: set[tuple[str, str]] = set()
    while beat.moment.at_s < 300.0:
        causes |= {
            (owner, tag)
            for owner, tag, value in beat.moment.values
            if tag in ("Starved", "Blocked") and value
        }
        beat = play.step()
    assert ("capper-1", "Starved") in causes
    assert ("filler-1", "Blocked") in causes
    assert ("filler-1", "Starved") not in causes


@given(seed=SEEDS, ends_s=st.floats(1.0, 60.0))
@settings(max_examples=40, deadline=None)
def test_the_plant_comes_to_rest_soon_from_anywhere(seed: int, ends_s: float) -> None:
    plant = Plant(seed, Pace(Profile(), 1.0, ends_s), {"filler-1": "Execute", "oven-1": "Baking"})
    while plant.next_s < ends_s:
        plant.step()
    plant.rest(ends_s)
    while not plant.resting:
        moment = plant.step()
        assert moment.at_s < ends_s + 11.0
    assert plant.states()["oven-1"] == "Off"
    assert {plant.states()[name] for name in LINE} <= {"Stopped", "Aborted"}


def quiet(**start: str) -> Plant:
    plant = Plant(
        1, Pace(Profile(random=False)), {name.replace("_", "-"): state for name, state in start.items()}
    )
    plant.begin()
    return plant


def until(plant: Plant, at_s: float) -> list[Change]:
    changes: list[Change] = []
    while plant.next_s <= at_s:
        changes.extend(plant.step().changes)
    return changes


def test_a_machine_left_alone_does_what_it_is_told_and_no_more() -> None:
    plant = quiet(filler_1="Idle")
    until(plant, 5.0)
    assert plant.states()["filler-1"] == "Idle"
    refusal, moment = plant.command(5.0, "filler-1", "start")
    assert refusal is None
    assert [change.to_state for change in moment.changes] == ["Starting"]
    assert [change.to_state for change in until(plant, 8.0)] == ["Execute"]
    refusal, moment = plant.command(8.0, "filler-1", "e-stop")
    assert refusal is None
    assert [change.to_state for change in moment.changes] == ["Aborting"]
    assert [change.to_state for change in until(plant, 20.0)] == ["Aborted"]


def test_a_command_that_comes_too_soon_waits_for_the_shortest_stay() -> None:
    plant = quiet(filler_1="Idle")
    plant.command(0.0, "filler-1", "start")
    until(plant, 0.5)
    assert plant.states()["filler-1"] == "Starting"
    refusal, moment = plant.command(0.6, "filler-1", "stop")
    assert refusal is None
    assert moment.changes == ()
    (change, *_) = until(plant, 1.05)
    assert (change.to_state, change.at_s) == ("Stopping", 1.0)


@pytest.mark.parametrize(
    ("equipment", "word", "reason"),
    [
        ("filler-1", "hold", "hold is not allowed in Stopped"),
        ("filler-1", "fly", 'knows no command "fly"'),
        ("oven-1", "open-door", "open-door is not allowed in Off"),
        ("compressor-1", "load", "load is not allowed in Stopped"),
        ("mixer-1", "start", 'there is no equipment "mixer-1"'),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_refused_with_the_reason(
    equipment: str, word: str, reason: str
) -> None:
    refusal, moment = quiet().command(0.0, equipment, word)
    assert refusal is not None
    assert reason in refusal
    assert moment.changes == ()


def test_an_oven_stopped_hot_cools_before_it_starts_again() -> None:
    """Off to Baking is no move of the oven, so a start has to wait for the temperature."""
    plant = quiet(oven_1="Baking")
    until(plant, 5.0)
    plant.command(5.0, "oven-1", "stop")
    until(plant, 6.0)
    refusal, _ = plant.command(6.0, "oven-1", "start")
    assert refusal is None
    states = [change.to_state for change in until(plant, 60.0)]
    assert states == ["Heating", "Baking"]
