"""Events and alarms of a server of another stack, whose alarms watch its variables by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.opcua.connector import OpcuaConnector
from statemodel.types import DeviceEvent, SampleBatch
from tests.connectors.contract import RecordingLink, running
from tests.connectors.opcua.plant import Plant, build
from tests.support.peer import URI, Peer, running_peer

LIMITS = {"lowLowLimit": -20, "lowLimit": -10, "highLimit": 100, "highHighLimit": 200}


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with running_peer(tmp_path) as peer:
        await peer.start()
        await peer.order("add_alarm", name="TooFast", input="speed", limits=LIMITS)
        yield peer


def connector(peer: Peer, tmp_path: Path, *events: dict[str, Any]) -> OpcuaConnector:
    tags = [{"name": name, "node": f"nsu={URI};s={name}", "sampling": "0s"} for name in ("state", "speed")]
    group = {"name": "g", "interval": "30ms", "tags": tags}
    settings = {
        "events": list(events) or [{}],
        "events_interval": "30ms",
        "groups": [group],
        "keep_alive": "1s",
    }
    return build(Plant(peer.port), tmp_path / "data", **settings)


async def ready(peer: Peer, link: RecordingLink) -> None:
    """Wait until events are told: a plain one that comes says so."""
    await link.until_value("plc/state", 6)
    await peer.order("event", message="ready", severity=999)
    await link.until(lambda: "ready" in [event.message for event in link.events], "the first event")
    link.events.clear()


async def test_a_plain_event_is_told_with_all_the_server_says_of_it(peer: Peer, tmp_path: Path) -> None:
    link = RecordingLink()
    async with running(connector(peer, tmp_path), link):
        await ready(peer, link)
        await peer.order("event", message="Tür auf", severity=321)
        await link.until(lambda: bool(link.events), "the event")
    (event,) = link.events
    assert (event.kind, event.severity, event.message) == ("BaseEventType", 321, "Tür auf")
    assert event.source == "Plant"
    assert event.source_node == f"nsu={URI};s=Plant"
    assert event.event_id
    assert event.source_at is not None
    assert abs((event.received_at - event.source_at).total_seconds()) < 5
    assert (event.condition, event.active) == ("", None)


async def test_an_alarm_is_told_when_its_variable_goes_out_of_its_limits_and_comes_back(
    peer: Peer, tmp_path: Path
) -> None:
    link = RecordingLink()
    async with running(connector(peer, tmp_path), link):
        await ready(peer, link)
        await peer.set("speed", 150.0)
        await link.until(lambda: bool(link.events), "the alarm")
        await peer.set("speed", 50.0)
        await link.until(lambda: link.events[-1].active is False, "its end")
    first, *between, last = link.events
    assert (first.kind, first.condition) == ("NonExclusiveLimitAlarmType", "TooFast")
    assert first.condition_node == "nsu=urn:plant:server;s=TooFast"
    assert (first.source_node, first.branch) == (f"nsu={URI};s=Plant", "")
    assert (first.active, first.acknowledged, first.retain) == (True, False, True)
    # What nobody has acknowledged goes on as a branch of the condition.
    assert [(one.active, one.acknowledged, bool(one.branch)) for one in between] == [(True, False, True)]
    # This server ends an alarm with severity 0, which the standard does not have.
    assert (last.condition, last.branch, last.active, last.severity) == ("TooFast", "", False, 0)
    assert len({event.event_id for event in link.events}) == len(link.events)


async def test_an_alarm_that_stands_is_asked_for_at_every_start_under_its_old_identity(
    peer: Peer, tmp_path: Path
) -> None:
    await peer.set("speed", 150.0)
    seen = []
    for _ in range(2):
        link = RecordingLink()
        async with running(connector(peer, tmp_path, {"severity_min": 1}), link):
            await link.until(lambda link=link: bool(link.events), "the standing alarm")  # type: ignore[misc]
        event = link.events[0]
        assert (event.condition, event.active, event.refreshed) == ("TooFast", True, True)
        seen.append(event.event_id)
    assert len(set(seen)) == 1


async def test_only_events_of_enough_severity_and_of_the_types_asked_for_come(
    peer: Peer, tmp_path: Path
) -> None:
    link = RecordingLink()
    async with running(connector(peer, tmp_path, {"severity_min": 500}), link):
        await ready(peer, link)
        for severity in (1, 499, 500, 1000):
            await peer.order("event", message=str(severity), severity=severity)
        await link.until(lambda: "1000" in [event.message for event in link.events], "the last event")
    assert [event.message for event in link.events] == ["500", "1000"]
    link = RecordingLink()
    async with running(connector(peer, tmp_path, {"types": ["i=2915"]}), link):
        await link.until_value("plc/state", 6)
        await link.until(lambda: len(link.cycles) > 5, "some publishing")
        await peer.order("event", message="plain", severity=900)
        await peer.set("speed", 150.0)
        await link.until(lambda: bool(link.events), "the alarm")
    assert {event.condition for event in link.events} == {"TooFast"}


async def test_events_keep_their_order_and_their_place_among_the_samples(peer: Peer, tmp_path: Path) -> None:
    link = RecordingLink()
    async with running(connector(peer, tmp_path), link):
        await ready(peer, link)
        link.told.clear()
        for number in range(4):
            await peer.set("state", 10 + number)
            await link.until_value("plc/state", 10 + number)
            await peer.order("event", message=f"after {number}")
            await link.until(lambda number=number: len(link.events) > number, "the event")  # type: ignore[misc]
        for number in range(200):
            await peer.order("event", message=f"burst {number}")
        await link.until(lambda: len(link.events) == 204, "all events")
    order = [
        one.message if isinstance(one, DeviceEvent) else one.samples[0].value
        for one in link.told
        if isinstance(one, DeviceEvent | SampleBatch)
    ]
    assert order[:8] == [10, "after 0", 11, "after 1", 12, "after 2", 13, "after 3"]
    assert order[8:] == [f"burst {number}" for number in range(200)]
    assert link.gaps == []
