"""From configured groups to subscriptions and monitored items, before any server is asked. Pure.

A client handle is the position of a tag in the connection, counted from 1, so that a notification finds its
tag by indexing. All durations are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from connectors.opcua.config import OpcuaConnection, OpcuaTag
from connectors.opcua.nodes import Node, NodeName, parse_node
from statemodel.types import lost_events

_T = TypeVar("_T")

#: The group of the events, which no configured group can be named.
EVENTS_GROUP = "_events"
QUEUE_MARGIN = 2
QUEUE_MIN = 10
#: Queue of items that are sampled as fast as the server can, whatever that is.
QUEUE_FASTEST = 100
#: Items, nodes or paths per call when the server states no limit of its own.
PER_CALL_MAX = 1000
#: A subscription outlives at least this many of its keep-alives (OPC 10000-4 section 5.14.2).
LIFETIME_KEEP_ALIVES_MIN = 3
_COUNT_MAX = 0xFFFF_FFFF


@dataclass(frozen=True)
class Limits:
    """What a server takes in one call or holds at once, from its OperationLimits and ServerCapabilities.

    0 means that it states no limit.
    """

    nodes_per_read: int = 0
    items_per_call: int = 0
    paths_per_call: int = 0
    items_per_subscription: int = 0
    nodes_per_write: int = 0


@dataclass(frozen=True)
class EventChoice:
    """Which events of an object are asked for: from a severity on, of some types (all when none)."""

    severity_min: int
    types: tuple[NodeName, ...]


@dataclass(frozen=True)
class Item:
    """One monitored item to create. `deadband` is for the server, 0 where it is not asked to filter.

    One with `events` is about the events of an object and not about a value; it has no tag, and a name.
    """

    handle: int
    tag: str
    node: Node
    sampling_s: float
    queue_size: int
    deadband: float = 0.0
    events: EventChoice | None = None
    deadband_percent: float = 0.0
    """The same in percent of the range the server knows."""

    @property
    def concessions(self) -> int:
        """How often it may be asked for again with less for the server to filter, as we can do that as well.

        Types of events are the server's to judge: only it knows what is a subtype of what.
        """
        if self.events is not None:
            return 0 if self.events.types else 2
        return 1 if self.deadband or self.deadband_percent else 0


@dataclass(frozen=True)
class SubscriptionPlan:
    """One subscription to create. `keep_alive_count` and `lifetime_count` are in publishing intervals."""

    group: str
    publishing_s: float
    keep_alive_count: int
    lifetime_count: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class PollPlan:
    """One group to read again and again."""

    group: str
    interval_s: float
    items: tuple[Item, ...]


def tag_ids(settings: OpcuaConnection) -> tuple[str, ...]:
    """Full tag ids by client handle; handle 0 is nobody's."""
    return ("", *(settings.tag_id(tag) for tag in settings.tags()))


def items_of(settings: OpcuaConnection) -> tuple[tuple[Item, ...], ...]:
    """The items of each group, in the order of the configuration."""
    handle = 0
    groups: list[tuple[Item, ...]] = []
    for group in settings.groups:
        items: list[Item] = []
        for tag in group.tags:
            handle += 1
            publishing_s = group.interval.total_seconds()
            sampling_s = publishing_s if tag.sampling is None else tag.sampling.total_seconds()
            items.append(
                Item(
                    handle,
                    settings.tag_id(tag),
                    parse_node(tag.node),
                    sampling_s,
                    queue_size(tag, publishing_s, sampling_s),
                    (tag.deadband_in() or 0.0) if tag.server_deadband else 0.0,
                    deadband_percent=_percent(tag),
                )
            )
        groups.append(tuple(items))
    return tuple(groups)


def _percent(tag: OpcuaTag) -> float:
    """The deadband to ask of the server where only the server knows what it is a percentage of."""
    if not tag.server_deadband or not isinstance(tag.deadband, str) or tag.range is not None:
        return 0.0
    return float(tag.deadband.rstrip("%"))


def event_items(settings: OpcuaConnection) -> tuple[Item, ...]:
    """The items for the events of objects; their client handles follow those of the tags."""
    return tuple(
        Item(
            handle,
            f"{lost_events(settings.name)}/{one.node}",
            parse_node(one.node),
            0.0,
            one.queue_size,
            events=EventChoice(
                one.severity_min,
                tuple(type_ for text in one.types if isinstance(type_ := parse_node(text), NodeName)),
            ),
        )
        for handle, one in enumerate(settings.events, 1 + len(settings.tags()))
    )


