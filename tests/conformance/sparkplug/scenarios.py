"""What an edge node goes through while everything it sends is written down.

Each scenario is played on a rig of its own, with a gateway that has never run, and gives one transcript.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.sparkplug import decoder
from tests.conformance.sparkplug.checks_commands import REBIRTH_EVERY_MS
from tests.conformance.sparkplug.decoder import quality_of
from tests.conformance.sparkplug.rig import GROUP, HOST, NODE, Rig, now_ms, rig
from tests.conformance.sparkplug.story import (
    ANOTHER,
    AWAY,
    BAD,
    CHANGED,
    GOOD_AGAIN,
    LOST,
    Metric,
    Transcript,
)

#: How long something is waited for that may never come, in seconds.
IMPATIENT_S = 10.0

Play = Callable[[Rig], Awaitable[None]]

#: Two edge nodes in one gateway.
LINES = "".join(
    f'[[sparkplug]]\nname = "{name}"\nbroker = [BROKERS]\ngroup = "{GROUP}"\nedge_node = "{name}"\n'
    f'under = "{under}"\n'
    for name, under in (("fill", "fillers"), ("bake", "ovens"))
)


class Scenario:
    """A play, and the rig it needs."""

    def __init__(self, play: Play, **options: Any) -> None:
        self.name = play.__name__.replace("_", " ")
        self._play = play
        self._options = options

    async def record(self, directory: Path) -> Transcript:
        """Play it in this folder.

        Raises:
            AssertionError: it could not be played to its end.
        """
        async with rig(self.name, directory, **self._options) as made:
            await self._play(made)
            await made.stop()
            await made.quiet()
            return made.transcript

    async def record_what_comes(self, directory: Path) -> Transcript:
        """Play it with an edge node that is wrong, so that what is waited for may never come."""
        async with rig(self.name, directory, **self._options) as made:
            made.wait_s = IMPATIENT_S
            with contextlib.suppress(AssertionError):
                await self._play(made)
            await made.stop()
            return made.transcript


SCENARIOS: dict[str, Scenario] = {}

#: So many are played at the same time; most of their time they wait.
AT_ONCE = 4


async def record_all(names: Sequence[str], directory: Path, told: Callable[[str], None]) -> list[Transcript]:
    """Play these side by side, each in a folder and on ports of its own; `told` hears which is over."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Transcript:
        async with places:
            folder = directory / name.replace(" ", "-")
            folder.mkdir()
            transcript = await SCENARIOS[name].record(folder)
            told(name)
            return transcript

    async with asyncio.TaskGroup() as group:
        playing = [group.create_task(one(name)) for name in names]
    return [task.result() for task in playing]


def scenario(**options: Any) -> Callable[[Play], Play]:
    """Enters a scenario with the options of its rig."""

    def enter(play: Play) -> Play:
        made = Scenario(play, **options)
        SCENARIOS[made.name] = made
        return play

    return enter


@scenario()
async def start_data_and_clean_stop(rig: Rig) -> None:
    await rig.start()
    await rig.born()
    for speed, state in ((150, "Fast"), (-3, "Slow")):
        rig.record.note(CHANGED, "filler:State", state)
        await rig.change("filler-plc", "speed", speed)
    await rig.change("filler-plc", "temp", 21.25)
    await rig.change("filler-plc", "count", 2**63 + 1)
    await rig.change("oven-plc", "level", -(2**31))
    await rig.change("oven-plc", "label", b"wine\0\0\0\0")
    await rig.change("hall", "temp", -4.5)


@scenario(protocol="3.1.1")
async def the_same_with_mqtt_3_1_1(rig: Rig) -> None:
    await rig.start()
    await rig.born()
    await rig.change("filler-plc", "speed", 150)
    after = len(rig.record.packets)
    rig.record.note(AWAY)
    await rig.taps["one"].drop()
    await rig.born(after=after)
    await rig.change("oven-plc", "run", 0)


@scenario()
async def a_long_run(rig: Rig) -> None:
    """Past 255 and 0 again, twice."""
    await rig.start()
    await rig.born()
    after = len(rig.record.packets)

    async def turn() -> None:
        while True:
            for machine in rig.devices.values():
                machine.put("count", machine.get("count") + 1)
                machine.put("temp", machine.get("temp") + 0.25)
            await asyncio.sleep(0.02)

    turning = asyncio.create_task(turn())
    await rig.published(600, after=after)
    turning.cancel()
    await rig.change("filler-plc", "speed", 77)


