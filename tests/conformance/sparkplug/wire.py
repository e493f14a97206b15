"""What passes between an edge node and its brokers, packet by packet: a man in the middle who takes notes.

The packets are parsed here, from the MQTT 3.1.1 and 5.0 specifications, and with nothing of the gateway, so
that an error there cannot hide itself. Knows nothing of Sparkplug.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.ports import free_port

#: Kinds of packets by their number (MQTT 5.0, 2.1.2).
KINDS = (
    *("RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"),
    *("SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"),
)
_PROTOCOLS = {4: "3.1.1", 5: "5"}

#: How the value of a property is written, by its identifier (MQTT 5.0, 2.2.2.2).
_PROPERTY_BYTES = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
}
_PROPERTY_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1, 0x12: 1, 0x15: 1, 0x16: 1, 0x1A: 1, 0x1C: 1, 0x1F: 1, 0x26: 2}
_SUBSCRIPTION_ID = 0x0B
_SESSION_EXPIRY = 0x11
_TOPIC_ALIAS = 0x23


class NotMqtt(Exception):
    """The bytes are no MQTT; nothing after them can be understood."""


class Publish(NamedTuple):
    """An application message, of a client or of a broker. Also the form of a will."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Connect(NamedTuple):
    """A client introduces itself."""

    protocol: str
    client_id: str
    clean: bool
    will: Publish | None
    keep_alive_s: int = 60
    session_expiry_s: int = 0


class Connack(NamedTuple):
    """The broker's answer; 0 is yes."""

    reason: int


class Subscribe(NamedTuple):
    """Topic filters with the QoS asked for."""

    number: int
    filters: tuple[tuple[str, int], ...]


class Suback(NamedTuple):
    """The QoS granted per filter; 128 and more refuse."""

    number: int
    reasons: tuple[int, ...]


class Disconnect(NamedTuple):
    """The last word of one side. MQTT 3.1.1 knows no reason: 0."""

    reason: int


class Other(NamedTuple):
    """A packet nobody judges."""

    kind: str


class Closed(NamedTuple):
    """The connection is over; `by` is `node`, `broker` or `cable` (cut by the test)."""

    by: str


class Note(NamedTuple):
    """Something the test did beside the wire, at this place of the record. The words are in `scenarios`."""

    what: str
    about: str = ""
    value: Any = None


Body = Connect | Connack | Publish | Subscribe | Suback | Disconnect | Other | Closed | Note


class Packet(NamedTuple):
    """One line of the record. `up` is from the edge node to the broker; `at_ms` is UTC since 1970."""

    number: int
    at_ms: float
    connection: int
    server: str
    up: bool
    body: Body


class _Reader:
    """Takes a packet's body apart from the left."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise NotMqtt("a packet ends before its content")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def bytes(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotMqtt(f"a text is not UTF-8: {error}") from error

    def variable(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise NotMqtt("a length of more than four bytes")

    def properties(self) -> dict[int, int]:
        """The properties that are numbers; the others are passed over."""
        end = self.variable() + self.at
        found: dict[int, int] = {}
        while self.at < end:
            name = self.variable()
            if name in _PROPERTY_BYTES:
                found[name] = self.number(_PROPERTY_BYTES[name])
            elif name == _SUBSCRIPTION_ID:
                found[name] = self.variable()
            elif name in _PROPERTY_TEXTS:
                for _ in range(_PROPERTY_TEXTS[name]):
                    self.bytes()
            else:
                raise NotMqtt(f"there is no property {name:#x}")
        return found


def packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packets off the front of a buffer: first byte and body."""
    while len(buffer) >= 2:
        size, at = 0, 1
        while True:
            if at >= len(buffer):
                return
            byte = buffer[at]
            size |= (byte & 0x7F) << (7 * (at - 1))
            at += 1
            if byte < 0x80:
                break
            if at > 4:
                raise NotMqtt("a length of more than four bytes")
        if len(buffer) < at + size:
            return
        first, body = buffer[0], bytes(buffer[at : at + size])
        del buffer[: at + size]
        yield first, body


