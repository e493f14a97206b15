"""What clients write: judged by the plant itself, put down line by line, and answered as faults allow."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from simulators.control import parse_line
from simulators.opcua_relay import Outgoing
from simulators.orders import Fault, OrderError
from simulators.scenario import parse
from simulators.simulation import Options, Simulation
from simulators.writes import ALSO_TO, Fate, Trouble
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.writes

STILL = '[behaviour]\nrandom = false\nline = false\nmin_dwell = "50ms"\n[start]\n"filler-1" = "Idle"\n'
_ENDED = (ModbusException, ConnectionError, OSError, TimeoutError, asyncio.CancelledError)


class Site:
    """A plant that does what it is told, what was written to it, and what it said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[dict[str, Any]] = []
        options = Options(scenario=parse(STILL, "still"), port_base=0, writes=path, speed=10)
        self.plant = Simulation(options, self.said.append)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    async def begin(self, kind: str, server: str, **more: Any) -> None:
        seen = len(self.said)
        await self.plant.order(Fault(kind, server, **more))
        await until(
            lambda: any(event.get("event") == "fault_start" for event in self.said[seen:]), bool_wanted=True
        )

    async def modbus(self, timeout_s: float = PATIENCE_S) -> AsyncModbusTcpClient:
        port = int(self.plant.endpoints["modbus-a"].rsplit(":", 1)[1])
        client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, timeout=timeout_s)
        while not await client.connect():
            pass
        return client

    def opcua(self) -> Client:
        return Client(self.plant.endpoints["opcua-a"], timeout=PATIENCE_S)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    found = Site(tmp_path / "writes.jsonl")
    async with found.plant:
        yield found


