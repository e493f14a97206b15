"""The Sparkplug session of one edge node: what must be published, in order. No bytes, no clock, no I/O.

Whoever speaks MQTT tells what happens (connected, the host is there, the link ended) and the gateway tells
what is new (transitions, samples, links of equipment); every method returns the publications this asks for,
which have to be sent in that order, QoS 0 and not retained. What is told while nothing may be said only
changes the pictures (`births.py`), which the next births show.

    OFFLINE --connected--> WAITING --host_online--> BORN      (without a primary host: OFFLINE -> BORN)
       ^-------- leave (NDEATH first), lost --------'

The rules this keeps, by their ids (tck-id-...): births first and all of them before any DATA
(principles-birth-certificates-order, payloads-dbirth-order, payloads-ndata-order, payloads-ddata-order); one
counter over the messages of node and devices, 0 in every NBIRTH, where the standard also allows others
(topics-nbirth-seq-num against payloads-nbirth-seq), 255 followed by 0 (payloads-sequence-num-incrementing);
NDEATH with bdSeq and without seq (topics-ndeath-payload, topics-ndeath-seq), always before leaving, where the
standard says MUST in one place and SHOULD in another; a rebirth keeps bdSeq
(operational-behavior-data-commands-rebirth-action-3); aliases unique over node and devices, in births beside
the names, in DATA alone, none on Node Control/Rebirth (payloads-alias-*).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import count
from typing import NamedTuple

from gateway.sparkplug import births
from gateway.sparkplug.births import Change, Device, DeviceSpec, Node, NodeSpec, Picture, Point
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.names import Names, Verb
from gateway.sparkplug.ration import Ration
from gateway.sparkplug.values import Metric, Payload
from statemodel.records import EquipmentState, Recorded
from statemodel.types import TagSample, Transition

#: At most one rebirth in this time, in seconds; who asks in between gets the one at its end.
REBIRTH_EVERY_S = 5.0
#: Most metrics of one message of history, so that no message outgrows what brokers take.
HISTORY_METRICS_MAX = 500
#: Most transitions kept for devices that are dead; beyond it the oldest are not told (and counted).
HELD_MAX = 1000
#: Numbers of sessions and of messages run from 0 to 255.
_NUMBERS = 256

#: Stands for the node where a device is named.
NODE = ""


class Now(NamedTuple):
    """The time as it is handed in: for labels, and for measuring."""

    at: datetime
    monotonic_s: float


class Publication(NamedTuple):
    """One message to send."""

    topic: str
    payload: Payload
    verb: Verb
    device: str = NODE


class Phase(Enum):
    """Where a session stands."""

    OFFLINE = "offline"
    WAITING = "waiting for the primary host"
    BORN = "born"


class Offered(NamedTuple):
    """A metric that has been born, as commands see it. `tag` is the full id of the tag behind it, if one is."""

    name: str
    datatype: DataType
    tag: str = ""
    writable: bool = False


@dataclass
class Counts:
    """Figures since the session object was made."""

    births: int = 0
    """Complete birth sequences, rebirths among them."""
    rebirths: int = 0
    """Those that somebody asked for."""
    rebirths_merged: int = 0
    """Requests answered by a rebirth that another request had led to already."""
    dropped: int = 0
    """Transitions of dead devices that were not told because too many gathered."""


class _Member:
    """A picture, and what of it the hosts know."""

    def __init__(self, device: str, picture: Picture, aliases: Iterable[int]) -> None:
        self.device = device
        self.picture = picture
        named = [name for name in (births.BDSEQ, *picture.points) if name != births.NODE_REBIRTH]
        if device:
            named.remove(births.BDSEQ)
        self.alias = dict(zip(named, aliases, strict=False))
        self.by_alias = {alias: name for name, alias in self.alias.items()}
        #: The type each metric was born with; empty while it is not born.
        self.born: dict[str, DataType] = {}
        #: Whether its link is there: a device without it is not born (tck-id-operational-behavior-device-ddeath).
        self.up = True
        self.rebirths = Ration(REBIRTH_EVERY_S)

    @property
    def outgrown(self) -> bool:
        """Whether a metric has another type than it was born with."""
        points = self.picture.points
        return any(
            points[tag.metric].datatype is not self.born[tag.metric] for tag in self.picture.tags.values()
        )


class Session:
    """One edge node. Lives as long as the gateway; connections come and go.

    `started` is when the gateway started. With `primary_host` births wait for `host_online`.
    Aliases depend on the configuration alone: the same names in the same order get the same ones.
    """

    def __init__(
        self,
        names: Names,
        node: NodeSpec,
        devices: Sequence[DeviceSpec],
        *,
        started: datetime,
        primary_host: bool = False,
    ) -> None:
        self.names = names
        self.phase = Phase.OFFLINE
        self.counts = Counts()
        self.bd_seq = 0
        self._primary_host = primary_host
        self._seq = 0
        aliases = count(1)
        self._node = _Member(NODE, Node(node), aliases)
        self._devices = {spec.name: _Member(spec.name, Device(spec, started), aliases) for spec in devices}
        self._routes: dict[str, list[_Member]] = {}
        for member in (self._node, *self._devices.values()):
            for tag in dict.fromkeys((*member.picture.tags, *_mode_tag(member.picture))):
                self._routes.setdefault(tag, []).append(member)
        self._held: deque[Recorded] = deque()

    # --- what the connection tells

    def will(self, bd_seq: int, at: datetime) -> Publication:
        """The NDEATH that the next CONNECT has to carry as its will: QoS 1, not retained.

        `bd_seq` is the number taken for that CONNECT, and durable: see `numbers.take_bdseq`. It stands for the
        births that follow, whatever rebirths there are.
        """
        ...

    def connected(self, now: Now) -> tuple[Publication, ...]:
        """The broker has accepted the CONNECT and all subscriptions: the births, unless a host is waited for."""
        ...

    def host_online(self, now: Now) -> tuple[Publication, ...]:
        """The primary host is there (`host.PrimaryHost` judges that): the births, if they are still to come."""
        ...

    def leave(self, now: Now) -> tuple[Publication, ...]:
        """We are about to disconnect (a clean stop, the primary host is gone, another server): the NDEATH."""
        ...

    def lost(self) -> None:
        """The connection has ended. The broker says our death."""
        ...

    # --- what the gateway tells

    @property
    def tags(self) -> frozenset[str]:
        """Full ids of the tags whose samples this wants: the published ones, and those that show a unit mode."""
        ...

    def know(self, state: EquipmentState, now: Now, why: str = "") -> tuple[Publication, ...]:
        """The state an equipment is in, as `Live` knows it; `why` is the sentence of its cause.

        For the start and before births. Events up to its `seq` are history from then on.
        """
        ...

    def events(self, recorded: Sequence[Recorded], now: Now) -> tuple[Publication, ...]:
        """Events of the journal, in order: transitions newer than what is known live, older ones as history.

        Other events than transitions say nothing here. Those of a device whose link is lost are held and come
        as history after its DBIRTH, so say the transitions of a commit before `link`, that its last state is told.
        """
        ...

    def history(self, items: Sequence[Recorded | TagSample], now: Now) -> tuple[Publication, ...]:
        """What gathered while nobody listened, oldest first: DATA marked historical, with the times it had.

        Changes nothing that is shown as the present. Nothing is returned before the births.
        """
        ...

    def samples(self, samples: Sequence[TagSample], now: Now) -> tuple[Publication, ...]:
        """The newest values of tags, oldest first. Those nobody published are passed over."""
        ...

    def link(self, device: str, up: bool, now: Now) -> tuple[Publication, ...]:
        """The link of an equipment is there or lost: DBIRTH or DDEATH. Until told otherwise it is there."""
        ...

    def connection(self, name: str, online: bool, now: Now) -> tuple[Publication, ...]:
        """A connection is up or down: the node's metric of it."""
        ...

    def backlog(self, events: int, now: Now) -> tuple[Publication, ...]:
        """How many events are still to be told as history: the node's metric of it."""
        ...

    # --- what hosts ask for

    def rebirth(self, now: Now, device: str = NODE) -> tuple[Publication, ...]:
        """A host asks for all births, or for that of one device: at once, or together at the end of the window."""
        ...

    @property
    def due_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do; None: nothing is owed."""
        ...

    def tick(self, now: Now) -> tuple[Publication, ...]:
        """Time has passed: births that are owed."""
        ...

    def offered(self, device: str, *, alias: int | None, name: str | None) -> Offered | None:
        """The metric a command means, if it has been born; both given have to mean the same one."""
        ...

    @property
    def held_seq(self) -> int | None:
        """The oldest event that is held for a dead device; None: none is."""
        ...
