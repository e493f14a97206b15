"""`andon browse` as people use it, and its lists as a configuration takes them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from connectors.browsing import Found, Offer, Query, Remark
from gateway.commands.browse import BrowseFailed, BrowseRefused, browse_device, connection_options
from gateway.commands.browsed import CsvWriter, JsonWriter, Source, TomlWriter, TreeWriter, Writer, plain
from gateway.config.load import load
from tests.support.processes import free_port

HEAD = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"
"""
SOURCE = Source(
    "plc",
    "opcua",
    "opc.tcp://10.0.0.5:4840",
    "node",
    {"security": {"policy": "None", "mode": "None"}},
)

STATE = Found("nsu=urn:p;s=F.StateCurrent", ("Hall", "Filler", "StateCurrent"), type="Int32")
FINDINGS = (
    Found("nsu=urn:p;s=Hall", ("Hall",), "folder", readable=False),
    Found("nsu=urn:p;s=F", ("Hall", "Filler"), "object", readable=False),
    STATE,
    Found(
        "nsu=urn:p;s=F.Temp",
        ("Hall", "Filler", 'Temp "a"'),
        type="Double",
        value=21.5,
        unit="°C",
        low=-10.0,
        high=120.5,
        writable=True,
        description="how warm\nit is \x1b[31m",
    ),
    Found("nsu=urn:p;s=P", ("Hall", "Pump"), type="structure Pump", problem="a structure"),
    Found(
        "nsu=urn:p;s=P",
        ("Hall", "Pump", "speed"),
        type="Double",
        name="Pump.speed",
        settings=(("field", "speed"),),
    ),
    Found("nsu=urn:p;s=Row", ("Hall", "Row"), type="Int32[]", quality="bad (no_communication)"),
    Found("nsu=urn:p;s=Row2", ("Hall", "Row"), type="Int32[]"),
    Found("nsu=urn:p;s=Go", ("Hall", "Go"), "method", readable=False),
    Offer("Filler", "packml", (STATE,), None, (), "a StateCurrent\nas in the list"),
    Remark("there is more\n[[connections]]"),
)


def written(writer: Writer, capsys: pytest.CaptureFixture[str]) -> str:
    for finding in FINDINGS:
        writer.take(finding)
    writer.end()
    return capsys.readouterr().out


def test_toml_is_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(TomlWriter(SOURCE), capsys)
    path = tmp_path / "andon.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    (connection,) = load(path).configuration.connections
    tags: dict[str, Any] = {tag.name: tag for tag in connection.tags()}
    assert set(tags) == {"StateCurrent", "Temp-a", "Pump.speed", "Row", "Hall.Row"}
    assert (tags["Temp-a"].unit, tags["Temp-a"].range) == ("°C", (-10.0, 120.5))
    assert tags["Pump.speed"].field == "speed"
    (equipment,) = load(path).configuration.equipment
    assert (equipment.model, equipment.state) == ("packml", "plc/StateCurrent")
    assert "# Hall/Pump: a structure" in text
    assert "\x1b" not in text


def test_csv_is_a_tag_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(CsvWriter(SOURCE), capsys)
    (tmp_path / "tags.csv").write_text(text, encoding="utf-8")
    groups = [
        '[[connections]]\nname = "plc"\nprotocol = "opcua"\nendpoint = "opc.tcp://127.0.0.1"',
        '[[connections.groups]]\nname = "g"\ninterval = "1s"\ntags_csv = "tags.csv"\n',
    ]
    path = tmp_path / "andon.toml"
    path.write_text(HEAD + "\n".join(groups), encoding="utf-8")
    tags: dict[str, Any] = {tag.name: tag for tag in load(path).configuration.connections[0].tags()}
    assert set(tags) == {"StateCurrent", "Temp-a", "Pump.speed", "Row", "Hall.Row"}
    assert tags["Temp-a"].range == (-10.0, 120.5)
    assert tags["Pump.speed"].field == "speed"
    header = next(csv.reader(io.StringIO(text)))
    assert header[:2] == ["name", "node"]


def test_json_is_one_finding_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in written(JsonWriter(), capsys).splitlines()]
    assert [line["finding"] for line in lines] == ["found"] * 9 + ["offer", "remark"]
    assert lines[5]["settings"] == {"field": "speed"}


def test_the_tree_shows_what_people_look_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = written(TreeWriter(SOURCE), capsys)
    lines = text.splitlines()
    assert lines[0].startswith("Hall")
    assert any(line.startswith("    StateCurrent  Int32  r  nsu=urn:p;s=F.StateCurrent") for line in lines)
    assert any("= 21.5 °C  -10..120.5  rw" in line and "how warm it is ·[31m" in line for line in lines)
    assert any("bad (no_communication)" in line for line in lines)
    assert '{ name = "StateCurrent", node = "nsu=urn:p;s=F.StateCurrent" },' in text
    assert 'state = "plc/StateCurrent"' in text
    assert "\x1b" not in text


def test_missing_levels_are_shown_around_what_was_filtered(capsys: pytest.CaptureFixture[str]) -> None:
    writer = TreeWriter(SOURCE)
    for path in (("Hall", "Filler", "Speed"), ("Hall", "Filler", "Temp"), ("Yard", "Level")):
        writer.take(Found("i=1", path))
    lines = [line.split("  r")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Hall", "  Filler", "    Speed", "    Temp", "Yard", "  Level"]


def test_texts_of_devices_stay_on_their_line() -> None:
    assert plain("a\nb\x1b[31mc\u2028d") == "a b·[31mc d"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ftp://10.0.0.5", None), 'no protocol speaks to "ftp://"'),
        (("opc.tcp://10.0.0.5:4840", "plc"), "one word too many"),
        (("opc.tcp://u:p@10.0.0.5:4840", None), "does not belong in the address"),
    ],
)
def test_arguments_that_name_nothing_are_refused(arguments: tuple[str, str | None], words: str) -> None:
    with pytest.raises(BrowseRefused, match=words) as refused:
        browse_device(*arguments, Query(), "tree", options={})
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "assignments", "words"),
    [
        (connection_options(None, "me", "geheim"), (), "written in the clear"),
        (connection_options("Basic999", None, None), (), "security"),
        ({}, ("colour",), "is no setting"),
        ({}, ("colour=3",), "colour"),
    ],
)
def test_settings_are_judged_as_in_a_configuration(
    options: dict[str, Any], assignments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BrowseRefused, match=words) as refused:
        browse_device(
            "opc.tcp://127.0.0.1:4840", None, Query(), "tree", options=options, assignments=assignments
        )
    assert "geheim" not in str(refused.value)


def test_options_of_security() -> None:
    assert connection_options("None", None, None) == {"security": {"policy": "None", "mode": "None"}}
    assert connection_options("Basic256Sha256/Sign", None, None) == {
        "security": {"policy": "Basic256Sha256", "mode": "Sign"}
    }
    assert connection_options(None, None, None) == {}


def test_a_configuration_names_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(HEAD, encoding="utf-8")
    with pytest.raises(BrowseRefused, match="has to be named"):
        browse_device(str(path), None, Query(), "tree", options={})
    with pytest.raises(BrowseRefused, match="as it is configured"):
        browse_device(str(path), "plc", Query(), "tree", options={"user": "me"})


def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}"
    with pytest.raises(BrowseFailed, match="nothing listens there") as failed:
        browse_device(
            endpoint, None, Query(), "tree", options=connection_options("None", None, None), data_dir=tmp_path
        )
    assert failed.value.exit_code == 1
