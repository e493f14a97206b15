"""Short ways to write samples, batches and models in the tests of the state model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from statemodel.definition import read_model
from statemodel.engine import Engine, EquipmentSpec
from statemodel.model import Model
from statemodel.types import Outcome, Quality, SampleBatch, TagSample, TagValue

START = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)

OVEN: Mapping[str, Any] = {
    "name": "oven",
    "initial": "Off",
    "states": [
        {"name": "Off", "category": "non-scheduled"},
        {"name": "Heating", "category": "standby"},
        {"name": "Baking", "category": "productive"},
        {"name": "DoorOpen", "category": "unscheduled-down"},
    ],
    "transitions": [
        {"from": "Off", "to": "Heating"},
        {"from": "Heating", "to": "Baking"},
        {"from": ["Heating", "Baking"], "to": "DoorOpen"},
        {"from": "DoorOpen", "to": ["Heating", "Baking"]},
        {"from": "*", "to": "Off"},
    ],
    "rules": [
        {"state": "Off", "when": "not run"},
        {"state": "DoorOpen", "when": "door", "for": "2s"},
        {"state": "Baking", "when": "temp >= 180"},
        {"state": "Heating", "when": "True"},
    ],
}


def after(seconds: float) -> datetime:
    """An instant after the start of the test's time."""
    return START + timedelta(seconds=seconds)


def model_of(data: Mapping[str, Any]) -> Model:
    """The model in a definition that must be sound."""
    model, problems = read_model(data)
    assert model is not None, [str(problem) for problem in problems]
    return model


def rules_model(*rules: Mapping[str, str], **more: Any) -> Model:
    """A model of which only the rules matter: any of its states may follow any other."""
    names = list(dict.fromkeys(rule["state"] for rule in rules if rule["state"] != "Unknown"))
    return model_of(
        {
            "name": "m",
            "initial": names[0],
            "states": [{"name": name} for name in names],
            "rules": rules,
            **more,
        }
        | {"rules": list(rules)}
    )


def sample(
    tag: str,
    value: TagValue,
    seconds: float = 0,
    *,
    quality: Quality = Quality.GOOD,
    substatus: str = "",
    source_s: float | None = None,
) -> TagSample:
    """A sample received some seconds after the start."""
    source_at = None if source_s is None else after(source_s)
    return TagSample(tag, value, quality, source_at, after(seconds), substatus)


def batch(seconds: float, *, source_time: bool = False, **values: TagValue) -> SampleBatch:
    """Good samples of connection `plc`, all received at one instant."""
    samples = tuple(sample(f"plc/{name}", value, seconds) for name, value in values.items())
    return SampleBatch("plc", after(seconds), samples, source_time)


def batch_of(seconds: float, *samples: TagSample, source_time: bool = False) -> SampleBatch:
    """Samples as given."""
    return SampleBatch("plc", after(seconds), samples, source_time)


def bound(model: Model, **more: Any) -> EquipmentSpec:
    """An equipment `m1` whose every rule input is the tag of the same name on `plc`."""
    return EquipmentSpec("m1", "area/line/m1", model, bind={n: f"plc/{n}" for n in model.inputs}, **more)


def engine_for(model: Model, **more: Any) -> Engine:
    """An engine with that one equipment; models without rules read `plc/state`."""
    if not model.rules:
        more.setdefault("state", "plc/state")
    return Engine([bound(model, **more)], at=START)


def states(*outcomes: Outcome) -> list[str]:
    """The states that outcomes lead to, in order."""
    return [transition.to_state for outcome in outcomes for transition in outcome.transitions]
