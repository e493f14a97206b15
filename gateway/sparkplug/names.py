"""What things are called on a Sparkplug tree: ids, topics, metric names. Pure; knows no payloads.

    spBv1.0/{group}/{verb}/{edge node}              NBIRTH NDEATH NDATA NCMD
    spBv1.0/{group}/{verb}/{edge node}/{device}     DBIRTH DDEATH DDATA DCMD
    spBv1.0/STATE/{host}                            whether a host application is there

(tck-id-topic-structure, tck-id-topic-structure-namespace-a and the -topic ids of chapter 4.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

#: First level of every topic.
NAMESPACE = "spBv1.0"
#: Second level of a host application's topic, where edge nodes have their group. No group may be called so.
STATE = "STATE"
#: No level of a topic may hold these (tck-id-intro-group-id-chars and its like).
_FORBIDDEN = "+/#"
#: MQTT allows 65,535 bytes for a topic; four levels have to fit.
ID_BYTES_MAX = 1024


class Verb(StrEnum):
    """What a message is."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"


#: Verbs whose topics name a device.
OF_DEVICES = frozenset({Verb.DBIRTH, Verb.DDEATH, Verb.DDATA, Verb.DCMD})


def fault_of_id(text: str) -> str | None:
    """Why a text can be no group, edge node, device or host id; None when it can."""
    if not text:
        return "is empty"
    for character in text:
        if character in _FORBIDDEN:
            return f'has "{character}", which no level of a topic may have'
        if not character.isprintable():
            return f"has {character!r}, which nobody can read"
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        return "is no text that UTF-8 can hold"
    return f"has more than {ID_BYTES_MAX} bytes" if length > ID_BYTES_MAX else None


def fault_of_group(text: str) -> str | None:
    """As `fault_of_id`, for a group: it must not look like a host's topic either."""
    return "is what host applications have in this place" if text == STATE else fault_of_id(text)


def clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that only case tells apart: hosts may take them for one.

    tck-id-case-sensitivity-sparkplug-ids, tck-id-case-sensitivity-metric-names (both SHOULD).
    """
    seen: dict[str, str] = {}
    found = []
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            found.append((first, name))
    return found


@dataclass(frozen=True)
class Address:
    """Who a topic is about."""

    verb: Verb
    group: str
    edge_node: str
    device: str = ""


@dataclass(frozen=True)
class Names:
    """The topics of one edge node.

    Raises:
        ValueError: an id is none; the text says which and why.
    """

    group: str
    edge_node: str

    def __post_init__(self) -> None:
        for what, text, fault in (
            ("group", self.group, fault_of_group(self.group)),
            ("edge node", self.edge_node, fault_of_id(self.edge_node)),
        ):
            if fault is not None:
                raise ValueError(f'the {what} id "{text}" {fault}')

    def topic(self, verb: Verb, device: str = "") -> str:
        """Where a message of the node, or of one of its devices, is said."""
        topic = f"{NAMESPACE}/{self.group}/{verb}/{self.edge_node}"
        return f"{topic}/{device}" if device else topic

    @property
    def node_commands(self) -> str:
        """The topic to subscribe to before the births (tck-id-message-flow-edge-node-ncmd-subscribe)."""
        return self.topic(Verb.NCMD)

    @property
    def device_commands(self) -> str:
        """The filter for the commands of all devices (tck-id-message-flow-device-dcmd-subscribe)."""
        return f"{self.topic(Verb.DCMD)}/+"

    def address(self, topic: str) -> Address | None:
        """Who a topic is about, if it is about this edge node; None for all else."""
        levels = topic.split("/")
        if len(levels) not in (4, 5) or levels[0] != NAMESPACE or levels[2] not in Verb.__members__:
            return None
        verb, device = Verb(levels[2]), levels[4] if len(levels) == 5 else ""
        if (levels[1], levels[3]) != (self.group, self.edge_node) or (verb in OF_DEVICES) != bool(device):
            return None
        return Address(verb, self.group, self.edge_node, device)


def state_topic(host: str) -> str:
    """Where a host application says whether it is there; the topic of its will too."""
    return f"{NAMESPACE}/{STATE}/{host}"
