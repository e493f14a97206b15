"""The state engine alone: samples nobody looks at, rules that say the same, moves recorded with their cause.

Two floors in the same run: the dict look-up no engine can do without, and the libraries people know, on
PackML's seventeen states without recording anything. Each figure is the best of several rounds, for the noise
of a machine only ever adds.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from statemodel.builtin import BUILTIN
from statemodel.definition import read_model
from statemodel.engine import Engine, EquipmentSpec
from statemodel.model import Model
from statemodel.types import Quality, SampleBatch, TagSample, TagValue
from tests.benchmarks.figures import Figure

ROUNDS = 7
BATCHES = 200
BATCH_SAMPLES = 250
EQUIPMENT = 10_000
TAGS_EACH = 20
START = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)

#: A machine's day: every move is in the table, and the last leads back to the first.
ROUND_TRIP = ("Resetting", "Idle", "Starting", "Execute", "Completing", "Complete")

OVEN: dict[str, Any] = {
    "name": "oven",
    "initial": "Off",
    "states": [{"name": name} for name in ("Off", "DoorOpen", "Baking", "Heating")],
    "rules": [
        {"state": "Off", "when": "not run"},
        {"state": "DoorOpen", "when": "door", "for": "2s"},
        {"state": "Baking", "when": "temp >= 180"},
        {"state": "Heating", "when": "True"},
    ],
}


async def measure(_directory: Path) -> Sequence[Figure]:
    """All figures of the engine."""
    lookups = _rate(_lookups(), BATCHES * BATCH_SAMPLES)
    floor = "bare dict look-ups"
    figures = [
        Figure("engine: samples nobody looks at", _rate(*_unwatched()), "samples/s", lookups, floor),
        Figure("engine: rules asked, no change", _rate(*_asked()), "asked/s", lookups, floor),
    ]
    moves = _rate(*_moves())
    libraries = {"transitions": _transitions, "statemachine": _statemachine}
    known = {name: _rate(*run) for name, make in libraries.items() if (run := make()) is not None}
    fastest = max(known, key=lambda name: known[name], default="")
    against = f"{fastest}, recording nothing" if fastest else "no library is installed"
    name = "engine: moves recorded with their cause"
    figures.append(Figure(name, moves, "moves/s", known.get(fastest), against, known))
    figures.append(_memory())
    return figures


def _rate(run: Callable[[], None], count: int) -> float:
    """How many a second, at best."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - began)
        gc.enable()
    return count / best_s


def _lookups() -> Callable[[], None]:
    states = {f"plc/t{number}": number for number in range(1000)}
    tags = [f"plc/t{number % 1000}" for number in range(BATCH_SAMPLES)]

    def run() -> None:
        get = states.get
        for _ in range(BATCHES):
            for tag in tags:
                get(tag)

    return run


def _batch(values: Sequence[tuple[str, TagValue]], at: datetime) -> SampleBatch:
    samples = tuple(TagSample(f"plc/{tag}", value, Quality.GOOD, None, at) for tag, value in values)
    return SampleBatch("plc", at, samples)


def _stepping(engine: Engine, batches: Sequence[SampleBatch]) -> Callable[[], None]:
    def run() -> None:
        for batch in batches:
            engine.step(batch)

    return run


def _unwatched() -> tuple[Callable[[], None], int]:
    spec = EquipmentSpec("m", "a/l/m", BUILTIN["packml"], "plc/state")
    values = [(f"noise-{number}", number) for number in range(BATCH_SAMPLES)]
    batches = [_batch(values, START) for _ in range(BATCHES)]
    return _stepping(Engine([spec], at=START), batches), BATCHES * BATCH_SAMPLES


def _asked() -> tuple[Callable[[], None], int]:
    """Ovens that warm up: every sample is news to four rules, the third decides, and nothing moves."""
    model = _model(OVEN)
    names = [f"oven-{number}" for number in range(BATCH_SAMPLES)]
    specs = [
        EquipmentSpec(name, f"a/l/{name}", model, bind={tag: f"plc/{name}-{tag}" for tag in model.inputs})
        for name in names
    ]
    engine = Engine(specs, at=START)
    engine.step(_batch([(f"{name}-{tag}", tag == "run") for name in names for tag in model.inputs], START))
    batches = [
        _batch([(f"{name}-temp", 180.0 + number % 2) for name in names], START + timedelta(seconds=number))
        for number in range(BATCHES)
    ]
    return _stepping(engine, batches), BATCHES * BATCH_SAMPLES


