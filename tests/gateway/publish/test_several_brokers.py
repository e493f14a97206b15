"""Several brokers: each is fed by itself, remembers for itself, and none waits for another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.config.load import load
from gateway.journal import Cursor
from gateway.journal.anew import begin_anew
from gateway.publish.holdings import Holdings
from tests.gateway.journal.builders import ManualClock as JournalClock
from tests.gateway.journal.builders import fill, kept_house, opened
from tests.gateway.publish.support import (
    WAIT_S,
    Mosquitto,
    Plant,
    Running,
    Subscriber,
    find_mosquitto,
    free_port,
    retained,
    until,
    within,
)
from tests.support.local_key import local_key
from tests.support.processes import gateway as gateway_process
from tests.support.small_plc import small_plcs

pytestmark = pytest.mark.real

STATE = "acme/berlin/filling/{}/_state"
THERE = "acme/berlin/filling/{}/_availability"
STATUS = "andon/line-1/status"
MODEL = """
name = "m"
initial = "Off"
on_illegal = "flag"
states = [{ name = "Off", category = "standby" }, { name = "On", category = "productive" }]
transitions = [{ from = "*", to = "*" }]
rules = [{ state = "Off", when = "x < 1" }, { state = "On", when = "True" }]
"""


@pytest.fixture
async def brokers(tmp_path: Path) -> AsyncIterator[tuple[Mosquitto, Mosquitto]]:
    pair = []
    for name in ("plant", "cloud"):
        directory = tmp_path / name
        directory.mkdir()
        pair.append(Mosquitto(find_mosquitto(), directory, protocol="5"))
        await pair[-1].start()
    yield pair[0], pair[1]
    for broker in pair:
        await broker.kill()


@pytest.mark.parametrize("how", ["frozen", "dead"])
async def test_a_broker_that_is_no_more_delays_no_other(
    brokers: tuple[Mosquitto, Mosquitto], how: str
) -> None:
    well, ill = brokers
    plant = Plant("filler-1", "capper-1")
    one = plant.publisher(well.settings(name="plant"))
    two = plant.publisher(ill.settings(name="cloud"))
    assert (one.sink, two.sink) == ("mqtt-plant", "mqtt-cloud")
    assert ill._process is not None
    pid = ill._process.pid
    async with Subscriber(well.port, "acme/#") as listening, Running(one), Running(two):
        await until(lambda: one.status().connected and two.status().connected, "both")
        await plant.happen(100)
        await within(plant.journal.wait_cursor("mqtt-plant", 100))
        await within(plant.journal.wait_cursor("mqtt-cloud", 100))
        if how == "frozen":
            os.kill(pid, signal.SIGSTOP)
        else:
            await ill.kill()
        events = await plant.happen(3000)
        await listening.wait_ids(events)
        await within(plant.journal.wait_cursor("mqtt-plant", 3100))
        assert (one.status().lag_events, one.status().backlog) == (0, None)
        assert two.status().lag_events >= 2900
        assert (await plant.journal.cursor("mqtt-cloud")).seq < 200
        if how == "frozen":
            os.kill(pid, signal.SIGCONT)
        else:
            await ill.start()
        await within(plant.journal.wait_cursor("mqtt-cloud", 3100))
    assert await states(well) == await states(ill)


async def states(broker: Mosquitto) -> dict[str, bytes]:
    return {t: body for t, body in (await retained(broker.port)).items() if t.endswith("/_state")}


def configuration(plc: int, brokers: Sequence[tuple[str, str]], equipment: Sequence[str]) -> str:
    text = (
        '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\ndata_dir = "data"\n'
        '[gateway.reconcile]\nsettle = "200ms"\n[api]\nlisten = "127.0.0.1:0"\n'
    )
    text += "".join(f'[[mqtt]]\nname = "{name}"\nbroker = "{address}"\n' for name, address in brokers)
    text += (
        f'[[connections]]\nname = "plc"\nprotocol = "modbus"\nendpoint = "tcp://127.0.0.1:{plc}"\n'
        'timeout = "30s"\n'
        '[[connections.groups]]\nname = "all"\ninterval = "100ms"\n'
        'tags = [{ name = "x", address = "holding:0", type = "uint16", publish = true }]\n'
    )
    return text + "".join(
        f'[[equipment]]\nname = "{name}"\npath = "filling/{name}"\n'
        'model = "m.toml"\nbind = { x = "plc/x" }\n'
        for name in equipment
    )


@asynccontextmanager
async def running(directory: Path, text: str) -> AsyncIterator[Gateway]:
    """A gateway in this process; it is ready when the body begins."""
    config = directory / "andon.toml"
    config.write_text(text, encoding="utf-8")
    (directory / "m.toml").write_text(MODEL, encoding="utf-8")
    stop, ready = asyncio.Event(), asyncio.Event()
    gateway = Gateway(load(config), started=lambda _: ready.set())
    task = asyncio.create_task(gateway.run(stop))
    try:
        async with asyncio.timeout(2 * WAIT_S):
            await ready.wait()
        yield gateway
    finally:
        stop.set()
        await task


def parts(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = dict(gateway.health.report()["parts"])
    return found


async def asked(gateway: Gateway, path: str) -> str:
    async with httpx.AsyncClient(base_url=gateway.addresses.api, trust_env=False, timeout=WAIT_S) as http:
        return (await http.get(path)).text


async def test_a_gateway_tells_both_and_clears_both(
    brokers: tuple[Mosquitto, Mosquitto], tmp_path: Path
) -> None:
    """The whole of it: health, figures, availability, what leaves, the goodbye, and a broker that leaves."""
    both = [(name, f"mqtt://127.0.0.1:{b.port}") for name, b in zip(("plant", "cloud"), brokers, strict=True)]
    async with small_plcs(1) as (plc,):
        async with running(tmp_path, configuration(plc.port, both, ("one", "two"))) as gateway:
            for name in ("mqtt-plant", "mqtt-cloud"):
                await until(lambda name=name: bool(parts(gateway)[name]["ok"]), name)  # type: ignore[misc]
            plc.registers[0] = 1
            for broker in brokers:
                await stands(broker, "On")
            figures = await asked(gateway, "/metrics")
            for name in ("mqtt-plant", "mqtt-cloud"):
                assert f'andon_sink_up{{sink="{name}"}} 1.0' in figures
            report = await asked_to_reconcile(gateway)
            told = {part["part"]: part["compared"] for part in report["parts"]}
            assert told["broker plant"] == told["broker cloud"] == 8, (
                "status, link, 2 states, 2 there, 2 tags"
            )
            assert report["differences"] == []
        for broker in brokers:
            held = await retained(broker.port)
            assert {held[STATUS], held[THERE.format("one")], held["andon/line-1/_connection/plc"]} == {
                b"offline"
            }
            assert STATE.format("two") in held
        async with running(tmp_path, configuration(plc.port, both, ("one",))) as gateway:
            for broker in brokers:
                async with asyncio.timeout(WAIT_S):
                    while any("/two/" in topic for topic in await retained(broker.port)):
                        await asyncio.sleep(0.05)
            held = await retained(brokers[0].port)
            assert {STATE.format("one"), THERE.format("one")} <= set(held)
        async with running(tmp_path, configuration(plc.port, both[:1], ("one",))) as gateway:
            assert "mqtt-cloud" not in parts(gateway)
            assert set(Holdings(tmp_path / "data", sink="mqtt-cloud").topics) >= {STATE.format("one")}


async def stood(broker: Mosquitto) -> tuple[str, bytes, bytes]:
    held = await retained(broker.port)
    state = json.loads(held.get(STATE.format("one"), b'{"state":""}'))["state"]
    return state, held.get(THERE.format("one"), b""), held.get(STATUS, b"")


async def asked_to_reconcile(gateway: Gateway) -> Any:
    async with httpx.AsyncClient(base_url=gateway.addresses.api, trust_env=False, timeout=WAIT_S) as http:
        headers = local_key(gateway.loaded.data_dir)
        return (await http.post("/api/v1/reconciliations", json={}, headers=headers)).json()


async def test_a_journal_that_begins_anew_does_not_keep_old_states_retained(
    brokers: tuple[Mosquitto, Mosquitto], tmp_path: Path
) -> None:
    """Its numbers are smaller than those the broker has retained; what is cleared is still known."""
    [broker, _] = brokers
    address = [("plant", f"mqtt://127.0.0.1:{broker.port}")]
    async with small_plcs(1) as (plc,):
        async with running(tmp_path, configuration(plc.port, address, ("one", "two"))):
            for turn in range(6):
                plc.registers[0] = (turn + 1) % 2
                await stands(broker, "On" if turn % 2 == 0 else "Off")
        before = json.loads((await retained(broker.port))[STATE.format("one")])
        begin_anew(tmp_path / "data" / "journal", gateway="line-1", clock=SystemClock(), reason="a test")
        async with running(tmp_path, configuration(plc.port, address, ("one",))):
            await stands(broker, "Off")
            plc.registers[0] = 1
            await stands(broker, "On")
            held = await retained(broker.port)
            now = json.loads(held[STATE.format("one")])
            assert now["seq"] < before["seq"]
            assert now["sequence"] > before["sequence"]
            async with asyncio.timeout(WAIT_S):
                while any("/two/" in topic for topic in await retained(broker.port)):
                    await asyncio.sleep(0.05)


async def stands(broker: Mosquitto, state: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while await stood(broker) != (state, b"online", b"online"):
            await asyncio.sleep(0.02)


async def test_a_broker_that_was_taken_out_holds_nothing_in_the_journal(tmp_path: Path) -> None:
    """While it is configured and away everything is kept for it; from the next start on nothing is."""
    clock = JournalClock()
    async with opened(tmp_path, clock=clock, keep=timedelta(0)) as journal:
        for sink in ("mqtt-plant", "mqtt-cloud"):
            journal.require(sink, events=True, batches=False)
        last = await fill(journal, 4)
        await journal.advance("mqtt-plant", Cursor(seq=last))
        await journal.advance("mqtt-cloud", Cursor(seq=1))
        await fill(journal, 6)
        assert journal.position.first_seq == 1
    async with opened(tmp_path, clock=clock, keep=timedelta(0)) as journal:
        journal.require("mqtt-plant", events=True, batches=False)
        last = await fill(journal, 8)
        await journal.advance("mqtt-plant", Cursor(seq=last))
        await kept_house(journal, clock, lambda: journal.position.first_seq > 1)
        assert (await journal.cursor("mqtt-cloud")).seq == 1, "where it stood is still known"


async def test_a_killed_process_is_offline_and_its_next_start_is_believed(
    brokers: tuple[Mosquitto, Mosquitto], tmp_path: Path
) -> None:
    """kill -9: the broker says so of the gateway; what else says `online` counts only together with that."""
    [broker, _] = brokers
    api = free_port()
    async with small_plcs(1) as (plc,):
        plc.registers[0] = 1
        address = [("plant", f"mqtt://127.0.0.1:{broker.port}")]
        text = configuration(plc.port, address, ("one",)).replace(':0"\n[[mqtt]]', f':{api}"\n[[mqtt]]')
        (tmp_path / "m.toml").write_text(MODEL, encoding="utf-8")
        config = tmp_path / "andon.toml"
        config.write_text(text, encoding="utf-8")
        async with gateway_process(config, api) as process:
            await stands(broker, "On")
            await process.kill()
            async with asyncio.timeout(WAIT_S):
                while (await stood(broker))[2] != b"offline":
                    await asyncio.sleep(0.02)
            plc.registers[0] = 0
            async with Subscriber(broker.port) as listening:
                await process.start()
                await stands(broker, "Off")
                news = [m for m in listening.heard if not m.retain]
                back = next(i for i, m in enumerate(news) if m.topic == STATUS)
                told = {m.topic: m.payload for m in news[:back]}
                assert THERE.format("one") in told
                state = json.loads(told[STATE.format("one")])["state"]
                assert state in ("Unknown", "Off"), "what it was before the end is not said again"
            await process.stop()
        held = await retained(broker.port)
        assert {held[STATUS], held[THERE.format("one")], held["andon/line-1/_connection/plc"]} == {b"offline"}


async def test_no_password_of_an_address_is_shown(
    brokers: tuple[Mosquitto, Mosquitto],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is in it: several addresses are told in one line, with a comma between."""
    words = ("two, words", "sim%2Cple")
    both = []
    for name, word, broker in zip(("plant", "cloud"), words, brokers, strict=True):
        monkeypatch.setenv(f"TEST_{name}", f"mqtt://andon:{word}@127.0.0.1:{broker.port}")
        both.append((name, f"env:TEST_{name}"))
    async with small_plcs(1) as (plc,):
        with capture_logs() as lines:
            async with running(tmp_path, configuration(plc.port, both, ("one",))) as gateway:
                shown = ", ".join(f"mqtt://127.0.0.1:{broker.port}" for broker in brokers)
                assert gateway.addresses.broker == shown
                await until(lambda: bool(parts(gateway)["mqtt-cloud"]["ok"]), "connected")
    told = str(lines)
    assert shown in told
    assert not [word for word in ("words", "sim%2Cple", "sim,ple") if word in told]