@dataclass
class Conversation:
    """One MQTT connection as it is overheard; each direction has its topic aliases."""

    protocol: str = "5"
    aliases: dict[tuple[bool, int], str] = field(default_factory=dict)

    def parse(self, first: int, body: bytes, *, up: bool) -> Body:
        """Understand one packet.

        Raises:
            NotMqtt: it cannot be understood.
        """
        kind = KINDS[first >> 4]
        reader = _Reader(body)
        if kind == "CONNECT":
            return self._connect(reader)
        if kind == "PUBLISH":
            return self._publish(first, reader, up)
        if kind == "SUBSCRIBE":
            number = reader.number(2)
            self._properties(reader)
            filters = []
            while reader.left:
                filters.append((reader.text(), reader.number(1) & 0x03))
            return Subscribe(number, tuple(filters))
        if kind == "SUBACK":
            number = reader.number(2)
            self._properties(reader)
            return Suback(number, tuple(reader.take(reader.left)))
        if kind == "CONNACK":
            reader.number(1)
            return Connack(reader.number(1))
        if kind == "DISCONNECT":
            return Disconnect(reader.number(1) if reader.left else 0)
        return Other(kind)

    def _properties(self, reader: _Reader) -> dict[int, int]:
        return reader.properties() if self.protocol == "5" else {}

    def _connect(self, reader: _Reader) -> Connect:
        if reader.text() != "MQTT":
            raise NotMqtt("not the name of the protocol")
        level = reader.number(1)
        self.protocol = _PROTOCOLS.get(level, str(level))
        flags, keep_alive_s = reader.number(1), reader.number(2)
        expiry_s = self._properties(reader).get(_SESSION_EXPIRY, 0)
        client_id = reader.text()
        will = None
        if flags & 0x04:
            self._properties(reader)
            topic = reader.text()
            will = Publish(topic, reader.bytes(), (flags >> 3) & 0x03, bool(flags & 0x20))
        return Connect(self.protocol, client_id, bool(flags & 0x02), will, keep_alive_s, expiry_s)

    def _publish(self, first: int, reader: _Reader, up: bool) -> Publish:
        qos = (first >> 1) & 0x03
        topic = reader.text()
        if qos:
            reader.number(2)
        alias = self._properties(reader).get(_TOPIC_ALIAS)
        if alias is not None:
            topic = topic or self.aliases.get((up, alias), "")
            self.aliases[up, alias] = topic
        return Publish(topic, reader.take(reader.left), qos, bool(first & 0x01))


class Record:
    """All that was overheard, in order, with somebody to wake when there is more."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self._connections = 0
        self._news = asyncio.Event()

    def connection(self) -> int:
        """The number of a new connection."""
        self._connections += 1
        return self._connections

    def add(self, connection: int, server: str, up: bool, body: Body) -> None:
        """Write a line."""
        self.packets.append(Packet(len(self.packets) + 1, time.time_ns() / 1e6, connection, server, up, body))
        self._news.set()

    def note(self, what: str, about: str = "", value: Any = None) -> None:
        """Write what is done beside the wire, before it is done."""
        self.add(0, "", True, Note(what, about, value))

    async def until(
        self, enough: Callable[[list[Packet]], bool], what: str, *, after: int = 0, within_s: float = 60.0
    ) -> None:
        """Wait until the packets after number `after` are enough.

        Raises:
            AssertionError: they never were; it says what was waited for and what came last.
        """
        try:
            async with asyncio.timeout(within_s):
                while not enough(self.packets[after:]):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = "\n".join(str(packet)[:300] for packet in self.packets[-6:])
            raise AssertionError(f"never came: {what}; the last packets were\n{last}") from None


def held(port: int) -> socket.socket:
    """A port nobody listens at and nobody else is given: connections are refused until this is closed."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", port))
    return holder


class Tap:
    """A TCP proxy before one broker, that writes down what passes before it passes it on."""

    def __init__(self, record: Record, name: str, target_port: int) -> None:
        self._record = record
        self._name = name
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: socket.socket | None = None
        self.port = free_port()

    async def __aenter__(self) -> Tap:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()
        if self._held is not None:
            self._held.close()

    async def heal(self) -> None:
        """Listen (again), at the same port."""
        if self._held is not None:
            self._held.close()
            self._held = None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Stop listening and drop every connection, without a word."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._held = held(self.port)
        await self.drop()

    async def drop(self) -> None:
        """Drop every connection, and go on listening."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection, heard = self._record.connection(), Conversation()
        far: asyncio.StreamWriter | None = None
        by = "cable"
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target_port)
            pumps = {
                asyncio.ensure_future(self._pump(connection, heard, reader, far, up=True)): "node",
                asyncio.ensure_future(self._pump(connection, heard, far_reader, writer, up=False)): "broker",
            }
            try:
                done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                by = pumps[next(iter(done))]
            finally:
                for pump in pumps:
                    pump.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._record.add(connection, self._name, True, Closed(by))
            writer.transport.abort()
            if far is not None:
                # What the node said last still has to reach the broker; a cut cable gives nothing to anybody.
                far.transport.abort() if by == "cable" else far.close()
            self._tasks.discard(task)

    async def _pump(
        self,
        connection: int,
        heard: Conversation,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        up: bool,
    ) -> None:
        buffer = bytearray()
        try:
            while data := await reader.read(65536):
                buffer += data
                for first, body in packets(buffer):
                    self._record.add(connection, self._name, up, heard.parse(first, body, up=up))
                writer.write(data)
                await writer.drain()
        except OSError:
            return
