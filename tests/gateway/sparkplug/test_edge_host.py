"""An edge node with a primary host, with several servers, and with hosts that ask for too much."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connectors.base import WriteOutcome, Written
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.edge_node import EdgeNode
from gateway.sparkplug.payload import Metric
from gateway.sparkplug.reached import REPEAT_S
from statemodel.types import TagValue
from tests.gateway.publish.conftest import mosquitto
from tests.gateway.publish.support import Mosquitto, find_mosquitto
from tests.gateway.sparkplug.site import GROUP, WAIT_S, Running, site, until
from tests.support.sparkplug_host import SparkplugHost

__all__ = ["mosquitto"]
SPEED, FILLING = "Tags/oven-plc/speed", "Tags/filler-plc/speed"


def primary(port: int) -> SparkplugHost:
    return SparkplugHost(port, GROUP, "line-1", host_id="scada")


def counted(host: SparkplugHost, verb: str, count: int) -> Callable[[], bool]:
    return lambda: host.verbs().count(verb) >= count


def cut(node: EdgeNode) -> None:
    """Its connection breaks, as by a fault in the network between it and the broker."""
    assert node._link is not None
    assert node._link._wire is not None
    node._link._wire.abort()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_nothing_is_said_before_the_primary_host_is_there_and_nothing_is_lost(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        node = plant.node(mosquitto.port, primary_host="scada", protocol=protocol)
        async with Running(node), SparkplugHost(mosquitto.port, GROUP, "line-1") as other:
            await until(node, lambda status: status.connects == 1, "connected")
            await plant.happen(300)
            await plant.measure("oven", 7.0)
            assert node.status().host == "offline"
            assert other.heard == []
            async with primary(mosquitto.port) as host:
                await host.wait(lambda: plant.all_told(host), "all that happened before")
                await plant.move("filler", "Held")
                await host.wait(lambda: host.value("filler", "State") == "Held", "the news")
                await host.say_offline()
                deaths = 2 if protocol == "5" else 1  # with MQTT 5 the broker says its will as well
                await host.wait(lambda: host.verbs().count("NDEATH") == deaths, "the death")
                await plant.happen(200)
                said = len(host.heard)
                await until(node, lambda s: s.connects >= 2 and s.host == "offline", "waiting again")
                assert len(host.heard) == said
                await host.say_online()
                await host.wait(lambda: plant.all_told(host), "all that happened meanwhile")
                assert host.bdseq == 1
                assert host.value("filler", "Seq") == plant.moves["filler"][-1][1]
                assert host.problems == []


async def test_what_was_said_while_the_host_was_gone_unnoticed_is_said_again(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        node = plant.node(mosquitto.port, primary_host="scada")
        async with Running(node):
            async with primary(mosquitto.port) as host:
                await host.wait(counted(host, "DBIRTH", 2), "the births")
            # It has gone without a word, and its broker has not noticed: STATE still says online.
            await plant.happen(100)
            await plant.measure("oven", 7.0)
            await until(node, lambda status: status.lag_events == 0, "all of it was said")
            async with primary(mosquitto.port) as host:
                await host.say_offline()
                await until(node, lambda status: not status.connected, "left")
                await host.say_online()
                await host.wait(lambda: plant.all_told(host), "what was said to nobody")
                await host.wait(lambda: 7.0 in host.values("oven", SPEED), "the value too")


async def test_a_link_that_is_lost_often_repeats_no_more_than_its_last_moments_while_the_host_stays(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Else whoever has more to tell than one connection lasts tells the oldest for ever."""
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, primary(mosquitto.port) as host:
        node = plant.node(mosquitto.port, primary_host="scada")
        async with Running(node):
            await plant.happen(50)
            await host.wait(lambda: plant.all_told(host), "all until then")
            await until(node, lambda _: node._reached._lately._noted[-1][1].seq >= plant.seq, "noted as told")
            await asyncio.sleep(REPEAT_S + 1.0)  # older than what any loss puts in doubt
            await plant.happen(3)
            await host.wait(lambda: plant.all_told(host), "the newest")
            for number in range(2, 4):
                told = len(host.told["filler", "Seq"]) + len(host.told["oven", "Seq"])
                cut(node)
                await host.wait(counted(host, "NBIRTH", number), "births")
                await until(node, lambda s: s.backlog is None and not s.lag_events, "what was in doubt")
                await plant.move("filler")
                await host.wait(lambda: plant.all_told(host), "the news")
                assert len(host.told["filler", "Seq"]) + len(host.told["oven", "Seq"]) - told < 20
            seqs = [told.value for told in host.told["filler", "Seq"] if told.historical]
            oldest, again = plant.moves["filler"][0][1], len(seqs)
            await host.say_offline()
            await until(node, lambda status: not status.connected, "left")
            await host.say_online()
            await host.wait(
                lambda: oldest in [t.value for t in host.told["filler", "Seq"] if t.historical][again:],
                "everything within `repeat`, over connections",
            )
            assert host.problems == []


