"""What subscribing to an OPC UA server comes to, before it is asked: for `andon plan`. Pure.

The server samples and sends by itself, so there is no cycle, unless a group is polled; what can be too much
are items and queues. Its own limits are known only once it answers, and make the parts smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connectors.opcua.config import OpcuaConnection
from connectors.opcua.plan import (
    EVENTS_GROUP,
    PER_CALL_MAX,
    Limits,
    SubscriptionPlan,
    chunked,
    plan,
    publish_requests,
)
from connectors.planned import PlannedConnection, PlannedGroup, PlannedRequest, duration_text


def outline(settings: OpcuaConnection, latency_s: float) -> PlannedConnection:
    """The plan of one connection. The latency matters where groups are polled."""
    subscriptions = plan(settings, Limits())
    groups: list[PlannedGroup] = []
    for group in settings.groups:
        interval_s, tags = group.interval.total_seconds(), len(group.tags)
        if getattr(group, "mode", "subscribe") == "poll":
            reads = tuple(_read(len(part), latency_s) for part in chunked(group.tags, PER_CALL_MAX))
            groups.append(PlannedGroup(group.name, interval_s, tags, reads, len(reads) * latency_s))
        else:
            groups.append(PlannedGroup(group.name, interval_s, tags, _parts(subscriptions, group.name)))
    if settings.events:
        events_s = settings.events_interval.total_seconds()
        groups.append(PlannedGroup("events", events_s, 0, _parts(subscriptions, EVENTS_GROUP)))
    return PlannedConnection(
        settings.name,
        settings.protocol,
        settings.endpoint,
        tuple(groups),
        link=settings.endpoint if any(group.cycle_s is not None for group in groups) else "",
        notes=tuple(_notes(subscriptions)),
    )


def _notes(subscriptions: Sequence[SubscriptionPlan]) -> Iterable[str]:
    created = [len(subscription.items) for subscription in subscriptions if subscription.items]
    if created:
        calls = sum(-(-items // PER_CALL_MAX) for items in created)
        yield (
            f"{_count(sum(created), 'monitored item')} in {_count(len(created), 'subscription')}, "
            f"created with {_count(calls, 'call')} (more where the server takes fewer items at once)"
        )
        yield f"{publish_requests(len(created))} publish requests kept at the server"


def _parts(subscriptions: Sequence[SubscriptionPlan], group: str) -> tuple[PlannedRequest, ...]:
    return tuple(_planned(part) for part in subscriptions if part.group == group and part.items)


def _read(count: int, latency_s: float) -> PlannedRequest:
    return PlannedRequest("read", count, "items", count, duration_s=latency_s)


def _planned(subscription: SubscriptionPlan) -> PlannedRequest:
    queues = sorted({item.queue_size for item in subscription.items})
    queue = f"{queues[0]}" if len(queues) == 1 else f"{queues[0]} to {queues[-1]}"
    samplings = sorted({item.sampling_s for item in subscription.items})
    sampling = _sampling_text(samplings[0])
    if len(samplings) > 1:
        sampling += f" to every {duration_text(samplings[-1])}"
    count = len(subscription.items)
    return PlannedRequest(
        f"subscription: published every {duration_text(subscription.publishing_s)}, "
        f"sampled {sampling}, queues of {queue}",
        count,
        "items",
        count,
    )


def _sampling_text(sampling_s: float) -> str:
    return f"every {duration_text(sampling_s)}" if sampling_s else "as fast as it can"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