def _moves() -> tuple[Callable[[], None], int]:
    """A hundred PackML machines that run through their day, one poll after the other."""
    model = BUILTIN["packml"]
    names = [f"m-{number}" for number in range(100)]
    engine = Engine([EquipmentSpec(n, f"a/l/{n}", model, f"plc/{n}") for n in names], at=START)
    codes = [model.by_name[state].code for state in ROUND_TRIP]
    batches = [
        _batch([(name, codes[number % len(codes)]) for name in names], START)
        for number in range(len(codes) * 50)
    ]
    return _stepping(engine, batches), len(batches) * len(names)


def _transitions() -> tuple[Callable[[], None], int] | None:
    """The library `transitions`, if it is there: its core machine, events by name."""
    library = _imported("transitions")
    if library is None:
        return None
    model = BUILTIN["packml"]
    machine = library.Machine(
        states=[state.name for state in model.states],
        transitions=[
            {"trigger": f"to_{edge.to_state}", "source": edge.from_state, "dest": edge.to_state}
            for edge in model.edges
        ],
        initial="Complete",
        auto_transitions=False,
    )
    moves = [getattr(machine, f"to_{state}") for state in ROUND_TRIP]
    return _calling(moves)


def _statemachine() -> tuple[Callable[[], None], int] | None:
    """The library python-statemachine, if it is there."""
    library = _imported("statemachine")
    if library is None:
        return None
    model = BUILTIN["packml"]
    states = {s.name: library.State(s.name, initial=s.name == "Complete") for s in model.states}
    body: dict[str, Any] = dict(states)
    for to in ROUND_TRIP:
        sources = [edge.from_state for edge in model.edges if edge.to_state == to]
        event = states[sources[0]].to(states[to])
        for source in sources[1:]:
            event |= states[source].to(states[to])
        body[f"to_{to}"] = event
    machine = type("Packml", (library.StateMachine,), body)()
    return _calling([getattr(machine, f"to_{state}") for state in ROUND_TRIP])


def _calling(moves: Sequence[Callable[[], Any]]) -> tuple[Callable[[], None], int]:
    def run() -> None:
        for _ in range(500):
            for move in moves:
                move()

    return run, 500 * len(moves)


def _imported(name: str) -> Any | None:
    try:
        return import_module(name)
    except ImportError:
        return None


def _memory() -> Figure:
    """What equipment takes beside its newest values: state, since when, rules' memory, routes of its tags."""
    model = _model(_wide())
    names = [f"m-{number}" for number in range(EQUIPMENT)]
    specs = [
        EquipmentSpec(name, f"a/l/{name}", model, bind={tag: f"plc/{name}-{tag}" for tag in model.inputs})
        for name in names
    ]
    gc.collect()
    tracemalloc.start()
    engine = Engine(specs, at=START)
    for name in names:
        engine.step(_batch([(f"{name}-{tag}", 1.0) for tag in model.inputs], START))
    gc.collect()
    whole, _ = tracemalloc.get_traced_memory()
    samples = sum(_sample_bytes(name, model.inputs) for name in names[:100]) / 100
    tracemalloc.stop()
    each = whole / EQUIPMENT - samples
    name = f"engine: memory of an equipment beside its {TAGS_EACH} newest values, {EQUIPMENT} of them"
    assert engine.current(names[0]).state == "Running"
    return Figure(name, each, "bytes", samples, "those newest values")


def _wide() -> dict[str, Any]:
    tags = " or ".join(f"t{number:02} > 1" for number in range(TAGS_EACH))
    rules = [{"state": "Stopped", "when": tags}, {"state": "Running", "when": "True"}]
    return {
        "name": "wide",
        "initial": "Stopped",
        "states": [{"name": "Stopped"}, {"name": "Running"}],
        "rules": rules,
    }


def _sample_bytes(name: str, tags: Sequence[str]) -> float:
    before, _ = tracemalloc.get_traced_memory()
    kept = _batch([(f"{name}-{tag}", 1.0) for tag in tags], START)
    after, _ = tracemalloc.get_traced_memory()
    return float(after - before) if kept.samples else 0.0


def _model(data: dict[str, Any]) -> Model:
    model, problems = read_model(data)
    assert model is not None, problems
    return model
