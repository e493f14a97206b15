"""What the two sides of a connection tell each other, as values. Pure; knows no packets."""

from __future__ import annotations

from typing import NamedTuple

from paho.mqtt.properties import Properties


class Will(NamedTuple):
    """A message the broker says in our place when the connection ends without a good-bye."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Message(NamedTuple):
    """A message that came in. `retained`: it was kept by the broker, and is not news."""

    topic: str
    payload: bytes
    qos: int
    retained: bool


class Granted(NamedTuple):
    """The answer to the wish with this number: a code for each filter, and the broker's own words."""

    number: int
    codes: bytes
    words: str


class Limits(NamedTuple):
    """What a broker lets us do (section 3.2.2.3), as its CONNACK says. One of 3.1.1 says nothing."""

    receive_max: int = 65535
    packet_max: int | None = None
    alias_max: int = 0
    qos_max: int = 2
    retains: bool = True
    keep_alive_s: int | None = None
    """Its own keep-alive, to be used instead of ours; 0 is none."""
    client_id: str | None = None
    """The one it gave us."""
    session_expiry_s: int = 0
    """So long it would keep our session, if it insists on it."""

    @classmethod
    def of(cls, said: Properties) -> Limits:
        """Those of a CONNACK."""
        none = cls()
        return cls(
            receive_max=getattr(said, "ReceiveMaximum", none.receive_max),
            packet_max=getattr(said, "MaximumPacketSize", none.packet_max),
            alias_max=getattr(said, "TopicAliasMaximum", none.alias_max),
            qos_max=getattr(said, "MaximumQoS", none.qos_max),
            retains=bool(getattr(said, "RetainAvailable", none.retains)),
            keep_alive_s=getattr(said, "ServerKeepAlive", none.keep_alive_s),
            client_id=getattr(said, "AssignedClientIdentifier", none.client_id),
            session_expiry_s=getattr(said, "SessionExpiryInterval", none.session_expiry_s),
        )
