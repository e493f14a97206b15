"""Transcripts: what came in, and under it what the engine made of it, for a person to read.

Each file in `scenarios` is played and must come out as written. After a change that is meant, run with
ANDON_REWRITE=1 and read the difference. The forms, one to a line:

    equipment NAME model MODEL [state TAG | path TAG,TAG,...] [mode TAG] [bind NAME=TAG ...]
        MODEL is built in, or a .toml file beside
    22:00:03 TAG = VALUE, TAG = VALUE !bad(reason), TAG = VALUE ?uncertain, TAG = VALUE @22:00:01
    22:00:03 CONNECTION lost: REASON
    22:00:03 CONNECTION restored
    22:00:03 tick

`@` gives a sample's source time; a batch that has one is dated by source time. `#` begins a remark.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from statemodel.builtin import BUILTIN
from statemodel.durations import format_duration
from statemodel.engine import Engine, EquipmentSpec
from statemodel.types import (
    Conformance,
    Event,
    Outcome,
    Quality,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    TagValue,
    Tick,
    Transition,
)
from tests.statemodel.support import START, model_of

_SCENARIOS = Path(__file__).parent / "scenarios"
_ASSIGNMENT = re.compile(
    r"(?P<tag>\S+) = (?P<value>\"[^\"]*\"|\S+)"
    r"(?: !bad\((?P<bad>\w*)\)| (?P<uncertain>\?uncertain))?(?: @(?P<source>[\d:.]+))?"
)


@pytest.mark.parametrize("path", sorted(_SCENARIOS.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario_comes_out_as_written(path: Path) -> None:
    written = path.read_text()
    played = _play(written)
    if os.environ.get("ANDON_REWRITE"):
        path.write_text(played)
    assert played == written, "run with ANDON_REWRITE=1 and read the difference"


def test_every_built_in_model_has_its_scenario() -> None:
    told = "".join(path.read_text() for path in _SCENARIOS.iterdir())
    assert {name for name in BUILTIN if f"model {name} " in told or f'extends = "{name}"' in told} == set(
        BUILTIN
    )


def _play(text: str) -> str:
    lines: list[str] = []
    specs: list[EquipmentSpec] = []
    engine: Engine | None = None
    wake: datetime | None = None
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        if not line or line.startswith("#"):
            continue
        if line.startswith("equipment "):
            specs.append(_equipment(line))
            continue
        engine = engine or Engine(specs, at=START)
        outcome = engine.step(_event(line))
        lines += _told(outcome)
        if outcome.wake_at != wake:
            wake = outcome.wake_at
            lines.append(f"    (waits until {_clock(wake)})" if wake else "    (waits for nothing)")
    return "\n".join(lines) + "\n"


def _equipment(line: str) -> EquipmentSpec:
    words = line.split()
    fields = dict(zip(words[::2], words[1::2], strict=False))
    pairs = [word.split("=") for word in words[words.index("bind") + 1 :]] if "bind" in words else []
    name = fields["model"]
    model = (
        model_of(tomllib.loads((_SCENARIOS / name).read_text())) if name.endswith(".toml") else BUILTIN[name]
    )
    return EquipmentSpec(
        fields["equipment"],
        "hall/line/unit",
        model,
        fields.get("state"),
        dict(pairs),
        mode=fields.get("mode"),
        state_path=tuple(filter(None, fields.get("path", "").split(","))),
    )


def _event(line: str) -> Event:
    clock, _, rest = line.partition(" ")
    at = _instant(clock)
    if rest == "tick":
        return Tick(at)
    if rest.endswith(" restored"):
        return SourceRestored(rest.split()[0], at)
    if " lost: " in rest:
        connection, _, reason = rest.partition(" lost: ")
        return SourceLost(connection, at, reason)
    samples = tuple(_sample(part, at) for part in rest.split(", "))
    return SampleBatch(samples[0].tag.split("/")[0], at, samples, source_time="@" in rest)


def _sample(text: str, at: datetime) -> TagSample:
    match = _ASSIGNMENT.fullmatch(text)
    assert match is not None, f"not an assignment: {text}"
    quality, substatus = Quality.GOOD, ""
    if match["bad"] is not None:
        quality, substatus = Quality.BAD, match["bad"]
    elif match["uncertain"]:
        quality = Quality.UNCERTAIN
    source_at = _instant(match["source"]) if match["source"] else None
    return TagSample(match["tag"], _value(match["value"]), quality, source_at, at, substatus)


def _value(text: str) -> TagValue:
    words: dict[str, TagValue] = {"on": True, "off": False, "nothing": None}
    if text in words:
        return words[text]
    if text.startswith('"'):
        return text.strip('"')
    return float(text) if "." in text else int(text)


def _told(outcome: Outcome) -> list[str]:
    lines = []
    for made in outcome.transitions:
        lines.append(
            f"    {made.equipment} #{made.sequence}: {made.from_state} -> {made.to_state}{_remarks(made)}"
        )
        lines.append(
            f"        at {_clock(made.at)}, after {format_duration(timedelta(seconds=made.duration_s))}"
        )
        lines.append(f"        because {made.cause.text}")
    for refused in outcome.rejections:
        lines.append(f"    {refused.equipment} stays {refused.state}: {refused.reason}")
        lines.append(f"        at {_clock(refused.at)}, because {refused.cause.text}")
    return lines


def _remarks(made: Transition) -> str:
    if made.conformance is Conformance.LEGAL:
        return ""
    if made.skipped:
        return f"   ({', '.join(made.skipped)} passed unseen)"
    return "   ILLEGAL"


def _instant(clock: str) -> datetime:
    hours, minutes, seconds = clock.split(":")
    day = START.replace(hour=0, minute=0, second=0)
    return day + timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def _clock(at: datetime) -> str:
    return at.strftime("%H:%M:%S.%f").rstrip("0").rstrip(".")
