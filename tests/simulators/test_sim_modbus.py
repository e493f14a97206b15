"""The Modbus server: bytes written by hand from the standard, then a client that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

import simulators
from simulators.link import CONNECTIONS_MAX
from simulators.maps import MODBUS, OPCUA
from simulators.modbus_pdu import COILS, DISCRETES, HOLDING, INPUT, Unit, answer
from simulators.modbus_server import ModbusServer
from simulators.registers import encode
from tests.support.patience import PATIENCE_S

README = (Path(simulators.__file__).parent / "README.md").read_text(encoding="utf-8")


def unit() -> Unit:
    return Unit(
        blocks={
            HOLDING: (range(10), range(20, 200)),
            INPUT: (range(4),),
            COILS: (range(40),),
            DISCRETES: (range(3),),
        },
        writable={HOLDING: (range(8),), COILS: (range(40),)},
        values={
            (HOLDING, 0): 0x1234,
            (HOLDING, 1): 0xABCD,
            (INPUT, 3): 7,
            (COILS, 0): 1,
            (COILS, 3): 1,
            (COILS, 9): 1,
            (DISCRETES, 2): 1,
        },
    )


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("01 0000 000A", "01 02 09 02"),  # coils 0, 3 and 9: lowest bit first, padded to two bytes
        ("02 0000 0003", "02 01 04"),
        ("03 0000 0002", "03 04 1234 ABCD"),
        ("04 0003 0001", "04 02 0007"),
        ("05 0002 FF00", "05 0002 FF00"),
        ("05 0003 0000", "05 0003 0000"),
        ("06 0007 BEEF", "06 0007 BEEF"),
        ("0F 0000 000A 02 CD01", "0F 0000 000A"),
        ("10 0001 0002 04 000A 0102", "10 0001 0002"),
        ("03 0009 0001", "03 02 0000"),  # in a block, never set
        ("03 0009 0002", "83 02"),  # runs out of the block
        ("03 000A 0001", "83 02"),  # between two blocks
        ("03 FFFF 0002", "83 02"),
        ("03 0000 0000", "83 03"),
        ("03 0014 007E", "83 03"),  # 126 registers
        ("01 0000 07D1", "81 03"),  # 2001 coils
        ("03 0000", "83 03"),
        ("05 0000 0001", "85 03"),  # neither on nor off
        ("05 0028 FF00", "85 02"),
        ("06 0008 0001", "86 02"),  # readable, not writable
        ("10 0007 0002 04 0001 0002", "90 02"),  # half of it is not writable
        ("10 0000 0002 02 0001", "90 03"),  # byte count does not fit the quantity
        ("10 0000 0001 02 0001 00", "90 03"),
        ("0F 0000 000A 01 CD", "8F 03"),
        ("2B 0E 01 00", "AB 01"),
        ("07", "87 01"),
    ],
)
def test_requests_are_answered_to_the_byte(request_: str, reply: str) -> None:
    assert answer(unit(), bytes.fromhex(request_))[0] == bytes.fromhex(reply)


def test_the_largest_requests_are_served() -> None:
    wide = Unit(
        blocks={HOLDING: (range(125),), COILS: (range(2000),)},
        writable={HOLDING: (range(125),), COILS: (range(2000),)},
    )
    reply, _ = answer(wide, bytes.fromhex("03 0000 007D"))
    assert len(reply) == 2 + 250
    assert answer(wide, struct.pack(">BHHB246x", 16, 0, 123, 246))[0] == bytes.fromhex("10 0000 007B")
    assert answer(wide, struct.pack(">BHHB248x", 16, 0, 124, 248))[0] == bytes.fromhex("90 03")
    assert answer(wide, struct.pack(">BHHB246x", 15, 0, 1968, 246))[0] == bytes.fromhex("0F 0000 07B0")
    assert answer(wide, struct.pack(">BHHB247x", 15, 0, 1969, 247))[0] == bytes.fromhex("8F 03")


def test_writes_are_kept_and_told() -> None:
    machine = unit()
    _, write = answer(machine, bytes.fromhex("0F 0001 0003 01 05"))
    assert write is not None
    assert (write.table, write.address, write.values) == (COILS, 1, (1, 0, 1))
    assert answer(machine, bytes.fromhex("01 0000 0004"))[0] == bytes.fromhex("01 01 0B")
    assert answer(machine, bytes.fromhex("03 0000 0001"))[1] is None


@pytest.mark.parametrize(
    ("kind", "value", "order", "scale", "registers"),
    [
        ("float32", 123456.0, "ABCD", 1, [0x47F1, 0x2000]),
        ("float32", 123456.0, "CDAB", 1, [0x2000, 0x47F1]),
        ("float32", 123456.0, "BADC", 1, [0xF147, 0x0020]),
        ("float32", 123456.0, "DCBA", 1, [0x0020, 0xF147]),
        ("uint32", 0x01020304, "CDAB", 1, [0x0304, 0x0102]),
        ("int32", -2, "DCBA", 1, [0xFEFF, 0xFFFF]),
        ("uint64", 2**32, "ABCD", 1, [0, 1, 0, 0]),
        ("float64", 1.0, "ABCD", 1, [0x3FF0, 0, 0, 0]),
        ("int16", -12.5, "ABCD", 0.1, [0xFF83]),
        ("uint16", 6.78, "ABCD", 0.01, [678]),
        ("uint16", 65537, "ABCD", 1, [1]),
        ("bcd16", 1234, "ABCD", 1, [0x1234]),
        ("bcd32", 12345678, "ABCD", 1, [0x1234, 0x5678]),
        ("string(8)", "P0000012", "ABCD", 1, [0x5030, 0x3030, 0x3030, 0x3132]),
        ("string(4)", "Ab", "ABCD", 1, [0x4162, 0]),
    ],
)
def test_values_are_encoded_as_the_standard_says(
    kind: str, value: float | str, order: str, scale: float, registers: list[int]
) -> None:
    assert encode(kind, value, order=order, scale=scale) == registers


@pytest.mark.parametrize(("kind", "value"), [("int16", 40000), ("string(2)", "abc"), ("uint16", "abc")])
def test_what_does_not_fit_is_refused(kind: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=r"fit|longer|text"):
        encode(kind, value)


# --- the README is what configurations are written against ---------------------------------------


def readme_rows(server: str) -> dict[str, list[str]]:
    section = README.split(f"### `{server}`")[1].split("\n### ")[0].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line[:3] == "| `"
    ]
    return {row[0].strip("`"): row for row in rows}


@pytest.mark.parametrize("server", ["modbus-a", "modbus-b"])
def test_the_readme_shows_the_register_map(server: str) -> None:
    rows = readme_rows(server)
    for place in MODBUS[server].places:
        address = f"{place.table}:{place.address}" + (f".{place.bit}" if place.bit is not None else "")
        _, kind, order, scale, _, tag, *_ = rows.pop(address)
        assert (kind, order or "ABCD", float(scale or 1)) == (place.kind, place.order, place.scale), address
        assert tag == f"`{place.tag}`", address
    assert all(row[6] == "yes" for row in rows.values()), "only writable places may be missing from the map"


def test_the_readme_shows_the_nodes() -> None:
    shown = dict(re.findall(r"^\| `(?:PREFIX|Line)\.(\w+)` \| (\w+) \|", README, re.MULTILINE))
    groups = [group for groups in OPCUA.values() for group in groups]
    assert shown == {node.tag: node.kind for group in groups for node in group.nodes}


# --- on the wire ---------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[ModbusServer]:
    made = ModbusServer("modbus-b", "127.0.0.1", 0, MODBUS["modbus-b"], 1, lambda equipment, word: None)
    await made.gate.open()
    yield made
    await made.gate.close()


async def test_a_frame_in_pieces_and_two_in_one_are_both_answered(server: ModbusServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gate.port)
    first = bytes.fromhex("0001 0000 0006 01 03 0000 0001")
    second = bytes.fromhex("0002 0000 0006 01 04 0064 0001")
    for byte in first:
        writer.write(bytes((byte,)))
        await writer.drain()
    assert await reader.readexactly(11) == bytes.fromhex("0001 0000 0005 01 03 02 0000")
    writer.write(first + second)
    assert await reader.readexactly(11) == bytes.fromhex("0001 0000 0005 01 03 02 0000")
    assert await reader.readexactly(11) == bytes.fromhex("0002 0000 0005 01 04 02 0000")
    writer.close()
    await writer.wait_closed()


async def test_another_unit_is_not_there(server: ModbusServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gate.port)
    writer.write(bytes.fromhex("0001 0000 0006 07 03 0000 0001"))
    assert await reader.readexactly(9) == bytes.fromhex("0001 0000 0003 07 83 0B")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "frame",
    [
        "0001 0001 0006 01 03 0000 0001",  # not Modbus
        "0001 0000 0001 01 03 0000 0001",  # too short to hold a function
        "0001 0000 FFFF 01 03 0000 0001",  # longer than any frame
    ],
)
async def test_what_is_not_modbus_ends_the_connection(server: ModbusServer, frame: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gate.port)
    writer.write(bytes.fromhex(frame))
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.writes
async def test_pymodbus_reads_what_was_put(server: ModbusServer) -> None:
    server.put(
        [
            ("oven-1", "temp", 183.4),
            ("oven-1", "door", True),
            ("oven-1", "run", True),
            ("compressor-1", "run_hours", 123456.0),
            ("compressor-1", "loads", 70_001),
            ("nobody", "temp", 1.0),
        ]
    )
    client = AsyncModbusTcpClient("127.0.0.1", port=server.gate.port, retries=0, timeout=PATIENCE_S)
    assert await client.connect()
    oven = await client.read_holding_registers(0, count=8, device_id=1)
    assert oven.registers[0] == 1834
    assert client.convert_from_registers(oven.registers[2:4], client.DATATYPE.FLOAT32) == pytest.approx(
        183.4, abs=1e-4
    )
    assert oven.registers[7] == 0b011
    compressor = await client.read_input_registers(100, count=9, device_id=1)
    hours = client.convert_from_registers(
        compressor.registers[2:4], client.DATATYPE.FLOAT32, word_order="little"
    )
    assert hours == 123456.0
    loads = client.convert_from_registers(
        compressor.registers[7:9], client.DATATYPE.UINT32, word_order="little"
    )
    assert loads == 70_001
    assert (await client.read_coils(0, count=1, device_id=1)).bits[0]
    assert (await client.read_discrete_inputs(0, count=2, device_id=1)).bits[:2] == [True, True]
    assert (await client.write_registers(200, [5, 6], device_id=1)).isError() is False
    assert (await client.read_holding_registers(200, count=2, device_id=1)).registers == [5, 6]
    assert (await client.write_register(0, 1, device_id=1)).exception_code == 2
    assert (await client.read_holding_registers(60, count=1, device_id=1)).exception_code == 2
    client.close()


@pytest.mark.writes
async def test_writes_that_command_are_handed_on_and_not_kept() -> None:
    told: list[tuple[str, str]] = []

    def on_command(equipment: str, word: str) -> None:
        told.append((equipment, word))

    oven = ModbusServer("modbus-b", "127.0.0.1", 0, MODBUS["modbus-b"], 1, on_command)
    palletiser = ModbusServer("modbus-a", "127.0.0.1", 0, MODBUS["modbus-a"], 1, on_command)
    for server in (oven, palletiser):
        await server.gate.open()
    client = AsyncModbusTcpClient("127.0.0.1", port=oven.gate.port, retries=0, timeout=PATIENCE_S)
    assert await client.connect()
    await client.write_coil(0, True, device_id=1)
    assert (await client.read_coils(0, count=1, device_id=1)).bits[0] is False
    await client.write_coil(8, False, device_id=1)
    client.close()
    client = AsyncModbusTcpClient("127.0.0.1", port=palletiser.gate.port, retries=0, timeout=PATIENCE_S)
    assert await client.connect()
    await client.write_register(100, 2, device_id=1)
    assert told == [("oven-1", "start"), ("compressor-1", "stop")]
    await client.write_register(101, 1, device_id=1)
    await client.write_registers(100, [8, 1], device_id=1)
    assert (await client.read_holding_registers(100, count=2, device_id=1)).registers == [8, 1]
    assert told[2:] == [("palletiser-1", "start")], "nothing is taken while the last request stands"
    palletiser.command_taken("palletiser-1")
    assert (await client.read_holding_registers(100, count=2, device_id=1)).registers == [8, 0]
    await client.write_register(101, 1, device_id=1)
    client.close()
    assert told[2:] == [("palletiser-1", "start"), ("palletiser-1", "abort")]
    for server in (oven, palletiser):
        await server.gate.close()


async def test_connections_are_bounded_and_freed(server: ModbusServer) -> None:
    request = bytes.fromhex("0001 0000 0006 01 03 0000 0001")
    links = [await asyncio.open_connection("127.0.0.1", server.gate.port) for _ in range(CONNECTIONS_MAX)]
    for reader, writer in links:
        writer.write(request)
        await reader.readexactly(11)
    extra, extra_writer = await asyncio.open_connection("127.0.0.1", server.gate.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await extra.readexactly(1)
    extra_writer.close()
    for _, writer in links:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.gate.port)
            writer.write(request)
            answered = b""
            with contextlib.suppress(ConnectionResetError):
                answered = await reader.read(11)
            writer.close()
            if answered:
                break