@scenario()
async def links_are_lost_and_restored(rig: Rig) -> None:
    await rig.start()
    await rig.born()
    await rig.lose("oven-plc")
    await rig.change("filler-plc", "speed", 120)
    await rig.restore("oven-plc")
    await rig.change("oven-plc", "speed", 130)
    await rig.lose("filler-plc")
    after = len(rig.record.packets)
    await rig.host.ask_rebirth()
    await rig.born("oven", after=after)
    await rig.change("oven-plc", "speed", 140)
    await rig.restore("filler-plc")


@scenario()
async def tags_are_bad_and_good_again(rig: Rig) -> None:
    """One device refuses a register; one has never answered."""
    rig.record.note(LOST, "oven")
    await rig.devices["oven-plc"].away()
    rig.devices["hall"].refused["holding", 20] = 2
    await rig.start()
    await rig.born("filler")
    await rig.change("filler-plc", "speed", 120)
    after = len(rig.record.packets)
    rig.devices["filler-plc"].refused["holding", 20] = 2
    await rig.said(("DDATA",), "filler", bad("Tags/filler-plc/temp"), after=after, what="a bad temperature")
    rig.record.note(BAD, "filler:Tags/filler-plc/temp")
    after = len(rig.record.packets)
    await rig.host.ask_rebirth()
    await rig.born("filler", after=after)
    rig.record.note(GOOD_AGAIN, "filler:Tags/filler-plc/temp")
    del rig.devices["filler-plc"].refused["holding", 20]
    del rig.devices["hall"].refused["holding", 20]
    await rig.change("hall", "temp", 5.5)
    await rig.change("filler-plc", "temp", 33.5)
    await rig.restore("oven-plc")


def bad(name: str) -> Callable[[Metric], bool]:
    """A metric of this name that says that it is not good."""
    return lambda metric: metric.name == name and quality_of(metric.raw) not in (None, 192)


@scenario()
async def rebirths(rig: Rig) -> None:
    await rig.start()
    await rig.born()
    await rig.change("hall", "temp", -1.5)  # so that the node has said something before it is born again
    for stamped in (True, False):
        await rig.change("filler-plc", "speed", 120 + stamped)
        await rebirth_rests()
        after = len(rig.record.packets)
        await rig.host.ask_rebirth(stamped=stamped)
        await rig.born(after=after)
    await rig.host.ask_rebirth(value=False)
    await rig.host.command(fill("Node Control/Reboot", decoder.BOOLEAN, True))
    await asyncio.sleep(1.5)  # a session that ends on account of a command ends within this
    await rig.change("filler-plc", "speed", 20)


async def rebirth_rests() -> None:
    """Wait until a rebirth may come at once again."""
    await asyncio.sleep((REBIRTH_EVERY_MS + 700.0) / 1000.0)


def fill(name: str, datatype: int, value: Any, *, alias: int | None = None) -> Callable[[Any], None]:
    """A command with one metric; named by its alias where that is given."""

    def add(payload: Any) -> None:
        raw = payload.metrics.add(datatype=datatype, timestamp=payload.timestamp)
        if alias is None:
            raw.name = name
        else:
            raw.alias = alias
        setattr(raw, decoder.VALUE_FIELDS[datatype], value)

    return add


@scenario()
async def a_storm_of_rebirths(rig: Rig) -> None:
    """A thousand requests, while data goes on."""
    await rig.start()
    await rig.born()
    await rebirth_rests()
    after = len(rig.record.packets)
    for _ in range(20):
        for _ in range(50):
            rig.host.shout_rebirth()
        await asyncio.sleep(0.05)
    await rig.said(("NBIRTH",), after=after, count=2, what="the last of the storm is answered")
    for device in ("filler", "oven"):
        await rig.said(("DBIRTH",), device, after=after, count=2)
    await rig.change("filler-plc", "speed", 42)


