"""What an equipment looks like as a Sparkplug device, and the gateway as its edge node: names, types, values.

Pictures (`pictures.py`) of them, which take in states and transitions, samples and links. Knows nothing of
sessions, sequence numbers, aliases or topics; time is handed in.

Metrics of a device (null before there is a value):

    State, State Code, Category, Since, Reason         the state, as everywhere; Reason when it is Unknown
    Sequence, Seq                                      transitions of this equipment; number in the journal
    Conformance, Cause                                 of the move that led here
    Mode                                               where the model has unit modes and a tag shows it
    Previous State, Previous Duration                  the state left last, and how long it lasted, in seconds
    Durations Since, Durations/{State}                 seconds in each state since the gateway started
    Tags/{connection}/{name}                           a published tag; engUnit, Quality
    Equipment State                                    the first nine again, as one template
    Device Control/Rebirth                             true asks for another DBIRTH
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.pictures import Change, Picture, Point
from gateway.sparkplug.pictures import PublishedTag as PublishedTag
from gateway.sparkplug.values import Metric, Template, Value
from statemodel.machine import EquipmentSpec
from statemodel.records import EquipmentState
from statemodel.types import UNKNOWN, Quality, TagSample, TagValue, Transition

#: Name of the template's definition in the NBIRTH, of each device's instance of it, and its version.
DEFINITION, INSTANCE, DEFINITION_VERSION = "EquipmentState", "Equipment State", "1"

#: Controls (tck-id-operational-behavior-data-commands-rebirth-name; the others are the standard's names too).
NODE_REBIRTH, NEXT_SERVER, DEVICE_REBIRTH = (
    "Node Control/Rebirth",
    "Node Control/Next Server",
    "Device Control/Rebirth",
)
BDSEQ = "bdSeq"
BACKLOG = "Backlog/Events"
#: Beside the folder of the durations: in it a state of that name would have the same metric.
DURATIONS_SINCE = "Durations Since"

#: What a state is made of, in this order, flat and as the members of the template.
STATE_MEMBERS: Mapping[str, DataType] = {
    "State": DataType.STRING,
    "State Code": DataType.INT32,
    "Category": DataType.STRING,
    "Since": DataType.DATETIME,
    "Reason": DataType.STRING,
    "Sequence": DataType.UINT64,
    "Seq": DataType.UINT64,
    "Conformance": DataType.STRING,
    "Cause": DataType.STRING,
}
_PREVIOUS: Mapping[str, DataType] = {"Previous State": DataType.STRING, "Previous Duration": DataType.DOUBLE}

_SECONDS = "s"
#: Stretches of the journal a device has jumped over and may still hear of as history.
_JUMPS_MAX = 64


@dataclass(frozen=True)
class DeviceSpec:
    """An equipment as a device: its name is the device id (tck-id-intro-device-id-string)."""

    name: str
    states: tuple[str, ...]
    categories: Mapping[str, str | None] = field(default_factory=dict)
    mode_tag: str | None = None
    modes: Mapping[TagValue, str] = field(default_factory=dict)
    accept_uncertain: bool = False
    tags: tuple[PublishedTag, ...] = ()


@dataclass(frozen=True)
class NodeSpec:
    """The gateway as an edge node. `tags` are the published ones that are bound to no equipment.

    `servers` is how many brokers are walked in turn; with more than one a host may ask for the next.
    """

    software: str
    version: str
    stream: str = ""
    connections: tuple[str, ...] = ()
    tags: tuple[PublishedTag, ...] = ()
    servers: int = 1


def device_spec(spec: EquipmentSpec, tags: Iterable[PublishedTag]) -> DeviceSpec:
    """The device of an equipment; of `tags` it takes those that are told with it."""
    shown, model = set(spec.shown), spec.model
    counters = {tag: f"Counters/{name}" for name, tag in spec.counters.items()}
    accept = spec.accept_uncertain
    return DeviceSpec(
        name=spec.name,
        states=tuple(dict.fromkeys([*model.by_name, UNKNOWN])),
        categories={state.name: state.category for state in model.states},
        mode_tag=spec.mode if model.modes else None,
        modes={value: mode.name for value, mode in model.mode_of.items()},
        accept_uncertain=bool(model.accept_uncertain if accept is None else accept),
        tags=tuple(replace(tag, name=counters.get(tag.tag, "")) for tag in tags if tag.tag in shown),
    )


class Node(Picture):
    """The edge node's own metrics, `bdSeq` apart, which belongs to the session."""

    def __init__(self, spec: NodeSpec) -> None:
        string = DataType.STRING
        points = [
            Point(NODE_REBIRTH, DataType.BOOLEAN, False),
            Point("Properties/Software", string, spec.software),
            Point("Properties/Version", string, spec.version),
            Point("Properties/Stream", string, spec.stream or None),
            Point(BACKLOG, DataType.UINT64, 0),
        ]
        if spec.servers > 1:
            points.append(Point(NEXT_SERVER, DataType.BOOLEAN, False))
        points += [Point(online_metric(name), DataType.BOOLEAN, None) for name in spec.connections]
        points.append(Point(DEFINITION, DataType.TEMPLATE, _definition()))
        super().__init__(points, spec.tags)


