"""Values go out in the variable's own type, once, and what became of them is told as far as it is known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.internal_session import InternalSession

from connectors.base import Write, WriteOutcome
from connectors.errors import ConnectionLost
from connectors.opcua.connector import OpcuaConnector
from connectors.opcua.write import DoesNotFit, NodeType, fitted, outcome
from statemodel.types import TagValue
from tests.connectors.contract import PATIENCE_S, RecordingLink, running
from tests.connectors.opcua.cable import Cable
from tests.connectors.opcua.plant import URI, Plant, build

pytestmark = pytest.mark.writes

T = ua.VariantType
HELD: tuple[tuple[str, Any, ua.VariantType], ...] = (
    ("state", 6, T.Int32),
    ("run", True, T.Boolean),
    ("big", 1, T.Int64),
    ("small", 1, T.Byte),
    ("float", 1.0, T.Float),
    ("speed", 1.5, T.Double),
    ("name", "a", T.String),
    ("text", ua.LocalizedText("a"), T.LocalizedText),
    ("since", datetime(2026, 1, 1, tzinfo=UTC), T.DateTime),
    ("many", [1, 2], T.Int32),
)


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant(variables=HELD)
    await plant.start()
    for name, node in plant.nodes.items():
        if name != "small":
            await node.set_writable()
    yield plant
    await plant.stop()


def connector_for(plant: Plant, tmp_path: Path, **more: Any) -> OpcuaConnector:
    tags = [{"name": name, "node": f"nsu={URI};s={name}"} for name, *_ in HELD]
    tags += [{"name": "gone", "node": "i=424242"}, {"name": "astray", "node": "/Objects/2:Nothing"}]
    group = {"name": "g", "interval": "20ms", "tags": tags}
    return build(plant, tmp_path, **({"groups": [group], "request_timeout": "300ms"} | more))


def told(results: Any) -> list[tuple[WriteOutcome, str]]:
    return [(one.outcome, one.reason) for one in results]


async def test_values_arrive_in_the_variables_own_type(plant: Plant, tmp_path: Path) -> None:
    connector = connector_for(plant, tmp_path)
    wanted: dict[str, TagValue] = {
        "state": 7,
        "run": False,
        "big": 2**63 - 1,
        "float": 2.5,
        "speed": 3,
        "name": "Füller",
        "text": "Ofen",
        "since": "2026-11-21T22:07:03.250000Z",
    }
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        results = await connector.write([Write(f"plc/{tag}", value) for tag, value in wanted.items()])
        assert told(results) == [(WriteOutcome.ACCEPTED, "")] * len(wanted)
        for tag, value in wanted.items():
            await link.until_value(f"plc/{tag}", float(value) if tag == "speed" else value)
    held = await plant.nodes["since"].read_data_value()
    assert held.StatusCode.is_good()
    assert held.Value.Value == datetime(2026, 11, 21, 22, 7, 3, 250_000, tzinfo=held.Value.Value.tzinfo)


async def test_what_does_not_fit_is_refused_and_the_others_are_written(plant: Plant, tmp_path: Path) -> None:
    connector = connector_for(plant, tmp_path)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        results = await connector.write(
            [
                Write("plc/state", 2**31),
                Write("plc/run", 1),
                Write("plc/small", 2),
                Write("plc/many", 3),
                Write("plc/gone", 4),
                Write("plc/astray", 4),
                Write("plc/nobody", 4),
                Write("plc/big", 5),
            ]
        )
        await link.until_value("plc/big", 5)
    outcomes, reasons = zip(*told(results), strict=True)
    assert outcomes == (*[WriteOutcome.REFUSED] * 7, WriteOutcome.ACCEPTED)
    for words, reason in zip(
        (
            "does not fit Int32",
            "true or false",
            "BadUserAccessDenied",
            "an array",
            "BadNodeIdUnknown",
            "browse path",
            "no such tag",
        ),
        reasons,
        strict=False,
    ):
        assert words in reason


async def test_a_write_that_is_not_answered_is_unknown_and_never_sent_again(
    plant: Plant, tmp_path: Path
) -> None:
    cable = Cable(plant.port)
    await cable.start()
    connector = connector_for(plant, tmp_path, endpoint=cable.endpoint)
    link = RecordingLink()
    received: list[int] = []
    original = InternalSession.write

    async def write(self: InternalSession, params: Any) -> Any:
        if self.external:
            received.append(len(params.NodesToWrite))
        return await original(self, params)

    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(InternalSession, "write", write)
        async with running(connector, link):
            await link.until_value("plc/state", 6)
            await connector.write([Write("plc/state", 6)])
            cable.deaf = True
            (result,) = await connector.write([Write("plc/state", 9)])
            assert result.outcome is WriteOutcome.UNKNOWN
            assert "did not answer" in result.reason
            cable.pull()
        cable.deaf = False
        again = RecordingLink()
        async with running(connector, again):
            await again.until_value("plc/state", 9)
            await plant.set("state", 1)
            await again.until_value("plc/state", 1)
    assert received == [1, 1]
    await cable.stop()


async def test_nothing_is_sent_where_there_is_no_session(plant: Plant, tmp_path: Path) -> None:
    connector = connector_for(plant, tmp_path)
    with pytest.raises(ConnectionLost):
        await connector.write([Write("plc/state", 1)])


async def test_writes_keep_to_the_limit_the_server_states(plant: Plant, tmp_path: Path) -> None:
    assert plant.server is not None
    limit = plant.server.get_node(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite)
    await limit.write_value(2, ua.VariantType.UInt32)
    sizes: list[int] = []
    original = InternalSession.write

    async def write(self: InternalSession, params: Any) -> Any:
        if self.external:
            sizes.append(len(params.NodesToWrite))
        return await original(self, params)

    connector = connector_for(plant, tmp_path)
    link = RecordingLink()
    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(InternalSession, "write", write)
        async with running(connector, link):
            await link.until_value("plc/state", 6)
            results = await connector.write([Write("plc/state", number) for number in range(5)])
            await link.until_value("plc/state", 4)
    assert {one.outcome for one in results} == {WriteOutcome.ACCEPTED}
    assert sizes == [2, 2, 1]


async def test_two_callers_take_turns(plant: Plant, tmp_path: Path) -> None:
    connector = connector_for(plant, tmp_path)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        rounds = (connector.write([Write("plc/state", number)]) for number in range(20))
        results = await asyncio.gather(*rounds)
        assert all(one.outcome is WriteOutcome.ACCEPTED for (one,) in results)
        await link.until_value("plc/state", 19)


@pytest.mark.parametrize(
    ("number", "value", "held"),
    [
        (8, -(2**63), -(2**63)),
        (9, 2**64 - 1, 2**64 - 1),
        (6, 3.0, 3),
        (10, 2**24, 2.0**24),
        (11, 2**53, 2.0**53),
        (1, True, True),
        (15, "0aff", b"\n\xff"),
    ],
)
def test_what_fits_is_exact(number: int, value: TagValue, held: object) -> None:
    variant = fitted(value, NodeType(number))
    assert (variant.Value, variant.VariantType.value) == (held, number)
    assert type(variant.Value) is type(held)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (8, 2**63),
        (9, -1),
        (3, 256),
        (6, 3.5),
        (6, True),
        (6, "3"),
        (10, 2**24 + 1),
        (10, 1e39),
        (11, 2**53 + 1),
        (11, math.nan),
        (11, math.inf),
        (11, False),
        (11, 10**400),
        (12, 3),
        (13, "yesterday"),
        (13, "2026-01-01T00:00:00"),
        (14, "x"),
        (15, "xyz"),
        (22, "x"),
        (0, "x"),
        (6, None),
    ],
)
def test_what_does_not_fit_is_said(number: int, value: TagValue) -> None:
    with pytest.raises(DoesNotFit):
        fitted(value, NodeType(number))


def test_an_answer_that_leaves_it_open_is_unknown() -> None:
    assert outcome("t", None).outcome is WriteOutcome.UNKNOWN
    assert outcome("t", 0x800A_0000).outcome is WriteOutcome.UNKNOWN
    assert outcome("t", 0x002E_0000).outcome is WriteOutcome.ACCEPTED
    refused = outcome("t", 0x803B_0000)
    assert refused.outcome is WriteOutcome.REFUSED
    assert refused.reason == "the variable cannot be written (BadNotWritable)"


def test_datetimes_are_sent_as_utc() -> None:
    held = fitted("2026-01-01T02:00:00+02:00", NodeType(13)).Value
    assert held == datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_write_goes_before_every_poll_that_waits(plant: Plant, tmp_path: Path) -> None:
    assert plant.server is not None
    limit = plant.server.get_node(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)
    await limit.write_value(2, ua.VariantType.UInt32)
    asked: list[str] = []
    write, read = InternalSession.write, InternalSession.read

    async def noting_write(self: InternalSession, params: Any) -> Any:
        if self.external:
            asked.append("write")
        return await write(self, params)

    async def slow_read(self: InternalSession, params: Any) -> Any:
        if self.external:
            asked.append("read")
            await asyncio.sleep(0.003)
        return await read(self, params)

    names = [name for name, *_ in HELD]
    tags = [{"name": f"{name}{n}", "node": f"nsu={URI};s={name}"} for n in range(4) for name in names]
    polled = {"name": "polled", "interval": "10ms", "mode": "poll", "tags": tags}
    connector = connector_for(plant, tmp_path, groups=[polled])
    link = RecordingLink()
    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(InternalSession, "write", noting_write)
        patched.setattr(InternalSession, "read", slow_read)
        async with running(connector, link):
            await link.until_value("plc/state3", 6)
            await connector.write([Write("plc/state0", 1)])  # its type is asked for once, before the first
            for number in range(2, 12):
                async with asyncio.timeout(PATIENCE_S):
                    while len(asked) < 3:  # in the midst of reading
                        await asyncio.sleep(0.001)
                asked.clear()
                await connector.write([Write("plc/state0", number)])
                assert asked.index("write") <= 1, "only the read that was open went before it"
                asked.clear()
            await link.until_value("plc/state3", 11)
