"""`[commands]`: off by default, and what `check` says about rules that cannot be meant."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.config.control import CommandsSettings, read_rate
from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigurationRefused

PLANT = """
[gateway]
id = "g"
enterprise = "a"
site = "b"
[api]
listen = "127.0.0.1:8420"
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:1502"
unit = 1
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  { name = "state", address = "holding:0", type = "uint16" },
  { name = "sp", address = "holding:1", type = "float32" },
  { name = "in", address = "input:4", type = "uint16" },
  { name = "lamp", address = "discrete:4" },
  { name = "on", address = "coil:1" },
  { name = "name", address = "holding:40", type = "string(8)" },
]
[[equipment]]
name = "m-1"
path = "hall/m-1"
model = "packml"
state = "plc/state"
"""
RULE = """
[commands]
enabled = true
[[commands.allow]]
equipment = "m-1"
"""
ANOTHER = '[[commands.allow]]\nequipment = "m-1"\n'
SOUND = 'tag = "plc/sp"\nmin = 0.0\nmax = 9.0\n'


def loaded(tmp_path: Path, text: str) -> Loaded:
    path = tmp_path / "andon.toml"
    path.write_text(PLANT + text)
    return load(path)


def warnings(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in loaded(tmp_path, text).warnings]


def test_without_the_section_nothing_is_ever_written(tmp_path: Path) -> None:
    commands = loaded(tmp_path, "").configuration.commands
    assert commands == CommandsSettings()
    assert not commands.enabled
    assert commands.allow == ()
    assert commands.expires == timedelta(seconds=10)


def test_a_sound_rule_warns_of_nothing(tmp_path: Path) -> None:
    assert warnings(tmp_path, RULE + SOUND + 'states = ["Idle", "Stopped"]\n') == []


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        (RULE + SOUND + 'states = ["Idl"]', "commands.allow[0].states", "never allows"),
        (RULE + SOUND + 'states = ["Idle", "Idl"]', "commands.allow[0].states", 'no state "Idl"'),
        (RULE + SOUND + 'states = ["Unknown"]', "commands.allow[0].states", "nothing is commanded"),
        (RULE + 'tag = "plc/sp"\nmax = 9.0', "commands.allow[0]", "has no min"),
        (RULE + 'tag = "plc/sp"', "commands.allow[0]", "no min and no max"),
        (RULE + 'tag = "plc/in"\nmin = 0.0\nmax = 1.0', "commands.allow[0].tag", "is input"),
        (RULE + 'tag = "plc/lamp"', "commands.allow[0].tag", "is discrete"),
        (RULE + 'tag = "plc/on"\nmax = 1.0', "commands.allow[0].max", "limits a bool"),
        (RULE + 'tag = "plc/name"\nstep = 1.0', "commands.allow[0].step", "limits a text"),
        (
            RULE + 'packml = { command = "plc/state", request = "plc/on", commands = ["Strt"] }',
            "commands.allow[0].packml.commands",
            "no PackML command",
        ),
        (
            RULE + 'packml = { command = "plc/state", request = "plc/lamp", commands = ["Start"] }',
            "commands.allow[0].packml.request",
            "is discrete",
        ),
        (
            RULE + 'packml = { command = "plc/state", request = "plc/on" }',
            "commands.allow[0].packml",
            "no command",
        ),
        ("[commands]\nenabled = true", "commands.enabled", "no rule"),
        (RULE.replace("true", "false") + SOUND, "commands", "commands are off"),
        (
            RULE + SOUND + '[[commands.allow]]\nequipment = "m-1"\n' + SOUND,
            "commands.allow[1]",
            "allows what",
        ),
    ],
)
def test_check_warns_of_rules_that_cannot_be_meant(tmp_path: Path, text: str, path: str, part: str) -> None:
    found = warnings(tmp_path, text)
    assert any(place == path and part in reason for place, reason in found), found


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        (RULE + 'tag = "plc/spe"', "commands.allow[0].tag", "there is no tag"),
        (
            RULE + SOUND + 'readback = { tag = "plc/els" }',
            "commands.allow[0].readback.tag",
            "there is no tag",
        ),
        (RULE.replace("m-1", "m-2") + SOUND, "commands.allow[0].equipment", "there is no equipment"),
        (RULE, "commands.allow[0]", "neither a tag nor packml"),
        (RULE + 'tag = "plc/sp"\nmin = 2.0\nmax = 1.0', "commands.allow[0]", "min above its max"),
        (RULE + SOUND + 'rate = "6"', "commands.allow[0].rate", "is no rate"),
        (RULE + SOUND + 'rate = "0/1m"', "commands.allow[0].rate", "is no rate"),
        (RULE + SOUND + 'roles = ["viewer"]', "commands.allow[0].roles", "may never command"),
        (RULE + SOUND + "roles = []", "commands.allow[0].roles", ""),
        (RULE + SOUND + 'via = ["telnet"]', "commands.allow[0].via[0]", "is not one of"),
        (RULE + SOUND + "step = 0.0", "commands.allow[0].step", "greater than 0"),
        (RULE + 'tag = "plc/sp"\nmin = nan\nmax = 9.0', "commands.allow[0].min", "finite"),
        (RULE + 'tag = "plc/sp"\nmin = 0.0\nmax = inf', "commands.allow[0].max", "finite"),
        (RULE + SOUND + "step = nan", "commands.allow[0].step", ""),
        (RULE + SOUND + "readback = { tolerance = inf }", "commands.allow[0].readback.tolerance", "finite"),
        (
            RULE + SOUND + 'readback = { settle = "3s" }',
            "commands.allow[0].readback",
            "as long as its within",
        ),
        (RULE + SOUND + "forse = true", "commands.allow[0].forse", "unknown key"),
        ('[commands]\nkeep = "1s"', "commands.keep", "must be from"),
        ('[commands]\nexpires = "2h"', "commands.expires", "must be from"),
        (
            RULE + 'max = 3.0\npackml = { command = "plc/state", request = "plc/on", commands = ["Start"] }',
            "commands.allow[0]",
            "commands by name do not have",
        ),
    ],
)
def test_what_leads_nowhere_refuses_the_file(tmp_path: Path, text: str, path: str, part: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        loaded(tmp_path, text)
    found = [(one.path, one.reason, one.line) for one in refused.value.problems]
    assert any(place == path and part in reason for place, reason, _ in found), found
    assert all(line is not None for _, _, line in found)


def test_a_rate_is_so_many_in_a_time() -> None:
    assert read_rate("6/1m") == (6, 60.0)
    assert read_rate(" 60 / 1h ") == (60, 3600.0)
    for wrong in ("", "6", "/1m", "6/0s", "6/2d", "-1/1m", "1.5/1m", "6/m"):
        with pytest.raises(ValueError, match=r"rate|duration|unit"):
            read_rate(wrong)