async def test_what_was_told_on_the_word_of_a_broker_that_was_restarted_is_told_again(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """It keeps on disk that the host is there, and is back before the host is."""
    store = tmp_path / "store"
    store.mkdir()
    mosquitto.lines += ["persistence true", f"persistence_location {store}/"]
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        node = plant.node(mosquitto.port, primary_host="scada", repeat="0s")
        async with Running(node):
            async with primary(mosquitto.port) as host:
                await plant.happen(20)
                await host.wait(lambda: plant.all_told(host), "all until then")
                before = set(host.values("filler", "Seq")) | set(host.values("oven", "Seq"))
                os.kill(mosquitto.pid, signal.SIGUSR1)  # keep on disk what is retained
                async with asyncio.timeout(WAIT_S):
                    while not (store / "mosquitto.db").exists():
                        await asyncio.sleep(0.01)
                await mosquitto.kill()
            await until(node, lambda status: not status.connected, "lost")
            await plant.happen(40)
            await plant.measure("oven", 7.0)
            await mosquitto.start()
            await until(
                node, lambda s: s.connected and not s.lag_events and s.backlog is None, "told to nobody"
            )
            async with primary(mosquitto.port) as host:
                await host.wait(lambda: "NBIRTH" in host.verbs(), "births for it")
                wanted = {seq for moves in plant.moves.values() for _, seq in moves} - before
                await host.wait(
                    lambda: wanted <= set(host.values("filler", "Seq")) | set(host.values("oven", "Seq")),
                    "what happened before it came",
                )
                await host.wait(lambda: 7.0 in host.values("oven", SPEED), "the value")
                assert host.problems == []
                connects = node.status().connects
                await host.say_online(anew=True)  # once it was there, its further words change nothing
                await plant.move("filler", "Held")
                await host.wait(lambda: host.value("filler", "State") == "Held", "the news")
                assert node.status().connects == connects


async def test_an_old_word_of_the_host_changes_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant:
        node = plant.node(mosquitto.port, primary_host="scada")
        async with Running(node), primary(mosquitto.port) as host:
            await host.wait(counted(host, "DBIRTH", 1), "the births")
            hour_ago = datetime.now(UTC) - timedelta(hours=1)
            await host.say_offline(stamp=int(hour_ago.timestamp() * 1000))
            await plant.move("filler", "Held")
            await host.wait(lambda: host.value("filler", "State") == "Held", "the news")
            assert node.status().connects == 1


async def test_servers_are_walked_until_the_host_is_found(tmp_path: Path) -> None:
    brokers = []
    for number in range(2):
        folder = tmp_path / f"broker-{number}"
        folder.mkdir()
        brokers.append(Mosquitto(find_mosquitto(), folder, protocol="5"))
    first, second = brokers
    for one in brokers:
        await one.start()
    try:
        async with site(tmp_path / "journal", "filler", "oven") as plant:
            node = plant.node(first.port, second.port, primary_host="scada")
            async with Running(node):
                async with primary(second.port) as host:
                    await host.wait(counted(host, "DBIRTH", 2), "births on the second")
                    assert str(second.port) in node.status().server
                    await plant.happen(50)
                    await host.wait(lambda: plant.all_told(host), "what happened")
                    await host.say_offline()
                    await host.wait(lambda: "NDEATH" in host.verbs(), "the death")
                    await plant.happen(50)
                    async with primary(first.port) as there:
                        await there.wait(lambda: plant.all_told(there), "all of it on the first")
                        assert there.problems == []
                    assert host.problems == []
                await first.kill()
                async with primary(second.port) as host:
                    await host.wait(counted(host, "DBIRTH", 2), "births on the second again")
                    await plant.happen(50)
                    await host.wait(lambda: plant.all_told(host), "everything since")
    finally:
        for one in brokers:
            await one.kill()


async def test_each_server_has_a_word_of_the_host_of_its_own(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    (tmp_path / "other").mkdir()
    other = Mosquitto(find_mosquitto(), tmp_path / "other", protocol="5")
    await other.start()
    try:
        async with (
            site(tmp_path / "journal", "filler") as plant,
            primary(other.port) as earlier,
            primary(mosquitto.port) as later,
            Running(plant.node(mosquitto.port, other.port, primary_host="scada")),
        ):
            await later.wait(counted(later, "DBIRTH", 1), "births where it came first")
            await later.say_offline()
            await earlier.wait(counted(earlier, "DBIRTH", 1), "births where it has been all the time")
    finally:
        await other.kill()


async def test_a_storm_of_rebirths_is_answered_once_and_starves_nobody(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Fault 67: a host, or whoever may publish there, asks for births a thousand times a second."""
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven") as plant,
        SparkplugHost(mosquitto.port, GROUP, "line-1") as host,
        SparkplugHost(mosquitto.port, GROUP, "line-1") as mad,
    ):
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(counted(host, "DBIRTH", 2), "the births")
            loop = asyncio.get_running_loop()
            began, heard = loop.time(), 0
            for n in range(30):
                heard = len(host.heard)
                mad.storm(100)
                await asyncio.sleep(0.1)
                seq = (await plant.move("filler", ("Idle", "Execute")[n % 2])).seq
                await host.wait(lambda seq=seq: host.value("filler", "Seq") == seq, "what happens meanwhile")  # type: ignore[misc]
            await until(node, lambda status: status.commands["rebirth"] >= 1000, "they were counted")
            births = host.verbs().count("NBIRTH")
            assert births <= 2 + (loop.time() - began) // 5
            await host.wait(lambda: "NBIRTH" in host.verbs()[heard:], "the one that is owed")
            assert host.problems == []


async def test_the_next_server_is_taken_when_a_host_asks(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler") as plant,
        SparkplugHost(mosquitto.port, GROUP, "line-1") as host,
    ):
        (tmp_path / "other").mkdir()
        other = Mosquitto(find_mosquitto(), tmp_path / "other", protocol="5")
        await other.start()
        node = plant.node(mosquitto.port, other.port)
        try:
            async with Running(node):
                await host.wait(counted(host, "DBIRTH", 1), "the births")
                now = datetime.now(UTC)
                await host.command("", Metric("Node Control/Next Server", None, DataType.BOOLEAN, True, now))
                await host.wait(lambda: "NDEATH" in host.verbs(), "the death")
                await until(node, lambda s: s.connected and str(other.port) in s.server, "the other one")
        finally:
            await other.kill()


class Port:
    """Keeps `CommandPort`: notes what it is asked, and answers as told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str, TagValue]] = []
        self.outcome = WriteOutcome.ACCEPTED

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        self.asked.append((equipment, tag, value))
        return Written(
            tag, self.outcome, "" if self.outcome is WriteOutcome.ACCEPTED else "the device said no"
        )


async def test_commands_are_off_unless_they_are_switched_on(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "oven") as plant,
        SparkplugHost(mosquitto.port, GROUP, "line-1") as host,
    ):
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(counted(host, "DBIRTH", 1), "the births")
            await host.command("oven", Metric(SPEED, None, DataType.DOUBLE, 5.0, datetime.now(UTC)))
            status = await until(node, lambda s: sum(s.commands.values()) == 1, "it was counted")
            assert status.commands["written"] == 0


