"""One connection to a broker: the only file that speaks to paho.

A `Link` lives from CONNECT to the end of its connection and is never used again; whoever owns it makes a new
one. It has no memory across connections: what was not acknowledged is sent again from the journal.
paho's session is driven from the event loop through `Wire`, so no thread runs and nothing blocks. Messages
and their acknowledgements, which are nearly all there is, go past it (`frames`); paho is only ever given
whole packets of the other kinds. Link knows nothing of equipment, events or cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Callable
from typing import Any

from paho.mqtt import MQTTException
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from connectors.base import Clock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import frames
from gateway.mqtt.options import LinkOptions, tls_context
from gateway.mqtt.reasons import ClosedByBroker, failure
from gateway.mqtt.wire import Wire
from gateway.publish import payloads

#: Called when the broker has acknowledged a message.
OnAck = Callable[[], None]

#: Time between two looks at keep-alive and overdue acknowledgements, in seconds.
TICK_S = 1.0

#: We subscribe to nothing, so a broker has nothing long to say.
PACKET_BYTES_MAX = 1024 * 1024

#: How paho fails on bytes it does not expect, besides its own return codes.
PAHO_FAILURES = (
    MQTTException,
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _LateMark(Properties):
    """MQTT 5 user property `late=true`, packed once."""

    def __init__(self) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        self.UserProperty = ("late", "true")
        object.__setattr__(self, "_packed", super().pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        packed: bytes = object.__getattribute__(self, "_packed")
        return packed


class _Client(Client):
    """paho with our wire for a socket."""

    wire: Wire

    def _create_socket(self) -> Wire:
        return self.wire


class Link:
    """One accepted connection. Made by `Link.open`; of no use after the first failure."""

    def __init__(self, options: LinkOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._v5 = options.protocol == "5"
        self._waiting: dict[int, tuple[float, OnAck | None]] = {}
        self._limit = options.inflight_max
        self._packet_max: int | None = None
        self._room = asyncio.Event()
        self._acks: list[OnAck] = []
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[SinkUnavailable | SinkRefused] = self._loop.create_future()
        self._ticker: asyncio.TimerHandle | None = None
        self._number = 0
        self._no_properties = b"\x00" if self._v5 else b""
        self._late = _LateMark().pack() if self._v5 else b""
        self._client = self._make_client()
        self._wire: Wire | None = None
        self.connected_at = clock.now()
        self.sent = 0
        self.acknowledged = 0
        self.too_large = 0

    # --- life

    @classmethod
    async def open(cls, options: LinkOptions, clock: Clock) -> Link:
        """Connect; the will says offline on the status topic.

        Raises:
            SinkUnavailable: nobody answers, or the broker cannot take us now. Try again after a pause.
            SinkRefused: the broker will not have us (TakenOver: somebody has our client id). Pause for long.
        """
        link = cls(options, clock)
        tls = tls_context(options)
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                link._wire = link._client.wire = await Wire.open(
                    options.host, options.port, tls, on_data=link._readable, on_lost=link._lost
                )
                link._client.reconnect()
                await link._accepted
        except TimeoutError as error:
            raise SinkUnavailable(
                f"the broker at {options.address} does not answer within {options.connect_timeout_s:g} s"
            ) from error
        except ssl.SSLError as error:
            raise _tls_failure(options, error) from error
        except OSError as error:
            raise SinkUnavailable(
                f"the broker at {options.address} cannot be reached: {error.strerror or error}",
                hint="check that it runs, and the address in [mqtt]",
            ) from error
        finally:
            if not link._accepted.done() or link._accepted.cancelled() or link._accepted.exception():
                link.abort()
        link.connected_at = clock.now()
        link._tick()
        return link

    async def ended(self) -> None:
        """Wait until the connection is over.

        Raises:
            SinkUnavailable: always, unless SinkRefused.
            SinkRefused: the broker told us to go for a reason a person has to deal with.
        """
        raise await asyncio.shield(self._ended)

    async def stop(self, timeout_s: float) -> bool:
        """Leave cleanly: wait for what is in flight, say offline, disconnect. Whether all was acknowledged.

        Never takes longer than `timeout_s`; does nothing on a connection that is over.
        """
        with contextlib.suppress(TimeoutError, SinkUnavailable, SinkRefused):
            async with asyncio.timeout(timeout_s):
                await self.room(1)
                self.publish(self._options.status_topic, payloads.OFFLINE, retain=True)
                await self.room(1)
                self._over(SinkUnavailable("the connection was closed"))
                self._drive(self._client.disconnect)
                self._drive(self._client.loop_write)
                await self._client.wire.closed.wait()
                return True
        self.abort()
        return False

    def abort(self) -> None:
        """End the connection without a word: the broker then publishes the will."""
        self._over(SinkUnavailable("the connection was given up"))
        if self._wire is not None:
            self._wire.abort()

    # --- sending

    @property
    def in_flight(self) -> int:
        """Messages sent and not acknowledged."""
        return len(self._waiting)

    @property
    def limit(self) -> int:
        """Most messages in flight: the smaller of ours and the broker's Receive Maximum."""
        return self._limit

    async def room(self, limit: int | None = None) -> None:
        """Wait until fewer than `limit` messages (the link's own limit if None) are in flight.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        limit = self._limit if limit is None else limit
        while len(self._waiting) >= limit and not self._ended.done():
            self._room.clear()
            await self._room.wait()
        if self._ended.done():
            raise self._ended.result()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        late: bool = False,
        on_ack: OnAck | None = None,
    ) -> bool:
        """Send with QoS 1. Call only when there is `room`. Whether it is on its way.

        False means that the broker's Maximum Packet Size forbids it: it is counted and never sent.
        `on_ack` is called once, when and if the broker acknowledges; never after the connection is over.
        `late` marks news that is older than the connection (a user property, MQTT 5 only).

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        if self._ended.done():
            raise self._ended.result()
        properties = self._late if late else self._no_properties
        number = self._next_number()
        packet = frames.publish(topic, payload, number, retain=retain, properties=properties)
        if packet is None or (self._packet_max is not None and len(packet) > self._packet_max):
            self.too_large += 1
            return False
        try:
            self._client.wire.send(packet)
        except ConnectionError as error:
            self._end(SinkUnavailable(f"the connection broke: {error}"))
            raise self._ended.result() from error
        self._waiting[number] = (self._clock.monotonic(), on_ack)
        self.sent += 1
        return True

    def _next_number(self) -> int:
        """A packet identifier no message in flight has (1 to 65535); there is room, so there is one."""
        while True:
            self._number = self._number % 0xFFFF + 1
            if self._number not in self._waiting:
                return self._number

    # --- paho

    def _make_client(self) -> _Client:
        options = self._options
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTv5 if self._v5 else MQTTv311,
            clean_session=None if self._v5 else True,
            # Otherwise paho answers "version refused" by connecting again by itself, with MQTT 3.1.
            reconnect_on_failure=False,
        )
        if options.user is not None:
            client.username_pw_set(options.user, options.password)
        client.will_set(options.status_topic, payloads.OFFLINE, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_socket_register_write = self._on_want_write
        client.connect_async(options.host, options.port, options.keep_alive_s, clean_start=True)
        return client

    def _on_want_write(self, client: Client, userdata: Any, sock: Any) -> None:
        self._loop.call_soon(self._drive, client.loop_write)

    def _drive(self, step: Callable[[], object]) -> None:
        """Let paho do a step. Whatever it trips over ends this connection and nothing else."""
        try:
            step()
        except PAHO_FAILURES as error:
            self._end(SinkUnavailable(f"the MQTT client failed: {error!r}"))

    def _readable(self) -> None:
        """Take what has arrived, packet by packet; the last may still be incomplete."""
        wire = self._wire
        if wire is None:  # it speaks before it is spoken to, so it is no broker; the timeout will tell
            return
        try:
            while not self._ended.done() and self._take(wire):
                pass
        except frames.NotMqtt as error:
            self._end(SinkUnavailable(f"the broker does not speak MQTT: {error}"))
        acks, self._acks = self._acks, []
        for on_ack in acks:  # after everything that came with them: they may publish
            on_ack()

    def _take(self, wire: Wire) -> bool:
        """Take acknowledgements, then one packet of another kind; false when no whole one is left."""
        data, at = wire.look(wire.unread), 0
        while (size := frames.packet_bytes(data[at : at + frames.HEAD_BYTES])) is not None:
            if data[at] != frames.PUBACK or at + size > len(data) or self._ended.done():
                break
            self._acknowledged(data[at : at + size])
            at += size
        if at:
            wire.recv(at)
        if size is None or at + size > len(data):
            if (size or 0) > PACKET_BYTES_MAX:
                raise frames.NotMqtt(f"a packet claims {size} bytes")
            return False
        self._drive(self._client.loop_read)
        return wire.unread < len(data) - at

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        if reason.is_failure:
            why = failure(
                reason.value, "the connection", said=getattr(said, "ReasonString", ""), connecting=True
            )
            self._end(why)
            return
        self._limit = min(self._limit, getattr(said, "ReceiveMaximum", 65535))
        self._packet_max = getattr(said, "MaximumPacketSize", None)
        if getattr(said, "RetainAvailable", 1) == 0:
            self._end(failure(0x9A, "the connection"))
        elif getattr(said, "MaximumQoS", 2) < 1:
            self._end(failure(0x9B, "the connection"))
        elif not self._accepted.done():
            self._accepted.set_result(None)

    def _acknowledged(self, packet: bytes) -> None:
        number, reason, properties = frames.acknowledged(packet)
        if number not in self._waiting:
            return
        _, on_ack = self._waiting.pop(number)
        if reason >= 0x80:
            self._end(failure(reason, "a message", said=_reason_string(properties)))
            return
        self.acknowledged += 1
        self._room.set()
        if on_ack is not None:
            self._acks.append(on_ack)

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        said: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server and reason.value >= 0x80:
            self._end(failure(reason.value, "the connection", said=getattr(said, "ReasonString", "")))
        elif flags.is_disconnect_packet_from_server:
            self._end(SinkUnavailable("the broker ended the connection"))
        else:
            hint = (
                ""
                if self._accepted.done()
                else "the broker may speak another version: see protocol in [mqtt]"
            )
            self._end(SinkUnavailable(f"the connection failed: {str(reason).lower()}", hint=hint))

    # --- the end

    def _lost(self, error: Exception | None) -> None:
        if not self._accepted.done():
            self._end(
                SinkUnavailable(
                    "the broker closed the connection instead of answering",
                    hint='if it is an old one, set protocol = "3.1.1" in [mqtt]; if it wants TLS, write mqtts://',
                )
            )
        elif error is None:
            self._end(ClosedByBroker("the broker closed the connection"))
        else:
            self._end(SinkUnavailable(f"the connection broke: {error}"))

    def _end(self, why: SinkUnavailable | SinkRefused) -> None:
        """It failed. The first reason counts; later ones are its echoes."""
        if not self._ended.done():
            self._over(why)
            if self._wire is not None:
                self._wire.abort()

    def _over(self, why: SinkUnavailable | SinkRefused) -> None:
        if self._ended.done():
            return
        self._ended.set_result(why)
        if not self._accepted.done():
            self._accepted.set_exception(why)
            self._accepted.exception()  # told; nobody need wait for it
        self._waiting.clear()
        self._acks.clear()
        self._room.set()
        if self._ticker is not None:
            self._ticker.cancel()

    def _tick(self) -> None:
        """Keep-alive, and messages nobody acknowledges although the connection seems to stand."""
        if self._ended.done():
            return
        oldest = next(iter(self._waiting.values()), None)
        if oldest is not None and self._clock.monotonic() - oldest[0] > self._options.ack_timeout_s:
            self._end(
                SinkUnavailable(
                    f"the broker has not acknowledged a message for {self._options.ack_timeout_s:g} s"
                )
            )
            return
        self._drive(self._client.loop_misc)
        self._ticker = self._loop.call_later(TICK_S, self._tick)


def _reason_string(packed: bytes) -> str:
    """What a broker says in words about an acknowledgement; empty when it says nothing readable."""
    said = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]
    try:
        said.unpack(packed)  # type: ignore[no-untyped-call]
    except PAHO_FAILURES:
        return ""
    return str(getattr(said, "ReasonString", ""))


async def listens(options: LinkOptions) -> bool:
    """Whether the broker still accepts connections. Says nothing to it, so nobody loses a session by this."""
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            wire = await Wire.open(
                options.host, options.port, None, on_data=lambda: None, on_lost=lambda error: None
            )
    except OSError:  # a timeout is one too
        return False
    wire.abort()
    await wire.closed.wait()
    return True


def _tls_failure(options: LinkOptions, error: ssl.SSLError) -> SinkUnavailable | SinkRefused:
    if isinstance(error, ssl.SSLCertVerificationError):
        return SinkRefused(
            f"the certificate of the broker at {options.address} is not trusted: {error.verify_message}",
            hint="set ca_file in [mqtt] to the authority that signed it, and use the name it was made for",
        )
    return SinkUnavailable(
        f"TLS with the broker at {options.address} fails: {error.reason or error}",
        hint="check that this port speaks TLS, and the client certificate if it wants one",
    )
