"""Configurations changed at random under load: what is not touched notices nothing, and nothing is left over.

Sixty changes here; `ANDON_TEST_PROFILE=long` five hundred.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from statemodel.records import Recorded
from statemodel.types import SourceLost, Transition
from tests.durability.changing_site import ANCHORS, REGISTERS, BrokerChanger, Changer, beginning
from tests.gateway.assembly.living_site import STATES, Machine, Running, running
from tests.gateway.publish.support import retained
from tests.story.witness import MqttWitness
from tests.support.database import new_database, timescale_dsn
from tests.support.processes import Mosquitto, Process
from tests.support.small_plc import SmallPlc, small_plcs

LONG = os.environ.get("ANDON_TEST_PROFILE") == "long"
CHANGES = 500 if LONG else 60
#: Kills in the middle of changes.
KILLS = 60 if LONG else 6


@dataclass
class Floor:
    """The devices, whose registers move all the time; remembers what the first one told of its registers."""

    plcs: list[SmallPlc]
    chance: random.Random
    told: list[list[int]] = field(default_factory=lambda: [[] for _ in ANCHORS])

    def note(self, words: Sequence[int]) -> None:
        for seen, word in zip(self.told, words, strict=False):
            if not seen or seen[-1] != word:
                seen.append(word)

    async def move(self) -> None:
        while True:
            for plc in self.plcs:
                n = self.chance.randrange(REGISTERS)
                plc.registers[n] = (plc.registers[n] + 1) % len(STATES)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def floor(devices: int, seed: int) -> AsyncIterator[Floor]:
    async with small_plcs(devices) as plcs:
        found = Floor(plcs, random.Random(seed))
        plcs[0].answering = found.note
        moving = asyncio.create_task(found.move())
        try:
            yield found
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)


def moves(events: Sequence[Recorded], name: str) -> list[Transition]:
    return [one.event for one in events if one.equipment == name and isinstance(one.event, Transition)]


def judge(events: Sequence[Recorded]) -> None:
    """No number is missing, of the stream nor of any equipment, and each state follows the one before."""
    assert [one.seq for one in events] == list(range(1, len(events) + 1))
    for name in {one.equipment for one in events if isinstance(one.event, Transition)}:
        found = moves(events, name)
        assert [move.sequence for move in found] == list(range(1, len(found) + 1)), name
        for before, after in pairwise(found):
            assert (before.to_state, before.at) <= (before.to_state, after.at), name
            assert after.from_state == before.to_state, name


def looks(gateway: Running) -> dict[str, Any]:
    """What a gateway shows, without what moves: to be compared with one that was started so."""
    live, health = gateway.gateway.live, gateway.gateway.health
    return {
        "equipment": [(it.name, it.path, it.model, dict(it.inputs)) for it in live.equipment()],
        "tags": [(it.tag, it.group, it.unit) for it in live.tags()],
        "connections": [(it.name, it.endpoint, it.tags) for it in live.connections()],
        "health": sorted(health.report()["parts"]),
    }


@pytest.fixture(autouse=True)
def only_what_the_test_makes() -> Iterator[None]:
    """What other tests left in memory is not looked through: that holds up a gateway for seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def held() -> dict[str, int]:
    """What a process holds: file descriptors, tasks, and objects of our own kinds."""
    gc.collect()
    kinds = ("Supervised", "Engine", "Server", "MqttPublisher", "Historian", "SampleBatch")
    found = dict.fromkeys(kinds, 0)
    for thing in gc.get_objects():
        kind = type(thing).__name__
        if kind in found and type(thing).__module__.partition(".")[0] in ("gateway", "statemodel", "api"):
            found[kind] += 1
    del found["SampleBatch"]
    return {
        **found,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
    }


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


PATIENCE_S = 60.0


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until it is so, but go on after a while: what is wrong then is told by what is asserted."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until_s:
        await asyncio.sleep(0.25)  # to look through the memory holds everybody up


