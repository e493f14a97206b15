"""Commands that read what a gateway left need no secret of a link or a database they do not go to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused
from tests.gateway.journal.builders import batch, opened, transition

CONFIG = """
[gateway]
id = "line-1"
enterprise = "e"
site = "s"
[historian]
dsn = "env:ANDON_NOT_THERE"
[mqtt]
broker = "mqtt://127.0.0.1:1883"
user = "andon"
password = "file:not-there"
[[connections]]
name = "plc"
protocol = "opcua"
endpoint = "opc.tcp://127.0.0.1:4840"
security = { policy = "None", mode = "None", allow_plain_password = true }
user = "andon"
password = "env:ANDON_NOT_THERE_EITHER"
[[connections.groups]]
name = "fast"
interval = "250ms"
tags = [{ name = "tag-0", node = "nsu=urn:plant;s=Filler.StateCurrent" }]
[[equipment]]
name = "filler-1"
path = "area/line/filler-1"
model = "packml"
state = "plc/tag-0"
"""


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    async with opened(tmp_path / "data" / "journal", keep=timedelta(days=1)) as journal:
        for n in range(1, 4):
            await journal.append([transition(n)], [batch(n)])
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("journal", "status", "CONFIG"),
        ("journal", "verify", "CONFIG"),
        ("snapshot", "list", "CONFIG"),
        ("snapshot", "verify", "CONFIG"),
        ("history", "filler-1", "--samples", "--config", "CONFIG"),
        ("replay", "CONFIG"),
    ],
    ids=" ".join,
)
def test_reading_what_was_left_needs_no_secret(config: Path, command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(app, [str(config) if word == "CONFIG" else word for word in command])
    assert (told.exit_code, told.exception) == (0, None)


@pytest.mark.parametrize("command", [("replay", "CONFIG", "--from-database"), ("check", "CONFIG")])
def test_a_secret_that_is_needed_is_asked_for(config: Path, command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(app, [str(config) if word == "CONFIG" else word for word in command])
    assert isinstance(told.exception, ConfigurationRefused)
    assert told.exception.exit_code == 2
    assert "ANDON_NOT_THERE is not set" in str(told.exception.problems)


def test_what_is_left_stays_a_reference_and_a_broken_place_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    loaded = load(path, environment={"ANDON_NOT_THERE_EITHER": "s3cret"}, secrets_of=())
    historian, (mqtt,) = loaded.configuration.historian, loaded.configuration.mqtt
    assert historian is not None
    assert (historian.dsn, mqtt.password) == ("env:ANDON_NOT_THERE", "file:not-there")
    path.write_text(CONFIG.replace("[mqtt]", "[mqtt]\nkeep_alive = 'env:ANDON_NO_TIME'"))
    with pytest.raises(ConfigurationRefused) as refused:
        load(path, environment={}, secrets_of=())
    assert [problem.reason for problem in refused.value.problems] == [
        "the environment variable ANDON_NO_TIME is not set"
    ]
    path.write_text(CONFIG.replace('"file:not-there"', '"in the clear"'))
    with pytest.raises(ConfigurationRefused) as refused:
        load(path, environment={}, secrets_of=())
    assert [problem.reason for problem in refused.value.problems] == ["is a secret written in the clear"]
