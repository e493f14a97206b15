"""The first and the last thing that is said on a connection, and what the broker's answer allows. Pure."""

from __future__ import annotations

from gateway.errors import SinkRefused
from gateway.mqtt import frames, heard
from gateway.mqtt.frames import Will
from gateway.mqtt.heard import Limits
from gateway.mqtt.inbound import RECEIVE_MAX
from gateway.mqtt.options import LinkOptions
from gateway.mqtt.properties import NotMqtt
from gateway.mqtt.reasons import failure

#: Largest packet a broker may send; it is told so in CONNECT.
PACKET_BYTES_MAX = 1024 * 1024


def hello(options: LinkOptions, will: Will | None) -> bytes:
    """The CONNECT: clean start, a session that ends with the connection.

    Raises:
        SinkRefused: something in it cannot be said in MQTT.
    """
    try:
        return frames.connect(
            options.client_id,
            v5=options.protocol == "5",
            keep_alive_s=options.keep_alive_s,
            user=options.user,
            password=options.password,
            will=will,
            receive_max=RECEIVE_MAX,
            packet_max=PACKET_BYTES_MAX,
        )
    except ValueError as error:
        raise SinkRefused(
            f"the client id, user, password or will cannot be said in MQTT: {error}",
            hint="shorten it, or take the strange character out, in [mqtt]",
        ) from error


def welcome(options: LinkOptions, packet: bytes) -> Limits:
    """What the broker allows, from its whole CONNACK.

    Raises:
        SinkUnavailable, SinkRefused: it will not have us, or allows less than is needed.
        NotMqtt: this is no CONNACK.
    """
    v5 = options.protocol == "5"
    said = heard.accepted(packet, v5=v5)
    if said.code:
        raise failure(
            said.code if said.code >= 0x80 else 0x80,
            "the connection",
            said=said.words,
            elsewhere=said.elsewhere,
            connecting=True,
            v5=v5,
        )
    try:
        limits = Limits.of(said.properties)
    except NotMqtt as error:
        raise SinkRefused(f"the broker allows {error}", hint="mend its limits for clients") from error
    if not limits.retains and options.retain_needed:
        raise failure(0x9A, "the connection")
    if limits.qos_max < options.qos_needed:
        raise failure(0x9B, "the connection")
    return limits


def good_bye(limits: Limits, *, v5: bool, with_will: bool) -> bytes:
    """The DISCONNECT. `with_will`: the broker is to say the will all the same (MQTT 5 only)."""
    if v5 and limits.session_expiry_s:  # it wanted to keep what nobody will come back for
        return frames.GOOD_BYE_FOR_GOOD_WITH_WILL if with_will else frames.GOOD_BYE_FOR_GOOD
    return frames.GOOD_BYE_WITH_WILL if with_will else frames.GOOD_BYE
