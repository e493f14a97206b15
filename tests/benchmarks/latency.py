"""From a state word changing in the PLC to the MQTT message at a subscriber, polled and subscribed.

The plant notes each change in its ledger with CLOCK_MONOTONIC just before it can be read; the subscriber
stamps each state message with the same clock of the same machine. The whole gateway is on: engine, durable
journal, broker. The floor is the wait that polling or publishing every 100 ms implies: uniform between
nothing and the period, so half of it at p50 and all of it at p99.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from gateway.demo.site import write_site
from tests.benchmarks.figures import Figure, percentile
from tests.support.processes import Mosquitto, free_port, gateway, plant

PERIOD_MS = 100.0
KINDS = {"Modbus, polled": ("palletiser-1",), "OPC UA, subscribed": ("filler-1", "capper-1", "labeller-1")}
#: Gateways and scripts polling the same way at 100 ms, measured on the reference machine.
PEERS = {
    50: {"Node-RED": 52.3, "Neuron": 110.0, "thingsboard-gateway": 359.5},
    99: {"Node-RED": 100.9, "Neuron": 196.4, "thingsboard-gateway": 513.9},
}
SCENARIO = Path(__file__).with_name("latency.toml")


async def measure(directory: Path) -> Sequence[Figure]:
    """Play a scenario of quick changes and match messages with the ledger."""
    seen: list[tuple[str, str, int, float]] = []
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(plant(directory, str(SCENARIO), seed=7))
        api_port, mqtt_port = free_port(), free_port()
        values = {**simulated.servers, "listen": f"127.0.0.1:{api_port}", "mqtt_port": str(mqtt_port)}
        values |= {"historian": "embedded", "broker": "embedded"}
        broker = "the embedded broker"
        if os.environ.get("ANDON_TEST_MOSQUITTO") or shutil.which("mosquitto", path="/usr/sbin:/usr/bin"):
            mosquitto = await stack.enter_async_context(Mosquitto(directory))
            mqtt_port, broker = mosquitto.port, "Mosquitto"
            values["broker"] = f"mqtt://127.0.0.1:{mqtt_port}"
        running = await stack.enter_async_context(gateway(write_site(directory, values), api_port))
        client = mqtt.Client(CallbackAPIVersion.VERSION2)

        def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
            at = time.monotonic()
            event = json.loads(message.payload)
            seen.append((event["equipment"], event["to_state"], event["sequence"], at))

        client.on_message = on_message
        client.connect("127.0.0.1", mqtt_port)
        client.subscribe("+/+/+/+/+/_event/transition", qos=1)
        client.loop_start()
        await running.until(lambda report: all(part["ok"] for part in report["parts"].values()))
        await simulated.order(go=True)
        await simulated.until("done", 180)
        await asyncio.sleep(1)
        client.loop_stop()
        ledger = simulated.ledger()
    figures: list[Figure] = []
    for kind, machines in KINDS.items():
        delays = [delay for machine in machines for delay in delays_of(machine, seen, ledger)]
        name = f"latency: {kind} at 100 ms, PLC to MQTT ({broker})"
        for percent, floor in ((50, PERIOD_MS / 2), (99, PERIOD_MS)):
            peers = PEERS[percent] if kind.startswith("Modbus") else {}
            value = percentile(delays, percent) * 1000
            figures.append(Figure(f"{name}, p{percent}", value, "ms", floor, "the period's own wait", peers))
        figures.append(Figure(f"{name}, changes matched", len(delays), "changes", _changes(machines, ledger)))
    return figures


def _changes(machines: Sequence[str], ledger: Sequence[dict[str, object]]) -> float:
    return float(len([line for line in ledger if line["equipment"] in machines and line["from"] is not None]))


def delays_of(
    machine: str, seen: Sequence[tuple[str, str, int, float]], ledger: Sequence[dict[str, object]]
) -> list[float]:
    """Match the messages of one machine with its ledger lines, in order."""
    messages = [(state, at) for name, state, _, at in seen if name == machine]
    delays = []
    place = 0
    for line in ledger:
        if line["equipment"] != machine or line["from"] is None:
            continue
        mono = float(str(line["mono"]))
        while place < len(messages) and (messages[place][0] != line["to"] or messages[place][1] < mono):
            place += 1
        if place == len(messages):
            break
        delays.append(messages[place][1] - mono)
        place += 1
    return delays
