"""Brokers that take small packets only (Maximum Packet Size): nothing is lost unsaid, no number left out."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.publish.conftest import mosquitto
from tests.gateway.publish.support import Mosquitto
from tests.gateway.sparkplug.site import GROUP, Running, site, until
from tests.support.sparkplug_host import SparkplugHost

__all__ = ["mosquitto"]

#: Births of the site fit into this, and little more.
PACKET_MAX = 4_000
SPEED = "Tags/oven-plc/speed"


def host_at(port: int) -> SparkplugHost:
    return SparkplugHost(port, GROUP, "line-1")


async def test_a_message_that_is_too_large_leaves_no_hole_in_the_numbers(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    mosquitto.lines.append(f"max_packet_size {PACKET_MAX}")
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            await plant.measure("oven", "a")
            await host.wait(lambda: host.value("oven", "Tags/oven-plc/speed") == "a", "a text")
            await plant.measure("oven", "b" * PACKET_MAX)
            await until(node, lambda status: status.too_large == 1, "left out")
            await plant.move("filler", "Held")
            await host.wait(lambda: host.value("filler", "State") == "Held", "what fits")
            assert host.problems == []
            assert any("oven" in warning for warning in node.status().warnings)
            await plant.measure("oven", "c")
            await host.wait(lambda: host.value("oven", "Tags/oven-plc/speed") == "c", "the next value")
            assert node.status().connects == 1
        assert host.problems == []


async def test_a_value_that_is_too_large_is_null_and_bad_until_the_next_one(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Else hosts would keep the one before it, with quality good."""
    mosquitto.lines.append(f"max_packet_size {PACKET_MAX}")
    await mosquitto.start()
    async with site(tmp_path / "journal", "oven") as plant, host_at(mosquitto.port) as host:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(lambda: host.verbs().count("DBIRTH") == 1, "the birth")
            expected: list[str | None] = [None]  # as it was born, without a value
            for value in ("a", "b" * PACKET_MAX, "c", "d"):
                await plant.measure("oven", value)
                expected.append(None if len(value) > 1 else value)
                await host.wait(
                    lambda: [told.value for told in host.told["oven", SPEED]] == expected, value[:1]
                )
            *_, large, small, last = host.told["oven", SPEED]
            said = {name: item.value for name, item in large.properties.items()}
            assert (large.value, said) == (None, {"Quality": 0, "Substatus": "too_large"})
            said = {name: item.value for name, item in small.properties.items()}
            assert (small.value, said) == ("c", {"Quality": 192, "Substatus": None})
            assert (last.value, last.properties) == ("d", {})
            assert "hosts see null" in node.status().warnings[0]
            assert host.problems == []


async def test_a_page_of_history_is_told_in_messages_that_fit(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.lines.append(f"max_packet_size {PACKET_MAX}")
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant, host_at(mosquitto.port) as host:
        await plant.happen(300)
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(lambda: plant.all_told(host), "all that happened")
            history = [told.value for told in host.told["filler", "Seq"] if told.historical]
            assert history == sorted(history)
            assert node.status().too_large == 0
        assert host.problems == []


async def test_a_device_whose_birth_is_too_large_is_told_of_by_nobody_and_stops_no_other(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    mosquitto.lines.append(f"max_packet_size {PACKET_MAX}")
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler", "oven") as plant, host_at(mosquitto.port) as host:
        node = plant.node(mosquitto.port)
        async with Running(node):
            await host.wait(lambda: host.verbs().count("DBIRTH") == 2, "the births")
            await plant.measure("oven", "b" * PACKET_MAX)  # another type, so another birth
            await until(node, lambda status: status.too_large > 0, "left out")
            await plant.move("oven", "Held")
            await plant.move("filler", "Held")
            await host.wait(lambda: host.value("filler", "State") == "Held", "the other device")
            assert any("oven" in warning for warning in node.status().warnings)
            await plant.measure("oven", "c")
            await host.rebirth()
            await host.wait(lambda: host.value("oven", "Tags/oven-plc/speed") == "c", "a birth that fits")
            assert host.value("oven", "State") == "Held"
            assert node.status().warnings == ()
        assert host.problems == []


async def test_a_node_whose_birth_is_too_large_says_so_and_passes_nothing_over(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    mosquitto.lines.append("max_packet_size 300")
    await mosquitto.start()
    async with site(tmp_path / "journal", "filler") as plant:
        await plant.happen(5)
        node = plant.node(mosquitto.port)
        async with Running(node):
            status = await until(node, lambda status: status.alarm == "refused", "a person has to act")
            assert "NBIRTH" in (status.last_error or "")
            assert status.lag_events == 5