async def until(ask: Any, *, bool_wanted: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while bool(ask()) is not bool_wanted:
            await asyncio.sleep(0.01)


async def reads(ask: Any, wanted: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await ask() != wanted:
            await asyncio.sleep(0.01)


def node(client: Client, name: str) -> Any:
    return client.get_node(f"ns=2;s={name}")


def as_float(value: float) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Float)


def words(value: float) -> list[int]:
    return list(struct.unpack(">2H", struct.pack(">f", value)))


async def test_a_plant_refuses_what_is_out_of_range_itself_and_follows_what_is_not(site: Site) -> None:
    async with site.opcua() as client:
        speed = node(client, "Filler.CmdMachSpeed")
        for value in (-0.5, 400.5, float("nan"), float("inf")):
            with pytest.raises(ua.UaStatusCodeError, match="BadOutOfRange"):
                await speed.write_value(as_float(value))
        assert await speed.read_value() == 0.0
        await speed.write_value(as_float(250.0))
        await reads(node(client, "Filler.MachSpeed").read_value, 250.0)
    modbus = await site.modbus()
    for value in (-0.5, 400.5, float("nan")):
        assert (await modbus.write_registers(120, words(value), device_id=1)).exception_code == 3
    assert (await modbus.write_register(120, words(500.0)[0], device_id=1)).exception_code == 3, "half of it"
    assert not (await modbus.write_registers(120, words(250.0), device_id=1)).isError()

    async def mach_speed() -> list[int]:
        return list((await modbus.read_holding_registers(8, count=2, device_id=1)).registers)

    await reads(mach_speed, words(250.0))
    modbus.close()
    told = [(line["service"], line["done"], line["code"]) for line in site.lines()]
    assert told == [
        *[("Write", "refused", 0x803C0000)] * 4,
        ("Write", "executed", 0),
        *[("FC16", "refused", 3)] * 3,
        ("FC6", "refused", 3),
        ("FC16", "executed", 0),
    ]


async def test_every_write_is_a_line_of_the_ledger_whatever_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    also = tmp_path / "also.jsonl"
    monkeypatch.setenv(ALSO_TO, str(also))
    site = Site(tmp_path / "writes.jsonl")
    async with site.plant:
        async with site.opcua() as client:
            await node(client, "Filler.Parameter1").write_value(as_float(1.5))
            for name in ("Filler.StateCurrent", "Filler.Nonsense"):
                with pytest.raises(ua.UaStatusCodeError):
                    await node(client, name).write_value(ua.Variant(4, ua.VariantType.Int32))
        modbus = await site.modbus()
        await modbus.read_holding_registers(0, count=1, device_id=1)
        await modbus.write_coils(2, [True, False, True], device_id=1)
        await modbus.write_coil(1, True, device_id=1)
        await modbus.write_registers(0, [7], device_id=1)
        await modbus.write_register(102, 7, device_id=9)
        await modbus.mask_write_register(address=102, and_mask=0, or_mask=1, device_id=1)
        modbus.close()
    kept = [(x["server"], x["service"], x["address"], x["values"], x["done"]) for x in site.lines()]
    assert kept == [
        ("opcua-a", "Write", "Filler.Parameter1", [1.5], "executed"),
        ("opcua-a", "Write", "Filler.StateCurrent", [4], "refused"),
        ("opcua-a", "Write", "Filler.Nonsense", [4], "refused"),
        ("modbus-a", "FC15", "coil:2", [5], "executed"),
        ("modbus-a", "FC5", "coil:1", [0xFF00], "executed"),
        ("modbus-a", "FC16", "holding:0", [7], "refused"),
        ("modbus-a/9", "FC6", "holding:102", [7], "refused"),
        ("modbus-a", "FC22", "holding:102", [0, 1], "refused"),
    ]
    shared = [line for line in also.read_text(encoding="utf-8").splitlines() if '"n":' in line]
    assert shared == site.path.read_text(encoding="utf-8").splitlines()
    assert [line["n"] for line in site.lines()] == list(range(1, 9))


async def test_a_command_is_taken_at_the_rising_edge_and_only_then(site: Site) -> None:
    await site.begin("keep_request", "opcua-a")
    async with site.opcua() as client:
        command, request = node(client, "Filler.CntrlCmd"), node(client, "Filler.CmdChangeRequest")
        state = node(client, "Filler.StateCurrent").read_value
        await command.write_value(ua.Variant(2, ua.VariantType.Int32))
        assert await state() == 4, "a command without a request is none"
        await request.write_value(True)
        await reads(state, 6)
        assert await request.read_value() is True, "this machine leaves it to its client"
        await command.write_value(ua.Variant(9, ua.VariantType.Int32))
        await request.write_value(True)
        await request.write_value(False)
        await command.write_value(ua.Variant(4, ua.VariantType.Int32))
        await request.write_value(True)
        await reads(state, 11)
    refused = [event for event in site.said if event.get("event") == "refused"]
    assert refused == [], "a request that stands is not made again: nobody asked for what is not allowed"


async def test_deaf_machines_leave_the_request_as_it_was_written(site: Site) -> None:
    await site.begin("deaf", "opcua-a")
    async with site.opcua() as client:
        await node(client, "Filler.CntrlCmd").write_value(ua.Variant(2, ua.VariantType.Int32))
        await node(client, "Filler.CmdChangeRequest").write_value(True)
        for _ in range(20):
            assert await node(client, "Filler.StateCurrent").read_value() == 4
        assert await node(client, "Filler.CmdChangeRequest").read_value() is True


async def test_lost_answers_to_writes_leave_everything_else_of_a_session_alone(site: Site) -> None:
    await site.begin("lost_answers", "opcua-a", share=0.5)
    expected = Trouble("opcua-a")
    expected.put_on("lost_answers", 0.5, 0.0)
    lost = [expected.fate()[0] is Fate.LOST for _ in range(12)]
    assert 2 <= sum(lost) <= 10
    async with site.opcua() as client:
        parameter = node(client, "Filler.Parameter1")
        for value, is_lost in enumerate(lost):
            writing = asyncio.create_task(parameter.write_value(as_float(float(value))))
            if not is_lost:
                await writing
            await reads(parameter.read_value, float(value))  # carried out, answered or not
            assert writing.done() is not is_lost, "what is answered later was answered"
            writing.cancel()
            await asyncio.wait([writing])
    assert [line["values"] for line in site.lines()] == [[float(value)] for value in range(12)]


async def test_answers_of_modbus_writes_are_lost_cut_or_late_after_they_were_carried_out(site: Site) -> None:
    await site.begin("lost_answers", "modbus-a", share=1)
    client = await site.modbus(0.5)
    with pytest.raises(_ENDED):
        await client.write_register(102, 1, device_id=1)
    client.close()
    await site.plant.order(parse_line('{"clear":"modbus-a"}'))
    await site.begin("cut_answers", "modbus-a", share=1)
    client = await site.modbus()
    assert (await client.read_holding_registers(102, count=1, device_id=1)).registers == [1]
    client.close()
    client = await site.modbus(0.5)
    with pytest.raises(_ENDED):
        await client.write_register(102, 2, device_id=1)
    client.close()
    await site.plant.order(parse_line('{"clear":"modbus-a"}'))
    await site.begin("late_answers", "modbus-a", share=1, delay_s=0.15)
    client = await site.modbus()
    assert (await client.read_holding_registers(102, count=1, device_id=1)).registers == [2]
    begun = asyncio.get_running_loop().time()
    await client.write_register(102, 3, device_id=1)
    assert asyncio.get_running_loop().time() - begun >= 0.149
    client.close()
    assert [line["done"] for line in site.lines()] == ["executed"] * 3


async def test_an_ignored_write_is_answered_with_yes_and_put_down_as_ignored(site: Site) -> None:
    await site.begin("ignored_writes", "opcua-a", share=1)
    await site.begin("ignored_writes", "modbus-a", share=1)
    async with site.opcua() as client:
        await node(client, "Filler.Parameter1").write_value(as_float(9.0))
        assert await node(client, "Filler.Parameter1").read_value() == 0.0
    modbus = await site.modbus()
    assert not (await modbus.write_register(102, 9, device_id=1)).isError()
    assert not (await modbus.write_registers(103, [9, 9], device_id=1)).isError()
    assert (await modbus.read_holding_registers(102, count=3, device_id=1)).registers == [0, 0, 0]
    modbus.close()
    assert [line["done"] for line in site.lines()] == ["ignored"] * 3


def test_which_writes_a_fault_hits_follows_from_the_seed() -> None:
    def fates() -> list[Fate]:
        trouble = Trouble("modbus-a")
        trouble.put_on("lost_answers", 0.3, 0.0)
        return [trouble.fate()[0] for _ in range(1000)]

    assert fates() == fates()
    assert 250 <= fates().count(Fate.LOST) <= 350


@pytest.mark.parametrize("share", ["0", "1.5", "true", '"half"', "-0.1"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(OrderError, match="share must be a number above 0, 1 at most"):
        parse_line(f'{{"fault":"lost_answers","server":"opcua-a","share":{share}}}')


def _message(kind: bytes, number: int, body: bytes = b"", *, policy: bytes = b"") -> bytes:
    """A message of OPC 10000-6: header, channel, then token or policy, number, request and body."""
    security = b"\x01\0\0\0" if kind != b"OPN" else struct.pack("<i", len(policy)) + policy + b"\xff" * 8
    rest = b"\x09\0\0\0" + security + struct.pack("<II", number, number) + body
    return kind + b"F" + struct.pack("<I", len(rest) + 8) + rest


def test_messages_behind_one_that_was_taken_out_move_up() -> None:
    write, read = b"\x01\0" + struct.pack("<H", 676), b"\x01\0" + struct.pack("<H", 634)
    sent = [
        b"ACKF" + struct.pack("<I", 12) + b"none",
        _message(b"OPN", 1, policy=b"None"),
        _message(b"MSG", 2, read),
        _message(b"MSG", 3, write),
        _message(b"OPN", 4, policy=b"None"),
        _message(b"MSG", 5, write + b"more"),
        _message(b"MSG", 6, read),
        _message(b"CLO", 7),
    ]
    wanted = [
        *sent[:3],
        _message(b"OPN", 3, policy=b"None")[:-4] + sent[4][-4:],
        _message(b"MSG", 4, read)[:20] + sent[6][20:],
        _message(b"CLO", 5)[:-4] + sent[7][-4:],
    ]
    for size in (1, 7, 1000):
        outgoing, data, came = Outgoing(), b"".join(sent), []
        for start in range(0, len(data), size):
            for message, answers_write in outgoing.messages(data[start : start + size]):
                if answers_write:
                    outgoing.take_out()
                else:
                    came.append(outgoing.numbered(message))
        assert came == wanted