async def test_a_value_a_host_writes_goes_to_the_port_and_garbage_to_nobody(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    port = Port()
    async with (
        site(tmp_path / "journal", "oven") as plant,
        SparkplugHost(mosquitto.port, GROUP, "line-1") as host,
    ):
        node = plant.node(mosquitto.port, commands=port)
        async with Running(node):
            await host.wait(counted(host, "DBIRTH", 1), "the births")
            now = datetime.now(UTC)
            await host.command("oven", Metric(SPEED, None, DataType.DOUBLE, 5.5, now))
            await until(node, lambda s: s.commands["written"] == 1, "it was written")
            assert port.asked == [("oven", "oven-plc/speed", 5.5)]
            await host.command("oven", Metric("State", None, DataType.STRING, "Execute", now))
            await host.command("oven", Metric("Tags/none", None, DataType.DOUBLE, 1.0, now))
            await host.command("oven", Metric(SPEED, None, DataType.STRING, "fast", now))
            await host.raw("DCMD", "oven", b"\xff\xfe no protobuf")
            await until(node, lambda s: sum(s.commands.values()) == 5, "each was counted")
            assert len(port.asked) == 1
            port.outcome = WriteOutcome.REFUSED
            await host.command("oven", Metric(SPEED, None, DataType.DOUBLE, 6.0, datetime.now(UTC)))
            await until(node, lambda s: s.commands["not_written"] == 1, "the refusal was counted")
            await plant.move("oven", "Held")
            await host.wait(lambda: host.value("oven", "State") == "Held", "life goes on")
            assert host.problems == []


async def test_values_that_were_overtaken_while_the_broker_stood_still_are_told_afterwards(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "oven", "filler") as plant,
        SparkplugHost(mosquitto.port, GROUP, "line-1") as host,
    ):
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(counted(host, "DBIRTH", 2), "the births")
            os.kill(mosquitto.pid, signal.SIGSTOP)
            try:
                for n in range(20):
                    await plant.measure("oven", float(n))
                    await asyncio.sleep(0.03)  # the broker stands still so long that values gather
                await plant.measure("filler", 7.0)
            finally:
                os.kill(mosquitto.pid, signal.SIGCONT)
            speeds = set(plant.speeds["oven"])
            await host.wait(lambda: speeds <= set(host.values("oven", SPEED)), "each of them")
            await host.wait(lambda: host.value("oven", SPEED) == 19.0, "the newest as what is now")
            assert node.status().tags_merged > 5
            assert node.status().connects == 1
            assert not any(told.historical for told in host.told["filler", FILLING])
            assert host.problems == []
