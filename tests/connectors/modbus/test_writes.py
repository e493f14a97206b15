"""Writes: the bytes of the standard, what is refused before anything is sent, and never a second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.base import Write, WriteOutcome, Writer, Written
from connectors.errors import ConnectionLost
from connectors.modbus.codec import CannotEncode
from connectors.modbus.config import ModbusSettings
from connectors.modbus.connector import ModbusConnector
from connectors.modbus.frame import BadReply, Question, judge
from connectors.modbus.writes import write_bit, write_coils, write_registers
from statemodel.types import TagValue
from tests.connectors.contract import PATIENT, RecordingLink, SystemClock, outcome, running
from tests.connectors.modbus.device import Fault, Request, ScriptedDevice, Send, instead, silent
from tests.connectors.modbus.patience import impatient, impatient_writes

pytestmark = pytest.mark.writes

TAGS = [
    {"name": "run", "address": "coil:3"},
    {"name": "setpoint", "address": "holding:10", "type": "int16", "scale": 0.1},
    {"name": "speed", "address": "holding:20", "type": "float32", "order": "CDAB"},
    {"name": "recipe", "address": "holding:30", "type": "string(6)"},
    {"name": "enable", "address": "holding:40.3"},
    {"name": "level", "address": "input:5", "type": "uint16"},
    {"name": "door", "address": "discrete:1"},
]


def connector(device: ScriptedDevice, **settings: Any) -> ModbusConnector:
    return ModbusConnector(
        ModbusSettings.model_validate(
            {
                "name": "plc",
                "endpoint": device.endpoint,
                "timeout": PATIENT,
                "timeouts_max": 100,
                "groups": [{"name": "all", "interval": "20ms", "tags": TAGS}],
                **settings,
            }
        ),
        SystemClock(),
    )


@pytest.fixture(params=["tcp", "rtu+tcp", "ascii+tcp"])
async def device(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedDevice]:
    device = ScriptedDevice(speaks=request.param)
    await device.start()
    yield device
    await device.stop()
    assert device.errors == []
    await asyncio.sleep(0)


async def written(
    device: ScriptedDevice,
    plc: ModbusConnector,
    *values: tuple[str, TagValue],
    fault: Fault | None = None,
    timeout_s: float | None = None,
) -> tuple[list[Written], list[Request]]:
    """The outcomes of some writes, and what of them was on the wire, a few polls later."""
    link = RecordingLink()

    async def faulty(request: Request, right: bytes, send: Send) -> None:
        if request.writes and fault is not None:
            await fault(request, right, send)
        else:
            send(right)

    device.always = faulty
    async with running(plc, link):
        await link.until(lambda: len(link.latest) == len(TAGS))
        if timeout_s is not None:
            impatient_writes(plc, timeout_s)
        outcomes = await plc.write([Write(f"plc/{tag}", value) for tag, value in values])
        cycles = len(link.cycles)
        await link.until(lambda: len(link.cycles) >= cycles + 3)
    return list(outcomes), [request for request in device.requests if request.writes]


# The bytes, from the Application Protocol V1.1b3.


@pytest.mark.parametrize(
    ("asked", "pdu", "expected"),
    [
        (write_coils(1, 172, [True]), "05 00AC FF00", "05 00AC FF00"),
        (write_coils(1, 172, [False]), "05 00AC 0000", "05 00AC 0000"),
        (write_registers(1, 1, [3]), "06 0001 0003", "06 0001 0003"),
        (write_coils(1, 19, [c == "1" for c in "1011001110"]), "0F 0013 000A 02 CD01", "0F 0013 000A"),
        (write_registers(1, 1, [0x000A, 0x0102]), "10 0001 0002 04 000A 0102", "10 0001 0002"),
        (write_registers(1, 1, [7], multiple=True), "10 0001 0001 02 0007", "10 0001 0001"),
        (write_coils(1, 1, [True], multiple=True), "0F 0001 0001 01 01", "0F 0001 0001"),
        (write_bit(1, 4, 1, True), "16 0004 FFFD 0002", "16 0004 FFFD 0002"),
        (write_bit(1, 4, 15, False), "16 0004 7FFF 0000", "16 0004 7FFF 0000"),
    ],
)
def test_the_bytes_of_the_standard(asked: Question, pdu: str, expected: str) -> None:
    assert asked.pdu == bytes.fromhex(pdu)
    assert asked.expected == bytes.fromhex(expected)
    assert asked.answer_bytes == len(bytes.fromhex(expected))
    assert not asked.reads


def test_the_limits_of_the_standard_are_kept_here() -> None:
    assert len(write_registers(1, 0, [0] * 123).pdu) == 252
    assert len(write_coils(1, 0, [False] * 1968).pdu) == 252
    with pytest.raises(CannotEncode, match="124 registers at once"):
        write_registers(1, 0, [0] * 124)
    with pytest.raises(CannotEncode, match="1969 coils at once"):
        write_coils(1, 0, [False] * 1969)
    with pytest.raises(CannotEncode, match="0 registers"):
        write_registers(1, 0, [])


@pytest.mark.parametrize("answer", ["06 0001 0004", "06 0002 0003", "10 0001 0003", "06 0001", "86"])
def test_an_echo_of_something_else_confirms_nothing(answer: str) -> None:
    with pytest.raises(BadReply):
        judge(write_registers(1, 1, [3]), 1, bytes.fromhex(answer))


# Through a session.


async def test_values_arrive_and_are_read_back(device: ScriptedDevice) -> None:
    plc: Writer = connector(device)
    outcomes, writes = await written(
        device,
        plc,  # type: ignore[arg-type]
        ("run", True),
        ("setpoint", 12.5),
        ("speed", 123456.0),
        ("recipe", "Juice"),
    )
    assert {outcome.outcome for outcome in outcomes} == {WriteOutcome.ACCEPTED}
    assert [outcome.tag for outcome in outcomes] == ["plc/run", "plc/setpoint", "plc/speed", "plc/recipe"]
    assert [(request.function, request.start) for request in writes] == [(5, 3), (6, 10), (16, 20), (16, 30)]
    assert device.bits["coil", 3] is True
    assert device.registers["holding", 10] == 125
    assert (device.registers["holding", 20], device.registers["holding", 21]) == (0x2000, 0x47F1)


async def test_what_was_written_is_emitted_when_it_is_polled(device: ScriptedDevice) -> None:
    plc, link = connector(device), RecordingLink()
    async with running(plc, link):
        await link.until(lambda: len(link.latest) == len(TAGS))
        await plc.write([Write("plc/setpoint", 1.5)])
        await link.until_value("plc/setpoint", 1.5)


async def test_devices_that_know_only_multiple_writes(device: ScriptedDevice) -> None:
    device.without = frozenset((5, 6))
    outcomes, writes = await written(
        device, connector(device, write_multiple=True), ("run", True), ("setpoint", 1.0)
    )
    assert {outcome.outcome for outcome in outcomes} == {WriteOutcome.ACCEPTED}
    assert [request.function for request in writes] == [15, 16]
    assert device.bits["coil", 3] is True
    assert device.registers["holding", 10] == 10


async def test_one_bit_of_a_register_is_the_devices_to_change(device: ScriptedDevice) -> None:
    device.hold(40, 0b0100_0000)
    outcomes, writes = await written(device, connector(device, mask_write=True), ("enable", True))
    assert outcomes[0].outcome is WriteOutcome.ACCEPTED
    assert [request.function for request in writes] == [22]
    assert device.registers["holding", 40] == 0b0100_1000


REFUSED: dict[str, tuple[str, TagValue, str]] = {
    "input register": ("level", 1, "input:5 can only be read"),
    "discrete input": ("door", True, "discrete:1 can only be read"),
    "a bit without function 22": ("enable", True, "set `mask_write` if the device knows function 22"),
    "text for a number": ("setpoint", "much", "no number"),
    "number for a coil": ("run", 1, "neither true nor false"),
    "too much": ("setpoint", 1e6, "does not fit int16"),
    "too long": ("recipe", "Lemonade", "do not fit string(6)"),
    "a tag of nobody": ("nothing", 1, 'no tag "plc/nothing"'),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_written_is_refused_before_anything_is_sent(case: str) -> None:
    tag, value, reason = REFUSED[case]
    device = ScriptedDevice()
    await device.start()
    outcomes, writes = await written(device, connector(device), (tag, value))
    await device.stop()
    assert outcomes[0].outcome is WriteOutcome.REFUSED
    assert reason in outcomes[0].reason
    assert writes == []


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        (1, WriteOutcome.REFUSED, "illegal function (exception 1)"),
        (2, WriteOutcome.REFUSED, "illegal data address (exception 2)"),
        (3, WriteOutcome.REFUSED, "illegal data value (exception 3)"),
        (4, WriteOutcome.REFUSED, "device failure (exception 4)"),
        (5, WriteOutcome.UNKNOWN, "not done yet (exception 5)"),
        (6, WriteOutcome.REFUSED, "device busy (exception 6)"),
        (10, WriteOutcome.REFUSED, "gateway path unavailable (exception 10)"),
        (11, WriteOutcome.UNKNOWN, "the device did not answer (exception 11)"),
    ],
)
async def test_exceptions_in_words(
    device: ScriptedDevice, code: int, expected: WriteOutcome, reason: str
) -> None:
    fault = instead(lambda request, _: device.excepted(request, code))
    outcomes, writes = await written(device, connector(device), ("setpoint", 1.0), fault=fault)
    assert outcomes[0].outcome is expected
    assert reason in outcomes[0].reason
    assert len(writes) == 1


# Finding 2: nothing is written twice.


async def test_a_write_without_an_answer_is_unknown_and_never_sent_again(device: ScriptedDevice) -> None:
    outcomes, writes = await written(
        device, connector(device), ("setpoint", 1.0), fault=silent, timeout_s=0.1
    )
    assert outcomes[0].outcome is WriteOutcome.UNKNOWN
    assert "may have been carried out" in outcomes[0].reason
    assert len(writes) == 1


async def test_a_write_answered_too_late_is_one_write(device: ScriptedDevice) -> None:
    async def slow(request: Request, right: bytes, send: Send) -> None:
        await asyncio.sleep(0.25)
        send(right)

    plc = connector(device)
    outcomes, writes = await written(device, plc, ("setpoint", 1.0), fault=slow, timeout_s=0.1)
    assert outcomes[0].outcome is WriteOutcome.UNKNOWN
    assert len(writes) == 1
    assert device.registers["holding", 10] == 10


async def test_a_link_that_breaks_after_a_write_was_sent_leaves_it_unknown(device: ScriptedDevice) -> None:
    async def gone(request: Request, right: bytes, send: Send) -> None:
        if request.writes:
            device.cut()
        else:
            send(right)

    plc, link = connector(device), RecordingLink()
    async with running(plc, link) as task:
        await link.until(lambda: len(link.latest) == len(TAGS))
        device.always = gone
        one, two = await plc.write([Write("plc/setpoint", 1.0), Write("plc/run", True)])
        assert isinstance(await outcome(task), ConnectionLost)
    assert one.outcome is WriteOutcome.UNKNOWN
    assert (two.outcome, two.reason) == (WriteOutcome.REFUSED, "never sent: the connection was lost")
    assert [request.function for request in device.requests if request.writes] == [6]


async def test_without_a_session_nothing_is_sent(device: ScriptedDevice) -> None:
    plc = connector(device)
    with pytest.raises(ConnectionLost, match="no session"):
        await plc.write([Write("plc/setpoint", 1.0)])
    assert device.requests == []


async def test_a_write_nobody_waits_for_any_more_is_not_sent(device: ScriptedDevice) -> None:
    """Cancelled while a poll is open; the poll's answer comes only afterwards."""
    go_on = asyncio.Event()

    async def held(request: Request, right: bytes, send: Send) -> None:
        await go_on.wait()
        send(right)

    plc, link = connector(device), RecordingLink()
    async with running(plc, link):
        await link.until(lambda: len(link.latest) == len(TAGS))
        count = len(device.requests)
        device.always = held
        await device.asked(lambda requests: len(requests) > count)
        task = asyncio.ensure_future(plc.write([Write("plc/setpoint", 1.0)]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        device.always = None
        go_on.set()
        cycles = len(link.cycles)
        await link.until(lambda: len(link.cycles) >= cycles + 3)
    assert not any(request.writes for request in device.requests)


async def test_a_write_goes_before_every_poll_that_waits(device: ScriptedDevice) -> None:
    many = [{"name": f"t{n}", "address": f"holding:{1000 + 20 * n}", "type": "uint16"} for n in range(40)]

    async def slowly(request: Request, right: bytes, send: Send) -> None:
        await asyncio.sleep(0.003)
        send(right)

    device.always = slowly
    plc = connector(
        device,
        groups=[{"name": "all", "interval": "10ms", "tags": [*TAGS, *many]}],
    )
    link = RecordingLink()
    async with running(plc, link):
        await link.until(lambda: len(link.latest) == len(TAGS) + len(many))
        for value in (1.0, 2.0, 3.0):
            before = len(device.requests)
            await plc.write([Write("plc/setpoint", value)])
            places = [i for i, request in enumerate(device.requests[before:]) if request.writes]
            assert places[0] <= 1, "only the poll that was open went before it"


async def test_the_pause_is_kept_before_a_write_too(device: ScriptedDevice) -> None:
    loop = asyncio.get_running_loop()
    answered = 0.0
    rests: list[float] = []

    async def noting(request: Request, right: bytes, send: Send) -> None:
        nonlocal answered
        if request.writes:
            rests.append(loop.time() - answered)
        send(right)
        answered = loop.time()

    device.always = noting
    plc, link = connector(device, limits={"pause": "30ms"}), RecordingLink()
    async with running(plc, link):
        await link.until(lambda: len(link.latest) == len(TAGS))
        for value in (1.0, 2.0, 3.0):
            await plc.write([Write("plc/setpoint", value)])
    assert len(rests) == 3
    assert min(rests) >= 0.029


async def test_as_long_as_nothing_is_written_no_writing_function_is_on_the_wire(
    device: ScriptedDevice,
) -> None:
    """Polls, refused tags, time-outs, probes, busy answers, a second session, a single reading."""
    device.refused["holding", 10] = 2
    some: list[Fault | None] = [silent, None, None, silent, silent]
    plc, link = connector(device, refused_retry="30ms", mask_write=True, write_multiple=True), RecordingLink()
    async with running(plc, link) as task:
        await link.until(lambda: len(link.latest) == len(TAGS))
        await impatient(plc, link)
        device.faults = [None] * 6 + some + [None] * 3
        await device.asked(lambda requests: not device.faults and len(requests) > 60)
        device.cut()
        await outcome(task)
    again = RecordingLink()
    async with running(plc, again):
        await again.until(lambda: len(again.cycles) > 5)
    await plc.read_once()
    functions = {request.function for request in device.requests}
    assert functions <= {1, 2, 3, 4, 8}
