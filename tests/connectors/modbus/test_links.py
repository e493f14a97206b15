"""Links that several units share, links that never come up, framings whose bytes are spoilt."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic
from typing import Any

import pytest
import uvloop

from connectors.errors import ConnectionLost, DeviceRefused
from connectors.modbus import line as line_module
from connectors.modbus.client import Client
from connectors.modbus.config import ModbusSettings, Place
from connectors.modbus.connector import ModbusConnector
from connectors.modbus.opening import Make, open_link
from connectors.protocol import Shared
from tests.connectors.contract import (
    PATIENCE_S,
    PATIENT,
    PROMPT_S,
    RecordingLink,
    SystemClock,
    outcome,
    running,
    settled,
)
from tests.connectors.modbus.device import Held, Request, ScriptedDevice, Send, in_slices
from tests.connectors.modbus.patience import impatient


def connector(
    endpoint: str, unit: int = 1, shared: Shared | None = None, interval: str = "20ms", **settings: Any
) -> ModbusConnector:
    return ModbusConnector(
        ModbusSettings.model_validate(
            {
                "name": f"u{unit}",
                "endpoint": endpoint,
                "unit": unit,
                "timeout": PATIENT,
                "groups": [
                    {
                        "name": "all",
                        "interval": interval,
                        "tags": [
                            {"name": "one", "address": "holding:0", "type": "uint16"},
                            {"name": "two", "address": "holding:100", "type": "uint16"},
                        ],
                    }
                ],
                **settings,
            }
        ),
        SystemClock(),
        shared,
    )


@pytest.fixture(params=["tcp", "rtu+tcp", "ascii+tcp"])
async def device(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedDevice]:
    async with serving(ScriptedDevice(speaks=request.param)) as device:
        yield device


@asynccontextmanager
async def serving(device: ScriptedDevice) -> AsyncIterator[ScriptedDevice]:
    """Each unit holds its own numbers: unit * 1000 + address."""
    for unit in range(1, 120):
        device.of_unit[unit] = {("holding", n): unit * 1000 % 60000 + n for n in (0, 100)}
    await device.start()
    try:
        yield device
    finally:
        await device.stop()
        await asyncio.sleep(0)
    assert device.errors == []


async def both(link: RecordingLink, unit: int) -> None:
    await link.until_value(f"u{unit}/one", unit * 1000 % 60000)
    await link.until_value(f"u{unit}/two", unit * 1000 % 60000 + 100)


# Several units on one link.


async def test_units_share_one_link_and_each_has_its_own_values(device: ScriptedDevice) -> None:
    shared, links = Shared(), [RecordingLink() for _ in range(5)]
    async with AsyncExitStack() as stack:
        for unit, link in enumerate(links, 1):
            await stack.enter_async_context(running(connector(device.endpoint, unit, shared), link))
        for unit, link in enumerate(links, 1):
            await both(link, unit)
            await link.until(lambda link=link: len(link.cycles) > 10)  # type: ignore[misc]
        assert device.connections == 1
    for unit, link in enumerate(links, 1):
        base = unit * 1000
        assert {sample.value for sample in link.samples} == {base, base + 100}


async def test_a_silent_unit_loses_its_own_connection_and_no_other(device: ScriptedDevice) -> None:
    shared, one, two = Shared(), RecordingLink(), RecordingLink()
    plc = connector(device.endpoint, 2, shared)
    async with running(connector(device.endpoint, 1, shared), one):
        async with running(plc, two) as task:
            await both(one, 1)
            await both(two, 2)
            await impatient(plc, two, 0.2)
            device.silent_units = {2}
            error = await outcome(task)
        assert isinstance(error, ConnectionLost)
        assert error.reason == "unit 2 did not answer 2 requests in a row within 0.2 s each"
        cycles = len(one.cycles)
        await one.until(lambda: len(one.cycles) >= cycles + 5)
        device.silent_units = set()
        again = RecordingLink()
        async with running(plc, again):
            await both(again, 2)
    assert device.connections == 1, "the link was never given up"
    assert one.ups == 1


async def test_trying_a_dead_unit_on_a_link_that_stands_costs_one_request(device: ScriptedDevice) -> None:
    shared, one = Shared(), RecordingLink()
    device.silent_units = {2}
    async with running(connector(device.endpoint, 1, shared), one):
        await both(one, 1)
        with pytest.raises(ConnectionLost, match=r"unit 2 did not answer a request within 0\.2 s"):
            await connector(device.endpoint, 2, shared, timeout="200ms").run(RecordingLink())
    assert len([request for request in device.requests if request.unit == 2]) == 1
    assert device.connections == 1


async def test_a_dead_unit_takes_no_time_from_the_others_where_answers_have_ids() -> None:
    async with serving(ScriptedDevice()) as device:
        shared, one = Shared(), RecordingLink()
        device.silent_units = {2}
        # Whoever waits for it, waits longer than this test.
        plc = connector(device.endpoint, 2, shared, timeout="10m")
        async with running(connector(device.endpoint, 1, shared), one):
            await both(one, 1)
            for tried in range(1, 4):
                async with running(plc, RecordingLink()):
                    await device.asked(lambda requests, tried=tried: asked_of(2, requests) == tried)  # type: ignore[misc]
                    cycles = len(one.cycles)
                    await one.until(lambda cycles=cycles: len(one.cycles) >= cycles + 20)  # type: ignore[misc]
                    assert asked_of(2, device.requests) == tried, "all the time one question was open to it"
    assert device.connections == 1


async def test_a_dead_unit_on_a_line_takes_its_timeout_and_no_more() -> None:
    async with serving(ScriptedDevice(speaks="rtu+tcp")) as device:
        shared, one = Shared(), RecordingLink()
        device.silent_units = {2}
        # It wants to be asked every 10 ms, and is not.
        plc = connector(device.endpoint, 2, shared, interval="10ms", timeout="200ms")
        async with running(connector(device.endpoint, 1, shared), one):
            await both(one, 1)
            for tried in range(1, 6):
                with pytest.raises(ConnectionLost):
                    await plc.run(RecordingLink())
                assert asked_of(2, device.requests) == tried
                cycles = len(one.cycles)
                await one.until(lambda cycles=cycles: len(one.cycles) >= cycles + 3)  # type: ignore[misc]
                assert asked_of(2, device.requests) == tried, "nobody asks it between two tries"


def asked_of(unit: int, requests: Sequence[Request]) -> int:
    """How many requests there were for a unit."""
    return sum(request.unit == unit for request in requests)


async def test_when_the_link_breaks_all_are_lost_and_all_come_back_on_one(device: ScriptedDevice) -> None:
    shared, links = Shared(), [RecordingLink(), RecordingLink()]
    plcs = [connector(device.endpoint, unit, shared) for unit in (1, 2)]
    async with running(plcs[0], links[0]) as one, running(plcs[1], links[1]) as two:
        await both(links[0], 1)
        await both(links[1], 2)
        device.cut()
        errors = [await outcome(one), await outcome(two)]
    assert all(isinstance(error, ConnectionLost) for error in errors)
    assert errors[0] is not errors[1], "each has its own last proof of life"
    links = [RecordingLink(), RecordingLink()]
    async with running(plcs[0], links[0]), running(plcs[1], links[1]):
        await both(links[0], 1)
        await both(links[1], 2)
    assert device.connections == 2


async def test_the_last_to_leave_closes_the_link(device: ScriptedDevice) -> None:
    shared, one = Shared(), RecordingLink()
    async with running(connector(device.endpoint, 1, shared), one):
        for _ in range(5):
            two = RecordingLink()
            async with running(connector(device.endpoint, 2, shared), two):
                await both(two, 2)
        await both(one, 1)
        assert len(device._writers) == 1
    await settled(lambda: not device._writers)
    assert device.connections == 1


async def test_connections_that_do_not_agree_on_the_link_are_told_which_settings() -> None:
    shared = Shared()
    endpoint = "serial:///dev/nothing-here"
    with pytest.raises(ConnectionLost, match="no serial port /dev/nothing-here"):
        await connector(endpoint, 1, shared).run(RecordingLink())
    other = connector(endpoint, 2, shared, serial={"baud": 9600})
    with pytest.raises(DeviceRefused, match=r'"u2" and "u1" share the link .* \(serial\)') as caught:
        await other.run(RecordingLink())
    assert "the same settings" in caught.value.hint


def test_asking_twice_at_the_very_instant_a_group_is_due_is_harmless() -> None:
    """The loop the gateway runs on hands out something else than a timer for what is due at once."""

    async def pumped() -> None:
        async with serving(ScriptedDevice()) as device:
            plc, link = connector(device.endpoint, interval="1h"), RecordingLink()
            async with running(plc, link) as task:
                await both(link, 1)
                cycles, line = len(link.cycles), plc._line
                line._stop_timer()
                for turn in line._trusted.turns:
                    turn.due = line._clock.monotonic()
                line._wait(line._clock.monotonic())
                line._wait(line._clock.monotonic())
                await link.until(lambda: task.done() or len(link.cycles) > cycles)
                assert not task.done()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(pumped())


async def test_a_reading_beside_a_session_uses_its_link(device: ScriptedDevice) -> None:
    shared, one = Shared(), RecordingLink()
    async with running(connector(device.endpoint, 1, shared), one):
        await both(one, 1)
        samples = await connector(device.endpoint, 2, shared).read_once()
    assert [sample.value for sample in samples] == [2000, 2100]
    assert device.connections == 1


async def test_a_unit_that_answers_twice_is_trusted_no_more_and_the_other_goes_on(
    device: ScriptedDevice,
) -> None:
    """A gateway that gives an answer twice: the second answers nothing that is open."""
    shared, one, two = Shared(), RecordingLink(), RecordingLink()

    async def twice(request: Request, right: bytes, send: Send) -> None:
        send(right)
        if request.unit == 2:
            await asyncio.sleep(0.002)
            send(right)

    async with running(connector(device.endpoint, 1, shared), one):
        async with running(connector(device.endpoint, 2, shared), two) as task:
            await both(one, 1)
            await both(two, 2)
            device.always = twice
            error = await outcome(task)
        assert isinstance(error, ConnectionLost)
        assert "no answer" in error.reason
        device.always = None
        cycles = len(one.cycles)
        await one.until(lambda: len(one.cycles) >= cycles + 3)
    assert device.connections == 1
    assert one.ups == 1


# Pipelining.


async def test_open_requests_are_bounded_and_answers_may_come_in_any_order() -> None:
    async with serving(ScriptedDevice()) as device:
        held = Held()
        device.always = held
        tags = [{"name": f"t{n}", "address": f"holding:{n * 200}", "type": "uint16"} for n in range(20)]
        for n in range(20):
            device.of_unit[1]["holding", n * 200] = 500 + n
        link = RecordingLink()
        plc = connector(
            device.endpoint,
            pipeline=6,
            groups=[{"name": "all", "interval": "10s", "tags": tags}],
        )
        async with running(plc, link):
            # The first one alone: whether the device answers at all is not known yet.
            await device.asked(lambda requests: len(requests) == 1)
            held.release()
            for count in (7, 13, 19, 20):
                await device.asked(lambda requests, count=count: len(requests) >= count)  # type: ignore[misc]
                assert len(device.requests) == count
                assert len(held.answers) <= 6
                held.answers.reverse()
                held.release()
            await link.until(lambda: len(link.latest) == 20)
        assert {sample.tag: sample.value for sample in link.samples} == {
            f"u1/t{n}": 500 + n for n in range(20)
        }
        assert len(device.requests) == 20


async def test_pipelined_late_answers_are_counted_and_thrown_away() -> None:
    async with serving(ScriptedDevice()) as device:
        link = RecordingLink()
        plc = connector(device.endpoint, pipeline=4, timeouts_max=100)
        async with running(plc, link):
            await both(link, 1)
            await impatient(plc, link)
            held, given_up = Held(), plc.counts.timeouts
            device.faults = [held, held]
            await device.asked(lambda requests: len(held.answers) == 2)
            await settled(lambda: plc.counts.timeouts >= given_up + 2)
            held.release()
            await link.until(lambda: plc.counts.late >= 2)
            cycles = len(link.cycles)
            await link.until(lambda: len(link.cycles) >= cycles + 3)
        assert {sample.value for sample in link.samples} == {1000, 1100}
        assert device.connections == 1


# Faults 34 and 37 in the serial framings: spoilt bytes are passed over, and the next poll is good.


def spoilt(device: ScriptedDevice, how: str, right: bytes) -> bytes:
    """What comes instead of an answer, or before it."""
    flipped = right[:-3] + bytes([right[-3] ^ 1]) + right[-2:]
    return {
        "garbage before": b"\xde\xad\xbe\xef:\r\n" + right,
        "another frame before": device.wire.frame(0, 9, b"\x03\x02\x12\x34") + right,
        "another function before": device.wire.frame(0, 1, b"\x04\x02\x12\x34") + right,
        "fewer registers before": device.wire.frame(0, 1, b"\x03\x00") + right,
        "more registers before": device.wire.frame(0, 1, b"\x03\x04\x12\x34\x56\x78") + right,
        "the beginning twice": right[:4] + right,
        "wrong check before": flipped + right,
        "wrong check": flipped,
        "half of it": right[: len(right) // 2],
        "nothing but zeros": bytes(len(right)),
        "noise": bytes(range(250)),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "garbage before",
        "another frame before",
        "another function before",
        "fewer registers before",
        "more registers before",
        "the beginning twice",
        "wrong check before",
        "wrong check",
        "half of it",
        "nothing but zeros",
        "noise",
    ],
)
@pytest.mark.parametrize("speaks", ["rtu+tcp", "ascii+tcp"])
async def test_fault_37_spoilt_bytes_are_passed_over_and_the_next_poll_is_good(speaks: str, how: str) -> None:
    async with serving(ScriptedDevice(speaks=speaks)) as device:
        link = RecordingLink()
        plc = connector(device.endpoint, timeouts_max=100)
        async with running(plc, link):
            await both(link, 1)
            await impatient(plc, link, 0.2)

            async def once(request: Request, right: bytes, send: Send) -> None:
                send(spoilt(device, how, right))

            device.faults = [once]
            await device.asked(lambda requests: not device.faults)
            begun, cycles = monotonic(), len(link.cycles)
            await link.until(lambda: len(link.cycles) >= cycles + 2)
            took_s = monotonic() - begun
        assert took_s < PROMPT_S, "and not until nothing late can come any more, which is a minute"
        assert plc.counts.garbage_bytes > 0
        assert {sample.value for sample in link.samples} == {1000, 1100}
        assert device.connections == 1


async def test_fault_34_one_byte_at_a_time_is_a_good_answer(device: ScriptedDevice) -> None:
    link = RecordingLink()
    device.always = in_slices
    plc = connector(device.endpoint)
    async with running(plc, link):
        await both(link, 1)
    assert plc.counts.garbage_bytes == 0
    assert plc.counts.bad_replies == 0


# Fault 68: links that never come up, each within its time.


async def lost_soon(plc: ModbusConnector) -> ConnectionLost:
    """How it is lost when the short one of its times is over; `LONG` for all others."""
    with pytest.raises(ConnectionLost) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await plc.run(RecordingLink())
    return caught.value


LONG = "10m"


async def test_fault_68_accepted_and_then_silent() -> None:
    async with serving(ScriptedDevice()) as device:
        device.silent_units = {1}
        error = await lost_soon(connector(device.endpoint, timeout="200ms", connect_timeout=LONG))
    assert "unit 1 did not answer" in error.reason
    assert error.last_seen_at is None


async def test_fault_68_a_tls_handshake_that_never_ends() -> None:
    taken = asyncio.Event()

    async def take_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(take_and_say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await lost_soon(connector(f"tls://127.0.0.1:{port}", connect_timeout="300ms", timeout=LONG))
    async with asyncio.timeout(PATIENCE_S):
        await taken.wait()
    server.close()
    await server.wait_closed()
    assert "complete the TLS handshake within 0.3 s" in error.reason


async def test_fault_68_a_name_that_leads_to_dead_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_house() as port:
        resolves_to(monkeypatch, "127.0.0.1", "127.0.0.1")
        error = await lost_soon(connector(f"tcp://plc.test:{port}", connect_timeout="300ms", timeout=LONG))
    assert f"plc.test:{port} did not take the connection within 0.3 s" in error.reason


async def test_fault_68_a_dead_address_before_a_living_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(ScriptedDevice()) as device:
        resolves_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        link = RecordingLink()
        async with running(connector(f"tcp://plc.test:{device.port}", connect_timeout=PATIENT), link):
            await both(link, 1)


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


class full_house:  # noqa: N801  reads as what it is
    """A port that takes no more connections: those who knock are never answered."""

    def __enter__(self) -> int:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port: int = self.listener.getsockname()[1]
        self.guests = []
        for _ in range(3):
            guest = socket.socket()
            guest.setblocking(False)
            with suppress(BlockingIOError):
                guest.connect(("127.0.0.1", port))
            self.guests.append(guest)
        return port

    def __exit__(self, *_: object) -> None:
        for guest in self.guests:
            guest.close()
        self.listener.close()


async def test_those_who_wait_for_the_same_link_share_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Place] = []

    async def opened(place: Place, timeout_s: float, make: Make) -> Client:
        tries.append(place)
        return await open_link(place, timeout_s, make)

    monkeypatch.setattr(line_module, "open_link", opened)
    with full_house() as port:
        shared = Shared()
        plcs = [
            connector(f"tcp://127.0.0.1:{port}", unit, shared, connect_timeout="300ms")
            for unit in range(1, 9)
        ]
        ends = await asyncio.gather(*(plc.run(RecordingLink()) for plc in plcs), return_exceptions=True)
    assert len(tries) == 1, "not one after the other"
    assert all(isinstance(end, ConnectionLost) for end in ends)


async def test_who_gives_up_waiting_for_a_link_leaves_it_to_the_others() -> None:
    async with serving(ScriptedDevice()) as device:
        shared = Shared()
        for _ in range(20):
            first = asyncio.ensure_future(connector(device.endpoint, 1, shared).run(RecordingLink()))
            await asyncio.sleep(0)
            link = RecordingLink()
            async with running(connector(device.endpoint, 2, shared), link):
                first.cancel()
                await asyncio.wait([first])
                third = RecordingLink()
                async with running(connector(device.endpoint, 3, shared), third):
                    await both(link, 2)
                    await both(third, 3)
                    assert len(device._writers) <= 1
            await settled(lambda: not device._writers)
