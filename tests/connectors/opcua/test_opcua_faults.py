"""The catalogue of faults, for OPC UA: which test injects each, and those that are injected here.

| fault | injected by |
| --- | --- |
| 23 reset, quick return | resume: what_happened_while..., no_value_is_lost_or_doubled... |
| 24 answers vanish, reset, after a keep-alive | resume: a_pulse_on_its_way_when_the_cable_was_pulled... |
| (the same within a session) | sessions: a_pulse_lost_after_a_keep_alive_is_fetched_again |
| 25 server forgets session, subscription, restarts | resume: subscriptions_are_taken_into_a_new_session..., |
| | a_subscription_that_is_gone..., a_server_that_was_started_anew... |
| 26 roll-over, duplicate, order, missing number | sequence (all); here: the numbers of a session roll over |
| 27 overflow bit | sessions: an_overflow_is_counted_for_the_tag... |
| 28 keep-alives stop, TCP stays | sessions: a_subscription_that_falls_silent..., a_frozen_server... |
| 29 bad, null, NaN, arrays, odd times | decode: what_is_no_good_scalar..., sessions: status_and_source... |
| 30 one node of many is gone | sessions: one_bad_node_of_many...; poll: a_node_that_cannot_be_read... |
| 31 certificates, downgrade | security (all); here: a password is not sent to a server that downgrades |
| 32 hostile server | here, sessions: a_stranger_at_the_address..., fuzz |
| 68 dead addresses, silence after accept | sessions: a_stranger...; here: a name of dead addresses |
| flapping | here |
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from connectors.errors import ConnectionLost, ConnectorError, DeviceRefused
from connectors.opcua.sequence import SequenceCount
from tests.connectors.contract import PROMPT_S, RecordingLink, outcome, running, settled
from tests.connectors.opcua.cable import Cable
from tests.connectors.opcua.plant import URI, Plant, build
from tests.connectors.opcua.test_opcua_decode import data_change, publish_bytes
from tests.connectors.opcua.test_opcua_security import certificate, der, key, put

__all__ = ["key"]

FLAPS = 1_000 if os.environ.get("ANDON_TEST_PROFILE") == "long" else 100
_PUBLISH = b"\x01\x00" + struct.pack("<H", 829)
_STATE = {
    "groups": [
        {
            "name": "fast",
            "interval": "20ms",
            "tags": [{"name": "state", "node": f"nsu={URI};s=state", "sampling": "10ms"}],
        }
    ]
}


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture
async def cable(plant: Plant) -> AsyncIterator[Cable]:
    cable = Cable(plant.port)
    await cable.start()
    yield cable
    await cable.stop()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Fault 32


def _message(head: bytes, body: bytes, kind: bytes = b"F", number: int = 0) -> bytes:
    """A chunk in the channel of `head`, the first 24 bytes of one the server sent."""
    channel, (sequence, request) = head[8:16], struct.unpack("<II", head[16:24])
    return (
        b"MSG" + kind + struct.pack("<I", 24 + len(body)) + channel
        + struct.pack("<II", sequence + number, request) + body
    )  # fmt: skip


def _endless(head: bytes) -> Iterator[bytes]:
    return (_message(head, bytes(60_000), b"C", number) for number in range(6000))


def _nested(head: bytes) -> list[bytes]:
    deep = b"\x98\x01\x00\x00\x00" * 10_000 + b"\x01\x01"
    return [_message(head, publish_bytes(data_change(struct.pack("<IB", 1, 1) + deep)))]


ATTACKS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "endless chunks": _endless,
    "a length of 2 GB": lambda head: [b"MSGF" + struct.pack("<I", 2**31 - 1) + head[8:24], bytes(1_000_000)],
    "a length of zero": lambda head: [b"MSGF", bytes(60_000)],
    "a depth of 10,000": _nested,
    "a text of 2 GB": lambda head: [
        _message(head, publish_bytes(data_change(struct.pack("<IBBi", 1, 1, 12, 2**31 - 1))))
    ],
    "2,000,000,000 notifications": lambda head: [
        _message(head, publish_bytes(b"\x01\x00" + struct.pack("<HBii", 811, 1, 4, 2_000_000_000)))
    ],
    "an answer to no question": lambda head: [
        _message(head[:20] + struct.pack("<I", 0x7FFF_FFFF), publish_bytes(data_change()))
    ],
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_hostile_server_is_dropped_in_little_memory_and_hurts_nobody_else(
    plant: Plant, cable: Cable, tmp_path: Path, attack: str
) -> None:
    def tamper(data: bytes) -> Iterable[bytes]:
        return ATTACKS[attack](data[:24]) if data[24:28] == _PUBLISH else [data]

    link, other = RecordingLink(), RecordingLink()
    async with (
        running(build(plant, tmp_path, **_STATE), other),
        running(build(plant, tmp_path, **_STATE, endpoint=cable.endpoint), link) as task,
    ):
        await link.until_value("plc/state", 6)
        await other.until_value("plc/state", 6)
        gc.collect()
        before = resident_bytes()
        cable.tamper = tamper
        error = await outcome(task)
        assert isinstance(error, ConnectionLost)
        assert "silent" not in error.reason, "found out by what it sends, not by waiting"
        assert resident_bytes() - before < 100_000_000, "far less than is sent, or said to be sent"
        await plant.set("state", 7)
        await other.until_value("plc/state", 7)
    assert [sample.value for sample in link.samples] == [6]


# Fault 26


async def test_the_numbers_of_a_session_roll_over_without_a_gap(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = plant.server.iserver.subscription_service.create_subscription  # type: ignore[union-attr]

    async def late(*arguments: Any, **more: Any) -> Any:
        result = await original(*arguments, **more)
        plant.subscriptions()[-1]._notification_seq = 0xFFFF_FFFD
        return result

    monkeypatch.setattr(plant.server.iserver.subscription_service, "create_subscription", late)  # type: ignore[union-attr]
    monkeypatch.setattr(SequenceCount.__init__, "__defaults__", (0xFFFF_FFFD,))
    connector = build(plant, tmp_path, **_STATE)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        (subscription,) = plant.subscriptions()
        for value in range(100, 106):
            await plant.set("state", value)
            await link.until_value("plc/state", value)
            if subscription._notification_seq > 0xFFFF_FFFF:
                # The library's server would count on for ever.
                subscription._notification_seq = 1
        assert subscription._notification_seq < 10
    assert [sample.value for sample in link.samples] == [6, *range(100, 106)]
    assert (link.gaps, connector.losses.message_count, connector.losses.republished) == ([], 0, 0)


# Fault 31


async def test_a_password_is_not_sent_to_a_server_that_downgrades(tmp_path: Path, key: Any) -> None:
    # It used to offer protection, and its certificate is trusted; now somebody offers None in its place.
    put(tmp_path / "opcua/trusted/certs", "plant.der", der(certificate(key)))
    plant = Plant()
    await plant.start()
    cable = Cable(plant.port)
    await cable.start()
    heard = bytearray()

    cable.overhear = heard.extend
    secure = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
    connector = build(plant, tmp_path, endpoint=cable.endpoint, security=secure, user="u", password="geheim")
    link = RecordingLink()
    error = await outcome(asyncio.create_task(connector.run(link)))
    await cable.stop()
    await plant.stop()
    assert isinstance(error, DeviceRefused)
    assert "does not offer Basic256Sha256/SignAndEncrypt" in error.reason
    assert heard
    assert b"geheim" not in heard
    assert struct.pack("<H", 461) not in bytes(heard[20:]), "no session was asked for"


# Fault 68


async def test_a_name_of_dead_addresses_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as full:
        # A queue nobody takes from: further connections are neither taken nor refused.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))

        async def resolve(host: str, *_: Any, **__: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 3

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        connector = build(
            Plant(port), tmp_path, endpoint=f"opc.tcp://plc.test:{port}", connect_timeout="500ms"
        )
        started_s = monotonic()
        error = await outcome(asyncio.create_task(connector.run(RecordingLink())))
        took_s = monotonic() - started_s
        for one in waiting:
            one.close()
    assert isinstance(error, ConnectorError)
    assert took_s < PROMPT_S, "long before the system gives up"
    assert "no answer in time" in error.reason


# Flapping


@pytest.mark.timeout(900)
async def test_flapping_costs_nothing(plant: Plant, cable: Cable, tmp_path: Path) -> None:
    connector = build(plant, tmp_path, **_STATE, endpoint=cable.endpoint)

    async def flap(number: int) -> None:
        link = RecordingLink()
        async with running(connector, link) as task:
            await link.until(lambda: link.ups == 1, "a session")
            if number % 3 == 0:
                await link.until(lambda: bool(link.latest), "a value")
            if number % 10:
                cable.pull()
                await outcome(task)
        assert link.gaps == []

    for number in range(10):
        await flap(number)
    await only_one_session(plant)
    gc.collect()
    tasks, files, memory = len(asyncio.all_tasks()), open_files(), resident_bytes()
    for number in range(FLAPS):
        await flap(number)
    await only_one_session(plant)
    await settled(lambda: len(asyncio.all_tasks()) <= tasks + 1 and open_files() <= files + 1)
    gc.collect()
    assert resident_bytes() - memory < 40_000_000 + 4_000 * FLAPS
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def only_one_session(plant: Plant) -> None:
    """Wait until only what a lost session may leave behind is there: one session with its subscription."""
    assert plant.server is not None
    sessions = plant.server.iserver._external_sessions
    await settled(lambda: len(plant.subscriptions()) <= 1 and len(sessions) <= 1)
