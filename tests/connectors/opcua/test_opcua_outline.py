"""What `andon plan` says of an OPC UA connection: subscriptions, items, queues and calls."""

from __future__ import annotations

from typing import Any

from connectors.opcua.config import OpcuaConnection
from connectors.opcua.outline import outline


def settings(groups: list[dict[str, Any]], **more: Any) -> OpcuaConnection:
    return OpcuaConnection.model_validate(
        {
            "name": "plc",
            "protocol": "opcua",
            "endpoint": "opc.tcp://127.0.0.1:4840",
            "security": {"policy": "None", "mode": "None"},
            "groups": groups,
            **more,
        }
    )


def tags(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"t{number}", "node": f"ns=2;i={number}", **more} for number in range(count)]


def test_each_group_is_a_subscription_with_its_queues() -> None:
    fast = [*tags(2), {"name": "quick", "node": "ns=2;s=Q", "sampling": "10ms"}]
    planned = outline(settings([{"name": "fast", "interval": "250ms", "tags": fast}]), 0.005)
    (group,) = planned.groups
    (subscription,) = group.requests
    assert (subscription.count, subscription.unit, group.tags) == (3, "items", 3)
    assert subscription.text == (
        "subscription: published every 250ms, sampled every 10ms to every 250ms, queues of 10 to 27"
    )
    assert group.cycle_s is None
    assert (planned.use, planned.link) == (0.0, ""), "nothing is polled, so no link is kept busy"


def test_many_items_take_several_calls_and_no_tags_take_none() -> None:
    groups = [
        {"name": "many", "interval": "1s", "tags": tags(2500)},
        {"name": "none", "interval": "1s", "tags": []},
    ]
    planned = outline(settings(groups), 0.005)
    assert [len(group.requests) for group in planned.groups] == [1, 0]
    assert planned.notes[0].startswith("2500 monitored items in 1 subscription, created with 3 calls")
    assert planned.notes[1] == "3 publish requests kept at the server", "for the one that has items"


def test_events_are_a_subscription_of_their_own() -> None:
    groups = [{"name": "all", "interval": "1s", "tags": tags(1)}]
    planned = outline(settings(groups, events=[{"severity_min": 500}]), 0.005)
    assert [(group.name, group.tags, len(group.requests)) for group in planned.groups] == [
        ("all", 1, 1),
        ("events", 0, 1),
    ]
    assert planned.tags == 1


def test_a_group_that_is_polled_takes_its_turns_on_the_link() -> None:
    groups = [
        {"name": "polled", "interval": "1s", "mode": "poll", "tags": tags(1500)},
        {"name": "pushed", "interval": "1s", "tags": [{"name": "x", "node": "ns=2;s=X"}]},
    ]
    planned = outline(settings(groups), 0.05)
    polled, pushed = planned.groups
    assert [(read.text, read.count) for read in polled.requests] == [("read", 1000), ("read", 500)]
    assert (polled.cycle_s, pushed.cycle_s) == (0.1, None)
    assert (planned.link, planned.use) == ("opc.tcp://127.0.0.1:4840", 0.1)
    assert planned.notes[0].startswith("1 monitored item in 1 subscription, created with 1 call ")
