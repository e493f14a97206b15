"""The command as people and scripts use it: what it says, and with which exit code it ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import GatewayProcess, free_port, gateway

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"

[api]
listen = "127.0.0.1:{api}"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:{plc}"
unit = 1
[[connections.groups]]
name = "all"
interval = "100ms"
tags = [{{ name = "state", address = "holding:0", type = "uint16" }}]

[[equipment]]
name = "m-1"
path = "area/line/m-1"
model = "packml"
state = "plc/state"
"""


def andon(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, **environment},
    )


async def later(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(andon, *arguments)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway whose only PLC is switched off."""
    api, plc = free_port(), free_port()
    config = tmp_path / "andon.toml"
    config.write_text(CONFIG.format(api=api, plc=plc), encoding="utf-8")
    async with gateway(config, api) as process:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=45) as http:
            async with asyncio.timeout(45):  # until it knows that the PLC is off
                while "refused" not in (await http.get("/api/v1/connections")).text:
                    await asyncio.sleep(0.02)
        yield process


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "simulate"),
        (["version"], 0, "andon 0."),
        (["check", "missing.toml"], 2, "there is no such file"),
        (["run", "missing.toml"], 2, "there is no such file"),
        (["no-such-verb"], 2, "No such command"),
        (["check"], 2, "Missing argument"),
        (["demo", "--for", "soon"], 2, "is not a duration"),
        (["state", "--url", "127.0.0.1:1"], 1, "no gateway answers"),
    ],
)
def test_exit_codes_and_words(arguments: list[str], code: int, words: str) -> None:
    done = andon(*arguments)

    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


async def test_a_machine_whose_plc_is_off_is_unknown_and_says_why(running: GatewayProcess) -> None:
    done = await later("state", "--config", str(running.config), "--json")

    assert done.returncode == 0, done.stderr
    state: dict[str, Any] = json.loads(done.stdout)
    assert (state["equipment"], state["state"]) == ("m-1", "Unknown")
    assert "plc" in state["reason"]
    assert "refused" in state["reason"]


async def test_the_links_are_shown_with_their_last_error(running: GatewayProcess) -> None:
    done = await later("state", "--connections", "--url", running.url)

    assert done.returncode == 0, done.stderr
    assert "plc" in done.stdout
    assert "down" in done.stdout
    assert "refused" in done.stdout


async def test_an_equipment_that_is_not_there_is_named_with_a_hint(running: GatewayProcess) -> None:
    done = await later("state", "m-2", "--url", running.url)

    assert done.returncode == 2
    assert "m-2" in done.stderr
    assert "m-1" in done.stderr


async def test_a_second_gateway_on_the_same_journal_ends_with_3(running: GatewayProcess) -> None:
    done = await later("run", str(running.config))

    assert done.returncode == 3
    assert str(running.pid) in done.stderr
    assert "Traceback" not in done.stderr


async def test_what_check_warns_of_is_logged_at_the_start(tmp_path: Path) -> None:
    api, plc = free_port(), free_port()
    config = tmp_path / "andon.toml"
    broker = '[sparkplug]\nbroker = "mqtt://10.255.255.1:1883"\ngroup = "acme"\ncommands = true\n[api]'
    text = CONFIG.format(api=api, plc=plc)
    config.write_text(text.replace("[api]", broker), encoding="utf-8")
    checked = json.loads((await later("check", str(config), "--json")).stdout)
    async with gateway(config, api) as process:
        lines = [json.loads(line) for line in process.words().splitlines()]

    told = [line for line in lines if line["message"] == "odd configuration"]
    assert checked["warnings"]
    assert [(one["key"], one["reason"], one["hint"]) for one in told] == [
        (warning["path"], warning["reason"], warning["hint"]) for warning in checked["warnings"]
    ]
    assert {one["level"] for one in told} == {"warning"}
    assert str(config.name) in told[0]["place"]


async def test_an_address_in_use_is_said_and_ends_with_1(running: GatewayProcess, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    config = other / "andon.toml"
    config.write_text(running.config.read_text(encoding="utf-8"), encoding="utf-8")

    done = await later("run", str(config))

    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


async def test_read_says_which_connection_could_not_be_read(running: GatewayProcess) -> None:
    done = await later("read", str(running.config))

    assert done.returncode == 1
    assert "plc:" in done.stderr
    assert "1 of 1 connections could not be read" in done.stderr


async def test_the_gateway_stops_on_sigterm_with_0(running: GatewayProcess) -> None:
    await running.stop()

    words = [json.loads(line)["message"] for line in running.words().splitlines()]
    assert words[-1] == "stopped"
