"""`andon model`: every model as table, diagram and data, and everything that is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from statemodel.builtin import BUILTIN
from statemodel.describe import describe, mermaid
from tests.gateway.test_commands import andon

SOUND = """
name = "pump"
initial = "Off"
states = [
  { name = "Off", code = 0, category = "standby" },
  { name = "On", code = 1, category = "productive" },
  { name = "Broken", code = 2, category = "unscheduled-down" },
]
transitions = [{ from = "Off", to = "On" }, { from = "On", to = ["Off", "Broken"] }]
"""


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    path = tmp_path / "pump.toml"
    path.write_text(SOUND, encoding="utf-8")
    return path


def test_the_built_in_models_are_listed() -> None:
    people, machines = andon("model", "list"), andon("model", "list", "--json")
    assert [json.loads(line)["name"] for line in machines.stdout.splitlines()] == list(BUILTIN)
    for name in BUILTIN:
        assert name in people.stdout


def test_every_format_comes_from_the_one_table() -> None:
    model = BUILTIN["packml"]
    data = andon("model", "show", "packml", "--format", "json")
    assert json.loads(data.stdout) == json.loads(json.dumps(describe(model)))
    assert andon("model", "show", "packml", "--format", "mermaid").stdout == mermaid(model)
    shown = andon("model", "show", "packml")
    for state in model.states:
        assert state.name in shown.stdout


def test_a_file_that_is_sound_is_shown_with_what_is_odd(pump: Path) -> None:
    done = andon("model", "check", str(pump))
    assert done.returncode == 0, done.stderr
    assert "fine, 1 odd" in done.stdout
    assert "no transition leaves Broken" in done.stderr
    told = json.loads(andon("model", "check", str(pump), "--json").stdout)
    assert (told["ok"], told["problems"], len(told["warnings"])) == (True, [], 1)
    diagram = andon("model", "check", str(pump), "--format", "mermaid").stdout
    assert diagram.startswith("stateDiagram-v2\n")


def test_everything_wrong_is_said_at_once_with_its_line(pump: Path) -> None:
    broken = (
        SOUND.replace('"Broken"]', '"Borken"]')
        .replace("code = 1", "code = 0")
        .replace("name = ", "nmae = ", 1)
    )
    pump.write_text(broken, encoding="utf-8")
    done = andon("model", "check", str(pump))
    assert done.returncode == 2
    for words in ("Borken", "share code 0", "nmae", 'did you mean "Broken"?', "pump.toml:"):
        assert words in done.stderr, words
    told = json.loads(andon("model", "check", str(pump), "--json").stdout)
    assert not told["ok"]
    assert len(told["problems"]) >= 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "pakml"], 'did you mean "packml"?'),
        (["show", "none.toml"], "there is no such file"),
        (["check", "none.toml"], "there is no such file"),
        (["show", "packml", "--format", "svg"], "Invalid value"),
    ],
)
def test_what_is_not_there_ends_with_2(arguments: list[str], words: str) -> None:
    done = andon("model", *arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
