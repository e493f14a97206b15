"""Every example on the pages works: what a reader copies is loaded here as the gateway would load it.

The word after `toml` in a fence is the file's name; `toml refused NAME` is wrong on purpose, and a
`text check NAME` block is what the command says about it. An example that shows a part of a file is
completed with stand-ins for the rest: a gateway, the tags it refers to, the files and variables it names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import Loaded, load, read_toml
from gateway.config.problems import Problem
from gateway.config.schema import Configuration
from statemodel.definition import read_model
from tests.docs.pages import DOCS, Block, blocks, pages

GATEWAY = '\n[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n'
TAGS_CSV = "name,address,type\nstate,holding:100,uint16\n"

ALL = [block for page in pages() for block in blocks(page)]
SHOWN = [block for block in ALL if block.info.split()[:1] == ["toml"]]
FILES = {block.info.split()[-1]: block.text for block in ALL if " " in block.info}


def is_model(data: Mapping[str, Any]) -> bool:
    """Whether a TOML file is a state model and no configuration."""
    return "states" in data or "extends" in data or "rules" in data


def is_configuration(data: Mapping[str, Any]) -> bool:
    """Whether a TOML file is a configuration or a part of one."""
    return bool(data.keys() & set(Configuration.model_fields))


WHOLE = [block for block in SHOWN if not block.info.startswith("toml refused")]
CONFIGURATIONS = [block for block in WHOLE if is_configuration(tomllib.loads(block.text))]
MODELS = [block for block in WHOLE if is_model(tomllib.loads(block.text))]


def complete(text: str, directory: Path) -> tuple[Path, dict[str, str]]:
    """The example as a whole file with everything it refers to, and the variables it needs.

    Model files and tag lists are those the pages show under that name.
    """
    data = tomllib.loads(text)
    if "gateway" not in data:
        text += GATEWAY
    known = {
        f"{connection['name']}/{tag['name']}"
        for connection in data.get("connections", [])
        for group in connection.get("groups", [])
        for tag in group.get("tags", [])
    }
    listed = {
        connection["name"]: group["tags_csv"]
        for connection in data.get("connections", [])
        for group in connection.get("groups", [])
        if "tags_csv" in group
    }
    for name in listed.values():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(FILES.get(name, TAGS_CSV), encoding="utf-8")
    missing: dict[str, list[str]] = {}
    equipment = data.get("equipment", [])
    if added := stand_ins(data):
        text += added
        equipment = [*equipment, {"model": "packml", "state": "stand-in/state"}]
    for rule in data.get("commands", {}).get("allow", []):
        packml = rule.get("packml", {})
        named = (
            rule,
            rule.get("readback", {}),
            {"tag": packml.get("command")},
            {"tag": packml.get("request")},
        )
        equipment = [*equipment, {"model": "packml", "tags": [one["tag"] for one in named if one.get("tag")]}]
    for item in equipment:
        model = item["model"]
        if model.endswith(".toml"):
            (directory / model).parent.mkdir(parents=True, exist_ok=True)
            (directory / model).write_text(FILES[model], encoding="utf-8")
        state = item.get("state", [])
        states = [state] if isinstance(state, str) else state
        modes = [item["mode"]] if "mode" in item else []
        shown = [*item.get("counters", {}).values(), *item.get("tags", [])]
        for tag in [*states, *modes, *item.get("bind", {}).values(), *shown]:
            connection, _, name = tag.partition("/")
            if tag not in known and connection not in listed:
                known.add(tag)
                missing.setdefault(connection, []).append(name)
    for connection, names in missing.items():
        tags = ", ".join(
            f'{{ name = "{name}", address = "holding:{at}", type = "uint16" }}'
            for at, name in enumerate(names)
        )
        text += f'\n[[connections]]\nname = "{connection}"\nprotocol = "modbus"\nendpoint = "tcp://127.0.0.1:502"\n'
        text += f'[[connections.groups]]\nname = "all"\ninterval = "1s"\ntags = [{tags}]\n'
    for name in re.findall(r'"file:([^"]+)"', text):
        (directory / "secret").write_text("secret\n", encoding="utf-8")
        text = text.replace(f"file:{name}", "file:secret")
    path = directory / "example.toml"
    path.write_text(text, encoding="utf-8")
    return path, dict.fromkeys(re.findall(r'"env:([^"]+)"', text), "postgresql://andon@db/andon")


def stand_ins(data: Mapping[str, Any]) -> str:
    """Equipment that rules for commands name, where the example does not show it."""
    shown = {item["name"] for item in data.get("equipment", [])}
    rules = data.get("commands", {}).get("allow", [])
    missing = dict.fromkeys(rule["equipment"] for rule in rules if rule["equipment"] not in shown)
    return "".join(
        f'\n[[equipment]]\nname = "{name}"\npath = "a/{name}"\nmodel = "packml"\nstate = "stand-in/state"\n'
        for name in missing
    )


def loaded(block: Block, directory: Path) -> Loaded:
    """The example as the gateway reads it."""
    path, environment = complete(block.text, directory)
    return load(path, environment=environment)


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_a_configuration_is_accepted(block: Block, tmp_path: Path) -> None:
    result = loaded(block, tmp_path)

    data = tomllib.loads(block.text)
    shown = {connection["name"] for connection in data.get("connections", [])}
    assert shown <= {connection.name for connection in result.configuration.connections}
    named = [item["name"] for item in data.get("equipment", [])]
    assert named == [item.name for item in result.equipment][: len(named)]


@pytest.mark.parametrize("block", MODELS, ids=str)
def test_a_model_is_accepted(block: Block) -> None:
    model, problems = read_model(tomllib.loads(block.text))

    assert problems == ()
    assert model is not None


def test_every_toml_block_is_one_or_the_other() -> None:
    assert SHOWN
    for block in WHOLE:
        data = tomllib.loads(block.text)
        assert is_model(data) != is_configuration(data), f"{block} is neither a configuration nor a model"


REFUSED = {
    block.info.split()[-1]: (wrong, block)
    for block in ALL
    if block.info.startswith("text check ")
    for wrong in ALL
    if wrong.info == f"toml refused {block.info.split()[-1]}" and wrong.page == block.page
}


def test_every_refused_example_shows_what_is_said() -> None:
    models = {block.info.split()[-1] for block in ALL if block.info.startswith("text problems ")}
    assert {block.info.split()[-1] for block in SHOWN if block not in WHOLE} == {*REFUSED, *models}


@pytest.mark.parametrize("name", REFUSED)
def test_what_check_says_is_what_the_page_shows(name: str, tmp_path: Path) -> None:
    wrong, said = REFUSED[name]
    (tmp_path / name).write_text(wrong.text, encoding="utf-8")
    for block in blocks(wrong.page):
        kind, _, file = block.info.partition(" ")
        if kind in ("csv", "toml") and file and " " not in file:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "gateway", "check", name]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent), "COLUMNS": "200"}

    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )

    assert done.stderr.splitlines() == said.text.splitlines()
    assert done.returncode == 2


def test_tag_lists_have_only_columns_that_are_settings(tmp_path: Path) -> None:
    """A column whose cells are all empty is not looked at when it is loaded, so it is looked at here."""
    from connectors.modbus.tags import ModbusTag
    from connectors.opcua.config import OpcuaTag

    lists = [block for block in ALL if block.info.split()[:1] == ["csv"]]
    assert lists
    for block in lists:
        columns = set(block.text.splitlines()[0].split(","))
        assert columns <= set(ModbusTag.model_fields) or columns <= set(OpcuaTag.model_fields), str(block)


def test_json_blocks_are_json_where_they_are_whole() -> None:
    for block in ALL:
        if block.info == "json" and "…" not in block.text:
            json.loads(block.text)


def test_refused_examples_are_refused_for_what_they_show(tmp_path: Path) -> None:
    """A file that is no TOML at all would be refused for the wrong reason."""
    for name, (wrong, _) in REFUSED.items():
        (tmp_path / name).write_text(wrong.text, encoding="utf-8")
        assert not isinstance(read_toml(tmp_path / name), Problem)