def plan(settings: OpcuaConnection, limits: Limits) -> tuple[SubscriptionPlan, ...]:
    """Subscriptions for all groups that have tags, and for the events where some are wanted.

    A group too large for one subscription gets several.
    """
    session_s = settings.session_timeout.total_seconds()
    planned: list[SubscriptionPlan] = []
    wanted = [
        (group.name, group.interval, items)
        for group, items in zip(settings.groups, items_of(settings), strict=True)
        if group.mode == "subscribe"
    ]
    wanted.append((EVENTS_GROUP, settings.events_interval, event_items(settings)))
    for name, interval, items in wanted:
        publishing_s = interval.total_seconds()
        keep_alive_count = max(1, round(settings.keep_alive.total_seconds() / publishing_s))
        lifetime_count = max(LIFETIME_KEEP_ALIVES_MIN * keep_alive_count, math.ceil(session_s / publishing_s))
        planned.extend(
            SubscriptionPlan(name, publishing_s, keep_alive_count, min(lifetime_count, _COUNT_MAX), part)
            for part in chunked(items, limits.items_per_subscription or max(1, len(items)))
        )
    return tuple(planned)


def poll_plans(settings: OpcuaConnection) -> tuple[PollPlan, ...]:
    """The groups that are to be polled, where they have tags."""
    return tuple(
        PollPlan(group.name, group.interval.total_seconds(), items)
        for group, items in zip(settings.groups, items_of(settings), strict=True)
        if group.mode == "poll" and items
    )


def queue_size(tag: OpcuaTag, publishing_s: float, sampling_s: float) -> int:
    """Values the server must be able to hold so that none falls out between two publish responses."""
    if tag.queue_size is not None:
        return tag.queue_size
    if sampling_s == 0:
        return QUEUE_FASTEST
    return max(QUEUE_MIN, math.ceil(publishing_s / sampling_s) + QUEUE_MARGIN)


def chunked(things: Sequence[_T], limit: int) -> Iterator[tuple[_T, ...]]:
    """Cut a sequence into parts of at most `limit` (of `PER_CALL_MAX` when that is 0)."""
    size = limit or PER_CALL_MAX
    for start in range(0, len(things), size):
        yield tuple(things[start : start + size])


def publish_requests(subscriptions: int) -> int:
    """How many Publish requests to keep at the server: one each, and two to bridge the way there and back."""
    return subscriptions + 2


@dataclass
class _Turn:
    reason: str
    failures: int
    due_at_s: float


class Quarantine:
    """Items the server would not monitor, and when to ask again: after 30 s, then ever more rarely.

    Times are monotonic seconds, handed in.
    """

    FIRST_S = 30.0
    MAX_S = 600.0

    def __init__(self) -> None:
        self._turns: dict[Item, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def refused(self, item: Item, reason: str, now_s: float) -> bool:
        """Note a refusal; true when it is news to people, being the first or for another reason."""
        turn = self._turns.get(item)
        failures = 0 if turn is None else turn.failures
        pause_s = min(self.FIRST_S * 2.0 ** min(failures, 30), self.MAX_S)
        self._turns[item] = _Turn(reason, failures + 1, now_s + pause_s)
        return turn is None or turn.reason != reason

    def accepted(self, item: Item) -> bool:
        """The server serves this item; true when it did not before."""
        return self._turns.pop(item, None) is not None

    def due(self, now_s: float) -> tuple[Item, ...]:
        """The items whose time has come."""
        return tuple(item for item, turn in self._turns.items() if turn.due_at_s <= now_s)

    def pause_s(self, now_s: float) -> float:
        """How long nothing is due."""
        return max(
            0.0, min((turn.due_at_s for turn in self._turns.values()), default=now_s + self.FIRST_S) - now_s
        )

    def only(self, items: Container[Item]) -> Quarantine:
        """The same for some of the items."""
        some = Quarantine()
        some._turns = {item: turn for item, turn in self._turns.items() if item in items}
        return some

    def reasons(self) -> dict[Item, str]:
        """All items in it, and why the server refused them."""
        return {item: turn.reason for item, turn in self._turns.items()}
