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
from gateway.sparkplug.births import Device, DeviceSpec, Node, NodeSpec
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.messages import NODE, Member, Messages, Now, Publication
from gateway.sparkplug.names import Names
from gateway.sparkplug.pictures import Change, Picture, Point
from statemodel.records import EquipmentState, Recorded
from statemodel.types import TagSample, Transition

#: Most transitions and samples kept for dead devices; beyond it the oldest are not told (and counted).
HELD_MAX = 5000


class Phase(Enum):
    """Where a session stands."""

    OFFLINE = "offline"
    WAITING = "waiting for the primary host"
    BORN = "born"


class Offered(NamedTuple):
    """A metric that has been born, as commands see it. `tag` is the full id of the tag behind it."""

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


class Session:
    """One edge node. Lives as long as the gateway; connections come and go.

    `started` is when the gateway started. With `primary_host` births wait for `host_online`.
    Aliases depend on the configuration alone, the same names in the same order get the same ones; but a
    session that goes on with another configuration (`take_over`) keeps those it has.
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
        self._messages = Messages(names)
        self._aliases = aliases = count(1)
        self._node = Member(NODE, Node(node), aliases)
        self._devices = {spec.name: Member(spec.name, Device(spec, started), aliases) for spec in devices}
        self._specs: dict[str, object] = {NODE: node, **{spec.name: spec for spec in devices}}
        self._routes: dict[str, list[Member]] = {}
        for member in (self._node, *self._devices.values()):
            for tag in dict.fromkeys((*member.picture.tags, *_mode_tag(member.picture))):
                self._routes.setdefault(tag, []).append(member)
        self._held: deque[tuple[Member, Recorded | TagSample]] = deque()
        self._owed: dict[str, Member] = {}

    # --- what the connection tells

    def will(self, bd_seq: int, at: datetime) -> Publication:
        """The NDEATH that the next CONNECT has to carry as its will: QoS 1, not retained.

        `bd_seq` is the number taken for that CONNECT, and durable: see `numbers.take_bdseq`. The births that
        follow have it too, whatever rebirths there are.
        """
        self.bd_seq = bd_seq
        return self._messages.death(bd_seq, at)

    def connected(self, now: Now) -> tuple[Publication, ...]:
        """The broker has taken the CONNECT and all subscriptions: the births, unless a host is waited for."""
        self.phase = Phase.WAITING
        return () if self._primary_host else self._births(now)

    def host_online(self, now: Now) -> tuple[Publication, ...]:
        """The primary host is there (`host.PrimaryHost` judges that): the births, if they are to come."""
        return self._births(now) if self.phase is Phase.WAITING else ()

    def leave(self, now: Now) -> tuple[Publication, ...]:
        """We are about to disconnect (a clean stop, the primary host is gone, another server): the NDEATH."""
        if self.phase is Phase.OFFLINE:
            return ()
        self.lost()
        return (self._messages.death(self.bd_seq, now.at),)

    def lost(self) -> None:
        """The connection has ended. The broker says our death."""
        self.phase = Phase.OFFLINE
        for member in self._members:
            member.born = {}
            member.rebirths.forget()
        self._owed.clear()

    # --- another configuration, on the same connection

    def take_over(self, before: Session, now: Now) -> tuple[Publication, ...]:
        """Go on with the session of the configuration before: the deaths of the devices that are no more.

        What is the same stays born, with its values, and the numbers of messages go on. A metric keeps its
        alias, and no alias comes to mean another metric: commands may be under way. `births_of_new` has the
        rest, once the pictures of what is new are up to date (`knows`).
        """
        gone = [m for name, m in before._devices.items() if name not in self._devices and m.born]
        deaths = tuple(before._messages.device_death(member, now) for member in gone)
        self.phase, self.bd_seq, self.counts = before.phase, before.bd_seq, before.counts
        self._messages, self._aliases = before._messages, before._aliases
        for member in self._members:
            old = before._member(member.device)
            if old is not None and before._specs[member.device] == self._specs[member.device]:
                member.go_on(old)
            else:
                member.up = old is not None and old.up
            member.keep_aliases(old, self._aliases)
        self.take_held(before)
        self._owed = {
            device: mine
            for device in before._owed
            if (mine := self._member(device)) is not None and mine.born
        }
        return deaths

    def take_held(self, before: Session) -> None:
        """What is held for dead devices there is held here, also where the connection itself has ended: it
        counts as told, so nobody else tells it."""
        found = ((self._member(member.device), item) for member, item in before._held)
        self._held = deque((member, item) for member, item in found if member is not None)

    def births_of_new(self, now: Now) -> tuple[Publication, ...]:
        """Births of what has not been born on this connection: all of them, where the node itself differs."""
        if self.phase is not Phase.BORN:
            return ()
        if not self._node.born:
            return self._births(now)
        new = [member for member in self._devices.values() if member.up and not member.born]
        return (*(self._messages.birth(member, now, self.bd_seq) for member in new), *self._let_go(now))

    def knows(self, device: str = NODE) -> bool:
        """Whether hosts know it, so that only what changes is to be told."""
        return (member := self._member(device)) is not None and bool(member.born)

    def _member(self, device: str) -> Member | None:
        return self._node if device == NODE else self._devices.get(device)

    # --- what the gateway tells

    @property
    def tags(self) -> frozenset[str]:
        """Full ids of the tags whose samples this wants: those published, and those that show a unit mode."""
        return frozenset(self._routes)

    def know(self, state: EquipmentState, now: Now, why: str = "") -> tuple[Publication, ...]:
        """The state an equipment is in, as `Live` knows it; `why` is the sentence of its cause.

        For the start and before births. Events up to its `seq` are history from then on.
        """
        member = self._devices.get(state.equipment)
        if member is None or not isinstance(member.picture, Device):
            return ()
        return tuple(self._messages.data(member, member.picture.know(state, why), now))

    def events(self, recorded: Sequence[Recorded], now: Now) -> tuple[Publication, ...]:
        """Events of the journal, in order: transitions newer than what is known live, others as history.

        Other events than transitions say nothing here. Those of a device whose link is lost are held and come
        as history after its DBIRTH: say the transitions of a commit before `link`, so that they are told.
        """
        found: list[Publication] = []
        for device, moves in _by_device(recorded).items():
            member = self._devices.get(device)
            if member is not None and isinstance(member.picture, Device):
                found += self._moves(member, member.picture, moves, now)
        return tuple(found)

    def history(self, items: Sequence[Recorded | TagSample], now: Now) -> tuple[Publication, ...]:
        """What gathered while nobody listened, oldest first: DATA marked historical, with the times it had.

        Changes nothing that is shown as the present. Nothing is returned before the births.
        """
        if self.phase is not Phase.BORN:
            return ()
        found: list[Publication] = []
        for device, moves in _by_device(items).items():
            member = self._devices.get(device)
            if member is not None and isinstance(member.picture, Device):
                found += self._past_moves(member, member.picture, moves, now)
        samples: dict[str, tuple[Member, list[TagSample]]] = {}
        for sample in (item for item in items if isinstance(item, TagSample)):
            for member in self._routes.get(sample.tag, ()):
                if not member.born:
                    self._hold(member, (sample,))
                elif sample.tag in member.picture.tags:
                    samples.setdefault(member.device, (member, []))[1].append(sample)
        return (*found, *self._past_samples(samples, now))

    def samples(self, samples: Sequence[TagSample], now: Now) -> tuple[Publication, ...]:
        """The newest values of tags, oldest first. Those nobody published are passed over."""
        changed: dict[str, tuple[Member, list[Change]]] = {}
        for sample in samples:
            for member in self._routes.get(sample.tag, ()):
                if changes := member.picture.sample(sample):
                    changed.setdefault(member.device, (member, []))[1].extend(changes)
        found: list[Publication] = []
        for member, changes in changed.values():
            reborn = (
                self._outgrew(member, now)
                if member.born and member.outgrown(c.point.name for c in changes)
                else ()
            )
            found += reborn or self._messages.data(member, changes, now)
        return tuple(found)

    def link(self, device: str, up: bool, now: Now) -> tuple[Publication, ...]:
        """The link of an equipment is there or lost: DBIRTH or DDEATH. Until told otherwise it is there."""
        member = self._devices[device]
        if member.up == up:
            return ()
        member.up = up
        if self.phase is not Phase.BORN or not self._node.born:
            return ()
        if up:
            return (*self._birth(member, now), *self._let_go(now))
        self._owe_nothing(member)
        return (self._messages.device_death(member, now),)

    def connection(self, name: str, online: bool, now: Now) -> tuple[Publication, ...]:
        """A connection is up or down: the node's metric of it."""
        return self._put(births.online_metric(name), online, now)

    def backlog(self, events: int, now: Now) -> tuple[Publication, ...]:
        """How many events are still to be told as history: the node's metric of it."""
        return self._put(births.BACKLOG, max(0, events), now)

    # --- what hosts ask for

    def rebirth(self, now: Now, device: str = NODE) -> tuple[Publication, ...]:
        """A host asks for all births, or for that of one device: at once, or owed till the window ends."""
        member = self._node if device == NODE else self._devices.get(device)
        if member is None or not member.born:
            return ()
        return self._reborn(member, now, asked=True)

    @property
    def due_s(self) -> float | None:
        """Monotonic time at which `tick` has something to do; None: nothing is owed."""
        return min((due for m in self._owed.values() if (due := m.rebirths.due_s) is not None), default=None)

    def tick(self, now: Now) -> tuple[Publication, ...]:
        """Time has passed: births that are owed."""
        found: list[Publication] = []
        for member in list(self._owed.values()):
            due = member.rebirths.due_s
            if due is not None and now.monotonic_s >= due:
                found += self._reborn(member, now)
        return tuple(found)

    def offered(self, device: str, *, alias: int | None, name: str | None) -> Offered | None:
        """The metric a command means, if it has been born; both given have to mean the same one."""
        member = self._node if device == NODE else self._devices.get(device)
        if member is None:
            return None
        meant = name if alias is None else member.by_alias.get(alias)
        if meant not in member.born or name not in (None, meant):
            return None
        tag = member.tag_of.get(meant)
        return Offered(meant, member.born[meant], tag.tag if tag else "", tag.writable if tag else False)

    @property
    def held_seq(self) -> int | None:
        """The oldest event that is held for a dead device; None: none is."""
        return min((item.seq for _, item in self._held if isinstance(item, Recorded)), default=None)

    # --- births

    @property
    def _members(self) -> tuple[Member, ...]:
        return (self._node, *self._devices.values())

    def _births(self, now: Now) -> tuple[Publication, ...]:
        """The whole sequence. Nothing is asked for any more that this does not answer."""
        self.phase = Phase.BORN
        self.counts.births += 1
        self._owed.clear()
        found = []
        for member in self._members:
            member.born = {}
            member.rebirths.forget()
            if member.up:
                found.append(self._messages.birth(member, now, self.bd_seq))
        return (*found, *self._let_go(now))

    def _birth(self, member: Member, now: Now) -> tuple[Publication, ...]:
        """One device again, or for the first time."""
        self._owe_nothing(member)
        return (self._messages.birth(member, now, self.bd_seq),)

    def _owe_nothing(self, member: Member) -> None:
        self._owed.pop(member.device, None)
        member.rebirths.forget()

    def _reborn(self, member: Member, now: Now, *, asked: bool = False) -> tuple[Publication, ...]:
        """Births that must not come too often: now, or together with all others when the window ends."""
        was_owed = member.rebirths.owed
        if not member.rebirths.ask(now.monotonic_s):
            self._owed[member.device] = member
            self.counts.rebirths_merged += asked and was_owed
            return ()
        self.counts.rebirths += asked or was_owed
        return self._births(now) if member is self._node else self._birth(member, now)

    def _outgrew(self, member: Member, now: Now) -> tuple[Publication, ...]:
        """A value has outgrown its type. That is rare with a device; with the node it costs all births."""
        return self._reborn(member, now) if member is self._node else self._birth(member, now)

    # --- data

    def _put(self, name: str, value: bool | int, now: Now) -> tuple[Publication, ...]:
        picture = self._node.picture
        if name not in picture.points:
            return ()
        return tuple(self._messages.data(self._node, picture.put(name, value, now.at), now))

    def _moves(
        self, member: Member, device: Device, moves: Sequence[Recorded], now: Now
    ) -> list[Publication]:
        past = [item for item in moves if item.seq <= device.seq]
        changes: list[Change] = []
        for item in moves[len(past) :]:
            if isinstance(item.event, Transition):
                changes += device.move(item.event, item.seq)
        if self.phase is not Phase.BORN:
            return []
        if not member.born:
            self._hold(member, moves)
            return []
        return self._past_moves(member, device, past, now) + self._messages.data(member, changes, now)

    # --- history

    def _past_moves(
        self, member: Member, device: Device, moves: Sequence[Recorded], now: Now
    ) -> list[Publication]:
        if not member.born:
            self._hold(member, moves)
            return []
        points: list[Point] = []
        changes: list[Change] = []
        for item in moves:
            if isinstance(item.event, Transition):
                changes += device.past(item.event, item.seq)
                points += births.past_points(item.event, item.seq)
        return self._messages.history(member, points, now) + self._messages.data(member, changes, now)

    def _past_samples(
        self, gathered: dict[str, tuple[Member, list[TagSample]]], now: Now
    ) -> list[Publication]:
        found: list[Publication] = []
        told: list[tuple[Member, list[Point]]] = []
        for member, samples in gathered.values():
            points = [point for sample in samples if (point := member.picture.historical(sample))]
            told.append((member, [member.picture.as_now(point) for point in points]))
        for member, points in told:
            if member.outgrown(point.name for point in points):
                found += self._births(now) if member is self._node else self._birth(member, now)
        for member, points in told:
            found += self._messages.history(member, points, now)
        return found

    def _hold(self, member: Member, items: Iterable[Recorded | TagSample]) -> None:
        for item in items:
            if len(self._held) >= HELD_MAX:
                self._held.popleft()
                self.counts.dropped += 1
            self._held.append((member, item))

    def _let_go(self, now: Now) -> list[Publication]:
        """What is held for devices that live again."""
        free = [(member, item) for member, item in self._held if member.born]
        if not free:
            return []
        self._held = deque((member, item) for member, item in self._held if not member.born)
        found: list[Publication] = []
        for member in dict.fromkeys(member for member, _ in free):
            own = [item for m, item in free if m is member]
            found += self._past_of(member, own, now)
        return found

    def _past_of(self, member: Member, items: Sequence[Recorded | TagSample], now: Now) -> list[Publication]:
        """History of one member: its moves, then its tags."""
        found: list[Publication] = []
        if isinstance(member.picture, Device):
            moves = [item for item in items if isinstance(item, Recorded)]
            found += self._past_moves(member, member.picture, moves, now)
        samples = [item for item in items if isinstance(item, TagSample)]
        return found + self._past_samples({member.device: (member, samples)}, now)


def _mode_tag(picture: Picture) -> tuple[str, ...]:
    if isinstance(picture, Device) and picture.spec.mode_tag is not None:
        return (picture.spec.mode_tag,)
    return ()


def _by_device(items: Iterable[Recorded | TagSample]) -> dict[str, list[Recorded]]:
    """The transitions among them, by equipment, each in order."""
    found: dict[str, list[Recorded]] = {}
    for item in items:
        if isinstance(item, Recorded) and isinstance(item.event, Transition):
            found.setdefault(item.equipment, []).append(item)
    return found
