"""Another configuration on the same connection, as a host application hears it: only what differs is said."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.base import WriteOutcome, Written
from gateway.sparkplug.births import PublishedTag
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import Metric, resolve
from statemodel.types import TagValue
from tests.gateway.publish.conftest import mosquitto
from tests.gateway.publish.support import Mosquitto, Proxy
from tests.gateway.sparkplug.site import GROUP, Running, Site, site, until
from tests.support.sparkplug_host import SparkplugHost

__all__ = ["mosquitto"]
LEVEL = PublishedTag("oven-plc/level", "mm", DataType.DOUBLE)


def host_at(port: int, **more: Any) -> SparkplugHost:
    return SparkplugHost(port, GROUP, "line-1", **more)


def births(host: SparkplugHost) -> list[str]:
    return [
        f"{item.verb} {item.device}".strip() for item in host.heard if item.verb[1:] in ("BIRTH", "DEATH")
    ]


def said_twice(host: SparkplugHost, plant: Site) -> list[tuple[str, int]]:
    """Transitions that DATA told more than once."""
    found = []
    for name in plant.names:
        told = Counter(seqs_of(host, name))
        found += [(name, seq) for seq, times in told.items() if times > 1]
    return found


def seqs_of(host: SparkplugHost, device: str) -> Iterator[Any]:
    """Numbers of the moves that DATA told."""
    aliases: set[int | None] = set()
    for item in host.heard:
        if item.device == device:
            if item.verb == "DBIRTH":
                aliases = {metric.alias for metric in item.payload.metrics if metric.name == "Seq"}
            elif item.verb == "DDATA":
                for metric in item.payload.metrics:
                    if metric.alias in aliases:
                        yield resolve(metric, DataType.UINT64).value


async def told_all(host: SparkplugHost, plant: Site) -> None:
    await host.wait(lambda: plant.all_told(host), f"every transition; wanting {plant.untold(host)}")


async def some_more(host: SparkplugHost) -> None:
    heard = len(host.heard)
    await host.wait(lambda: len(host.heard) > heard + 5, "some more")


def whole(host: SparkplugHost, running: Running) -> None:
    """One connection, one life of the node, no number left out."""
    assert host.problems == []
    assert "NDEATH" not in host.verbs()
    assert host.bdseq == 0
    assert running.node.status().connects == 1


async def test_what_is_the_same_is_not_said_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port))
        async with running:
            await plant.happen(20)
            await plant.measure("oven", 5.0)
            await told_all(host, plant)
            before, number = births(host), host.bdseq
            for value in (6.0, 7.0):
                await running.keep()
                await plant.happen(5)
                await plant.measure("oven", value)
                running.give_to(plant.instead(mosquitto.port, repeat="2m"))
                await plant.move("filler")
                await told_all(host, plant)
                await host.wait(
                    lambda: host.value("oven", "Tags/oven-plc/speed") == plant.speeds["oven"][-1], "the value"
                )
            await until(running.node, lambda s: s.connected and not s.lag_events, "all is told")
            assert births(host) == before
            assert host.bdseq == number
            assert said_twice(host, plant) == []
            assert running.node.status().connects == 1
        await host.wait(lambda: "NDEATH" in host.verbs(), "the death at the end")
        assert host.problems == []


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_only_devices_that_differ_die_and_are_born(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven", "capper") as plant,
        host_at(mosquitto.port) as host,
    ):
        plant.names = ("filler", "oven")
        running = Running(plant.node(mosquitto.port, protocol=protocol))

        async def change() -> list[str]:
            said = len(births(host))
            await running.keep()
            await plant.happen(4)
            running.give_to(plant.instead(mosquitto.port, protocol=protocol))
            await plant.happen(6)
            await told_all(host, plant)
            await until(running.node, lambda status: not status.lag_events, "all is told")
            return births(host)[said:]

        async with running:
            await plant.happen(10)
            await told_all(host, plant)
            plant.names = ("filler", "oven", "capper")
            assert await change() == ["DBIRTH capper"]
            plant.more_tags["oven"] = (LEVEL,)
            assert await change() == ["DBIRTH oven"]
            assert ("oven", "Tags/oven-plc/level") in host.told
            plant.names = ("oven", "capper")
            assert await change() == ["DDEATH filler"]
            del plant.more_tags["oven"]
            plant.names = ("capper", "oven", "filler")
            assert sorted(await change()) == ["DBIRTH filler", "DBIRTH oven"]
            whole(host, running)
            plant.links["wrapper-plc"] = "up"  # a metric of the node
            assert await change() == ["NBIRTH", "DBIRTH capper", "DBIRTH oven", "DBIRTH filler"]
            whole(host, running)
            assert said_twice(host, plant) == []


async def test_an_alias_never_comes_to_mean_another_metric(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port))
        async with running:
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            meant = dict(host._aliases)
            for names, tags in ((("oven",), (LEVEL,)), (("filler", "oven"), ()), (("oven",), ())):
                await running.keep()
                plant.names, plant.more_tags["oven"] = names, tags
                running.give_to(plant.instead(mosquitto.port))
                await plant.measure("oven", float(len(births(host))))
                await host.wait(
                    lambda: host.value("oven", "Tags/oven-plc/speed") == plant.speeds["oven"][-1], "news"
                )
                for alias, metric in host._aliases.items():
                    assert meant.setdefault(alias, metric)[:2] == metric[:2]
            whole(host, running)


async def test_history_goes_on_where_it_was(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        await plant.happen(12_000)
        await mosquitto.start()
        async with host_at(mosquitto.port) as host:
            running = Running(plant.node(mosquitto.port))
            async with running:
                for _ in range(3):
                    await some_more(host)
                    await plant.move("filler")
                    await running.keep()
                    await plant.move("oven")
                    plant.more_tags["oven"] = () if plant.more_tags.get("oven") else (LEVEL,)
                    running.give_to(plant.instead(mosquitto.port))
                await told_all(host, plant)
                await until(running.node, lambda s: s.backlog is None and not s.lag_events, "drained")
                assert said_twice(host, plant) == []
                whole(host, running)


async def test_every_value_of_a_tag_is_told_though_configurations_come_and_go(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port))
        async with running:
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            value = 0.0
            for _ in range(6):
                for step in range(30):
                    if step == 10:
                        await running.keep()
                    if step == 20:
                        running.give_to(plant.instead(mosquitto.port))
                    value += 1
                    await plant.measure("oven", value)
            name = ("oven", "Tags/oven-plc/speed")
            await host.wait(lambda: set(plant.speeds["oven"]) <= set(host.values(*name)), "every value")
            await asyncio.sleep(0.5)  # nothing is overtaken any more
            await running.keep()
            for _ in range(3):
                value += 1
                await plant.measure("oven", value)
            running.give_to(plant.instead(mosquitto.port))
            await host.wait(lambda: set(plant.speeds["oven"]) <= set(host.values(*name)), "every value")
            whole(host, running)


async def test_what_a_dead_device_has_to_tell_is_told_when_it_lives_again(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port))
        async with running:
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            await plant.lose("filler")
            await host.wait(lambda: "DDEATH filler" in births(host), "the death")
            await plant.move("filler", "Held")
            await plant.move("oven", "Held")
            await host.wait(lambda: host.value("oven", "State") == "Held", "it was read")
            await running.keep()
            await plant.move("filler", "Idle")
            running.give_to(plant.instead(mosquitto.port))
            await plant.move("oven", "Idle")
            await host.wait(lambda: host.value("oven", "State") == "Idle", "news")
            assert births(host)[-1] == "DDEATH filler"
            await plant.restore("filler")
            await told_all(host, plant)
            whole(host, running)


async def test_a_link_that_broke_meanwhile_costs_a_new_connection_and_nothing_else(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
    ):
        running = Running(plant.node(proxy.port))
        async with running:
            await plant.happen(20)
            await told_all(host, plant)
            await running.keep()
            proxy.cut()
            await host.wait(lambda: "NDEATH" in host.verbs(), "the will")
            await plant.happen(20)
            plant.names = ("oven",)
            running.give_to(plant.instead(proxy.port))
            await until(running.node, lambda status: status.connects == 2, "connected anew")
            await told_all(host, plant)
            assert births(host)[-2:] == ["NBIRTH", "DBIRTH oven"]
            assert host.bdseq == 1
            await running.keep()
            running.give_to(plant.instead(proxy.port))
            proxy.cut()  # before, or while, it begins
            await plant.happen(20)
            await until(running.node, lambda status: status.connects == 3, "connected again")
            await told_all(host, plant)
        assert host.problems == []


async def test_what_a_dead_device_has_to_tell_survives_a_link_that_broke_meanwhile(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held for it is older than what a loss repeats: nobody else would tell it."""
    monkeypatch.setattr("gateway.sparkplug.reached.REPEAT_S", 0.1)
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
    ):
        running = Running(plant.node(proxy.port))
        async with running:
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            await plant.lose("filler")
            await host.wait(lambda: "DDEATH filler" in births(host), "the death")
            await plant.move("filler", "Held")
            await plant.move("filler", "Execute")
            await plant.move("oven", "Held")
            last = plant.seq
            await host.wait(lambda: host.value("oven", "State") == "Held", "it was read")
            lately = running.node._reached._lately
            await wait_for(lambda: lately.before(time.monotonic() - 0.1).seq >= last, "it counts as heard")
            await running.keep()
            proxy.cut()
            await host.wait(lambda: "NDEATH" in host.verbs(), "the will")
            running.give_to(plant.instead(proxy.port, repeat="2m"))
            await until(running.node, lambda status: status.connects == 2, "connected anew")
            await plant.restore("filler")
            await told_all(host, plant)
            assert host.problems == []


