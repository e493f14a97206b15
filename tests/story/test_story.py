"""One story, told five times: ledger, MQTT, REST, SSE and SQL must agree, with and without trouble.

The plant plays a seeded scenario of at least 200 true state changes on real OPC UA and Modbus wires; the
gateway runs as a process of its own. The same story runs on the embedded database and broker, and on a
real TimescaleDB and Mosquitto.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from gateway.demo.site import write_site
from tests.story.judge import Trouble, faults
from tests.story.witness import MqttWitness, SseWitness
from tests.support.database import new_database, timescale_dsn
from tests.support.processes import GatewayProcess, Mosquitto, Plant, free_port, gateway, plant
from tests.support.proxy import Proxy

EQUIPMENT = ("filler-1", "capper-1", "labeller-1", "palletiser-1", "oven-1", "compressor-1")
ON = {
    "opcua-a": frozenset({"filler-1", "capper-1"}),
    "opcua-b": frozenset({"labeller-1"}),
    "modbus-a": frozenset({"palletiser-1"}),
    "modbus-b": frozenset({"oven-1", "compressor-1"}),
}
#: The oven's model asks for a door that has been open for 2 s; the truth does not wait.
DELAYS = {("oven-1", "DoorOpen"): timedelta(seconds=2)}

#: What the ledger calls a change of an alarm: whether it is active, and acknowledged, afterwards.
ALARM = {"raised": (True, False), "acknowledged": (True, True), "gone": (False, True)}
SOURCE = {"filler-1": "Filler", "capper-1": "Capper"}

#: How long is waited for what has to come some day.
PATIENCE_S = 100.0
#: Every state lasts a second or more: a gateway that does not get its turn for that long misses none.
SPEED = 0.5
#: So long nothing may have come before all is taken to be there.
QUIET_S = 3.0
#: A PLC is lost when its line is cut here, and not because a machine with much to do answers late.
PATIENT = {"opcua": 'keep_alive = "10s"\nrequest_timeout = "30s"', "modbus": 'timeout = "30s"'}


@dataclass
class Stage:
    """Everything a story needs, running."""

    plant: Plant
    gateway: GatewayProcess
    mqtt: MqttWitness
    sse: SseWitness
    #: Empty: the gateway's own, which may move from start to start.
    dsn: str
    database: Proxy | None
    broker: Mosquitto | None
    #: The subscriber heard everything after this; before it, it was not there yet.
    heard_after: int
    troubles: list[Trouble] = field(default_factory=list)


@asynccontextmanager
async def stage(directory: Path, scenario: str, *, real: bool) -> AsyncIterator[Stage]:
    """The plant stands still; gateway and witnesses are ready."""
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(plant(directory, scenario, speed=SPEED))
        api_port, mqtt_port = free_port(), free_port()
        values = {**simulated.servers, "listen": f"127.0.0.1:{api_port}", "mqtt_port": str(mqtt_port)}
        database = broker = None
        dsn = ""
        if real:
            dsn = await stack.enter_async_context(new_database(timescale_dsn()))
            target = urlsplit(dsn)
            assert target.hostname is not None
            database = await stack.enter_async_context(Proxy(target.hostname, target.port or 5432))
            through = target._replace(netloc=f"{target.username}@127.0.0.1:{database.port}")
            broker = await stack.enter_async_context(Mosquitto(directory))
            mqtt_port = broker.port
            values |= {"historian": urlunsplit(through), "broker": f"mqtt://127.0.0.1:{broker.port}"}
        else:
            values |= {"historian": "embedded", "broker": "embedded"}
        config = write_site(directory, values)
        text = config.read_text(encoding="utf-8")
        for protocol, lines in PATIENT.items():
            text = text.replace(f'protocol = "{protocol}"\n', f'protocol = "{protocol}"\n{lines}\n')
        config.write_text(text, encoding="utf-8")
        # An embedded broker is there only when the gateway is; a real one is listened to from the start.
        mqtt = MqttWitness(mqtt_port, lasting=real)
        if real:
            stack.enter_context(mqtt)
            await asyncio.to_thread(mqtt.wait_subscribed)
        running = await stack.enter_async_context(gateway(config, api_port))
        heard_after = 0
        if not real:
            await running.until(all_connected)
            stack.enter_context(mqtt)
            await asyncio.to_thread(mqtt.wait_subscribed)
            heard_after = await last_seq(running.url)
        sse = await stack.enter_async_context(SseWitness(running.url))
        yield Stage(simulated, running, mqtt, sse, dsn, database, broker, heard_after)


def embedded_dsn(directory: Path) -> str:
    """Where the gateway's own PostgreSQL listens, as its log said at the newest start."""
    lines = [
        json.loads(line) for line in (directory / "gateway.log").read_text(encoding="utf-8").splitlines()
    ]
    return str([line["database"] for line in lines if line["message"] == "started"][-1])


