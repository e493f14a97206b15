"""The tutorial, done: its files as written, against the simulated plant, with its commands and addresses."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from gateway.cli import app
from simulators.control import parse_line
from simulators.maps import PORTS
from simulators.orders import Fault
from tests.docs.pages import DOCS, blocks
from tests.support.processes import free_port, gateway, plant

PAGE = DOCS / "tutorial.md"
BLOCKS = list(blocks(PAGE))
LINES = [
    line.removeprefix("$ ")
    for block in BLOCKS
    if block.info == "console"
    for line in block.text.splitlines()
    if line.startswith("$ ")
]
API = "http://127.0.0.1:8420"


def site(directory: Path, servers: dict[str, str], port: int) -> Path:
    """The reader's folder after step 4, with the ports of this run."""
    parts = [block.text for block in BLOCKS if block.info == "toml"]
    text = "\n".join(part for part in parts if "embedded" not in part).replace(":8420", f":{port}")
    for name, standard in PORTS.items():
        text = text.replace(f":{standard}", ":" + servers[name].rpartition(":")[2])
    path = directory / "andon.toml"
    path.write_text(text, encoding="utf-8")
    for block in BLOCKS:
        if block.info.startswith("toml models/"):
            model = directory / block.info.split()[1]
            model.parent.mkdir(exist_ok=True)
            model.write_text(block.text, encoding="utf-8")
    return path


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("andon ")])
def test_a_command_is_one(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    command: Any = group.commands[name]  # type: ignore[attr-defined]
    if name == "simulate":
        assert not arguments
        return

    context = command.make_context(name, list(arguments))

    assert not context.args


def test_the_simulator_takes_the_order() -> None:
    [text] = [block.text for block in BLOCKS if block.info == "json"]

    order = parse_line(text)

    assert isinstance(order, Fault)
    assert order.kind == "drop"


def test_the_ports_are_those_of_the_simulator() -> None:
    said = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", PAGE.read_text(encoding="utf-8"))}

    assert said - {8420} == set(PORTS.values())


async def test_following_it_gives_what_it_says(tmp_path: Path) -> None:
    async with plant(tmp_path, "demo") as machines:
        port = free_port()
        config = site(tmp_path, dict(machines.servers), port)
        await machines.order(go=True)

        checked = json.loads(await andon("check", str(config), "--json"))
        assert (checked["connections"], checked["tags"], checked["equipment"]) == (2, 5, 2)

        read = await andon("read", str(config), "--json")
        samples = {sample["tag"]: sample for sample in map(json.loads, read.splitlines())}
        assert len(samples) == 5
        assert {sample["quality"] for sample in samples.values()} == {"good"}
        assert 15 < samples["oven-plc/temp"]["value"] < 300

        async with gateway(config, port) as running, httpx.AsyncClient(trust_env=False, timeout=45) as http:

            async def oven_until(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
                async with asyncio.timeout(45):
                    while True:
                        answer = await http.get(f"{running.url}/api/v1/equipment/oven-1/state")
                        state: dict[str, Any] = answer.json()
                        if wanted(state):
                            return state
                        await asyncio.sleep(0.02)

            await oven_until(lambda state: state["state"] != "Unknown")
            for url in addresses():
                if "events" not in url:
                    assert (await http.get(url.replace(API, running.url))).status_code == 200, url
            assert (await http.get(f"{running.url}/docs")).status_code == 200

            await machines.order(fault="drop", server="modbus-b")
            lost = await oven_until(lambda state: state["state"] == "Unknown")
            assert lost["reason"].startswith("oven-plc lost: ")
            await machines.order(clear="modbus-b")
            await oven_until(lambda state: state["state"] != "Unknown")


def addresses() -> Iterator[str]:
    """The addresses the reader is told to ask."""
    for line in LINES:
        if line.startswith("curl "):
            yield shlex.split(line)[-1]


async def andon(*arguments: str) -> str:
    """What a command writes."""
    command = [sys.executable, "-m", "gateway", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=DOCS.parent, capture_output=True, text=True, timeout=110, check=True
    )
    return done.stdout
