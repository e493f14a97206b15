"""Groups that are read instead of subscribed to: at a fixed rate, changes only, and said if not chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import InternalSession

from connectors.base import Connector
from connectors.errors import ConnectionLost
from connectors.opcua import poll as poll_module
from statemodel.types import Quality
from tests.connectors.contract import ConnectorContract, RecordingLink, outcome, running
from tests.connectors.opcua.plant import URI, VARIABLES, Plant, build
from tests.connectors.opcua.test_opcua_contract import OpcuaHarness


def polled(*names: str, interval: str = "30ms", **more: Any) -> dict[str, Any]:
    tags = [{"name": name, "node": f"nsu={URI};s={name}"} for name in names]
    return {"groups": [{"name": "g", "interval": interval, "mode": "poll", "tags": tags} | more]}


class PolledHarness(OpcuaHarness):
    groups = frozenset({"g"})

    def build(self) -> Connector:
        return build(self.plant, self.data_dir, **polled(*self.values))


class TestPolled(ConnectorContract):
    @pytest.fixture
    async def device(self, tmp_path: Path) -> AsyncIterator[OpcuaHarness]:
        harness = PolledHarness(tmp_path)
        yield harness
        await harness.stop()


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


async def test_a_polled_group_makes_no_subscription_and_tells_changes_only(
    plant: Plant, tmp_path: Path
) -> None:
    link = RecordingLink()
    async with running(build(plant, tmp_path, **polled("state", "speed")), link):
        await link.until_value("plc/state", 6)
        await link.until(lambda: len(link.cycles) >= 4, "cycles")
        await plant.set("state", 7)
        await link.until_value("plc/state", 7)
        assert plant.subscriptions() == []
    assert [(s.tag, s.value) for s in link.samples] == [
        ("plc/state", 6),
        ("plc/speed", 1.5),
        ("plc/state", 7),
    ]
    assert all(group == "g" and duration > 0 for group, duration, *_ in link.cycles)


async def test_a_cycle_that_comes_too_late_is_skipped_and_counted(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, reads = InternalSession.read, 0

    async def read(self: InternalSession, params: Any) -> Any:
        nonlocal reads
        if self.external and any(one.NodeId.Identifier == "state" for one in params.NodesToRead):
            reads += 1
            await asyncio.sleep(0.1)
        return await original(self, params)

    monkeypatch.setattr(InternalSession, "read", read)
    link = RecordingLink()
    async with running(build(plant, tmp_path, **polled("state", interval="30ms")), link):
        await link.until(lambda: len(link.cycles) >= 9, "cycles")
    skipped = sum(count for *_, count in link.cycles)
    assert skipped >= 2 * (len(link.cycles) - 1), "three periods fit into one reading"
    late = sorted(lateness for _, _, lateness, _ in link.cycles)
    assert late[len(late) // 2] < 0.09, "nothing is made up for"
    assert reads <= len(link.cycles) + 1


async def test_a_node_that_cannot_be_read_is_named_and_taken_in_when_it_appears(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll_module, "LOOK_AGAIN_S", 0.05)
    names = polled("state", "late")
    names["groups"][0]["tags"].append({"name": "path", "node": f"/Objects/nsu={URI};Path"})
    link = RecordingLink()
    async with running(build(plant, tmp_path, **names), link):
        await link.until_value("plc/state", 6)
        for tag in ("plc/late", "plc/path"):
            assert (await link.until_quality(tag, Quality.BAD)).substatus == "configuration_error"
        assert "BadNodeIdUnknown" in dict(link.refusals)["plc/late"]
        assert "browse path" in dict(link.refusals)["plc/path"]
        assert plant.server is not None
        for name in ("late", "Path"):
            plant.types[name] = ua.VariantType.Int32
            await plant.add(plant.server, plant.server.nodes.objects, name, 3, ua.VariantType.Int32)
        await link.until_value("plc/late", 3)
        await link.until_value("plc/path", 3)
    assert [reason == "" for tag, reason in link.refusals if tag == "plc/late"] == [False, True]


@pytest.mark.parametrize(
    "code", [ua.StatusCodes.BadServiceUnsupported, ua.StatusCodes.BadTooManySubscriptions]
)
async def test_a_server_without_subscriptions_is_polled_and_people_are_told(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise ServiceError(code)

    assert plant.server is not None
    connector = build(plant, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(plant.server.iserver.subscription_service, "create_subscription", refuse)
        link = RecordingLink()
        async with running(connector, link):
            for name, value, _ in VARIABLES:
                await link.until_value(f"plc/{name}", value)
            await plant.set("state", 8)
            await link.until_value("plc/state", 8)
            assert set(connector.warnings) == {"subscription_fast", "subscription_slow"}
            assert "polled instead" in connector.warnings["subscription_fast"]
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 8)
        assert len(plant.subscriptions()) == 2
        assert connector.warnings == {}


async def test_a_polled_server_that_falls_silent_is_lost_in_time(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    connector = build(plant, tmp_path, **polled("state"))
    async with running(connector, link) as task:
        await link.until_value("plc/state", 6)
        await plant.stop()
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
