"""A whole gateway killed and started again: what its snapshots give people, and what they must not invent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import GatewayProcess, free_port, gateway
from tests.support.small_plc import SmallPlc, small_plcs

PATIENCE_S = 60.0
pytestmark = pytest.mark.timeout(400)
CONFIG = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
[gateway.journal]
heartbeat = "100ms"
[gateway.snapshots]
every = "1s"

[api]
listen = "127.0.0.1:{port}"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:{plc}"
timeout = "30s"
[[connections.groups]]
name = "all"
interval = "50ms"
tags = [
  {{ name = "temp", address = "holding:0", type = "uint16" }},
  {{ name = "door", address = "holding:1", type = "uint16" }},
]

[[equipment]]
name = "oven"
path = "area/oven"
model = "oven.toml"
bind = {{ temp = "plc/temp", door = "plc/door" }}
"""
MODEL = """
name = "oven"
initial = "Cold"
states = [{ name = "Cold" }, { name = "Hot" }, { name = "Open" }]
transitions = [{ from = "*", to = "*" }]
rules = [
  { state = "Open", when = "door == 1", for = "{dwell}" },
  { state = "Hot", when = "temp >= 180" },
  { state = "Cold", when = "True" },
]
"""


class Site:
    """A gateway, its PLC and its folder."""

    def __init__(self, folder: Path, plc: SmallPlc) -> None:
        self.folder, self.plc, self.port = folder, plc, free_port()
        self.config = folder / "andon.toml"
        self.config.write_text(CONFIG.format(port=self.port, plc=plc.port), encoding="utf-8")
        self.model("2s")

    def model(self, dwell: str) -> None:
        (self.folder / "oven.toml").write_text(MODEL.replace("{dwell}", dwell), encoding="utf-8")

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}/api/v1", trust_env=False
        ) as http:
            return (await http.get(path)).json()

    async def until_state(self, state: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.get("/equipment/oven/state"))["state"] != state:
                await asyncio.sleep(0.02)

    async def until_recorded(self, tag: str, value: int) -> None:
        """Return when a reading is durable: it counts in the books of the journal."""
        async with asyncio.timeout(PATIENCE_S):
            while ((await self.get(f"/tags/{tag}"))["latest"] or {}).get("value") != value:
                await asyncio.sleep(0.02)
            while (await self.get("/accounts"))["flow"]["in_hand"]:
                await asyncio.sleep(0.02)

    async def transitions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/equipment/oven/transitions?limit=100"))["items"]
        return found

    def snapshots(self) -> list[dict[str, Any]]:
        return [item["header"] for item in self.run("snapshot", "list", "andon.toml", "--json")]

    def run(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.05)


async def start_again(process: GatewayProcess) -> None:
    await process.kill()
    await process.start()


async def test_an_outage_after_a_kill_is_told_with_what_was_last_read(tmp_path: Path) -> None:
    async with small_plcs(1) as [plc]:
        site = Site(tmp_path, plc)
        plc.registers[0] = 200
        async with gateway(site.config, site.port) as process:
            await site.until_state("Hot")
            await eventually(lambda: any(h["seq"] >= 2 for h in site.snapshots()))
            plc.registers[0] = 190  # comes after the snapshot, so only the tail has it
            await site.until_recorded("plc/temp", 190)
            await start_again(process)
            await site.until_state("Hot")
            [outage] = [t for t in await site.transitions() if t["to_state"] == "Unknown"]
            assert "not running" in outage["cause"]["text"]
            inputs = {i["tag"]: (i["value"], i["quality"]) for i in outage["cause"]["inputs"]}
            assert inputs == {"plc/temp": (190, "bad"), "plc/door": (0, "bad")}
            sequences = [t["sequence"] for t in await site.transitions()]
            assert sequences == list(range(1, len(sequences) + 1))
            assert "go on from a snapshot" in process.words()


async def test_a_changed_configuration_leaves_a_snapshot_of_what_was(tmp_path: Path) -> None:
    async with small_plcs(1) as [plc]:
        site = Site(tmp_path, plc)
        async with gateway(site.config, site.port) as process:
            await site.until_state("Cold")
            await process.stop()
            [before] = [h for h in site.snapshots() if h["reason"] == "stop"]
            site.model("3s")
            await process.start()
            await site.until_state("Cold")
            kept = [h for h in site.snapshots() if h["reason"] == "configuration"]
            assert [h["configuration"] for h in kept] == [before["configuration"]]
            assert kept[0]["seq"] == before["seq"]
            await process.stop()
        last = site.snapshots()[-1]
        assert last["reason"] == "stop"
        assert last["configuration"] != before["configuration"]


async def test_snapshots_by_command(tmp_path: Path) -> None:
    async with small_plcs(1) as [plc]:
        site = Site(tmp_path, plc)
        site.config.write_text(site.config.read_text().replace('every = "1s"', 'every = "1h"'))
        site.run("snapshot", "take", "andon.toml", code=1)
        async with gateway(site.config, site.port) as process:
            await site.until_state("Cold")
            [taken] = await asyncio.to_thread(site.run, "snapshot", "take", "andon.toml", "--json")
            assert (taken["header"]["reason"], taken["header"]["kind"]) == ("command", "full")
            await process.stop()
        assert [v["problem"] for v in site.run("snapshot", "verify", "andon.toml", "--json")] == ["", ""]
        name = taken["header"]["name"]

        # the journal is lost; a snapshot is left
        for path in (tmp_path / "data/journal").iterdir():
            path.unlink()
        [begun] = site.run("snapshot", "restore", "andon.toml", name, "--json")
        assert begun["stream"] != taken["header"]["stream"]
        async with gateway(site.config, site.port):
            await site.until_state("Cold")
            assert [t["sequence"] for t in await site.transitions()] == [2, 3]

        path = tmp_path / "data/snapshots" / f"{name}.snap"
        path.write_bytes(path.read_bytes()[:-1])
        site.run("snapshot", "verify", "andon.toml", code=3)


async def test_a_snapshot_nobody_can_read_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    async with small_plcs(1) as [plc]:
        site = Site(tmp_path, plc)
        async with gateway(site.config, site.port) as process:
            await site.until_state("Cold")
            await eventually(lambda: len(site.snapshots()) > 0)
            await process.kill()
            for path in (tmp_path / "data/snapshots").glob("*.snap"):
                path.write_bytes(b"\x00" * 999)
            await process.start()
            await site.until_state("Cold")
            assert "a snapshot cannot be used" in process.words()
            assert [t["to_state"] for t in await site.transitions()] == ["Cold", "Unknown", "Cold"]