class Device(Picture):
    """An equipment's metrics. `started` is when the gateway started: durations count from there."""

    def __init__(self, spec: DeviceSpec, started: datetime) -> None:
        self.spec = spec
        points = [Point(name, datatype, None) for name, datatype in STATE_MEMBERS.items()]
        points += [Point(name, datatype, None) for name, datatype in _PREVIOUS.items()]
        if spec.mode_tag is not None:
            points.append(Point("Mode", DataType.STRING, None))
        points.append(Point(DURATIONS_SINCE, DataType.DATETIME, started, started))
        points += [
            Point(f"Durations/{name}", DataType.DOUBLE, 0.0, started, _SECONDS) for name in spec.states
        ]
        points.append(Point(DEVICE_REBIRTH, DataType.BOOLEAN, False))
        points.append(Point(INSTANCE, DataType.TEMPLATE, _instance(points[: len(STATE_MEMBERS)])))
        super().__init__(points, spec.tags)
        #: Number in the journal of the transition that led to the state shown; -1 before any state.
        self.seq = -1
        self._started = started
        self._jumped: deque[tuple[int, int]] = deque(maxlen=_JUMPS_MAX)

    def know(self, state: EquipmentState, why: str = "") -> list[Change]:
        """The state as somebody knows it, without the move that led there. An older one changes nothing."""
        if state.seq < self.seq:
            return []
        if state.seq == self.seq:
            return self._state({"Reason": state.reason}, state.since)
        self._jumped.append((self.seq, state.seq))
        self.seq = state.seq
        return self._state(
            {
                "State": state.state,
                "State Code": _code(state.code),
                "Category": state.category or self.spec.categories.get(state.state),
                "Since": state.since,
                "Reason": state.reason,
                "Sequence": state.sequence,
                "Seq": state.seq,
                "Conformance": None,
                "Cause": why or None,
                "Previous State": None,
                "Previous Duration": None,
            },
            state.since,
        )

    def move(self, transition: Transition, seq: int) -> list[Change]:
        """A transition newer than all known ones has been journalled."""
        self.seq = seq
        changes = self._state(moved(transition, seq), transition.at)
        return changes + self._lasted(transition)

    def past(self, transition: Transition, seq: int) -> list[Change]:
        """A transition is told as history. What changes by it now are the durations, once."""
        for place, (after, upto) in enumerate(self._jumped):
            if after < seq <= upto:
                self._jumped[place] = (seq, upto)
                return self._lasted(transition)
        return []

    def sample(self, sample: TagSample) -> list[Change]:
        """As for every picture; the unit mode may change too."""
        changes = super().sample(sample)
        if sample.tag == self.spec.mode_tag:
            usable = sample.quality is Quality.GOOD or (
                self.spec.accept_uncertain and sample.quality is Quality.UNCERTAIN
            )
            mode = self.spec.modes.get(sample.value) if usable else None
            changes += self.put("Mode", mode, sample.received_at)
        return changes

    def all_points(self) -> list[Point]:
        """The template is put together when it is told as a whole; between births only its changes are."""
        shown = [self.points[name] for name in STATE_MEMBERS]
        at = self.points["Since"].at
        self.points[INSTANCE] = Point(INSTANCE, DataType.TEMPLATE, _instance(shown), at)
        return super().all_points()

    def _state(self, values: Mapping[str, Value], at: datetime) -> list[Change]:
        changes = [change for name, value in values.items() for change in self.put(name, value, at)]
        members = [change.point for change in changes if change.point.name in STATE_MEMBERS]
        if members:
            changes.append(Change(Point(INSTANCE, DataType.TEMPLATE, _instance(members), at)))
        return changes

    def _lasted(self, transition: Transition) -> list[Change]:
        name = f"Durations/{transition.from_state}"
        began = transition.at - timedelta(seconds=transition.duration_s)
        lasted = (transition.at - max(began, self._started)).total_seconds()
        point = self.points.get(name)
        if point is None or lasted <= 0 or not isinstance(point.value, float):
            return []
        return self.put(name, round(point.value + lasted, 6), transition.at)


def online_metric(connection: str) -> str:
    """The node's metric that says whether a connection is up."""
    return f"Connections/{connection}/Online"


def moved(transition: Transition, seq: int) -> dict[str, Value]:
    """What a transition makes of a device's metrics, live and as history."""
    cause = transition.cause.text or transition.cause.rule
    return {
        "State": transition.to_state,
        "State Code": _code(transition.code),
        "Category": transition.category,
        "Since": transition.at,
        "Reason": cause if transition.to_state == UNKNOWN else None,
        "Sequence": transition.sequence,
        "Seq": seq,
        "Conformance": str(transition.conformance),
        "Cause": cause or None,
        "Previous State": transition.from_state,
        "Previous Duration": transition.duration_s,
    }


def past_points(transition: Transition, seq: int) -> list[Point]:
    """A transition as it is told when it is history: flat, with the time it had."""
    return [
        Point(name, STATE_MEMBERS.get(name) or _PREVIOUS[name], value, transition.at)
        for name, value in moved(transition, seq).items()
    ]


def _code(code: int | None) -> int | None:
    """A machine may show any number; those that Int32 does not hold are in the journal only."""
    return code if code is not None and -(1 << 31) <= code < 1 << 31 else None


def _definition() -> Template:
    """tck-id-payloads-template-definition-members: every member, with its type, without values or aliases."""
    members = tuple(Metric(name, None, datatype, None, None) for name, datatype in STATE_MEMBERS.items())
    return Template(members, version=DEFINITION_VERSION)


def _instance(points: Sequence[Point]) -> Template:
    """tck-id-payloads-template-instance-members: only members the definition has, under their names."""
    members = tuple(Metric(point.name, None, point.datatype, point.value, point.at) for point in points)
    return Template(members, ref=DEFINITION, version=DEFINITION_VERSION)
