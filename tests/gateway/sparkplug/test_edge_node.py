"""An edge node on real brokers, as a host application hears it: births, news, history, deaths, numbers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.sparkplug import edge_node, reached, telling
from tests.gateway.publish.conftest import broker, mosquitto
from tests.gateway.publish.support import BrokerUnderTest, Far, Mosquitto, Proxy, free_port
from tests.gateway.sparkplug.site import GROUP, WAIT_S, Running, Site, site, until
from tests.support.certificates import Authority
from tests.support.sparkplug_host import SparkplugHost

__all__ = ["broker", "mosquitto"]


def host_at(port: int, **more: Any) -> SparkplugHost:
    return SparkplugHost(port, GROUP, "line-1", **more)


async def heard_all(host: SparkplugHost, plant: Site) -> None:
    await host.wait(lambda: plant.all_told(host), f"every transition; wanting {plant.untold(host)}")


async def test_it_is_born_tells_and_dies(broker: BrokerUnderTest, tmp_path: Path) -> None:
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(broker.port) as host:
        await plant.move("filler", "Execute")
        node = plant.node(broker.port, protocol=broker.protocol)
        async with Running(node):
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            assert host.verbs()[:3] == ["NBIRTH", "DBIRTH", "DBIRTH"]
            assert host.value("filler", "State") == "Execute"
            await plant.move("filler", "Held")
            await plant.measure("oven", 180.5)
            await host.wait(lambda: host.value("filler", "State") == "Held", "the move")
            await host.wait(lambda: host.value("oven", "Tags/oven-plc/speed") == 180.5, "the value")
            await heard_all(host, plant)
            await until(node, lambda status: status.lag_events == 0, "nothing is left")
        await host.wait(lambda: "NDEATH" in host.verbs(), "the death")
        assert not any(host.alive.values())
        assert host.problems == []
        assert not any(item.retain for item in host.heard)
        if isinstance(broker, Mosquitto):  # amqtt hands everything on with the QoS of the subscription
            assert {item.qos for item in host.heard if item.verb != "NDEATH"} == {0}


async def test_while_the_broker_is_away_it_says_how_much_waits(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await until(node, lambda status: status.connected, "connected")
            await mosquitto.kill()
            await until(node, lambda status: not status.connected, "lost")
            await plant.happen(700)
            status = await until(node, lambda status: status.oldest_unsent_at is not None, "since when")
            assert status.lag_events >= 700
            assert status.retry_at is not None
            await mosquitto.start()
            await until(node, lambda s: s.connected and s.backlog is None and not s.lag_events, "drained")
            assert node.status().historical >= 700


async def test_a_host_that_was_there_hears_all_that_happened_meanwhile(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
    ):
        node = plant.node(proxy.port)
        async with Running(node):
            await until(node, lambda status: status.connected, "connected")
            await plant.happen(10)
            await plant.measure("oven", -1.0)
            await heard_all(host, plant)
            target, proxy.target_port = proxy.target_port, 1
            proxy.cut()
            await until(node, lambda status: not status.connected, "lost")
            await host.wait(lambda: "NDEATH" in host.verbs(), "the will")
            await plant.happen(500)
            for n in range(200):
                await plant.measure("oven", float(n))
            proxy.target_port = target
            await heard_all(host, plant)
            name = ("oven", "Tags/oven-plc/speed")
            await host.wait(lambda: set(plant.speeds["oven"]) <= set(host.values(*name)), "every value")
            told = dict.fromkeys(told.value for told in host.told[name] if told.historical)
            assert list(told) == plant.speeds["oven"]
            assert host.value(*name) == 199.0
            assert host.value("filler", "Seq") == plant.moves["filler"][-1][1]
            history = [told for told in host.told["filler", "Seq"] if told.historical]
            assert len(history) >= 240
            assert [told.value for told in history] == sorted(told.value for told in history)
            await until(node, lambda s: s.backlog is None and s.lag_events == 0, "drained")
        assert host.problems == []


async def test_news_does_not_queue_behind_history(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        await plant.happen(20_000)
        await mosquitto.start()
        # A long line, so that there is history when there is news, however slow the disk is.
        async with Far(mosquitto.port, 0.1) as far, host_at(mosquitto.port) as host:
            node = plant.node(far.port)
            async with Running(node):
                await host.wait(lambda: "DBIRTH" in host.verbs(), "the births")
                held = (await plant.move("filler", "Held")).seq
                told = host.told["filler", "Seq"]
                await host.wait(lambda: any(t.value == held for t in told), "the news")
                before = next(at for at, t in enumerate(told) if t.value == held)
                assert sum(t.historical for t in told[:before]) < 9_500, "history is out"
                await until(node, lambda s: s.backlog is None and s.lag_events == 0, "drained")
                await heard_all(host, plant)
                assert host.value("filler", "State") == "Held"
            assert host.problems == []


async def test_a_device_dies_and_lives_with_its_link(broker: BrokerUnderTest, tmp_path: Path) -> None:
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(broker.port) as host:
        async with Running(plant.node(broker.port, protocol=broker.protocol)):
            await plant.move("filler", "Execute")
            await host.wait(lambda: host.value("filler", "State") == "Execute", "the state")
            await plant.lose("filler")
            await host.wait(lambda: "DDEATH" in host.verbs("filler"), "the death of the device")
            assert host.value("filler", "State") == "Unknown"
            assert host.alive == {"": True, "filler": False, "oven": True}
            await plant.restore("filler")
            await host.wait(lambda: host.alive["filler"], "its birth")
            await host.wait(lambda: host.value("filler", "State") == "Idle", "its state")
            await heard_all(host, plant)
        assert host.problems == []


async def test_a_device_says_its_last_state_before_it_dies_however_slow_the_broker_is(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        async with Running(plant.node(mosquitto.port)) as node:
            await until(node, lambda status: status.connected and not status.backlog, "connected")
            await plant.move("filler", "Held")
            await host.wait(lambda: host.value("filler", "State") == "Held", "the state")
            os.kill(mosquitto.pid, signal.SIGSTOP)
            await plant.move("filler", "Execute")
            await until(node, lambda status: status.lag_events, "not read")
            await plant.lose("filler")
            await asyncio.sleep(4 * telling.OWED_EVERY_S)  # looked at links, and more than once
            os.kill(mosquitto.pid, signal.SIGCONT)
            await host.wait(lambda: "DDEATH" in host.verbs("filler"), "the death of the device")
            assert host.value("filler", "State") == "Unknown"
        assert plant.all_told(host)
        assert host.problems == []


async def test_a_link_that_was_never_there_makes_a_dead_device(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        async with Running(plant.node(mosquitto.port)):
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            plant.links["filler-plc"] = "down"  # and nothing on record
            await host.wait(lambda: host.alive["filler"] is False, "its death")
            plant.links["filler-plc"] = "up"
            await host.wait(lambda: host.alive["filler"] is True, "its birth")
        assert host.problems == []


async def test_a_dead_device_is_not_born_with_the_node_but_its_past_is_told(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        await plant.happen(50)
        await plant.lose("filler")
        async with Running(plant.node(mosquitto.port)):
            await host.wait(lambda: host.alive.get("filler") is False, "its death, after its past")
            await heard_all(host, plant)
            assert host.alive == {"": True, "filler": False, "oven": True}
        assert host.problems == []


async def test_numbers_go_on_over_connections_and_restarts(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    numbers = []
    for _ in range(3):
        async with (
            host_at(mosquitto.port) as host,
            site(tmp_path / "journal", "filler") as plant,
            Running(plant.node(mosquitto.port)),
        ):
            await host.wait(lambda: "DBIRTH" in host.verbs(), "the births")
            numbers.append(host.bdseq)
            await host.rebirth()
            await host.wait(lambda: host.verbs().count("NBIRTH") == 2, "the rebirth")
            assert host.bdseq == numbers[-1]
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_crash_is_told_by_the_will(mosquitto: Mosquitto, tmp_path: Path, protocol: str) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
        Running(plant.node(proxy.port, protocol=protocol)),
    ):
        await host.wait(lambda: "DBIRTH" in host.verbs(), "the births")
        proxy.cut()
        await host.wait(lambda: "NDEATH" in host.verbs(), "the will")
        death = next(item for item in host.heard if item.verb == "NDEATH")
        assert death.payload.seq is None
        assert death.qos == 1
        await asyncio.sleep(0)


async def test_a_number_that_no_connect_carried_is_not_left_out(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with site(tmp_path / "journal", "filler") as plant:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await until(node, lambda status: status.last_error is not None, "nobody was reached")
            assert node.status().alarm == ""
            await mosquitto.start()
            status = await until(node, lambda status: status.connected, "connected")
            assert status.bdseq == 0


async def test_the_last_moments_before_an_end_are_told_again(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reached, "REPEAT_S", 2 * WAIT_S)  # however long the moments take on this machine
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await until(node, lambda status: status.connected, "connected")
            await plant.happen(30)
            await plant.measure("oven", 7.0)
            await until(node, lambda status: status.lag_events == 0, "the broker has read it")
            await asyncio.sleep(0.6)  # longer than the cursor is kept after
        async with host_at(mosquitto.port) as host, Running(plant.node(mosquitto.port)):
            await heard_all(host, plant)
            told = host.told["oven", "Tags/oven-plc/speed"]
            await host.wait(lambda: any(item.historical for item in told), "the value")
            assert host.problems == []


async def test_a_move_that_was_not_announced_when_the_births_were_made_is_news(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant, host_at(mosquitto.port) as host:
        await plant.move("filler", "Idle")
        seq = await plant.record("filler", "Held")
        async with Running(plant.node(mosquitto.port)):
            await host.wait(lambda: host.value("filler", "Seq") == seq, "the news")
            assert host.value("filler", "State") == "Held"


async def test_values_that_come_too_fast_for_a_link_are_overtaken_by_newer_ones(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "oven") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
    ):
        node = plant.node(proxy.port, keep_alive="1h")
        async with Running(node):
            await until(node, lambda status: status.connected, "connected")
            proxy.deaf = True  # nothing comes back, so nothing counts as read
            for n in range(500):
                await plant.measure("oven", float(n))
            assert node.status().tags_merged > 400
            proxy.cut()
            proxy.deaf = False
            await host.wait(lambda: host.value("oven", "Tags/oven-plc/speed") == 499.0, "the newest")
            wanted = set(plant.speeds["oven"])
            await host.wait(
                lambda: wanted <= set(host.values("oven", "Tags/oven-plc/speed")), "all as history"
            )
            assert host.problems == []


async def test_what_no_broker_has_read_is_not_passed_over(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reached, "REPEAT_S", 0.0)  # nothing is said twice that could hide it
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler", "oven") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
        Running(plant.node(proxy.port)) as node,
    ):
        await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
        for _ in range(3):
            await plant.happen(40)
            await heard_all(host, plant)
            proxy.cut()
            await plant.happen(40)
            await heard_all(host, plant)
        assert node.status().connects == 4
        assert host.problems == []


async def test_a_value_on_its_way_is_not_told_because_time_passes(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reached, "REPEAT_S", 0.0)
    await mosquitto.start()
    async with site(tmp_path / "journal", "oven") as plant, Proxy(mosquitto.port) as proxy:
        node = plant.node(proxy.port)
        async with Running(node):
            await until(node, lambda status: status.connected, "connected")
            os.kill(mosquitto.pid, signal.SIGSTOP)
            await plant.measure("oven", 2.0)
            await asyncio.sleep(4 * edge_node.SAVE_EVERY_S)  # nothing is due, and nobody has read it
            target, proxy.target_port = proxy.target_port, 1
            proxy.cut()
            await until(node, lambda status: not status.connected, "lost")
            await plant.measure("oven", 3.0)
            await mosquitto.kill()
            await mosquitto.start()
            async with host_at(mosquitto.port) as host:
                proxy.target_port = target
                speed = ("oven", "Tags/oven-plc/speed")
                await host.wait(lambda: {2.0, 3.0} <= set(host.values(*speed)), "both")


async def test_history_that_is_broken_off_goes_on_where_it_was(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reached, "REPEAT_S", 0.0)
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler") as plant,
        Proxy(mosquitto.port) as proxy,
        host_at(mosquitto.port) as host,
    ):
        await plant.happen(6_000)
        node = plant.node(proxy.port)
        async with Running(node):
            for share in (500, 2_500):
                await host.wait(lambda n=share: len(host.told.get(("filler", "Seq"), ())) > n, "a part")  # type: ignore[misc]
                proxy.cut()
            await heard_all(host, plant)
            await until(node, lambda status: status.backlog is None and status.connected, "drained")
            assert len(host.told["filler", "Seq"]) < 1.3 * 6_000  # and not from the beginning
        assert host.problems == []


async def test_history_begins_where_the_journal_does(mosquitto: Mosquitto, tmp_path: Path) -> None:
    keep = {"segment_age": "100ms", "keep": "1ms"}
    async with site(tmp_path / "journal", "filler", **keep) as plant:
        async with asyncio.timeout(WAIT_S):
            while plant.journal.position.first_seq == 1:  # nobody wants it, so it is freed
                await plant.happen(10)
                await asyncio.sleep(0.05)
        node = plant.node(mosquitto.port)
        async with Running(node):
            held = plant.journal.position.last_seq - plant.journal.position.first_seq + 1
            assert node.status().lag_events == held
            await mosquitto.start()
            await until(node, lambda s: s.connected and s.backlog is None and not s.lag_events, "drained")
            assert node.status().historical >= held


async def test_a_renewed_certificate_is_used_and_the_node_says_that_it_leaves(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server, first = authority.issue("127.0.0.1"), authority.issue("andon-line-1")
    plain = free_port()
    mosquitto.lines += [
        f"cafile {authority.file}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
        f"listener {plain} 127.0.0.1",
    ]
    await mosquitto.start()
    ours = {"certificate": tmp_path / "ours.pem", "key": tmp_path / "ours.key"}
    for name, path in ours.items():
        path.write_bytes(getattr(first, name).read_bytes())
    async with site(tmp_path / "journal", "filler") as plant, host_at(plain) as host:
        node = plant.node(
            mosquitto.port,
            certificates_s=0.1,
            protocol="3.1.1",  # where no DISCONNECT makes the broker say it for us
            broker=f"mqtts://127.0.0.1:{mosquitto.port}",
            ca_file=str(authority.file),
            cert_file=str(ours["certificate"]),
            key_file=str(ours["key"]),
        )
        async with Running(node):
            await host.wait(lambda: "DBIRTH" in host.verbs(), "the births")
            await until(node, lambda status: status.certificate_days_left is not None, "it was looked at")
            second = authority.issue("andon-line-1-renewed")
            for name, path in ours.items():
                path.write_bytes(getattr(second, name).read_bytes())
            await host.wait(lambda: host.bdseq == 1, "the next session")
            assert "NDEATH" in host.verbs()
            assert node.status().last_error is None
        assert host.problems == []


async def test_what_is_held_for_a_dead_device_outlives_the_process(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant:
        node = plant.node(mosquitto.port)
        async with Running(node), SparkplugHost(mosquitto.port, GROUP, "line-1") as host:
            await until(node, lambda status: status.connected, "born")
            await plant.lose("oven")
            await host.wait(lambda: "DDEATH" in host.verbs("oven"), "its death")
            held = (await plant.move("oven", "Held")).seq
            await plant.move("filler")
            await until(node, lambda status: status.lag_events == 0, "all that can be told was told")
            async with asyncio.timeout(WAIT_S):
                while (await plant.journal.cursor(node.sink)).seq < held - 1:
                    await asyncio.sleep(0.05)
        await plant.restore("oven")
        async with (
            SparkplugHost(mosquitto.port, GROUP, "line-1") as host,
            Running(plant.node(mosquitto.port)),
        ):
            await host.wait(lambda: held in host.values("oven", "Seq"), "what was held")
            assert host.problems == []
