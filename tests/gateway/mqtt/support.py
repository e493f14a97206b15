"""Brokers that answer with exactly the bytes a test says; bytes written from the standard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from connectors.base import Clock
from gateway.clock import SystemClock
from gateway.config.schema import MqttSettings
from gateway.mqtt.link import Link, OnMessage, Will
from gateway.mqtt.options import LinkOptions, link_options
from tests.gateway.publish.support import GATEWAY, WAIT_S, free_port, within

#: MQTT 5 CONNACK: accepted, no properties. MQTT 3.1.1 has no property length.
ACCEPTED_5 = bytes([0x20, 3, 0, 0, 0])
ACCEPTED_3 = bytes([0x20, 2, 0, 0])

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def accepted(*properties: bytes) -> bytes:
    """A CONNACK of MQTT 5 with these packed properties."""
    said = b"".join(properties)
    assert len(said) < 0x7D
    return bytes([0x20, 3 + len(said), 0, 0, len(said)]) + said


def ack(kind: int, packet: int, reason: int | None = None) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP."""
    body = packet.to_bytes(2, "big") + (bytes([reason]) if reason is not None else b"")
    return bytes([kind, len(body)]) + body


def puback(packet: int, reason: int | None = None) -> bytes:
    return ack(0x40, packet, reason)


def message(
    topic: str, payload: bytes, *, qos: int = 0, number: int = 0, v5: bool = True, retain: bool = False
) -> bytes:
    """A short PUBLISH."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name
    body += number.to_bytes(2, "big") if qos else b""
    body += (b"\x00" if v5 else b"") + payload
    assert len(body) < 0x80
    return bytes([0x30 | qos << 1 | retain, len(body)]) + body


@asynccontextmanager
async def scripted(script: Script, **more: Any) -> AsyncIterator[LinkOptions]:
    """A broker that runs a script for each connection; how to connect to it."""

    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        task.add_done_callback(serving.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    port = free_port()  # nobody else is there when it is closed
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    options = link_options(MqttSettings(broker=f"mqtt://127.0.0.1:{port}"), GATEWAY)
    try:
        yield replace(options, connect_timeout_s=WAIT_S, **more)
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        while serving:
            await asyncio.wait(list(serving))
        await server.wait_closed()


def says(*parts: bytes, then_close: bool = False) -> Script:
    """Wait for each thing the client says before answering it; then listen on or close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            await reader.read(65536)
            writer.write(part)
        if not then_close:
            while await reader.read(65536):
                pass

    return script


class Talk:
    """One connection, from the broker's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.connect = b""
        self.over = asyncio.Event()

    def say(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))

    def hang_up(self) -> None:
        self._writer.close()

    async def packet(self) -> bytes:
        """The next whole packet of the client."""
        async with asyncio.timeout(WAIT_S):
            packet = await self._reader.readexactly(2)
            rest, shift = packet[1] & 0x7F, 7
            while packet[-1] & 0x80:
                packet += await self._reader.readexactly(1)
                rest |= (packet[-1] & 0x7F) << shift
                shift += 7
            return packet + await self._reader.readexactly(rest)

    async def quiet(self, for_s: float = 0.1) -> bool:
        """Whether the client says nothing for a while."""
        try:
            async with asyncio.timeout(for_s):
                await self._reader.readexactly(1)
        except TimeoutError:
            return True
        return False

    async def rest(self) -> bytes:
        """What it says until it is gone."""
        said = bytearray()
        with contextlib.suppress(OSError):
            while more := await self._reader.read(65536):
                said += more
        return bytes(said)

    async def until_closed(self) -> None:
        """Read until the client is gone."""
        await self.rest()


@asynccontextmanager
async def joined(
    connack: bytes | None = None,
    *,
    will: Will | None = None,
    on_message: OnMessage | None = None,
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Link, Talk]]:
    """A link, and the broker's side of it."""
    if connack is None:
        connack = ACCEPTED_3 if more.get("protocol") == "3.1.1" else ACCEPTED_5
    talks: asyncio.Queue[Talk] = asyncio.Queue()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        talk.connect = await talk.packet()
        talk.say(connack)
        talks.put_nowait(talk)
        await talk.over.wait()

    async with scripted(script, **more) as options:
        link = await within(Link.open(options, clock or SystemClock(), will=will, on_message=on_message))
        talk = await within(talks.get())
        try:
            yield link, talk
        finally:
            link.abort()
            talk.over.set()