async def recorded_by_rest(url: str) -> list[dict[str, Any]]:
    """All transitions of all equipment, page by page, in the order of their seq."""
    found: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", trust_env=False, timeout=PATIENCE_S) as http:
        for name in EQUIPMENT:
            after: int | str | None = 0
            while after is not None:
                response = await http.get(
                    f"/equipment/{name}/transitions", params={"after": after, "limit": 50}
                )
                response.raise_for_status()
                page = response.json()
                found += page["items"]
                after = page["next"]
    return sorted(found, key=lambda event: int(event["seq"]))


async def recorded_by_sql(dsn: str, gateway_id: str = "demo") -> list[dict[str, Any]]:
    """All transitions in the database, by columns, not by the body."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT seq, equipment, sequence, from_state, to_state, at, duration_s "
            "FROM andon.transition WHERE gateway = $1 ORDER BY seq",
            gateway_id,
        )
    finally:
        await connection.close()
    return [dict(row) for row in rows]


async def settled(stage: Stage, within_s: float = PATIENCE_S, *, mqtt_complete: bool = True) -> None:
    """Wait until the gateway has caught up with the plant, every sink with it, and the witnesses too."""
    truth = {line["equipment"]: line["to"] for line in stage.plant.ledger()}
    async with (
        httpx.AsyncClient(
            base_url=f"{stage.gateway.url}/api/v1", trust_env=False, timeout=PATIENCE_S
        ) as http,
        asyncio.timeout(within_s),
    ):
        seq, since_s = -1, 0.0
        while True:  # it may stand where the truth stands while it is a whole round behind
            view = (await http.get("/equipment")).json()
            stands = {item["name"]: item["state"]["state"] for item in view["items"]} == truth
            if not stands or view["seq"] != seq:
                seq, since_s = view["seq"], time.monotonic()
            if stands and time.monotonic() - since_s > QUIET_S:
                break
            await asyncio.sleep(0.05)

    def all_sent(report: dict[str, Any]) -> bool:
        sinks = [report["parts"][name] for name in ("historian", "mqtt")]
        return all(sink["ok"] and sink["lag_events"] == 0 for sink in sinks)

    await stage.gateway.until(all_sent, within_s)
    last = await last_seq(stage.gateway.url)
    deadline_s = time.monotonic() + within_s
    while True:
        by_sse = max((event["seq"] for event in stage.sse.events), default=0)
        told = [event for event in stage.sse.events if event["type"] == "transition"]
        newest = {event["equipment"]: event["seq"] for event in told}
        missing: set[int] = set()
        if mqtt_complete:
            missing = {event["seq"] for event in told if event["seq"] > stage.heard_after}
            missing -= {event["seq"] for event in stage.mqtt.first_copies}
        retained = {state["equipment"]: state["seq"] for state in list(stage.mqtt.retained.values())}
        if by_sse >= last and not missing and retained == newest:
            return
        assert time.monotonic() < deadline_s, (
            f"of {last} events SSE saw {by_sse}, MQTT lacks {sorted(missing)}; "
            f"retained are {retained}, newest {newest}"
        )
        await asyncio.sleep(0.05)


async def last_seq(url: str) -> int:
    """Number of the newest event."""
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", trust_env=False, timeout=PATIENCE_S) as http:
        return int((await http.get("/equipment")).json()["seq"])


async def agree(stage: Stage, *, mqtt_complete: bool = True) -> list[dict[str, Any]]:
    """Hold the four accounts of the gateway against each other, then against the truth."""
    rest = await recorded_by_rest(stage.gateway.url)
    sse = [event for event in stage.sse.events if event["type"] == "transition"]
    mqtt = [event for event in stage.mqtt.first_copies if event["type"] == "transition"]
    sql = await recorded_by_sql(stage.dsn or embedded_dsn(stage.gateway.config.parent))

    assert [event["seq"] for event in stage.sse.events] == list(range(1, len(stage.sse.events) + 1))
    assert sse == rest
    if mqtt_complete:
        # What was recorded before the subscriber was counted on may still have been on its way to it.
        heard = [event for event in mqtt if event["seq"] > stage.heard_after]
        assert sorted(heard, key=lambda event: int(event["seq"])) == [
            event for event in rest if event["seq"] > stage.heard_after
        ]
        for name in EQUIPMENT:
            order = [event["seq"] for event in mqtt if event["equipment"] == name]
            assert order == sorted(order), f"{name} out of order on MQTT"
    assert stage.mqtt.backwards == []
    columns = ("seq", "equipment", "sequence", "from_state", "to_state", "duration_s")
    assert [{key: row[key] for key in columns} for row in sql] == [
        {key: event[key] for key in columns} for event in rest
    ]
    assert [row["at"] for row in sql] == [datetime.fromisoformat(event["at"]) for event in rest]
    assert faults(rest, stage.plant.ledger(), delays=DELAYS, troubles=stage.troubles) == []
    newest = {event["equipment"]: event for event in rest}
    retained = {state["equipment"]: state for state in stage.mqtt.retained.values()}
    assert {name: (s["state"], s["seq"]) for name, s in retained.items()} == {
        name: (event["to_state"], event["seq"]) for name, event in newest.items()
    }
    return rest


REAL = [pytest.param(False, id="embedded"), pytest.param(True, id="real", marks=pytest.mark.real)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("real", REAL)
async def test_all_accounts_of_a_quiet_day_are_the_truth(real: bool, tmp_path: Path) -> None:
    async with stage(tmp_path, "story", real=real) as on:
        await on.gateway.until(all_connected)
        await on.plant.order(go=True)
        await on.plant.until("done", 240)
        await settled(on)
        wanted = sum("alarm" in line and line["equipment"] in ON["opcua-a"] for line in on.plant.ledger())
        async with asyncio.timeout(PATIENCE_S):
            while len(alarms_told(on)) < wanted:
                await asyncio.sleep(0.02)
        await settled(on)

        recorded = await agree(on)

    truth = [line for line in on.plant.ledger() if line["from"] is not None]
    assert len(truth) >= 200
    # Nothing but the first sight of each machine comes on top of the truth.
    assert len(recorded) == len(truth) + len(EQUIPMENT)
    alarms = [line for line in truth if "alarm" in line and line["equipment"] in ON["opcua-a"]]
    assert alarms, "a day without any alarm would prove nothing of them"
    assert alarms_told(on) == [
        (line["at"], ALARM[line["alarm"]], SOURCE[line["equipment"]]) for line in alarms
    ]


def alarms_told(on: Stage) -> list[tuple[str, tuple[bool, bool], str]]:
    """The alarms of a PLC as the gateway has told them on its stream."""
    return [
        (event["at"], (event["active"], event["acknowledged"]), event["source"])
        for event in on.sse.events
        if event["type"] == "device_event"
    ]


def all_connected(report: dict[str, Any]) -> bool:
    return all(part["ok"] for part in report["parts"].values())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("real", REAL)
async def test_all_accounts_of_a_bad_day_are_the_truth(real: bool, tmp_path: Path) -> None:
    """kill -9 at random moments, the database and the broker away for a while, one PLC cut."""
    chance = random.Random(20260301)
    async with stage(tmp_path, "trouble", real=real) as on:
        await on.gateway.until(all_connected)
        await on.plant.order(go=True)
        done = asyncio.create_task(on.plant.until("done", 400))
        for _ in range(3):
            await asyncio.sleep(chance.uniform(2, 5))
            await killed_and_started_again(on)
        await asyncio.sleep(chance.uniform(1, 2))
        await cut(on, "modbus-a", seconds=2.5)
        await cut(on, "opcua-a", seconds=2.5)
        if on.database is not None and on.broker is not None:
            await on.database.cut()
            await asyncio.sleep(chance.uniform(3, 4))
            await killed_and_started_again(on)
            await on.database.heal()
            await on.broker.stop()
            await asyncio.sleep(chance.uniform(3, 4))
            await on.broker.start()
        await done
        await settled(on, mqtt_complete=real)

        # A broker that lives inside the gateway dies with it, and with it what a subscriber had not fetched.
        recorded = await agree(on, mqtt_complete=real)

    assert len(on.plant.ledger()) >= 200
    assert on.sse.resumed >= 3
    assert len([event for event in recorded if event["to_state"] == "Unknown"]) >= 3 * len(EQUIPMENT)


async def killed_and_started_again(on: Stage) -> None:
    before = datetime.now(UTC)
    await on.gateway.kill()
    await on.gateway.start()
    await on.gateway.until(all_links_up)
    on.troubles.append(Trouble(frozenset(EQUIPMENT), before, datetime.now(UTC)))


async def cut(on: Stage, server: str, *, seconds: float) -> None:
    before = datetime.now(UTC)
    await on.plant.order(fault="drop", server=server, seconds=seconds)
    await asyncio.sleep(seconds)
    await on.gateway.until(all_links_up)
    on.troubles.append(Trouble(ON[server], before, datetime.now(UTC)))


def all_links_up(report: dict[str, Any]) -> bool:
    return all(part["ok"] for name, part in report["parts"].items() if name.startswith("connection"))


@pytest.mark.timeout(400)
async def test_a_clean_stop_says_so_everywhere_and_a_start_goes_on(tmp_path: Path) -> None:
    async with stage(tmp_path, "story", real=False) as on:
        await on.gateway.until(all_connected)
        await settled(on)
        stopped_at = datetime.now(UTC)
        await on.gateway.stop()

        async with asyncio.timeout(PATIENCE_S):  # what was said at the end may still be read
            while on.mqtt.status != "offline" or {
                state["state"] for state in list(on.mqtt.retained.values())
            } != {"Unknown"}:
                await asyncio.sleep(0.02)

        await on.gateway.start()
        await on.gateway.until(all_connected)
        on.troubles.append(Trouble(frozenset(EQUIPMENT), stopped_at, datetime.now(UTC)))
        await settled(on, mqtt_complete=False)
        rest = await recorded_by_rest(on.gateway.url)

    assert faults(rest, on.plant.ledger(), delays=DELAYS, troubles=on.troubles) == []
    stops = [event for event in rest if event["to_state"] == "Unknown"]
    assert len(stops) == len(EQUIPMENT)
    assert all("stopped" in event["cause"]["text"] for event in stops)
