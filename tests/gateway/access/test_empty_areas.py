"""An area in which no equipment lies is taken, and said: most often it is a slip."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.access.remote import Remote
from gateway.cli import app
from tests.gateway.access.house import GOOD

_CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [{ name = "state", address = "holding:0", type = "uint16" }]
[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "plc/state"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(_CONFIG)
    return path


def _said(config: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--config", str(config)], input=GOOD)
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split())


def test_a_slip_is_said_and_the_user_or_key_is_there(config: Path) -> None:
    add = ("user", "add", "ada", "--role", "viewer", "--password-stdin")
    told = _said(config, *add, "--area", "filing", "--area", "filling/line-1")
    assert told.count("warning") == 1
    assert 'no equipment lies in the area "filing"' in told
    assert '"filling"' in told
    assert "warning" in _said(config, "key", "add", "mes", "--role", "viewer", "--area", "fill")
    assert "warning" in _said(config, "user", "change", "ada", "--area", "filling/line-2")
    assert "ada" in CliRunner().invoke(app, ["user", "list", "--config", str(config)]).stdout


def test_what_is_right_or_cannot_be_told_is_taken_without_a_word(config: Path) -> None:
    area = ("--area", "filling", "--area", "filling/line-1/filler-1")
    assert "warning" not in _said(config, "key", "add", "mes", "--role", "viewer", *area)
    assert "warning" not in _said(config, "key", "add", "all", "--role", "viewer")
    config.write_text(_CONFIG.replace('model = "packml"', 'model = "gone"'))
    assert "warning" not in _said(config, "key", "add", "odd", "--role", "viewer", "--area", "filing")


def test_a_gateway_is_asked_for_all_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "/equipment": {"items": [{"path": "a/b"}], "next": "x&y"},
        "/equipment?after=x%26y": {"items": [{"path": "c"}], "next": None},
    }
    monkeypatch.setattr(Remote, "_asked", lambda _, __, path: pages[path])
    with Remote("http://127.0.0.1:1") as remote:
        assert remote.places() == ["a/b", "c"]
