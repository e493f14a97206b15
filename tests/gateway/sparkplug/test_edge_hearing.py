"""An edge node hears itself on real brokers: rules that drop what it says, a second one of its name."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.sparkplug import hearing
from gateway.sparkplug.edge_node import EdgeNode
from tests.gateway.publish.conftest import broker, mosquitto
from tests.gateway.publish.support import BrokerUnderTest, Mosquitto, Proxy
from tests.gateway.sparkplug.site import GROUP, Running, Site, site, until
from tests.support.sparkplug_host import SparkplugHost

__all__ = ["broker", "mosquitto"]

BIRTH, DEATH = f"spBv1.0/{GROUP}/NBIRTH/line-1", f"spBv1.0/{GROUP}/NDEATH/line-1"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are a tenth of a second apart, so that ten of them are soon over."""
    monkeypatch.setattr(hearing, "LOOK_EVERY_S", 0.1)


class Rules:
    """Access rules of a Mosquitto, which can be changed while it runs."""

    def __init__(self, mosquitto: Mosquitto, folder: Path, *lines: str) -> None:
        self._mosquitto, self._path = mosquitto, folder / "rules"
        self._write(lines)
        mosquitto.lines.append(f"acl_file {self._path}")

    def _write(self, lines: tuple[str, ...]) -> None:
        self._path.write_text("".join(f"topic {line}\n" for line in lines))
        self._path.chmod(0o600)

    def change(self, *lines: str) -> None:
        self._write(lines)
        assert self._mosquitto._process is not None
        self._mosquitto._process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_what_the_rules_do_not_let_through_is_told_and_heals_by_itself(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str, hurried: None
) -> None:
    rules = Rules(mosquitto, tmp_path, "read #", "write spBv1.0/+/DBIRTH/#")
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant:
        node = plant.node(mosquitto.port, protocol=protocol)
        async with SparkplugHost(mosquitto.port, GROUP, "line-1", late=True) as host, Running(node):
            status = await until(node, lambda status: status.alarm, "the alarm")
            assert (status.alarm, status.heard, status.connected) == ("unheard", "no", True)
            assert BIRTH in (status.last_error or "")
            assert "access rules" in (status.last_error or "")
            rules.change("readwrite #")
            status = await until(node, lambda status: not status.alarm, "well again")
            assert (status.heard, status.last_error, status.foreign) == ("yes", None, 0)
            assert status.connects == 1
            await host.wait(lambda: host.verbs()[-2:] == ["NBIRTH", "DBIRTH"], "the births")


async def test_without_the_right_to_read_it_says_what_it_cannot_know_or_is_told_not_to_ask(
    mosquitto: Mosquitto, tmp_path: Path, hurried: None
) -> None:
    """Mosquitto grants a subscription to what may not be read, so the two are one to the node."""
    Rules(mosquitto, tmp_path, "write spBv1.0/#", "read spBv1.0/+/NCMD/#")
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant:
        node = plant.node(mosquitto.port)
        async with Running(node):
            status = await until(node, lambda status: status.alarm == "unheard", "the alarm")
            assert "at least not to itself" in (status.last_error or "")
            assert "echo = false" in (status.last_error or "")
        quiet = plant.node(mosquitto.port, echo=False)
        async with Running(quiet):
            await until(quiet, lambda status: status.connected, "connected")
            await asyncio.sleep(2 * hearing.LOOKS * hearing.LOOK_EVERY_S)
            status = quiet.status()
            assert (status.alarm, status.heard, status.last_error) == ("", "unknown", None)


