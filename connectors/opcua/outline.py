"""What subscribing to an OPC UA server comes to, before it is asked: for `andon plan`. Pure.

The server samples and sends by itself, so there is no cycle; what can be too much are items and queues. Its
own limits are known only once it answers, and make the parts smaller.
"""

from __future__ import annotations

from connectors.opcua.config import OpcuaConnection
from connectors.opcua.plan import PER_CALL_MAX, Limits, SubscriptionPlan, plan, publish_requests
from connectors.planned import PlannedConnection, PlannedGroup, PlannedRequest, duration_text


def outline(settings: OpcuaConnection, latency_s: float) -> PlannedConnection:
    """The plan of one connection. The latency plays no part: nothing is asked for again and again."""
    subscriptions = plan(settings, Limits())
    items = sum(len(subscription.items) for subscription in subscriptions)
    calls = sum(-(-len(subscription.items) // PER_CALL_MAX) for subscription in subscriptions)
    groups = tuple(
        PlannedGroup(
            group.name,
            group.interval.total_seconds(),
            len(group.tags),
            tuple(_planned(part) for part in subscriptions if part.group == group.name and part.items),
        )
        for group in settings.groups
    )
    notes = (
        f"{_count(items, 'monitored item')} in {_count(len(subscriptions), 'subscription')}, "
        f"created with {_count(calls, 'call')} (more where the server takes fewer items at once)",
        f"{publish_requests(len(subscriptions))} publish requests kept at the server",
    )
    return PlannedConnection(settings.name, settings.protocol, settings.endpoint, groups, notes=notes)


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
