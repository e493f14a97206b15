"""The primary host, and the servers that are walked to find it. Pure; time is handed in.

A host application says on `spBv1.0/STATE/{id}`, retained, whether it is there: `{"online": true, "timestamp":
1732312345678}` in milliseconds of UTC. The timestamp tells a new word from an old one: a broker may hand out
a death that was said before the host came back, so a word older than the newest one is none
(tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp,
tck-id-operational-behavior-edge-node-termination-host-offline-timestamp). The plain ONLINE and OFFLINE of
Sparkplug 2.2 have no time and are not believed.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import Enum


class Word(Enum):
    """What a message on a STATE topic comes to."""

    ONLINE = "online"
    """The host is there: the births may go out."""
    OFFLINE = "offline"
    """The host is gone: say NDEATH, disconnect, try the next server."""
    IGNORED = "ignored"
    """Nothing follows from it."""


class PrimaryHost:
    """What is known of the host application that has to listen before we speak.

    The newest timestamp counts over all servers of a session object, as the same host speaks on all of them.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        #: Messages nothing followed from, by reason.
        self.ignored: Counter[str] = Counter()

    @property
    def topic(self) -> str:
        """The topic to subscribe to, QoS 1."""
        ...

    @property
    def online(self) -> bool:
        """Whether its last word on this connection was that it is there."""
        ...

    def connected(self) -> None:
        """A new connection, perhaps to another server: its word is still to come."""
        ...

    def judge(self, topic: str, payload: bytes, at: datetime) -> Word:
        """Judge a message. Garbage, other hosts and old words are ignored and counted, never raised."""
        ...


class Servers:
    """Brokers that are tried in turn, one at a time (tck-id-operational-behavior-primary-application-state-with-
    multiple-servers-walk and -single-server).
    """

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    @property
    def current(self) -> str:
        """The one to connect to."""
        ...

    def next(self) -> bool:
        """Go on to the next one. True when all have been tried since `settled`: time for a pause."""
        ...

    def settled(self) -> None:
        """The session on the current one has been born: a new walk begins from here."""
        ...