@scenario()
async def commands_nobody_can_obey(rig: Rig) -> None:
    """Garbage, other people's metrics, wrong types, wrong topics; commands are off."""
    await rig.start()
    await rig.born()
    host = rig.host
    speed = rig.alias("filler", "Tags/filler-plc/speed")
    for data in (b"", b"\xff" * 40, b"{}", bytes(range(256)) * 20):
        await host.command(data)
        await host.command(data, "filler")
    await host.command(fill("Nobody", decoder.STRING, "x"))
    await host.command(fill("Nobody", decoder.STRING, "x"), "filler")
    await host.command(fill("Node Control/Rebirth", decoder.STRING, "true"))
    await host.command(fill("Node Control/Rebirth", decoder.BOOLEAN, True), "filler")
    await host.command(fill("", 2, 7, alias=speed), "filler")
    await host.command(fill("", decoder.STRING, "fast", alias=speed), "filler")
    await host.command(fill("", decoder.STRING, "x", alias=2**60), "oven")
    await host.command(fill("Node Control/Rebirth", decoder.BOOLEAN, True), "nobody")
    await host.say(f"spBv1.0/{GROUP}/NCMD/{NODE}/filler", b"\x18\x01")
    await asyncio.sleep(1.5)  # as above
    assert rig.devices["filler-plc"].get("speed") != 7, "written although commands are off"
    await rig.change("filler-plc", "speed", 120)
    await rig.change("oven-plc", "speed", 121)
    await rig.change("hall", "temp", 1.5)


@scenario(commands=True)
async def a_host_writes(rig: Rig) -> None:
    """Commands are on: what can be written is, what cannot is refused."""
    await rig.start()
    await rig.born()
    host, machine = rig.host, rig.devices["filler-plc"]
    speed = rig.alias("filler", "Tags/filler-plc/speed")
    await host.command(fill("", 2, 160, alias=speed), "filler")
    await rig.written("filler-plc", "speed", 160)
    await host.command(fill("", decoder.STRING, "fast", alias=speed), "filler")
    await host.command(fill("Nobody", decoder.STRING, "x"), "filler")
    await host.command(fill("Tags/filler-plc/temp", 9, 44.5), "filler")
    await rig.written("filler-plc", "temp", 44.5)
    await asyncio.sleep(1.5)  # as above
    rig.note_more_writes("filler-plc")
    assert machine.get("speed") == 160
    await rig.change("filler-plc", "speed", 90)


@scenario()
async def connections_break(rig: Rig) -> None:
    """The cable to the broker is cut at once, and for a while; what happened meanwhile is told afterwards."""
    await rig.start()
    await rig.born()
    await rig.change("filler-plc", "speed", 150)
    for pause_s in (0.0, 6.0):  # values of long ago, and what a busy machine reads late
        after = len(rig.record.packets)
        rig.record.note(AWAY)
        await rig.taps["one"].cut()
        for speed in (10, 160, 20):
            await rig.change("filler-plc", "speed", speed, told=False)
            await asyncio.sleep(0.3 + pause_s / 3)
        await rig.taps["one"].heal()
        await rig.born(after=after)
        await rig.host.hears(f"spBv1.0/{GROUP}/NDEATH/{NODE}")
        await rig.said(("DDATA",), "filler", historical, after=after, what="what happened meanwhile")
        await rig.change("filler-plc", "speed", 150)


def historical(metric: Metric) -> bool:
    """Whether it is told after the event."""
    return bool(metric.raw.is_historical)


@scenario()
async def stopped_and_started_again(rig: Rig) -> None:
    for speed in (120, 60, 130):
        after = len(rig.record.packets)
        await rig.start()
        await rig.born(after=after)
        await rig.change("filler-plc", "speed", speed)
        await rig.stop()


@scenario()
async def killed_and_started_again(rig: Rig) -> None:
    """As a process of its own, so that it can be killed."""
    for speed in (120, 60):
        after = len(rig.record.packets)
        async with rig.process() as process:
            await rig.born(after=after)
            await rig.change("filler-plc", "speed", speed)
            deaths = rig.host.count(f"spBv1.0/{GROUP}/NDEATH/{NODE}")
            rig.note_kill()
            await process.kill()
            await rig.host.hears(f"spBv1.0/{GROUP}/NDEATH/{NODE}", count=deaths + 1)
    after = len(rig.record.packets)
    await rig.start()
    await rig.born(after=after)


