"""`andon check --strict`: a warning ends it as a problem does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app

_CLEAN = """
[gateway]
id = "line-1"
enterprise = "e"
site = "s"
[api]
listen = "127.0.0.1:0"
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
_ODD = '[sparkplug]\nbroker = "mqtt://10.255.255.1:1883"\ngroup = "acme"\ncommands = true\n[api]'


@pytest.mark.parametrize(
    ("odd", "options", "code"),
    [(False, (), 0), (False, ("--strict",), 0), (True, (), 0), (True, ("--strict",), 2)],
)
def test_only_warnings_and_only_when_wanted(
    odd: bool, options: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(_CLEAN.replace("[api]", _ODD) if odd else _CLEAN)
    told = CliRunner().invoke(app, ["check", str(path), *options, "--json"])
    answer = json.loads(told.stdout)
    assert bool(answer["warnings"]) is odd
    assert (told.exit_code, answer["ok"]) == (code, code == 0)
    plain = CliRunner().invoke(app, ["check", str(path), *options])
    assert plain.exit_code == code
    assert ("fine" in plain.stdout) is (code == 0)
    assert ("warning:" in plain.stdout) is odd
