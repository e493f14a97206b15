"""What the README shows is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from statemodel.builtin import BUILTIN
from tests.statemodel.support import model_of

_FOLDER = Path(__file__).resolve().parents[2] / "statemodel"
_README = (_FOLDER / "README.md").read_text()


def test_every_built_in_model_is_named_with_its_number_of_transitions() -> None:
    section = _README.partition("## Built-in models")[2]
    for name in BUILTIN:
        assert f"`{name}`" in section
    assert f"`packml` (2022, {len(BUILTIN['packml'].edges)} transitions)" in section
    assert f"`packml-2015` ({len(BUILTIN['packml-2015'].edges)})" in section
    assert f"`isa95` (job orders, {len(BUILTIN['isa95'].edges)} transitions)" in section


def test_the_sample_model_is_sound() -> None:
    (sample,) = re.findall(r"```toml\n(.*?)```", _README, re.DOTALL)
    model = model_of(tomllib.loads(sample))
    assert model.by_value[40] == "Execute"
    assert "Suspended" in model.disabled


def test_every_file_has_its_line() -> None:
    named = set(re.findall(r"`(\w+\.py)`", _README))
    assert named == {path.name for path in _FOLDER.glob("*.py")} - {"__init__.py"}
