"""Servers that freeze, die, or are no servers at all: lost in time, and from the right moment."""

from __future__ import annotations

import asyncio
import signal
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from connectors.errors import ConnectionLost, ConnectorError
from statemodel.types import Quality, TagSample
from tests.connectors.contract import PATIENCE_S, PROMPT_S, RecordingLink, outcome, running
from tests.connectors.opcua.plant import Plant, build, free_port
from tests.connectors.opcua.test_opcua_sessions import group, plant

__all__ = ["plant"]


# Servers that are programs of their own


@asynccontextmanager
async def program(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    script = Path(__file__).with_name("plant.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


KEEP_ALIVE = timedelta(seconds=1)
COUNT = {"groups": [group("fast", "50ms", {"name": "count", "sampling": "10ms"})]}


def counting(link: RecordingLink) -> bool:
    return len({s.value for s in link.samples if s.quality is Quality.GOOD}) > 5


async def test_a_frozen_server_is_lost_in_time_and_from_the_moment_it_froze(tmp_path: Path) -> None:
    port = free_port()
    connector = build(Plant(port), tmp_path, **COUNT, keep_alive="1s")
    async with program(port) as process:
        link = RecordingLink()
        async with running(connector, link) as task:
            await link.until(lambda: counting(link), "counting")
            process.send_signal(signal.SIGSTOP)
            frozen_s = monotonic()
            error = await outcome(task)
            noticed_at, noticed_s = datetime.now(UTC), monotonic() - frozen_s
        assert isinstance(error, ConnectionLost)
        assert "silent" in error.reason
        assert error.last_seen_at is not None
        # What was on its way when the server froze may still have been read; then it was silent for so long.
        assert error.last_seen_at <= noticed_at - 2 * KEEP_ALIVE
        assert error.last_seen_at >= max(sample.received_at for sample in link.samples)
        assert noticed_s < PROMPT_S, "and not only when a request has waited for as long as it may"
        process.send_signal(signal.SIGCONT)
        link = RecordingLink()
        async with running(connector, link):
            await link.until(lambda: counting(link), "counting again")


async def test_a_frozen_server_is_lost_in_time_however_rarely_it_publishes(tmp_path: Path) -> None:
    port = free_port()
    rare = {"groups": [group("rare", "10m", {"name": "name"})], "keep_alive": "1s"}
    async with program(port) as process:
        link = RecordingLink()
        async with running(build(Plant(port), tmp_path, **rare), link) as task:
            await link.until_value("plc/name", "Füller 1")
            process.send_signal(signal.SIGSTOP)
            frozen_s = monotonic()
            error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert "the server has been silent" in error.reason
    assert monotonic() - frozen_s < PROMPT_S


async def test_a_killed_server_is_lost_at_once(tmp_path: Path) -> None:
    port = free_port()
    async with program(port) as process:
        link = RecordingLink()
        async with running(build(Plant(port), tmp_path, **COUNT, keep_alive="10s"), link) as task:
            await link.until(lambda: counting(link), "counting")
            process.kill()
            killed_s = monotonic()
            error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert monotonic() - killed_s < PROMPT_S
    numbers = [s.value for s in link.samples]
    assert numbers == sorted(numbers), "in order"  # type: ignore[type-var]


# Servers that mean no good


@asynccontextmanager
async def stranger(*answers: bytes) -> AsyncIterator[int]:
    """Accepts, answers each thing it is sent with the next of the answers, then says nothing more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                await reader.read(4096)
                writer.write(answer)
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


ACKNOWLEDGE = b"ACKF" + struct.pack("<IIIIII", 28, 0, 65536, 65536, 0, 0)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((), "in time"),
        ((ACKNOWLEDGE,), "in time"),
        ((ACKNOWLEDGE, b"OPNF" + struct.pack("<II", 2**31, 1) + bytes(1_000_000)), "closed"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "opc.tcp"),
        ((ACKNOWLEDGE, b"OPNF" + struct.pack("<I", 0)), "opc.tcp"),
        ((ACKNOWLEDGE, b"ERRF" + struct.pack("<IIi", 16, 0x80830000, -1)), "endpoint"),
    ],
    ids=[
        "silence",
        "half a handshake",
        "a length of 2 GB",
        "another protocol",
        "a length of zero",
        "an error",
    ],
)
async def test_a_stranger_at_the_address_is_given_up_in_time(
    answers: tuple[bytes, ...], words: str, tmp_path: Path
) -> None:
    async with stranger(*answers) as port:
        link = RecordingLink()
        # Whoever is told so, or hung up on, does not wait for the end of the time there is.
        waits = "60s" if words in ("closed", "endpoint") else "1s"
        started_s = monotonic()
        error = await outcome(
            asyncio.create_task(build(Plant(port), tmp_path, connect_timeout=waits).run(link))
        )
    assert monotonic() - started_s < PROMPT_S
    assert isinstance(error, ConnectorError)
    assert words in str(error)
    assert link.ups == 0


def test_samples_are_small() -> None:
    # The hot path makes one of these for every notification.
    assert sys.getsizeof(TagSample("t", 1, Quality.GOOD, None, datetime.now(UTC))) <= 64
