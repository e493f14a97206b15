"""`andon topics` and `andon schema`: the tree before it runs, and the form of what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.schema import NoSchema
from gateway.config.problems import ConfigurationRefused
from gateway.publish.schemas import NAMES, schema

CONFIG = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"

[[mqtt]]
name = "plant"
broker = "mqtt://h:1"
password = "env:ANDON_NOT_THERE"
[mqtt.topics.state]
topic = "{site}/{equipment}"
qos = 2
expiry = "1h"

[[mqtt]]
name = "cloud"
broker = "env:ANDON_NOT_THERE"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://10.0.0.6"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [{ name = "a", address = "holding:1", type = "uint16" }]

[[equipment]]
name = "filler-1"
path = "filling/filler-1"
model = "packml"
state = "plc/a"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    return path


def test_the_topics_of_each_broker(config: Path) -> None:
    told = CliRunner().invoke(app, ["topics", str(config)])
    assert told.exit_code == 0
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["mqtt-plant"] in lines
    assert ["berlin/filler-1", "state", "2", "yes", "1h", "filler-1"] in lines
    assert ["acme/berlin/filling/filler-1/_state", "state", "1", "yes", "-", "filler-1"] in lines
    assert ["andon/line-1/_event/source_lost", "event", "source_lost", "1", "no", "-", "plc"] in lines


def test_the_topics_for_programs(config: Path) -> None:
    told = CliRunner().invoke(app, ["topics", str(config), "--json"])
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert {line["broker"] for line in lines} == {"mqtt-plant", "mqtt-cloud"}
    (state,) = [line for line in lines if (line["broker"], line["kind"]) == ("mqtt-plant", "state")]
    assert state == {
        "broker": "mqtt-plant",
        "topic": "berlin/filler-1",
        "kind": "state",
        "type": None,
        "about": "filler-1",
        "qos": 2,
        "retain": True,
        "expiry_s": 3600,
    }
    assert {line["type"] for line in lines if line["kind"] == "event"} == {*NAMES} - {"state", "tag"}


def test_without_a_broker_there_are_no_topics(config: Path) -> None:
    config.write_text(
        CONFIG.partition("[[mqtt]]")[0] + "[[connections]]" + CONFIG.partition("[[connections]]")[2]
    )
    told = CliRunner().invoke(app, ["topics", str(config)])
    assert (told.exit_code, "no [mqtt]" in told.stdout) == (0, True)


def test_an_edge_node_has_topics_too(config: Path) -> None:
    before, _, after = CONFIG.partition("[[mqtt]]")
    node = '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "acme"\n[[connections]]'
    config.write_text(before + node + after.partition("[[connections]]")[2])
    told = CliRunner().invoke(app, ["topics", str(config)])
    assert told.exit_code == 0
    assert "no topics" not in told.stdout
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["spBv1.0/acme/NBIRTH/line-1", "NBIRTH", "0", "no", "-"] in lines
    assert ["spBv1.0/acme/NDEATH/line-1", "NDEATH", "1", "no", "-"] in lines
    assert ["spBv1.0/acme/DDATA/line-1/filler-1", "DDATA", "0", "no", "-", "filler-1"] in lines
    told = CliRunner().invoke(app, ["topics", str(config), "--json"])
    told_ = [json.loads(line) for line in told.stdout.splitlines()]
    assert {(line["broker"], line["kind"]) for line in told_} == {
        ("sparkplug", kind) for kind in ("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH")
    }


def test_templates_that_will_not_do_are_refused(config: Path) -> None:
    config.write_text(CONFIG.replace("{equipment}", "{level9}"))
    told = CliRunner().invoke(app, ["topics", str(config)])
    assert isinstance(told.exception, ConfigurationRefused)
    (problem,) = told.exception.problems
    assert (problem.line, problem.path) == (12, "mqtt[0].topics.state.topic")


def test_schemas_are_listed_and_printed() -> None:
    listed = CliRunner().invoke(app, ["schema"]).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == list(NAMES)
    assert CliRunner().invoke(app, ["schema", "transition"]).stdout == schema("transition")
    told = CliRunner().invoke(app, ["schema", "transition", "--json"]).stdout
    assert (told.count("\n"), json.loads(told)) == (1, json.loads(schema("transition")))
    names = [
        json.loads(line)["name"] for line in CliRunner().invoke(app, ["schema", "--json"]).stdout.splitlines()
    ]
    assert names == list(NAMES)


def test_a_schema_that_there_is_not() -> None:
    told = CliRunner().invoke(app, ["schema", "transitions"])
    assert isinstance(told.exception, NoSchema)
    assert (told.exception.exit_code, told.exception.hint) == (2, 'did you mean "transition"?')
