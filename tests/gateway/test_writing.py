"""Writes on their way to connectors: what cannot write, or was not foreseen, is an answer like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from connectors.base import Connector, Write, WriteOutcome, Written
from connectors.errors import ConnectionLost
from connectors.modbus.connector import ModbusConnector
from connectors.opcua.connector import OpcuaConnector
from gateway.writing import Writing, _can_write


class Device:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Write] = []

    async def write(self, writes: Sequence[Write]) -> Sequence[Written]:
        self.asked.extend(writes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def writing(device: Device) -> Writing:
    return Writing(lambda: {"plc": cast(Connector, device)})


async def test_a_value_is_handed_over_once() -> None:
    device = Device([Written("plc/a", WriteOutcome.ACCEPTED)])
    assert (await writing(device).write("oven", "plc/a", 5, "a host")).outcome is WriteOutcome.ACCEPTED
    assert device.asked == [Write("plc/a", 5)]


async def test_nobody_to_write_to_is_a_refusal() -> None:
    answer = await writing(Device(ConnectionLost("the link is down"))).write("oven", "plc/a", 5, "a host")
    assert (answer.outcome, answer.reason) == (WriteOutcome.REFUSED, "the link is down")
    answer = await writing(Device([])).write("oven", "other/a", 5, "a host")
    assert answer.outcome is WriteOutcome.REFUSED


@pytest.mark.parametrize("answer", [ValueError("a bug"), []], ids=["raises", "no answer"])
async def test_an_error_nobody_foresaw_in_a_connector_ends_nothing_else(answer: Any) -> None:
    written = await writing(Device(answer)).write("oven", "plc/a", 5, "a host")
    assert written.outcome is WriteOutcome.UNKNOWN  # it may have been carried out
    assert "unexpected" in written.reason


@pytest.mark.parametrize("connector", [ModbusConnector, OpcuaConnector])
def test_who_can_write(connector: Any) -> None:
    """As docs/sparkplug.md tells whoever switches commands on."""
    assert _can_write(connector)