async def test_on_every_broker_it_hears_its_births_and_nothing_else_of_itself(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    async with (
        site(tmp_path / "journal", "filler") as plant,
        SparkplugHost(broker.port, GROUP, "line-1") as host,
    ):
        node = plant.node(broker.port, protocol=broker.protocol)
        async with Running(node):
            await until(node, lambda status: status.heard == "yes", "its birth")
            await host.rebirth()
            await until(node, lambda status: status.births == 2, "the rebirth")
            await plant.move("filler")
            await host.wait(lambda: plant.all_told(host), "what it told")
            commands = node.status().commands
            assert {what for what, count in commands.items() if count} == {"rebirth"}
            assert (node.status().alarm, node.status().foreign) == ("", 0)
        assert host.problems == []


def twin(plant: Site, port: int, **more: Any) -> EdgeNode:
    """Another gateway whose edge node has the name of the first."""
    return plant.node(port, edge_node="line-1", client_id="another", **more)


async def test_two_gateways_with_one_name_say_so_and_do_not_fight(
    broker: BrokerUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    async with site(tmp_path / "one", "filler") as plant, site(tmp_path / "two", "filler") as other:
        node = plant.node(broker.port, protocol=broker.protocol)
        second = twin(other, broker.port, protocol=broker.protocol)
        async with Running(node):
            await until(node, lambda status: status.heard == "yes", "heard")
            async with Running(second):
                status = await until(node, lambda status: status.alarm == "name_taken", "the alarm")
                assert status.connected
                assert f"{GROUP}/line-1" in (status.last_error or "")
                assert f"journal {other.journal.stream}" in (status.last_error or "")
                await asyncio.sleep(20 * hearing.LOOK_EVERY_S)
                assert (node.status().births, second.status().births) == (1, 1), "nobody answered"
                async with SparkplugHost(broker.port, GROUP, "line-1", late=True) as host:
                    await host.rebirth()  # which both of them hear
                    await until(second, lambda status: status.alarm == "name_taken", "the other's alarm")
                    await until(node, lambda status: status.foreign >= 2, "counted")
            monkeypatch.setattr(hearing, "FORGET_S", 0.5)
            status = await until(node, lambda status: not status.alarm, "forgotten")
            assert (status.heard, status.last_error, status.foreign >= 2) == ("yes", None, True)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_hundred_connections_and_rebirths_raise_no_alarm(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, hurried: None
) -> None:
    """Cut off each time, so that each will comes while the next connection stands, or is being made."""
    monkeypatch.setattr("connectors.backoff.Backoff.failed", lambda *_: 0.02)
    monkeypatch.setattr("gateway.sparkplug.messages.REBIRTH_EVERY_S", 0.0)
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler") as plant,
        Proxy(mosquitto.port) as proxy,
        SparkplugHost(mosquitto.port, GROUP, "line-1", late=True) as host,
    ):
        node = plant.node(proxy.port, protocol=protocol)
        seen: set[str] = set()
        async with Running(node):
            for number in range(1, 51):
                status = await until(
                    node, lambda s, n=number: s.connects >= n and s.heard == "yes" and s.connected, "heard"
                )
                births = status.births
                await host.rebirth()
                status = await until(node, lambda s, n=births: s.births > n, "the rebirth")
                seen.add(status.alarm)
                proxy.cut()
                await until(node, lambda s, n=number: s.connects > n, "connected again")
            await until(node, lambda status: status.heard == "yes", "heard")
            status = node.status()
        assert (seen, status.alarm, status.foreign) == ({""}, "", 0)
        deaths = [item for item in host.heard if item.verb == "NDEATH"]
        assert len(deaths) >= 40, "the wills were said"


async def test_a_broker_that_comes_back_is_heard_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await until(node, lambda status: status.heard == "yes", "heard")
            await mosquitto.kill()
            status = await until(node, lambda status: not status.connected, "lost")
            assert status.heard == ""
            await mosquitto.start()
            status = await until(node, lambda status: status.heard == "yes", "heard again")
            assert (status.alarm, status.foreign) == ("", 0)


async def test_the_will_of_a_process_that_was_killed_is_its_own(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The broker learns late that it is gone, when the next one has long been born."""
    await mosquitto.start()
    async with (
        site(tmp_path / "journal", "filler") as plant,
        Proxy(mosquitto.port) as proxy,
        SparkplugHost(mosquitto.port, GROUP, "line-1", late=True) as host,
    ):
        before = plant.node(proxy.port, client_id="before")
        async with Running(before):
            await until(before, lambda status: status.heard == "yes", "heard")
            proxy.target_port = 1
            proxy.cut_half()
            await until(before, lambda status: not status.connected, "lost")
        after = plant.node(mosquitto.port, client_id="after")
        async with Running(after):
            await until(after, lambda status: status.heard == "yes", "heard")
            assert "NDEATH" not in host.verbs()
            proxy.cut_held()
            await host.wait(lambda: "NDEATH" in host.verbs(), "the late will")
            await asyncio.sleep(0.5)
            assert (after.status().alarm, after.status().foreign) == ("", 0)
