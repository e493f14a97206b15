"""Commands through a real gateway to simulated machines: handshakes, MQTT, a kill in between, writes off."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability.command_plant import command_plant
from tests.gateway.publish.support import Subscriber
from tests.support.processes import GatewayProcess, Plant, free_port

PATIENCE_S = 45.0
PACKML = '["Start", "Stop", "Hold", "Unhold", "Abort", "Clear", "Reset"]'
CONFIG = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
[api]
listen = "127.0.0.1:{api}"
[mqtt]
broker = "embedded"
embedded_port = {mqtt}
commands = {{ name = "mqtt-host" }}
[commands]
enabled = {enabled}
[[commands.allow]]
equipment = "filler-1"
via = ["rest", "mqtt"]
packml.command = "filler-plc/cmd"
packml.request = "filler-plc/request"
packml.commands = {packml}
packml.within = "{within}"
packml.reset = "{reset}"
[[commands.allow]]
equipment = "palletiser-1"
packml.command = "palletiser-plc/cmd"
packml.request = "palletiser-plc/request"
packml.commands = {packml}
packml.within = "{within}"
[[commands.allow]]
equipment = "filler-1"
tag = "filler-plc/speed_sp"
via = ["rest", "mqtt"]
max = 500.0
[[connections]]
name = "filler-plc"
protocol = "opcua"
endpoint = "{opcua}"
security = {{ policy = "None", mode = "None" }}
[[connections.groups]]
name = "all"
interval = "50ms"
tags = [
  {{ name = "state", node = "nsu=urn:andon:plant;s=Filler.StateCurrent" }},
  {{ name = "cmd", node = "nsu=urn:andon:plant;s=Filler.CntrlCmd" }},
  {{ name = "request", node = "nsu=urn:andon:plant;s=Filler.CmdChangeRequest" }},
  {{ name = "speed_sp", node = "nsu=urn:andon:plant;s=Filler.CmdMachSpeed" }},
]
[[connections]]
name = "palletiser-plc"
protocol = "modbus"
endpoint = "{modbus}"
unit = 1
[[connections.groups]]
name = "all"
interval = "50ms"
tags = [
  {{ name = "state", address = "holding:0", type = "uint16" }},
  {{ name = "cmd", address = "holding:100", type = "uint16" }},
  {{ name = "request", address = "holding:101", type = "uint16" }},
]
[[equipment]]
name = "filler-1"
path = "filling/filler-1"
model = "packml"
state = "filler-plc/state"
[[equipment]]
name = "palletiser-1"
path = "packing/palletiser-1"
model = "packml"
state = "palletiser-plc/state"
"""
TOPIC = "acme/berlin/filling/filler-1/_command"


class Site:
    """A gateway, the plant, and what was written to it."""

    def __init__(self, directory: Path, plant: Plant, **chosen: Any) -> None:
        self.plant, self.directory = plant, directory
        self.api, self.mqtt = free_port(), free_port()
        values: Mapping[str, Any] = {"enabled": "true", "reset": "machine", "within": "60s", **chosen}
        servers = {"opcua": plant.servers["opcua-a"], "modbus": plant.servers["modbus-a"]}
        text = CONFIG.format(api=self.api, mqtt=self.mqtt, packml=PACKML, **servers, **values)
        config = directory / "andon.toml"
        config.write_text(text, encoding="utf-8")
        self.process = GatewayProcess(config, self.api)
        self._keys = 0

    def wrote(self, server: str = "") -> list[tuple[str, Any]]:
        """What came in at a server, as (address, value)."""
        path = self.directory / "writes.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(line["address"], line["values"][0]) for line in lines if line["server"].startswith(server)]

    async def send(self, key: str = "", **body: Any) -> dict[str, Any]:
        """A command over REST, and its answer."""
        self._keys += not key
        secret = (self.directory / "data" / "access" / "local.key").read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": key or f"k{self._keys}"}
        async with httpx.AsyncClient(base_url=self.process.url, trust_env=False, timeout=100) as http:
            answer: dict[str, Any] = (await http.post("/api/v1/commands", json=body, headers=headers)).json()
            return answer

    async def do(self, equipment: str, command: str) -> tuple[str, str, Any]:
        """A command by name: how it ended."""
        answer = await self.send(equipment=equipment, command=command)
        return answer["status"], answer.get("code", ""), answer.get("read")

    async def state(self, equipment: str, wanted: str) -> None:
        """Wait until an equipment is shown in a state."""
        async with (
            httpx.AsyncClient(base_url=self.process.url, trust_env=False, timeout=PATIENCE_S) as http,
            asyncio.timeout(PATIENCE_S),
        ):
            while (await http.get(f"/api/v1/equipment/{equipment}/state")).json()["state"] != wanted:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def site(directory: Path, **chosen: Any) -> AsyncIterator[Site]:
    async with command_plant(directory) as plant:
        found = Site(directory, plant, **chosen)
        try:
            await found.process.start()
            await found.state("filler-1", "Idle")
            await found.state("palletiser-1", "Idle")
            yield found
        finally:
            if found.process.alive:
                await found.process.kill()