@pytest.mark.timeout(8 * CHANGES + 300)
async def test_changes_at_random_under_load(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    async with floor(6, seed=1) as plant:
        first = beginning(plant.plcs)
        changer = Changer(first, plant.plcs, chance)
        here = tmp_path / "here"
        here.mkdir()
        async with running(here, first) as gateway:
            await gateway.until_up()
            anchor = gateway.gateway.live.supervised["plc-0"]
            at_first, bytes_half = held(), 0
            for number in range(CHANGES):
                before, sessions = changer.site, [plc.connections for plc in plant.plcs]
                known = dict(gateway.gateway.live.supervised)
                up = {name for name, item in known.items() if item.link == "up"}
                after = changer.another()
                await gateway.apply(after)
                for name, link in after.links.items():
                    if before.links.get(name) == link:
                        assert gateway.gateway.live.supervised[name] is known[name], "it was not touched"
                if chance.random() < 0.5:
                    await gateway.until_up()
                for n, plc in enumerate(plant.plcs):
                    name = f"plc-{n}"
                    if name in up and before.links.get(name) == after.links.get(name):
                        assert plc.connections == sessions[n], name
                if number == CHANGES // 2:
                    bytes_half = resident_bytes()
            grown = resident_bytes() - bytes_half
            known.clear()  # or it would be us who hold what is gone
            await gateway.apply(first)
            await gateway.until_up()

            def is_as_at_first() -> bool:
                """Tasks and descriptors are judged by their most: of these, segments of the journal."""
                now = held()
                most = {"descriptors": at_first["descriptors"] + 4, "tasks": at_first["tasks"]}
                return all(count <= most.get(name, at_first[name]) for name, count in now.items())

            await settled(is_as_at_first)
            at_last = held()
            moving = {name: at_last[name] for name in ("descriptors", "tasks")}
            assert at_last == {**at_first, **moving}
            assert at_last["tasks"] <= at_first["tasks"]
            assert at_last["descriptors"] <= at_first["descriptors"] + 4, "segments of the journal, no more"
            assert grown / (CHANGES / 2) < 1_000_000, f"{grown} bytes more in the second half"
            assert gateway.gateway.live.supervised["plc-0"] is anchor
            assert plant.plcs[0].connections == 1
            # What the device said of the anchors, one for one, and nothing else: they never were unknown.
            told = [list(seen) for seen in plant.told]
            await gateway.until(lambda: all(_stands(gateway, n, seen) for n, seen in enumerate(told)))
            events = await gateway.events()
            judge(events)
            for n, name in enumerate(ANCHORS):
                states = [move.to_state for move in moves(events, name)]
                assert states[: len(told[n])] == [STATES[word] for word in told[n]]
            assert "plc-0" not in {e.event.connection for e in events if isinstance(e.event, SourceLost)}
            final = changer.another()
            await gateway.apply(final)
            found = looks(gateway)
        there = tmp_path / "there"
        there.mkdir()
        async with running(there, final) as fresh:
            assert looks(fresh) == found
        async with running(here, final) as again:
            await again.until_up()
            judge(await again.events())


def _stands(gateway: Running, n: int, seen: Sequence[int]) -> bool:
    return gateway.gateway.live.equipment_named(ANCHORS[n]).state.sequence >= len(seen)  # type: ignore[union-attr]


async def numbers_of(dsn: str) -> list[int]:
    """The numbers of every event in a database."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT seq FROM andon.transition UNION ALL SELECT seq FROM andon.source_event ORDER BY seq"
        )
        return [row["seq"] for row in rows]
    finally:
        await connection.close()


@pytest.mark.real
@pytest.mark.timeout(12 * CHANGES + 400)
async def test_brokers_and_a_database_hear_of_everything_once_whatever_is_changed(tmp_path: Path) -> None:
    chance = random.Random(7)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    async with (
        new_database(timescale_dsn()) as dsn,
        Mosquitto(tmp_path) as broker,
        Mosquitto(there) as other,
        floor(5, seed=2) as plant,
    ):
        url = f"mqtt://127.0.0.1:{broker.port}"
        first = beginning(plant.plcs)
        first.mqtt, first.historian = {"main": url}, dsn
        urls = url, f"mqtt://127.0.0.1:{other.port}"
        changer = BrokerChanger(first, plant.plcs, chance, urls, dsn)
        with MqttWitness(broker.port, lasting=True) as witness:
            await asyncio.to_thread(witness.wait_subscribed)
            async with running(here, first) as gateway:
                await gateway.until_up()
                await gateway.until(lambda: all(s.status().connected for s in sinks_of(gateway).values()))
                await gateway.until(lambda: witness.events != [])
                at_first = held()
                for _ in range(CHANGES // 2):
                    await gateway.apply(changer.another())
                    if chance.random() < 0.4:
                        await asyncio.sleep(chance.random() * 0.3)  # for the sinks to be at work, or not yet
                last = first.copy()
                last.machines["lathe"] = Machine("plc-2/r3")
                await gateway.apply(last)
                await gateway.until_up()
                assert gateway.gateway.exchange.loaded.configuration.sinks == ("historian", "mqtt-main")
                del last.machines["lathe"]
                await gateway.apply(last)

                events = await gateway.events()
                judge(events)
                await gateway.until(
                    lambda: {e["seq"] for e in witness.events} >= {e.seq for e in events}, 100
                )
                async with asyncio.timeout(100):
                    while (await numbers_of(dsn))[: len(events)] != [one.seq for one in events]:
                        await asyncio.sleep(0.2)
                assert len(set(numbers := await numbers_of(dsn))) == len(numbers), "nothing is there twice"
                assert witness.backwards == []
                [main] = [s for n, s in sinks_of(gateway).items() if n == "mqtt-main"]
                assert main.status().connects == 1, "its own settings were never changed"
                assert broker.log.read_text().count(f" as {main.options.client_id} (") == 1
                cleared = await differs(broker.port, main)
                assert cleared == "", cleared
                del main

                def is_little() -> bool:
                    now = held()
                    few = now["tasks"] <= at_first["tasks"] + 6 and now["MqttPublisher"] == 1
                    return few and now["descriptors"] <= at_first["descriptors"] + 8

                await settled(is_little)
                at_last = held()
                assert at_last["tasks"] <= at_first["tasks"] + 6
                assert at_last["MqttPublisher"] == 1, "of those that were taken out none is held"
                assert at_last["Historian"] == 1
                assert at_last["descriptors"] <= at_first["descriptors"] + 8


async def differs(port: int, main: Any) -> str:
    """What the broker still holds of what is gone, or lacks of what is there, after a while."""
    until_s = time.monotonic() + PATIENCE_S
    there, wanted = set[str](), set[str]()
    while time.monotonic() < until_s:
        there = {topic for topic in await retained(port) if topic.startswith("acme/")}
        wanted = {topic for topic in main.retained() if topic.startswith("acme/")}
        if there == wanted:
            return ""
        await asyncio.sleep(0.3)
    return f"left: {sorted(there - wanted)}; missing: {sorted(wanted - there)}"


def sinks_of(gateway: Running) -> dict[str, Any]:
    return dict(gateway.gateway.health.sinks)


@pytest.mark.timeout(30 * KILLS + 300)
async def test_a_kill_in_the_middle_of_changes_costs_nothing(tmp_path: Path) -> None:
    """Whatever the files say by then: the next start goes on with the same numbers, without a gap."""
    chance = random.Random(3)
    here = tmp_path / "here"
    here.mkdir()
    child = Path(__file__).with_name("changing_gateway.py")
    async with floor(6, seed=3) as plant:
        ports = [str(plc.port) for plc in plant.plcs]
        changes = 0
        for seed in range(KILLS):
            command = [sys.executable, str(child), str(here), str(seed), *ports]
            process = await Process.start(command, tmp_path / "child.log")
            assert process.child.stdout is not None
            async with asyncio.timeout(100):
                for _ in range(chance.choice((2, 3, 5, 9))):  # a kill before the first change would be dull
                    line = await process.child.stdout.readline()
                    assert line, process.words()[-3000:]
                    changes += line == b"changed\n"
            await asyncio.sleep(chance.random() * 0.05)
            assert await process.end(signal.SIGKILL) == -signal.SIGKILL
            for plc in plant.plcs:
                plc.cut()
        assert changes >= KILLS
        last = beginning(plant.plcs)
        async with running(here, last) as gateway:
            await gateway.until_up()
            for name in last.machines:
                await gateway.until(lambda name=name: gateway.state(name) != "Unknown")  # type: ignore[misc]
            judge(await gateway.events())
