"""What a device tells of itself, from its wire to everybody: once each, in order, whatever is killed.

A server raises alarms and events among the state changes of a machine; the gateway runs as a process of its
own, on a real TimescaleDB and Mosquitto, and is killed in the middle.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.connectors.opcua.alarms import Alarm, plain_events
from tests.connectors.opcua.plant import URI, Plant
from tests.story.witness import MqttWitness, SseWitness
from tests.support.database import new_database, timescale_dsn
from tests.support.processes import GatewayProcess, Mosquitto, free_port, gateway

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

CONFIGURATION = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
data_dir = "./data"
[historian]
dsn = "{dsn}"
[mqtt]
broker = "mqtt://127.0.0.1:{broker}"
[api]
listen = "127.0.0.1:{api}"

[[connections]]
name = "press-plc"
protocol = "opcua"
endpoint = "{endpoint}"
security = {{ policy = "None", mode = "None" }}
keep_alive = "10s"
request_timeout = "30s"
events = [{{ severity_min = 100 }}]
events_interval = "20ms"
[[connections.groups]]
name = "fast"
interval = "20ms"
tags = [ {{ name = "state", node = "nsu={uri};s=state" }} ]

[[equipment]]
name = "press-1"
path = "pressing/line-1/press-1"
model = "packml"
state = "press-plc/state"
"""

#: Every table that holds numbered events, as one list.
TOLD = """
SELECT body FROM (
    SELECT seq, body FROM andon.transition UNION ALL SELECT seq, body FROM andon.rejection
    UNION ALL SELECT seq, body FROM andon.source_event UNION ALL SELECT seq, body FROM andon.device_event
) AS every ORDER BY seq
"""


@dataclass
class Stage:
    plant: Plant
    gateway: GatewayProcess
    mqtt: MqttWitness
    sse: SseWitness
    dsn: str

    async def position(self) -> int:
        async with httpx.AsyncClient(base_url=self.gateway.url, trust_env=False, timeout=60) as http:
            answer = await http.get("/api/v1/equipment")
            return int(answer.json()["seq"])

    async def settled(self) -> int:
        """The number of the newest event after a while in which none came."""
        before, now = -1, await self.position()
        while now != before:
            await asyncio.sleep(2)
            before, now = now, await self.position()
        return now

    async def watched(self) -> None:
        """Wait until the server is asked for its events."""
        async with asyncio.timeout(60):
            while not any(sub.monitored_item_srv._monitored_events for sub in self.plant.subscriptions()):
                await asyncio.sleep(0.01)

    async def heard(self, message: str) -> dict[str, Any]:
        """Wait until the stream has told an event of the device."""
        async with asyncio.timeout(60):
            while True:
                for event in self.sse.events:
                    if event["type"] == "device_event" and event["message"] == message:
                        return event
                await asyncio.sleep(0.01)

    async def in_database(self, seq: int) -> list[dict[str, Any]]:
        """All that is told, once the database has it up to a number."""
        connection = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(60):
                while (await connection.fetchval("SELECT max(seq) FROM andon.sink_cursor") or 0) < seq:
                    await asyncio.sleep(0.05)
            return [json.loads(row["body"]) for row in await connection.fetch(TOLD)]
        finally:
            await connection.close()


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(new_database(timescale_dsn()))
        broker = await stack.enter_async_context(Mosquitto(directory))
        plant = Plant()
        await plant.start()
        stack.push_async_callback(plant.stop)
        mqtt = stack.enter_context(MqttWitness(broker.port, lasting=True))
        await asyncio.to_thread(mqtt.wait_subscribed)
        port = free_port()
        config = directory / "andon.toml"
        config.write_text(
            CONFIGURATION.format(dsn=dsn, broker=broker.port, api=port, endpoint=plant.endpoint, uri=URI),
            encoding="utf-8",
        )
        running = await stack.enter_async_context(gateway(config, port))
        sse = await stack.enter_async_context(SseWitness(running.url))
        yield Stage(plant, running, mqtt, sse, dsn)


async def test_events_of_a_device_reach_everybody_once_and_in_order_through_a_kill(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        events = await plain_events(here.plant, severity=300)
        oil = await Alarm(here.plant, "Oil", 700).start()
        air = await Alarm(here.plant, "Air", 400).start()
        raised: list[str] = []

        async def work(first: int, count: int) -> None:
            for number in range(first, first + count):
                await here.plant.set("state", (4, 3, 6, 7, 2, 15)[number % 6])
                raised.append(f"event {number}")
                await events.trigger(message=raised[-1])
                await asyncio.sleep(0.003)

        await here.watched()
        standing = await oil.tell(active=True, message="oil")
        await work(0, 150)
        await here.heard("event 149")
        seen_before = len(raised)
        working = asyncio.create_task(work(150, 150))
        await asyncio.sleep(0.15)
        await here.gateway.kill()
        await working
        missed = await air.tell(active=True, message="air")
        await here.gateway.start()
        await here.watched()
        await here.heard("air")
        after = len(raised)
        await work(300, 100)
        await oil.tell(active=False, acknowledged=True, message="oil is back")
        last = await here.heard("oil is back")
        position = await here.settled()  # the last states come in a stream of their own
        assert position >= last["seq"]
        told = await here.in_database(position)
        async with asyncio.timeout(60):
            while min(len(here.mqtt.first_copies), len(here.sse.events)) < len(told):
                await asyncio.sleep(0.02)

    assert [event["seq"] for event in told] == list(range(1, len(told) + 1)), "one sequence without a gap"
    assert [event["type"] for event in told].count("transition") > 100
    assert here.sse.events == told, "the stream tells what the database holds, in its order"
    assert here.mqtt.first_copies == told
    device = [event for event in told if event["type"] == "device_event"]
    identities = [event["event_id"] for event in device]
    assert len(identities) == len(set(identities)), "an event is recorded twice"
    plain = [event["message"] for event in device if event["message"].startswith("event ")]
    assert plain == [message for message in raised if message in set(plain)], "events out of order"
    assert plain[:seen_before] == raised[:seen_before]
    assert plain[-100:] == raised[after:], "what was raised while the gateway listened"
    alarms = [(e["message"], e["event_id"], e["refreshed"]) for e in device if e["condition"]]
    assert alarms[0] == ("oil", standing, False)
    assert ("air", missed, True) in alarms, "what stands after a restart is known"
    assert [message for message, *_ in alarms] == ["oil", "air", "oil is back"]
    assert all(event["equipment"] is None and event["connection"] == "press-plc" for event in device)
