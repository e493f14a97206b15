"""paho's side of a connection: CONNECT and its answer, wishes to hear, messages that come in, good-bye.

paho is given whole packets and says what it sends, so it needs no socket, no thread and no loop of its own.
It never hears of the messages we publish, of what the broker answers to them, nor of pings: at thousands a
second those go past it (`frames`, `outbound`, `pings`). This is the only file that speaks to paho's client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from paho.mqtt import MQTTException
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import frames
from gateway.mqtt.mending import PAHO_FAILURES, within_paho, without_many_properties
from gateway.mqtt.options import LinkOptions
from gateway.mqtt.properties import NotMqtt, packed_bytes, packed_text
from gateway.mqtt.reasons import SECTION, failure
from gateway.mqtt.terms import Granted, Limits, Message, Will

#: Largest packet a broker may send; it is told so in CONNECT.
PACKET_BYTES_MAX = 1024 * 1024

#: Most messages of QoS 1 and 2 a broker may send without our acknowledgement; it is told so in CONNECT.
RECEIVE_MAX = 100
#: The same for a broker of 3.1.1, which cannot be told: every number there is, within the same memory.
_NUMBERS_MAX = 0xFFFF
_OPEN_BYTES_MAX = RECEIVE_MAX * PACKET_BYTES_MAX

#: What paho says of a limit in CONNACK that is 0.
_FORBIDDEN_LIMIT = "property value must be in the range"

#: What a packet of a broker can mean.
Heard = Limits | Message | Granted


class _Desk:
    """What paho takes for a socket: the packet it is to read, and what it wants to send."""

    def __init__(self) -> None:
        self.to_send = bytearray()
        self._to_read = b""
        self._at = 0

    def put(self, packet: bytes) -> None:
        """Lay a whole packet before paho."""
        self._to_read, self._at = packet, 0

    def recv(self, buffer_size: int) -> bytes:
        data = self._to_read[self._at : self._at + buffer_size]
        if not data:
            raise BlockingIOError
        self._at += len(data)
        return data

    def send(self, buffer: bytes | bytearray) -> int:
        self.to_send += buffer
        return len(buffer)

    def close(self) -> None:
        """The connection is the link's to end."""

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""


class _Client(Client):
    """paho with a desk for a socket, and packet identifiers that are free among ours too."""

    def __init__(self, desk: _Desk, next_number: Callable[[], int], options: LinkOptions) -> None:
        v5 = options.protocol == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTv5 if v5 else MQTTv311,
            clean_session=None if v5 else True,
            # Otherwise it answers "version refused" by connecting again by itself, with MQTT 3.1.
            reconnect_on_failure=False,
        )
        self._desk = desk
        self._next_number = next_number

    @property
    def open_messages(self) -> Mapping[int, MQTTMessage]:
        """Messages of QoS 2 that the broker has not released yet."""
        return self._in_messages

    def _create_socket(self) -> Any:
        return self._desk

    def _mid_generate(self) -> int:
        return self._next_number()

    def _packet_handle(self) -> MQTTErrorCode:
        try:
            return super()._packet_handle()
        except MQTTException as error:  # else only its log would say why
            raise NotMqtt(f"a packet that cannot be read ({error})") from error