@pytest.mark.writes
async def test_machines_are_commanded_by_name_over_both_protocols(tmp_path: Path) -> None:
    async with site(tmp_path) as it:
        assert await it.do("filler-1", "Start") == ("verified", "", "Starting")
        assert await it.do("palletiser-1", "Start") == ("verified", "", "Starting")
        assert it.wrote("opcua") == [("Filler.CntrlCmd", 2), ("Filler.CmdChangeRequest", True)]
        assert it.wrote("modbus") == [("holding:100", 2), ("holding:101", 1)]
        await it.state("filler-1", "Execute")
        refused = await it.send(equipment="filler-1", command="Clear")
        assert refused["code"] == "state", refused
        assert len(it.wrote("opcua")) == 2
        assert (await it.do("filler-1", "Hold"))[2] in ("Holding", "Held")
        await it.state("filler-1", "Held")
        assert (await it.do("filler-1", "Stop"))[2] in ("Stopping", "Stopped")
        await it.state("filler-1", "Stopped")
        # The PLC's own limit is narrower than the rule's.
        too_fast = await it.send(tag="filler-plc/speed_sp", value=450.0)
        assert (too_fast["code"], "outside the range" in too_fast["detail"]) == ("device_refused", True)
        assert (await it.send(tag="filler-plc/speed_sp", value=250.0))["status"] == "verified"


@pytest.mark.writes
async def test_a_machine_that_leaves_the_request_to_us_and_one_that_is_deaf(tmp_path: Path) -> None:
    async with site(tmp_path, reset="gateway", within="6s") as it:
        await it.plant.order(fault="keep_request", server="opcua-a")
        assert (await it.do("filler-1", "Start"))[0] == "verified"
        raised = ("Filler.CmdChangeRequest", True)
        assert it.wrote("opcua")[-2:] == [raised, ("Filler.CmdChangeRequest", False)]
        await it.state("filler-1", "Execute")
        await it.plant.order(clear="opcua-a")
        await it.plant.order(fault="deaf", server="modbus-a")
        status, code, read = await it.do("palletiser-1", "Start")
        assert (status, code, read) == ("mismatch", "no_move", "Idle")
        assert it.wrote("modbus") == [("holding:100", 2), ("holding:101", 1), ("holding:101", 0)]


@pytest.mark.writes
async def test_a_handshake_that_a_kill_interrupts_is_unknown_and_not_taken_up(tmp_path: Path) -> None:
    async with site(tmp_path) as it:
        await it.plant.order(fault="deaf", server="modbus-a")
        command = {"equipment": "palletiser-1", "command": "Start"}
        sending = asyncio.create_task(it.send("once", **command))
        async with asyncio.timeout(PATIENCE_S):
            while len(it.wrote("modbus")) < 2:
                await asyncio.sleep(0.01)
        await it.process.kill()
        await asyncio.gather(sending, return_exceptions=True)
        before = it.wrote("modbus")
        assert before == [("holding:100", 2), ("holding:101", 1)]
        await it.process.start()
        await it.state("palletiser-1", "Idle")
        answer = await it.send("once", **command)
        assert (answer["status"], answer["code"]) == ("unknown", "interrupted")
        assert it.wrote("modbus") == before, "old or new, and nothing after a kill"
        # The request stands as the kill left it: nobody commands over it, and health says so.
        assert (await it.send(**command))["code"] == "busy"
        async with httpx.AsyncClient(base_url=it.process.url, trust_env=False, timeout=PATIENCE_S) as http:
            part = (await http.get("/readyz")).json()["parts"]["commands"]
        assert not part["ok"]
        assert it.wrote("modbus") == before


