"""A record of packets read as Sparkplug: sessions, messages, what every metric in them was born as. Pure.

Built from the record alone, as a host would that saw every packet; what a test knows beside the wire (how the
edge node is configured, what was done to its equipment) comes as `Facts` and as notes in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from tests.conformance.sparkplug.decoder import NotSparkplug, decode, value_of
from tests.conformance.sparkplug.wire import Closed, Connect, Disconnect, Note, Packet, Publish, Subscribe

NAMESPACE = "spBv1.0"
NODE_KINDS = ("NBIRTH", "NDEATH", "NDATA", "NCMD")
DEVICE_KINDS = ("DBIRTH", "DDEATH", "DDATA", "DCMD")
BIRTHS, DATA, COMMANDS = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA"), ("NCMD", "DCMD")

#: What a note in the record can say. `about` is a device (or a metric), `value` what is said with it.
LOST, RESTORED, CHANGED, WRITTEN = "link lost", "link restored", "changed", "written"
STOPPED, KILLED, AWAY = "asked to stop", "killed", "cable cut"
#: A tag has no good value any more, and its edge node knows it; later it has. `about` as with `CHANGED`.
BAD, GOOD_AGAIN = "bad", "good again"
#: Another host than the one waited for says that it is online; `about` is which.
ANOTHER = "another host is online"


@dataclass(frozen=True)
class Facts:
    """How the edge nodes of a record are configured.

    `nodes` gives the devices of each edge node (`group/node`), `primary_host` the host it waits for,
    `servers` the names of the brokers in the order they are walked, `commands` whether hosts may write.
    """

    nodes: Mapping[str, frozenset[str]]
    protocol: str = "5"
    primary_host: str | None = None
    servers: Sequence[str] = ("one",)
    commands: bool = False


@dataclass(frozen=True)
class Transcript:
    """A record with its facts; `name` says which scenario it is."""

    name: str
    facts: Facts
    packets: Sequence[Packet]


class Born(NamedTuple):
    """A metric as its birth defined it; `owner` is the device, or empty for the edge node itself."""

    owner: str
    name: str
    alias: int | None
    datatype: int


class Metric(NamedTuple):
    """A metric in a message, with what it was born as; None when nobody can know what it is."""

    raw: Any
    born: Born | None

    @property
    def value(self) -> Any:
        return None if self.born is None else value_of(self.raw, self.born.datatype)

    @property
    def name(self) -> str:
        if self.raw.HasField("name"):
            return str(self.raw.name)
        return self.born.name if self.born else f"alias {self.raw.alias}"


@dataclass(frozen=True)
class Message:
    """A Sparkplug message on a session. `payload` is None when its bytes are none; `broken` says why."""

    packet: Packet
    publish: Publish
    kind: str
    node: str
    device: str
    payload: Any
    broken: str
    metrics: tuple[Metric, ...]

    @property
    def number(self) -> int:
        return self.packet.number

    @property
    def seq(self) -> int | None:
        has = self.payload is not None and self.payload.HasField("seq")
        return int(self.payload.seq) if has else None

    def metric(self, name: str) -> Metric | None:
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass
class Session:
    """From a TCP connection's first packet to its last; `node` is that of the will's topic, else empty."""

    number: int
    server: str
    packets: list[Packet] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    subscriptions: list[tuple[Packet, Subscribe]] = field(default_factory=list)
    connect_packet: Packet | None = None
    will: Message | None = None
    node: str = ""

    @property
    def connect(self) -> Connect | None:
        body = None if self.connect_packet is None else self.connect_packet.body
        return body if isinstance(body, Connect) else None

    @property
    def closed(self) -> Packet | None:
        return next((packet for packet in self.packets if isinstance(packet.body, Closed)), None)

    @property
    def disconnect(self) -> Packet | None:
        """The DISCONNECT of the edge node."""
        found = (p for p in self.packets if p.up and isinstance(p.body, Disconnect))
        return next(found, None)

    def of(self, *kinds: str) -> list[Message]:
        """What the edge node said of these kinds."""
        return [message for message in self.said if message.kind in kinds]

    def sequences(self) -> Iterator[list[Message]]:
        """What it said from each NBIRTH to the next."""
        current: list[Message] = []
        for message in self.said:
            if message.kind == "NBIRTH" and current:
                yield current
                current = []
            if current or message.kind == "NBIRTH":
                current.append(message)
        if current:
            yield current


class Story:
    """Everything the checks look at."""

    def __init__(self, transcript: Transcript) -> None:
        self.name = transcript.name
        self.facts = transcript.facts
        self.packets = transcript.packets
        self.sessions: list[Session] = []
        sessions: dict[int, Session] = {}
        births: dict[int, dict[tuple[str, str], Mapping[Any, Born]]] = {}
        for packet in transcript.packets:
            if packet.connection == 0:
                continue
            session = sessions.get(packet.connection)
            if session is None:
                session = sessions[packet.connection] = Session(packet.connection, packet.server)
                self.sessions.append(session)
            session.packets.append(packet)
            if isinstance(packet.body, Connect):
                session.connect_packet = packet
                if packet.body.will is not None:
                    session.will = read(packet, packet.body.will, {})
                    session.node = session.will.node if session.will else ""
            elif isinstance(packet.body, Subscribe) and packet.up:
                session.subscriptions.append((packet, packet.body))
            elif isinstance(packet.body, Publish):
                born = births.setdefault(packet.connection, {})
                # Its own births come back to it, and later than what followed them: they change nothing.
                message = read(packet, packet.body, born if packet.up else dict(born))
                if message is not None:
                    (session.said if packet.up else session.heard).append(message)

    @property
    def notes(self) -> list[Packet]:
        """What was done beside the wire."""
        return [packet for packet in self.packets if isinstance(packet.body, Note)]

    def noted(self, *what: str) -> Iterator[tuple[Packet, Note]]:
        """The notes with these words."""
        for packet in self.notes:
            if isinstance(packet.body, Note) and packet.body.what in what:
                yield packet, packet.body

    @cached_property
    def said(self) -> list[Message]:
        """What all edge nodes said, in order."""
        messages = [message for session in self.sessions for message in session.said]
        return sorted(messages, key=lambda message: message.number)

    def of(self, *kinds: str) -> list[Message]:
        """What was said of these kinds, in order."""
        return [message for message in self.said if message.kind in kinds]

    @cached_property
    def wills(self) -> list[Message]:
        """The wills of all sessions that had one with a Sparkplug topic."""
        return [session.will for session in self.sessions if session.will is not None]

    @cached_property
    def by_node(self) -> dict[str, list[Session]]:
        """The sessions of each edge node, in order."""
        found: dict[str, list[Session]] = {}
        for session in self.sessions:
            if session.node:
                found.setdefault(session.node, []).append(session)
        return found


def read(
    packet: Packet, publish: Publish, births: dict[tuple[str, str], Mapping[Any, Born]]
) -> Message | None:
    """A publication as a Sparkplug message; None for what is on another topic.

    `births` holds what is born on the connection, by node and device; a birth is noted in it.
    """
    parts = publish.topic.split("/")
    if parts[0] != NAMESPACE or len(parts) < 2:
        return None
    if parts[1] == "STATE":
        return Message(packet, publish, "STATE", "", "/".join(parts[2:]), None, "", ())
    if len(parts) < 4:
        return Message(packet, publish, "", "", "", None, "the topic is too short", ())
    kind, node, device = parts[2], f"{parts[1]}/{parts[3]}", "/".join(parts[4:])
    try:
        payload = decode(publish.payload)
    except NotSparkplug as error:
        return Message(packet, publish, kind, node, device, None, str(error), ())
    if kind in BIRTHS:
        if kind == "NBIRTH":
            for key in [key for key in births if key[0] == node]:
                del births[key]
        births[node, device] = _born(payload, device)
    metrics = tuple(Metric(raw, _find(raw, births, node, device)) for raw in payload.metrics)
    return Message(packet, publish, kind, node, device, payload, "", metrics)


def _born(payload: Any, device: str) -> Mapping[Any, Born]:
    found: dict[Any, Born] = {}
    for raw in payload.metrics:
        alias = int(raw.alias) if raw.HasField("alias") else None
        born = Born(device, raw.name, alias, raw.datatype)
        found[raw.name] = born
        if alias is not None:
            found[alias] = born
    return found


def _find(
    raw: Any, births: Mapping[tuple[str, str], Mapping[Any, Born]], node: str, device: str
) -> Born | None:
    known = births.get((node, device), {})
    if raw.HasField("name"):
        return known.get(raw.name)
    return known.get(int(raw.alias)) if raw.HasField("alias") else None