class Session:
    """That of one connection. Packets go out of `hello`, `subscribe`, `answer` and `good_bye`."""

    def __init__(self, options: LinkOptions, will: Will | None, next_number: Callable[[], int]) -> None:
        """`next_number` gives a packet identifier that nothing else uses."""
        self._options = options
        self._will = will
        self._v5 = options.protocol == "5"
        self._desk = _Desk()
        self._heard: Heard | SinkUnavailable | SinkRefused | NotMqtt | None = None
        self._accepted = False
        self._open_bytes = 0
        self._client = client = _Client(self._desk, next_number, options)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    # --- what goes out

    def hello(self) -> bytes:
        """The CONNECT: clean start, a session that ends with the connection.

        Raises:
            SinkRefused: something in it cannot be said in MQTT.
        """
        options, will, client = self._options, self._will, self._client
        own = _properties(PacketTypes.CONNECT, ReceiveMaximum=RECEIVE_MAX, MaximumPacketSize=PACKET_BYTES_MAX)
        try:
            for text in (options.client_id, options.user or "", will.topic if will else ""):
                packed_text(text)  # paho lets a NUL through
            for data in ((options.password or "").encode(), will.payload if will else b""):
                packed_bytes(data)
            alone = self._v5 and options.user is None and options.password is not None
            # paho says no password without a user.
            client.username_pw_set("" if alone else options.user, options.password)
            if will is not None:
                client.will_set(will.topic, will.payload, will.qos, will.retain)
            client.connect_async(
                options.host,
                options.port,
                options.keep_alive_s,
                clean_start=True,
                properties=own if self._v5 else None,
            )
            client.reconnect()
        except ValueError as error:
            raise SinkRefused(
                f"the client id, user, password or will cannot be said in MQTT: {error}",
                hint=f"shorten it, or take the strange character out, in {SECTION}",
            ) from error
        return self.answer()

    def subscribe(self, filters: Mapping[str, int]) -> tuple[int, bytes]:
        """A SUBSCRIBE for filters with the QoS each may have: its number, and the packet.

        Raises:
            SinkRefused: one of them is no topic filter.
        """
        try:
            for name in filters:
                packed_text(name)
            _, wish = self._client.subscribe(list(filters.items()))
        except ValueError as error:
            raise SinkRefused(
                f"what is asked for is no topic of MQTT, among {', '.join(filters)[:200]!r}: {error}",
                hint=f"check the topics in {SECTION}",
            ) from error
        return cast(int, wish), self.answer()

    def answer(self) -> bytes:
        """What paho wants to say by now, such as acknowledgements; mostly nothing."""
        if self._client.want_write():
            self._client.loop_write()
        said, self._desk.to_send = bytes(self._desk.to_send), bytearray()
        return said

    def good_bye(self, limits: Limits, *, with_will: bool) -> bytes:
        """The DISCONNECT. `with_will`: the broker is to say the will all the same (MQTT 5 only)."""
        code = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message") if with_will else None
        forget = None
        if limits.session_expiry_s:  # it wanted to keep what nobody will come back for
            forget = _properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0)
        self._client.disconnect(code, forget)
        return self.answer()

    # --- what comes in

    def read(self, packet: bytes) -> Heard | None:
        """What a whole packet means; None when there is nothing to do but `answer`.

        Raises:
            NotMqtt: it is none, or none that a broker may send now.
            SinkUnavailable, SinkRefused: the broker will not have us any more, or offers less than we need.
        """
        kind = packet[0]
        if not self._accepted and kind != frames.CONNACK:
            raise NotMqtt("it says something else before it accepts the connection")
        if not self._awaited(kind):
            raise NotMqtt(f"a packet 0x{kind:02X} that no broker sends here")
        if kind == frames.CONNACK and self._v5:
            packet = within_paho(packet)
        if kind & 0xF0 == frames.PUBLISH and self._v5:
            packet = without_many_properties(packet)
        self._heard = None
        self._desk.put(packet)
        try:
            self._read(packet)
        except NotMqtt as error:
            raise self._unread(packet, error) from error
        if kind & 0xF6 == frames.PUBLISH | 2 << 1:
            self._keep_bounds(len(packet))
        heard = self._heard
        if isinstance(heard, Exception):
            raise heard
        return heard

    def _awaited(self, kind: int) -> bool:
        if kind == frames.CONNACK:
            return not self._accepted
        if kind == frames.DISCONNECT:
            return self._v5
        return kind & 0xF0 == frames.PUBLISH or kind in (frames.PUBREL, frames.SUBACK)

    def _read(self, packet: bytes) -> None:
        try:
            code = self._client.loop_read()
        except PAHO_FAILURES as error:
            raise NotMqtt(f"a packet that cannot be read ({error!r})") from error
        if code and self._heard is None:
            raise NotMqtt(f"a packet 0x{packet[0]:02X} against the rules")

    def _unread(self, packet: bytes, error: NotMqtt) -> SinkUnavailable | SinkRefused | NotMqtt:
        """What a packet tells all the same: brokers refuse with codes that the standard has elsewhere."""
        kind, v5 = packet[0], self._v5
        at = {frames.CONNACK: 3, frames.DISCONNECT: 2}.get(kind, len(packet))
        if at >= len(packet) or packet[1] > 0x7F:
            return error
        code = packet[at]
        if kind == frames.CONNACK and len(packet) == 4 and (v5 or code == 1) and code < 0x80:
            code = 0x84  # who answers MQTT 5 in the form of 3.1.1 does not speak it, whatever he says
        if code >= 0x80:
            return failure(code, "the connection", connecting=not self._accepted, v5=v5)
        if kind == frames.CONNACK and _FORBIDDEN_LIMIT in str(error):
            return SinkRefused(
                f"the broker allows a limit which MQTT forbids: {error}", hint="mend its limits for clients"
            )
        return error

    def _keep_bounds(self, size: int) -> None:
        """Of messages of QoS 2, which wait here until the broker releases them."""
        waiting = self._client.open_messages
        self._open_bytes += size
        if len(waiting) == 1:
            self._open_bytes = size
        elif self._open_bytes > _OPEN_BYTES_MAX:
            self._open_bytes = sum(len(message.payload) for message in waiting.values())
        most = RECEIVE_MAX if self._v5 else _NUMBERS_MAX
        if len(waiting) > most or self._open_bytes > _OPEN_BYTES_MAX:
            raise NotMqtt("more messages at once than were allowed")

    # --- what paho calls, within `loop_read`: nothing of ours may fail there, so they only take notes

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        limits = Limits.of(cast(Properties, said))
        if reason.value:
            self._heard = _refusal(reason, said, connecting=True, v5=self._v5)
        elif flags.session_present:  # every CONNECT of ours has a clean start (section 3.2.2.1.1)
            self._heard = NotMqtt("it goes on with a session that it was to forget")
        elif not limits.retains and self._options.retain_needed:
            self._heard = failure(0x9A, "the connection")
        elif limits.qos_max < self._options.qos_needed:
            self._heard = failure(0x9B, "the connection")
        else:
            self._accepted = True
            self._heard = limits

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        said: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._heard = (
                _refusal(reason, said)
                if reason.is_failure
                else SinkUnavailable("the broker ended the connection")
            )

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if not topic or any(sign in topic for sign in "+#\0"):  # none is an alias, of which we allowed none
            self._heard = NotMqtt("a message without a topic")
        elif message.qos and not message.mid:
            self._heard = NotMqtt("a message without a number")
        else:
            self._heard = Message(topic, bytes(message.payload), message.qos, message.retain)

    def _on_subscribe(
        self, client: Client, userdata: Any, number: int, codes: list[ReasonCode], said: Properties | None
    ) -> None:
        self._heard = Granted(number, bytes(code.value for code in codes), _text(said, "ReasonString"))


def _properties(kind: int, **values: object) -> Properties:
    made = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _text(said: Properties | None, name: str) -> str:
    return str(getattr(said, name, ""))


def _refusal(
    reason: ReasonCode, said: Properties | None, *, connecting: bool = False, v5: bool = True
) -> SinkUnavailable | SinkRefused:
    return failure(
        reason.value,
        "the connection",
        said=_text(said, "ReasonString"),
        elsewhere=_text(said, "ServerReference"),
        connecting=connecting,
        v5=v5,
    )
