"""One connection to a broker.

A `Link` lives from CONNECT to the end of its connection and is never used again; whoever owns it makes a new
one. It has no memory across connections: what was not acknowledged is said again by its owner. It runs on the
event loop, without a thread. Messages and their acknowledgements, which are nearly all there is, are made
and read here (`frames`); all else is paho's (`session`). Link knows nothing of equipment, events or cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence

from connectors.base import Clock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import frames
from gateway.mqtt.aliases import Aliases
from gateway.mqtt.options import Files, LinkOptions, files_of
from gateway.mqtt.outbound import ACK, REC, OnAck, OnRefused, Outbound, Waiting
from gateway.mqtt.pings import Pings
from gateway.mqtt.properties import NONE, NotMqtt, with_alias
from gateway.mqtt.reach import listens, reach, tls_failure
from gateway.mqtt.reasons import SECTION, ClosedByBroker, MessageRefused, at, failure
from gateway.mqtt.session import PACKET_BYTES_MAX, Session
from gateway.mqtt.subscribing import in_packets, refused
from gateway.mqtt.terms import Granted, Limits, Message, Will
from gateway.mqtt.waits import Waits
from gateway.mqtt.wire import Wire

__all__ = ["Link", "Message", "MessageRefused", "OnAck", "OnMessage", "OnRefused", "Will", "listens"]

#: Called with each message that comes in, in order. It must not wait.
OnMessage = Callable[[Message], None]

#: Longest time between two looks at keep-alive and overdue acknowledgements, in seconds.
TICK_S = 1.0

#: Most messages in flight, so that packet identifiers are left for wishes, of 65535 for both.
IN_FLIGHT_MAX = 65_000

#: Packets taken in one turn of the loop, short acknowledgements aside: a flood must leave time for all else.
TURN_PACKETS = 50


class Link:
    """One accepted connection. Made by `Link.open`; of no use after the first failure."""

    def __init__(
        self, options: LinkOptions, clock: Clock, will: Will | None, on_message: OnMessage | None
    ) -> None:
        self._options = options
        self._clock = clock
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._v5 = options.protocol == "5"
        self._out = Outbound(v5=self._v5, section=options.section)
        self._waiting = self._out.waiting
        self._waits = Waits()
        self._limit = min(options.inflight_max, IN_FLIGHT_MAX)
        self._packet_max = frames.REST_MAX
        self._aliases = Aliases(0)
        self._session = Session(options, will, lambda: self._out.number(self._waits.wishes))
        self._pings = Pings(options.keep_alive_s, clock.monotonic())
        self._room = asyncio.Event()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[SinkUnavailable | SinkRefused] = self._loop.create_future()
        self._ticker: asyncio.TimerHandle | None = None
        self._no_properties = NONE if self._v5 else b""
        self._resting = False
        self._wire: Wire | None = None
        self.limits = Limits()
        """What the broker lets us do."""
        self.files: Files = ()
        """The certificate files as they were when this connection was made: see `CertificateWatch`."""
        self.peer_certificate: bytes | None = None
        """The broker's certificate (DER)."""
        self.connected_at = clock.now()
        self.sent = 0
        self.too_large = 0
        self.heard = 0

    # --- life

    @classmethod
    async def open(
        cls, options: LinkOptions, clock: Clock, *, will: Will | None, on_message: OnMessage | None = None
    ) -> Link:
        """Connect, with a clean start and a session that ends with the connection.

        The broker says `will` when the connection ends without a good-bye. `on_message` is called on the
        loop with each message that comes in, in order; it must not wait.

        Raises:
            SinkUnavailable: nobody answers, or the broker cannot take us now. Try again after a pause.
            SinkRefused: the broker will not have us (TakenOver: somebody has our client id). Pause for long.
        """
        link = cls(options, clock, will, on_message)
        opened = False
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                link.files = await asyncio.to_thread(files_of, options)
                hello = link._session.hello()  # ready: what TLS 1.3 says of us is lost to who speaks late
                link._wire = wire = await reach(
                    options, on_data=link._readable, on_lost=link._lost, on_room=link._room.set
                )
                link.peer_certificate = wire.peer_certificate
                link._send(hello)
                link._readable()
                await link._accepted
            opened = True
        except (SinkUnavailable, SinkRefused) as why:
            why.hint = at(why.hint, options.section)
            raise
        except TimeoutError as error:
            raise SinkUnavailable(
                f"the broker at {options.address} does not answer within {options.connect_timeout_s:g} s"
            ) from error
        finally:
            if not opened:  # also when whoever wanted it has given up in the last moment
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

    async def stop(self, timeout_s: float, *, last: Sequence[Will] = (), with_will: bool = False) -> bool:
        """Leave cleanly: wait for what is in flight, say the last words, disconnect. Whether all arrived.

        `with_will`: the broker says the will all the same (MQTT 5; with 3.1.1 by leaving without good-bye).
        Never takes longer than `timeout_s`; does nothing on a connection that is over.
        """
        with contextlib.suppress(TimeoutError, SinkUnavailable, SinkRefused):
            async with asyncio.timeout(timeout_s):
                await self.room(1)
                for word in last:
                    await self.room()
                    self.publish(word.topic, word.payload, qos=word.qos, retain=word.retain)
                await self.room(1)
                if any(word.qos == 0 for word in last):
                    await self.taken()
                wire = self._open_wire()
                self._over(SinkUnavailable("the connection was closed"))
                if not self._v5 and with_will:
                    wire.abort()  # everything was acknowledged, so nothing is cut off
                else:
                    wire.send(self._session.good_bye(self.limits, with_will=with_will))
                    wire.close()
                await wire.closed.wait()
                return True
        self.abort()
        return False

    @property
    def is_over(self) -> bool:
        return self._ended.done()

    def aim(self, on_message: OnMessage | None) -> None:
        """Somebody else owns it now: messages come to him; nobody is told what comes of those in flight."""
        self._on_message = on_message
        self._out.forget()

    def abort(self) -> None:
        """End the connection without a word: the broker then publishes the will."""
        self._over(SinkUnavailable("the connection was given up"))
        if self._wire is not None:
            self._wire.abort()

    # --- sending

    @property
    def protocol(self) -> str:
        """The version spoken: "5" or "3.1.1"."""
        return self._options.protocol

    @property
    def in_flight(self) -> int:
        """Messages sent and not acknowledged."""
        return len(self._waiting)

    @property
    def acknowledged(self) -> int:
        """Messages the broker has acknowledged."""
        return self._out.acknowledged

    @property
    def refused(self) -> int:
        """Messages the broker has refused."""
        return self._out.refused

    @property
    def limit(self) -> int:
        """Most messages in flight: the smaller of ours and the broker's Receive Maximum."""
        return self._limit

    @property
    def full(self) -> bool:
        """Whether there is no `room` for another message now."""
        return len(self._waiting) >= self._limit or (self._wire is not None and self._wire.full)

    async def room(self, limit: int | None = None) -> None:
        """Wait until fewer than `limit` messages (the link's own limit if None) are in flight.

        Also waits while the broker takes bytes more slowly than they are sent, as QoS 0 can do.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        limit = self._limit if limit is None else limit
        wire = self._open_wire()
        while (len(self._waiting) >= limit or wire.full) and not self._ended.done():
            self._room.clear()
            await self._room.wait()
        if self._ended.done():
            raise self._ended.result()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: bytes | None = None,
        on_ack: OnAck | None = None,
        on_refused: OnRefused | None = None,
    ) -> bool:
        """Send a message. Call only when there is `room`. Whether it is on its way.

        False means that the broker's Maximum Packet Size forbids it: it is counted and never sent.
        `properties` are packed by `properties.pack`, and left out with 3.1.1. `on_ack` is called once, when
        and if the broker acknowledges (QoS 1 PUBACK, QoS 2 PUBCOMP; never for QoS 0), and never after the
        connection is over. `on_refused` is called instead when the broker refuses this message; without it
        a refusal ends the connection, so that nothing is passed over unnoticed.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over, or the broker has no such QoS.
        """
        if self._ended.done():
            raise self._ended.result()
        assert self._wire is not None
        number, name, offered = 0, topic, None
        if not self._v5:
            properties = b""
        else:
            if properties is None:
                properties = self._no_properties
            aliases = self._aliases
            if (alias := aliases.known.get(topic)) is not None:
                name, properties = "", with_alias(properties, alias)
            elif aliases.left and (offered := aliases.offer(topic)) is not None:
                properties = with_alias(properties, offered)
        if qos:
            if qos > self.limits.qos_max:
                raise failure(0x9B, f'the message on "{topic}"')
            number = self._out.number(self._waits.wishes)
        packet = frames.publish(name, payload, number, qos=qos, retain=retain, properties=properties)
        if packet is None or len(packet) > self._packet_max:
            self.too_large += 1
            return False
        self._send(packet)
        if offered is not None:
            aliases.given(topic, offered)
        if qos:
            self._waiting[number] = Waiting(
                self._clock.monotonic(), on_ack, on_refused, topic, ACK if qos == 1 else REC
            )
        self.sent += 1
        return True

    async def taken(self) -> None:
        """Return when the broker has read everything that was published before, QoS 0 included.

        A PINGREQ follows it on the connection, and brokers answer in order. Callers that wait at the same
        time for the same share one.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        self._open_wire()
        turn = self._pings.turn(self.sent)
        self._ping()
        if turn > self._pings.answered:
            await self._waits.ping(turn)

    async def subscribe(self, filters: Mapping[str, int]) -> None:
        """Ask for messages: topic filters, and the QoS each may have. Returns when the broker agreed to all.

        Raises:
            SinkRefused: the broker refuses one of them; it is named. The connection stands.
            SinkUnavailable: it cannot now, or the connection is over.
        """
        for wanted in in_packets(filters, self._packet_max):
            self._open_wire()
            try:
                number, packet = self._session.subscribe(wanted)
            except SinkRefused as why:
                why.hint = at(why.hint, self._options.section)
                raise
            self._send(packet)
            wish, codes = await self._waits.wish(number, list(wanted), self._clock.monotonic())
            if (answer := refused(wish, codes)) is not None:
                answer.hint = at(answer.hint, self._options.section)
                raise answer

    # --- inside: what goes out

    def _open_wire(self) -> Wire:
        if self._ended.done():
            raise self._ended.result()
        assert self._wire is not None
        return self._wire

    def _send(self, packet: bytes, *, answer: bool = False) -> None:
        assert self._wire is not None
        try:
            (self._wire.answer if answer else self._wire.send)(packet)
        except ConnectionError as error:
            self._end(SinkUnavailable(f"the connection broke: {error}"))
            raise self._ended.result() from error

    def _ping(self) -> None:
        if self._pings.due(self.sent, self._clock.monotonic()):
            self._send(frames.PING)

    # --- inside: what comes in

    def _readable(self) -> None:
        """Take what has arrived, packet by packet; the last may still be incomplete."""
        wire = self._wire
        if wire is None:  # it speaks before it is spoken to; `open` looks again
            return
        try:
            self._take(wire)
        except NotMqtt as error:
            self._end(SinkUnavailable(f"the broker does not speak MQTT: {error}"))
        except (SinkUnavailable, SinkRefused) as why:
            self._end(why)
        if len(self._waiting) < self._limit or self._ended.done():
            self._room.set()
        told, self._out.told = self._out.told, []
        for tell in told:  # after everything that came with them: they may publish
            tell()

    def _take(self, wire: Wire) -> None:
        data, at, packets, acknowledged = wire.received, 0, 0, self._out.has
        end = len(data)
        while end - at > 1 and not self._ended.done():
            kind = data[at]
            if kind == frames.PUBACK and data[at + 1] == 2:  # nearly all there is: no complaint
                if end - at < 4:
                    break
                acknowledged(data[at + 2] << 8 | data[at + 3])
                at += 4
                continue
            if kind == frames.PUBACK and data[at + 1] == 3 and end - at > 4 and data[at + 4] < 0x80:
                acknowledged(data[at + 2] << 8 | data[at + 3])  # nor that nobody listens
                at += 5
                continue
            size = frames.packet_bytes(data, at)
            if size is not None and size > PACKET_BYTES_MAX:
                raise NotMqtt(f"a packet claims {size} bytes")
            if size is None or size > end - at:
                break
            self._packet(kind, bytes(data[at : at + size]))
            at += size
            packets += 1
            if packets >= TURN_PACKETS:
                break
        wire.taken(at)
        if packets >= TURN_PACKETS and not self._resting:
            self._resting = True
            wire.rest()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Another turn of a flood."""
        self._resting = False
        self._readable()
        if not self._resting and self._wire is not None:
            self._wire.go_on()

    def _packet(self, kind: int, packet: bytes) -> None:
        if kind in (frames.PUBACK, frames.PUBREC, frames.PUBCOMP) and self._accepted.done():
            answer = self._out.receipt(kind, *frames.acknowledged(packet))
            self._room.set()
        elif kind == frames.PINGRESP and len(packet) == 2 and self._accepted.done():
            self._ponged()
            return
        else:
            self._heard(self._session.read(packet))
            answer = self._session.answer()
        if answer and not self._ended.done():
            self._send(answer, answer=True)

    def _heard(self, said: Limits | Message | Granted | None) -> None:
        """Outside of paho, so that whoever is called may fail aloud, and before it acknowledges anything."""
        if isinstance(said, Message):
            self.heard += 1
            self._hand_on(said)
        elif isinstance(said, Granted):
            self._waits.granted(*said)
        elif said is not None:
            self._answered(said)

    def _hand_on(self, message: Message) -> None:
        if self._on_message is None:
            return
        taken = False
        try:
            self._on_message(message)
            taken = True
        finally:
            if not taken:  # the failure goes on up; nothing more is taken, nor acknowledged
                self._end(SinkUnavailable("a message that came in could not be dealt with"))

    def _answered(self, limits: Limits) -> None:
        self.limits = limits
        self._limit = min(self._limit, limits.receive_max)
        self._packet_max = min(self._packet_max, limits.packet_max or self._packet_max)
        self._aliases = Aliases(limits.alias_max)
        if limits.keep_alive_s:
            self._pings.keep_alive_s = limits.keep_alive_s
        if not self._accepted.done():  # whoever wanted it may have given up in this very turn of the loop
            self._accepted.set_result(None)

    def _ponged(self) -> None:
        self._pings.pong()
        self._waits.answered(self._pings.answered)
        self._ping()

    # --- the end

    def _lost(self, error: Exception | None) -> None:
        if isinstance(error, ssl.SSLError):
            self._end(tls_failure(self._options, error))
        elif not self._accepted.done():
            # With TLS 1.3 its reason can be lost: it closes on what we have said meanwhile.
            tls = f"if it wants our certificate, check cert_file and key_file in {SECTION}"
            plain = "if it wants TLS, write mqtts://"
            self._end(
                SinkUnavailable(
                    "the broker closed the connection instead of answering",
                    hint=f'if it is an old one, set protocol = "3.1.1" in {SECTION}; '
                    + (tls if self._options.tls else plain),
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
        why.hint = at(why.hint, self._options.section)
        self._ended.set_result(why)
        if not self._accepted.done():
            self._accepted.set_exception(why)
            self._accepted.exception()  # told; nobody need wait for it
        self._waits.fail(why)
        self._out.clear()
        self._room.set()
        if self._ticker is not None:
            self._ticker.cancel()

    def _tick(self) -> None:
        """Keep-alive, and answers that do not come although the connection seems to stand."""
        if self._ended.done():
            return
        now, wire, late_s = self._clock.monotonic(), self._open_wire(), self._options.ack_timeout_s
        if any(
            at is not None and now - at > late_s for at in (self._out.oldest_at(), self._waits.oldest_at())
        ):
            self._end(SinkUnavailable(f"the broker has not acknowledged a message for {late_s:g} s"))
        elif not self._pings.alive(now, heard=wire.chunks_in, spoken=wire.chunks_out):
            self._end(SinkUnavailable(f"keep alive: the broker is silent for {self._pings.keep_alive_s:g} s"))
        elif self._pings.waits_s(now) > late_s:
            self._end(SinkUnavailable(f"keep alive: the broker has not answered a ping for {late_s:g} s"))
        else:
            with contextlib.suppress(SinkUnavailable, SinkRefused):
                self._ping()
            self._ticker = self._loop.call_later(min(TICK_S, self._pings.keep_alive_s / 4), self._tick)
