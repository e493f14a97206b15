"""The primary host, and the servers that are walked to find it. Pure; time is handed in.

A host application says on `spBv1.0/STATE/{id}`, retained, whether it is there: `{"online": true, "timestamp":
1732312345678}` in milliseconds of UTC. The timestamp tells a new word from an old one: a broker may hand out
a death that was said before the host came back, so a word older than the newest one is none
(tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp,
tck-id-operational-behavior-edge-node-termination-host-offline-timestamp). A death has the timestamp of the
birth it belongs to, so one as old as the newest birth counts. The plain ONLINE and OFFLINE of Sparkplug 2.2
have no time and are not believed.

A broker that begins again from what it kept on disk says of a host that it is there which has yet to come
back. Nothing tells that word from a true one but the host's own that follows.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from enum import Enum

import msgspec

from gateway.sparkplug.names import state_topic
from gateway.sparkplug.scalars import milliseconds

#: A word dated further ahead of us than this counts as dated just so far ahead: else one wrong clock, theirs
#: or ours, could make every true word after it look old.
AHEAD_MAX = timedelta(hours=1)
#: What was heard of it last, and is not that it is there -> what people should look at.
_WHY = {
    "": "nothing is heard on {topic}: check primary_host, and that we may read this topic",
    "offline": "it says that it is offline",
    "old": "its word is older than one before it: check its clock",
    "payload": 'what it says is not of Sparkplug 3.0, which has {{"online":true,"timestamp":...}}',
}
#: More bytes than any such message has.
STATE_BYTES_MAX = 1024


class Word(Enum):
    """What a message on a STATE topic comes to."""

    ONLINE = "online"
    """The host is there: the births may go out."""
    OFFLINE = "offline"
    """The host is gone: say NDEATH, disconnect, try the next server."""
    IGNORED = "ignored"
    """Nothing follows from it."""


class _State(msgspec.Struct):
    online: bool
    timestamp: int


_decode = msgspec.json.Decoder(_State, strict=True).decode


class PrimaryHost:
    """What is known of the host application that has to listen before we speak.

    The newest timestamp of a server counts for good, over connections. Each server has its own: a host dates
    its words by when it connected there, and may have come to the one long before it came to the other.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        #: Messages nothing followed from, by reason: `topic`, `payload` or `old`.
        self.ignored: Counter[str] = Counter()
        self._newest_ms: dict[str, int] = {}
        self._deaths = 0
        self._server = ""
        self._online = self._kept = self._proved = False
        #: Whether it has come to this server though the broker said that it was there already.
        self.came_anew = False
        self._heard = ""

    @property
    def topic(self) -> str:
        """The topic to subscribe to, QoS 1."""
        return state_topic(self.host)

    @property
    def online(self) -> bool:
        """Whether its last word on this connection was that it is there."""
        return self._online

    @property
    def spell(self) -> tuple[str, int, int]:
        """Its stay on this server, as it dates it. With another one later it may have been away between."""
        return self._server, self._newest_ms.get(self._server, -1), self._deaths

    @property
    def waited_for(self) -> str:
        """While it is not there: for whom we wait, and why as far as can be told, for people."""
        return f"waits for the primary host {self.host}: {_WHY[self._heard].format(topic=self.topic)}"

    def connected(self, server: str = "") -> None:
        """A new connection, perhaps to another server: its word is still to come."""
        self._server = server
        self._proved = self.came_anew  # we left to be born again for it, and it is there
        self._online = self._kept = self.came_anew = False
        self._heard = ""

    def judge(self, topic: str, payload: bytes, at: datetime, *, retained: bool = False) -> Word:
        """Judge a message. Garbage, other hosts and old words are ignored and counted, never raised.

        `retained`: the broker had kept it, and does not hand it on from the host just now.
        """
        if topic != self.topic:
            return self._ignore("topic")
        if not payload:  # the retained word was cleared
            self._heard = ""
            return self._ignore("payload")
        try:
            state = _decode(payload) if len(payload) <= STATE_BYTES_MAX else None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            state = None
        if state is None or state.timestamp < 0:
            self._heard = "payload"
            return self._ignore("payload")
        newest_ms = self._newest_ms.get(self._server, -1)
        if state.timestamp < newest_ms:
            self._heard = "old"
            return self._ignore("old")
        believed_ms = min(state.timestamp, milliseconds(at + AHEAD_MAX))
        self._newest_ms[self._server] = max(newest_ms, believed_ms)
        if state.online and not retained:  # said on connecting, by some with the time of their first birth
            self.came_anew = self.came_anew or (self._online and self._kept)
        self._online, self._kept = state.online, retained and not self._proved
        self._deaths += not state.online
        self._heard = "offline"  # of no account while it is there
        return Word.ONLINE if state.online else Word.OFFLINE

    def _ignore(self, reason: str) -> Word:
        self.ignored[reason] += 1
        return Word.IGNORED


class Servers:
    """Brokers that are tried in turn, one at a time (tck-id-operational-behavior-primary-application-state-
    with-multiple-servers-walk and -single-server).

    Raises:
        ValueError: there is none.
    """

    def __init__(self, addresses: tuple[str, ...]) -> None:
        if not addresses:
            raise ValueError("there is no server to connect to")
        self.addresses = addresses
        self._place = 0
        self._tried = 0

    @property
    def current(self) -> str:
        """The one to connect to."""
        return self.addresses[self._place]

    def next(self) -> bool:
        """Go on to the next one. True when all have been tried since `settled`: time for a pause."""
        self._place = (self._place + 1) % len(self.addresses)
        self._tried += 1
        if self._tried < len(self.addresses):
            return False
        self._tried = 0
        return True

    def settled(self) -> None:
        """The session on the current one has been born: a new walk begins from here."""
        self._tried = 0