@pytest.mark.writes
async def test_the_same_over_mqtt(tmp_path: Path) -> None:
    async with site(tmp_path) as it, Subscriber(it.mqtt) as ear:

        def say(id_: str, **more: Any) -> None:
            request = {"id": id_, "sent_at": datetime.now(UTC).isoformat(), "requested_by": "jane", **more}
            ear._client.publish(TOPIC, json.dumps(request), qos=1)

        def answer(id_: str) -> dict[str, Any]:
            return dict(json.loads(ear.on(f"/_command/{id_}")[0].payload))

        for id_, more in (
            ("start", {"command": "Start"}),
            ("speed", {"tag": "filler-plc/speed_sp", "value": 200.0}),
            ("fast", {"tag": "filler-plc/speed_sp", "value": 501.0}),
        ):
            say(id_, **more)
            await ear.wait(lambda id_=id_: bool(ear.on(f"/_command/{id_}")), id_)  # type: ignore[misc]
        assert (answer("start")["status"], answer("start")["read"]) == ("verified", "Starting")
        assert (answer("speed")["status"], answer("speed")["read"]) == ("verified", 200.0)
        assert (answer("fast")["status"], answer("fast")["code"]) == ("refused", "out_of_range")
        async with httpx.AsyncClient(base_url=it.process.url, trust_env=False, timeout=PATIENCE_S) as http:
            figures = (await http.get("/metrics")).text
        assert 'andon_mqtt_commands_total{sink="mqtt",what="done"} 2.0' in figures
        assert 'andon_mqtt_commands_total{sink="mqtt",what="refused"} 1.0' in figures
        events = [json.loads(heard.payload) for heard in ear.on("/_event/command")]
        assert {(event["via"], event["requested_by"]) for event in events} == {("mqtt", "mqtt-host")}
        assert it.wrote() == [
            ("Filler.CntrlCmd", 2),
            ("Filler.CmdChangeRequest", True),
            ("Filler.CmdMachSpeed", 200.0),
        ]


async def test_with_writes_off_nothing_is_written_whatever_is_asked(tmp_path: Path) -> None:
    """Not marked: the check of the whole run looks at this one too."""
    async with site(tmp_path, enabled="false") as it, Subscriber(it.mqtt) as ear:
        for body in (
            {"equipment": "filler-1", "command": "Start"},
            {"tag": "filler-plc/speed_sp", "value": 1.0},
            {"tag": "filler-plc/speed_sp", "value": 1.0, "dry_run": True},
        ):
            assert (await it.send(**body))["code"] == "writes_off"
        request = {"id": "x", "sent_at": datetime.now(UTC).isoformat(), "command": "Start"}
        ear._client.publish(TOPIC, json.dumps(request), qos=1)
        await asyncio.sleep(0.5)  # nobody listens, so nothing can be waited for
        assert it.wrote() == []


@pytest.mark.writes
async def test_commands_are_switched_on_and_off_while_it_runs(tmp_path: Path) -> None:
    async with site(tmp_path, enabled="false") as it, Subscriber(it.mqtt) as ear:
        config = it.process.config
        off = config.read_text(encoding="utf-8")
        on = off.replace("enabled = false", "enabled = true")
        for number, (text, status) in enumerate(((on, "verified"), (off, "writes_off"), (on, "verified"))):
            config.write_text(text, encoding="utf-8")
            os.kill(it.process.pid, signal.SIGHUP)
            async with asyncio.timeout(PATIENCE_S):
                while True:  # until the change is in force
                    answer = await it.send(tag="filler-plc/speed_sp", value=100.0 + number)
                    if status in (answer["status"], answer.get("code")):
                        break
                    await asyncio.sleep(0.1)
            wrote = len(it.wrote())
            request = {
                "id": f"r{number}",
                "sent_at": datetime.now(UTC).isoformat(),
                "tag": "filler-plc/speed_sp",
                "value": 50.0 + number,
                "expires": "10m",
            }
            topic = f"/_command/r{number}"
            async with asyncio.timeout(PATIENCE_S):
                tried = 0
                while not ear.on(topic) and (status == "verified" or tried < 6):
                    # The connection for commands may still be on its way; one message is one command.
                    ear._client.publish(TOPIC, json.dumps(request), qos=1)
                    await asyncio.sleep(0.1)
                    tried += 1
            if status == "verified":
                assert json.loads(ear.on(topic)[0].payload)["status"] == "verified"
                assert len(it.wrote()) == wrote + 1
            else:
                # Nobody listens; who still did on the way out has said no.
                assert all(json.loads(heard.payload)["code"] == "writes_off" for heard in ear.on(topic))
                assert len(it.wrote()) == wrote