async def test_a_host_that_goes_away_meanwhile_is_not_spoken_to(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        running = Running(plant.node(mosquitto.port, primary_host="scada"))
        async with running, host_at(mosquitto.port, host_id="scada") as host:
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            await running.keep()
            inbox = running.node._kept.inbox  # type: ignore[union-attr]
            await host.say_offline()
            async with asyncio.timeout(10):
                await inbox.host_offline()
            plant.more_tags["oven"] = (LEVEL,)
            running.give_to(plant.instead(mosquitto.port, primary_host="scada"))
            await host.wait(lambda: "NDEATH" in host.verbs(), "the death")
            await plant.happen(10)
            await until(running.node, lambda s: s.connects == 2 and s.host == "offline", "waits for it")
            assert set(births(host)[3:]) == {"NDEATH"}
            await host.say_online()
            await told_all(host, plant)
            assert births(host)[-3:] == ["NBIRTH", "DBIRTH filler", "DBIRTH oven"]
            assert host.problems == []


async def test_who_waits_for_the_host_goes_on_waiting(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        running = Running(plant.node(mosquitto.port, primary_host="scada"))
        async with running, host_at(mosquitto.port) as other:
            await until(running.node, lambda status: status.connects == 1, "connected")
            await asyncio.sleep(0.2)  # subscribed
            await running.keep()
            assert running.node._kept is not None
            plant.names = ("oven",)
            await plant.happen(5)
            running.give_to(plant.instead(mosquitto.port, primary_host="scada"))
            await until(running.node, lambda status: status.host == "offline", "it waits")
            assert other.heard == []
            async with host_at(mosquitto.port, host_id="scada") as host:
                await told_all(host, plant)
                assert births(host) == ["NBIRTH", "DBIRTH oven"]
                whole(host, running)


async def test_the_primary_host_is_not_waited_for_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        running = Running(plant.node(mosquitto.port, primary_host="scada"))
        async with running, host_at(mosquitto.port, host_id="scada") as host:
            await plant.happen(10)
            await told_all(host, plant)
            await running.keep()
            await plant.happen(10)
            plant.more_tags["oven"] = (LEVEL,)
            running.give_to(plant.instead(mosquitto.port, primary_host="scada"))
            await told_all(host, plant)
            assert births(host)[3:] == ["DBIRTH oven"]
            assert said_twice(host, plant) == []
            whole(host, running)
            await host.say_offline()
            await host.wait(lambda: "NDEATH" in host.verbs(), "it is still listened to")


class Desk:
    """Writes down what is to be written."""

    def __init__(self) -> None:
        self.written: list[tuple[str, TagValue]] = []

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        self.written.append((tag, value))
        return Written(tag, WriteOutcome.ACCEPTED)


async def test_commands_that_come_meanwhile_are_dealt_with_afterwards(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        desk = Desk()
        running = Running(plant.node(mosquitto.port, commands=desk))
        async with running:
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            alias = {of[:2]: number for number, of in host._aliases.items()}
            await running.keep()
            kept = running.node._kept
            assert kept is not None
            for device, value in (("filler", 1.0), ("oven", 2.0)):
                number = alias[device, f"Tags/{device}-plc/speed"]
                await host.command(device, Metric(None, number, DataType.DOUBLE, value, None))
            await host.rebirth()
            await wait_for(lambda: kept.inbox._queue.qsize() == 3, "all three have come")
            plant.names = ("oven",)
            running.give_to(plant.instead(mosquitto.port, commands=desk))
            await host.wait(lambda: host.verbs().count("NBIRTH") == 2, "the births that were asked for")
            await host.wait(lambda: births(host)[-1] == "DBIRTH oven", "the births that were asked for")
            await wait_for(lambda: bool(desk.written), "the write")
            assert births(host)[3:] == ["DDEATH filler", "NBIRTH", "DBIRTH oven"]
            assert desk.written == [("oven-plc/speed", 2.0)]
            assert running.node.status().commands["unknown"] == 1
            whole(host, running)


async def wait_for(true: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not true():  # nobody tells of it
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


async def test_a_connection_that_nobody_takes_is_left_with_a_death(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port, protocol="3.1.1"))
        async with running:
            await host.wait(lambda: "DBIRTH" in host.verbs(), "the births")
            await running.keep()
            assert "NDEATH" not in host.verbs()
            kept = running.node._kept
            assert kept is not None
            await running.node.let_go()
            assert kept.link.is_over
            await host.wait(lambda: "NDEATH" in host.verbs(), "the death")
            await running.node.let_go()  # there is nothing any more
        assert host.problems == []
        assert [item.qos for item in host.heard if item.verb == "NDEATH"] == [0], "said by us, not for us"


async def test_the_same_one_may_go_on_and_so_may_one_after_one_that_never_ran(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port))
        async with running:
            await plant.happen(5)
            await told_all(host, plant)
            await running.keep()
            await plant.happen(5)
            running.task = asyncio.create_task(running.node.run())  # the change was given up
            await plant.happen(5)
            await told_all(host, plant)
            assert births(host) == ["NBIRTH", "DBIRTH filler", "DBIRTH oven"]
            await running.keep()
            plant.names = ("filler",)
            between = plant.instead(mosquitto.port)
            between.take_link(running.node)
            plant.names = ("oven",)
            running.node = between
            running.give_to(plant.instead(mosquitto.port))
            await plant.happen(5)
            await told_all(host, plant)
            assert births(host)[3:] == ["DDEATH filler"]
            assert said_twice(host, plant) == []
            whole(host, running)


async def test_changes_in_quick_succession_leave_nothing_out(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven", "capper") as plant,
        host_at(mosquitto.port) as host,
    ):
        running = Running(plant.node(mosquitto.port))
        async with running:
            for turn in range(12):
                await plant.happen(turn)
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                await running.keep()
                plant.names = ("filler", "oven", "capper") if turn % 2 else ("oven", "filler")
                plant.more_tags["oven"] = (LEVEL,) if turn % 3 else ()
                running.give_to(plant.instead(mosquitto.port))
            await plant.happen(6)
            await told_all(host, plant)
            await until(running.node, lambda status: not status.lag_events, "all is told")
            assert {device for device, alive in host.alive.items() if alive} == {"", *plant.names}
            assert host.problems == []
            assert "NDEATH" not in host.verbs()


@pytest.mark.parametrize(
    ("more", "alike"),
    [
        ({}, True),
        ({"repeat": "5m"}, True),
        ({"store_tags": False}, True),
        ({"under": "filling"}, True),
        ({"edge_node": "line-2"}, False),
        ({"group": "other"}, False),
        ({"primary_host": "scada"}, False),
        ({"user": "andon"}, False),
        ({"keep_alive": "17s"}, False),
        ({"protocol": "3.1.1"}, False),
    ],
)
async def test_what_is_said_on_connecting_decides(tmp_path: Path, more: dict[str, Any], alike: bool) -> None:
    """Another will, client or host cannot be had on the connection there is."""
    async with site(tmp_path / "journal", "filler") as plant:
        node = plant.node(1883)
        assert plant.node(1883, **more).connects_like(node) is alike
        assert not node.connects_like(plant.node(1884))
        assert not node.connects_like(plant)


async def test_what_it_hears_of_itself_goes_over_too(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A birth of the one before, said just before the change, is nobody else's; and the next are missed."""
    monkeypatch.setattr("gateway.sparkplug.hearing.LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("gateway.sparkplug.messages.REBIRTH_EVERY_S", 0.0)
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        running = Running(plant.node(mosquitto.port))
        async with running:
            await until(running.node, lambda s: s.heard == "yes", "heard")
            for value in ("2m", "3m", "4m"):
                await host.rebirth()
                await running.keep()
                running.give_to(plant.instead(mosquitto.port, repeat=value))
                await until(running.node, lambda s: s.connected and s.heard == "yes", "heard")
            await asyncio.sleep(3.0)
            status = running.node.status()
            assert (status.alarm, status.foreign, status.heard, status.connects) == ("", 0, "yes", 1)


async def test_changes_while_the_broker_is_away_use_up_no_numbers(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """bdSeq is one more for every CONNECT, and none was sent."""
    async with site(tmp_path / "journal", "filler") as plant:
        running = Running(plant.node(mosquitto.port))
        async with running:
            for value in ("2m", "3m", "4m"):
                await until(running.node, lambda s: s.retry_at is not None, "nobody is there")
                await running.keep()
                running.give_to(plant.instead(mosquitto.port, repeat=value))
            await mosquitto.start()
            await until(running.node, lambda s: s.connected, "connected")
            assert running.node.status().bdseq == 0