@scenario(primary_host=HOST)
async def a_host_is_waited_for(rig: Rig) -> None:
    """Other hosts, words of other times, an old death that comes late, and the real one."""
    host, now = rig.host, now_ms()
    for other in ("other", f"{HOST}2", HOST.upper()):
        rig.record.note(ANOTHER, other)
        await host.state(True, now, host=other)
    await rig.start()
    await rig.subscribed()
    await host.say(f"spBv1.0/STATE/{HOST}", b"ONLINE")
    await host.say(f"spBv1.0/STATE/{HOST}", b'{"online": "true", "timestamp": 1}')
    await host.say(f"spBv1.0/STATE/{HOST}", b"\xff" * 2000)
    await host.state(False, now)
    await rig.told(f"spBv1.0/STATE/{HOST}", 4)
    await host.state(True, now - 5000)
    await asyncio.sleep(0.5)  # births on account of an old word would come now
    after = len(rig.record.packets)
    await host.state(True, now + 10)
    await rig.born(after=after)
    await rig.change("filler-plc", "speed", 150)
    await host.state(False, now - 60_000)
    await host.state(False, now + 9)
    await asyncio.sleep(0.5)  # leaving on account of an old death would come now
    await rig.change("filler-plc", "speed", 50)
    after = len(rig.record.packets)
    await host.state(False, now + 10)
    await rig.closed(after=after)
    for speed in (160, 20):
        await rig.change("filler-plc", "speed", speed, told=False)
        await asyncio.sleep(0.3)
    after = len(rig.record.packets)
    await host.state(True, now + 20)
    await rig.born(after=after)
    await rig.said(("DDATA",), "filler", historical, after=after, what="what happened meanwhile")
    await rig.change("filler-plc", "speed", 150)


@scenario(primary_host=HOST, servers=("one", "two"))
async def two_servers_are_walked(rig: Rig) -> None:
    """A host has a timestamp of its own with each server: it connected to the second one earlier."""
    now = now_ms()
    await rig.hosts["one"].state(True, now)
    await rig.hosts["two"].state(True, now - 60_000)
    await rig.start()
    await rig.born()
    await rig.change("filler-plc", "speed", 150)
    after = len(rig.record.packets)
    await rig.hosts["one"].state(False, now)
    await rig.born(after=after)
    await rig.change("filler-plc", "speed", 20)
    after = len(rig.record.packets)
    await rig.hosts["one"].state(True, now + 10)
    await rig.hosts["two"].state(False, now - 60_000)
    await rig.born(after=after)
    await rig.change("filler-plc", "speed", 150)
    after = len(rig.record.packets)
    rig.record.note(AWAY)
    await rig.taps["one"].cut()
    await rig.hosts["two"].state(True, now + 20)
    await rig.born(after=after)
    await rig.change("filler-plc", "speed", 30)


@scenario(sections=LINES, nodes={f"{GROUP}/fill": ["filler"], f"{GROUP}/bake": ["oven"]})
async def an_edge_node_for_each_line(rig: Rig) -> None:
    await rig.start()
    await rig.said(("DBIRTH",), "filler")
    await rig.said(("DBIRTH",), "oven")
    await rig.change("filler-plc", "speed", 150)
    await rig.change("oven-plc", "speed", 150)
    await rebirth_rests()
    after = len(rig.record.packets)
    await rig.host.ask_rebirth(node="bake")
    await rig.said(("DBIRTH",), "oven", after=after)
    await rig.change("oven-plc", "speed", 15)


@scenario(
    nodes={f"{GROUP}/{NODE}": ["filler", "oven", "capper", "baker"]},
    machines=("filler-plc", "oven-plc", "capper-plc"),
)
async def the_configuration_changes_while_it_runs(rig: Rig) -> None:
    """Tags are added, machines come, go and get other names: all on one connection, in one life."""
    rig.left_out = ("capper-plc", "oven-plc/label")
    await rig.start()
    await rig.born()
    await rig.change("filler-plc", "speed", 150)
    for left_out, names, kind, device in (
        (("capper-plc",), {}, "DBIRTH", "oven"),
        ((), {}, "DBIRTH", "capper"),
        (("filler-plc",), {}, "DDEATH", "filler"),
        (("filler-plc", "oven-plc/temp"), {"oven-plc": "baker"}, "DBIRTH", "baker"),
        (("oven-plc/temp",), {"oven-plc": "baker"}, "DBIRTH", "filler"),
    ):
        after = len(rig.record.packets)
        rig.left_out, rig.names = left_out, names
        await rig.configure()
        await rig.said((kind,), device, after=after)
        for machine in [name for name in rig.devices if name not in ("hall", *left_out)]:
            speed = 150 if rig.devices[machine].get("speed") < 100 else 20
            await rig.change(machine, "speed", speed)
    await rebirth_rests()
    after = len(rig.record.packets)
    await rig.host.ask_rebirth()
    await rig.born("filler", "baker", "capper", after=after)
    assert len(rig.story.sessions) == 1, "it connected anew"
    assert not rig.story.of("NDEATH")
