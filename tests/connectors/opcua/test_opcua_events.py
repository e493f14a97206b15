"""A server's own events: told in order, once each, its alarms known after connecting, losses said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from connectors.errors import ConnectionLost
from connectors.opcua import events as events_module
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.event_fields import FIELDS, RawEvents
from connectors.opcua.events import Events
from connectors.opcua.losses import Losses
from connectors.opcua.plan import Quarantine
from connectors.opcua.session import Session
from statemodel.types import DeviceEvent, SampleBatch
from tests.connectors.contract import PATIENCE_S, RecordingLink, SystemClock, outcome, running, settled
from tests.connectors.opcua.alarms import Alarm, plain_events
from tests.connectors.opcua.cable import Cable
from tests.connectors.opcua.plant import URI, Plant, build


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


def connector(plant: Plant, directory: Path, *events: dict[str, Any], **more: Any) -> Any:
    group = {"name": "g", "interval": "20ms", "tags": [{"name": "state", "node": f"nsu={URI};s=state"}]}
    return build(
        plant, directory, events=list(events) or [{}], events_interval="20ms", groups=[group], **more
    )


_refreshed: list[int] = []
"""Subscriptions whose conditions the server has been asked for, and has answered."""


@pytest.fixture(autouse=True)
def _counting_refreshes(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Session.refresh_conditions
    _refreshed.clear()

    async def refresh_conditions(self: Session, subscription: int) -> int:
        code = await original(self, subscription)
        _refreshed.append(subscription)
        return code

    monkeypatch.setattr(Session, "refresh_conditions", refresh_conditions)


async def ready(plant: Plant, link: RecordingLink, items: int = 1) -> None:
    """Wait until the server tells its events and has told its conditions."""
    await link.until_value("plc/state", 6)
    await settled(lambda: bool(_refreshed))

    def watched() -> int:
        return sum(len(sub.monitored_item_srv._monitored_events) for sub in plant.subscriptions())

    await settled(lambda: watched() >= items)


def messages(link: RecordingLink) -> list[str]:
    return [event.message for event in link.events]


async def test_an_alarm_is_told_as_it_stands_with_all_the_server_says_of_it(
    plant: Plant, tmp_path: Path
) -> None:
    alarm = await Alarm(plant, "Oil", 700).start()
    at = datetime.now(UTC) - timedelta(seconds=2)
    link = RecordingLink()
    async with running(connector(plant, tmp_path, time="source"), link):
        await ready(plant, link)
        first = await alarm.tell(active=True, at=at)
        second = await alarm.tell(active=False, acknowledged=True)
        await link.until(lambda: len(link.events) == 2, "two events")
    told, gone = link.events
    assert told == DeviceEvent(
        connection="plc",
        at=at,
        kind="OffNormalAlarmType",
        source="Press",
        severity=700,
        message="Öl fehlt",
        event_id=first,
        source_at=at,
        received_at=told.received_at,
        source_node="nsu=urn:plant;s=Press",
        condition="Oil",
        condition_node="nsu=urn:plant;s=Press.Oil",
        active=True,
        acknowledged=False,
        retain=True,
    )
    assert (gone.event_id, gone.active, gone.acknowledged, gone.retain) == (second, False, True, False)
    assert not link.emitted_before_up


async def test_alarms_that_stand_are_asked_for_at_every_start_under_their_old_identity(
    plant: Plant, tmp_path: Path
) -> None:
    standing, gone = await Alarm(plant, "Oil", 700).start(), await Alarm(plant, "Air", 300).start()
    identity = await standing.tell(active=True)
    await gone.tell(active=True)
    await gone.tell(active=False, acknowledged=True)
    for message in ("one", "two"):
        link = RecordingLink()
        async with running(connector(plant, tmp_path, {"severity_min": 200}), link):
            await events_count(link, 1)
            (event,) = link.events
            assert (event.condition, event.event_id, event.active) == ("Oil", identity, True)
            assert event.refreshed
            await standing.tell(active=True, message=message)
            await events_count(link, 2)
            assert (link.events[1].message, link.events[1].refreshed) == (message, False)
            identity = link.events[1].event_id


async def told(link: RecordingLink, message: str) -> None:
    await link.until(lambda: message in messages(link), message)


async def events_count(link: RecordingLink, count: int) -> None:
    await link.until(lambda: len(link.events) >= count, f"{count} events")


async def test_events_keep_their_place_among_the_samples(plant: Plant, tmp_path: Path) -> None:
    events = await plain_events(plant)
    link = RecordingLink()
    async with running(connector(plant, tmp_path), link):
        await ready(plant, link)
        for number in range(4):
            await plant.set("state", 10 + number)
            await link.until_value("plc/state", 10 + number)
            await events.trigger(message=f"after {number}")
            await events_count(link, number + 1)
    order = [
        one.message if isinstance(one, DeviceEvent) else one.samples[0].value
        for one in link.told
        if isinstance(one, DeviceEvent | SampleBatch)
    ]
    assert order == [6, 10, "after 0", 11, "after 1", 12, "after 2", 13, "after 3"]


@pytest.mark.parametrize("refused", ["nothing", "where", "fields"])
async def test_only_events_of_enough_severity_come_whatever_the_server_can_filter(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    assert plant.server is not None
    service = plant.server.iserver.subscription_service
    original, asked = service.create_monitored_items, []

    async def create(params: Any) -> Any:
        filter_ = params.ItemsToCreate[0].RequestedParameters.Filter
        if isinstance(filter_, ua.EventFilter):
            asked.append((bool(filter_.WhereClause.Elements), len(filter_.SelectClauses)))
            if (refused != "nothing" and asked[-1][0]) or (refused == "fields" and asked[-1][1] > 8):
                code = ua.StatusCodes.BadEventFilterInvalid
                return [ua.MonitoredItemCreateResult(ua.StatusCode(code))]
        return await original(params)

    monkeypatch.setattr(service, "create_monitored_items", create)
    events = await plain_events(plant)
    alarm = await Alarm(plant, "Oil", 700).start()
    link = RecordingLink()
    async with running(connector(plant, tmp_path, {"severity_min": 500}), link):
        await ready(plant, link)
        for severity in (1, 499, 500, 1000):
            events.event.Severity = severity
            await events.trigger(message=str(severity))
        await alarm.tell(active=True, message="alarm")
        await link.until(lambda: "alarm" in messages(link), "the alarm")
    assert messages(link) == ["500", "1000", "alarm"]
    assert link.events[-1].condition == ("" if refused == "fields" else "Oil")
    steps = {"nothing": 1, "where": 2, "fields": 3}[refused]
    assert asked == [(True, 18), (False, 18), (False, 8)][:steps]
    assert link.refusals == []


async def test_only_events_of_the_types_asked_for_come(plant: Plant, tmp_path: Path) -> None:
    events = await plain_events(plant)
    alarm = await Alarm(plant, "Oil", 700).start()
    link = RecordingLink()
    async with running(connector(plant, tmp_path, {"types": ["i=10637", "nsu=urn:plant;i=9"]}), link):
        await ready(plant, link)
        await events.trigger(message="plain")
        await alarm.tell(active=True)
        await link.until(lambda: bool(link.events), "the alarm")
    assert [event.kind for event in link.events] == ["OffNormalAlarmType"]


async def test_an_object_without_events_is_named_and_asked_again_while_all_else_goes_on(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quarantine, "FIRST_S", 1.0)
    assert plant.server is not None
    mute = await plant.server.nodes.objects.add_object(ua.NodeId("Mute", plant.index), "Mute")
    events = await plain_events(plant)
    link = RecordingLink()
    wanted: tuple[dict[str, Any], ...] = (
        {},
        {"node": f"nsu={URI};s=Mute"},
        {"node": f"nsu={URI};s=Nowhere"},
        {"node": "ns=77;i=1"},
    )
    async with running(connector(plant, tmp_path, *wanted), link):
        await ready(plant, link)
        await events.trigger(message="one")
        await link.until(lambda: messages(link) == ["one"], "the event")
        refused = dict(link.refusals)
        assert set(refused) == {f"plc/_events/{one['node']}" for one in wanted[1:]}
        assert all(refused.values())
        heard = await plain_events(plant, emitting=mute)
        await link.until(lambda: (f"plc/_events/nsu={URI};s=Mute", "") in link.refusals, "being asked again")
        await heard.trigger(message="two")
        await link.until(lambda: messages(link) == ["one", "two"], "the event")
    assert all(sample.tag == "plc/state" for sample in link.samples), "an object is no tag"


async def test_ten_thousand_events_at_once_all_come_in_order(plant: Plant, tmp_path: Path) -> None:
    events = await plain_events(plant)
    link = RecordingLink()
    async with running(connector(plant, tmp_path, {"queue_size": 20_000}), link):
        await ready(plant, link)
        link.close()
        for number in range(10_000):
            await events.trigger(message=str(number))
        link.open()
        await link.until(lambda: len(link.events) >= 10_000, "all events")
    assert messages(link) == [str(number) for number in range(10_000)]
    assert link.gaps == []


async def test_a_message_that_went_missing_is_fetched_again_and_what_is_gone_is_a_gap(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await plain_events(plant)
    link = RecordingLink()
    made = connector(plant, tmp_path)
    async with running(made, link):
        await ready(plant, link)
        await events.trigger(message="first")
        await link.until(lambda: messages(link) == ["first"], "the event")
        (subscription,) = (s for s in plant.subscriptions() if s.monitored_item_srv._monitored_events)
        send = subscription.pub_result_callback
        lost: list[Any] = []

        async def lose(result: Any, *rest: Any) -> Any:
            if any(
                isinstance(one, ua.EventNotificationList)
                for one in result.NotificationMessage.NotificationData
            ):
                lost.append(result)
                return True
            return await send(result, *rest)

        for forgotten, message in ((False, "again"), (True, "gone")):
            subscription.pub_result_callback = lose
            await events.trigger(message=message)
            await settled(lambda: bool(lost))
            if forgotten:
                subscription._not_acknowledged_results.clear()
            lost.clear()
            subscription.pub_result_callback = send
            await events.trigger(message=f"after {message}")
            await told(link, f"after {message}")
    assert messages(link) == ["first", "again", "after again", "after gone"]
    (gap,) = link.gaps
    assert gap.tag == "plc/_events"
    assert "1 notification messages" in gap.reason
    assert made.losses.republished == 1


async def test_what_a_server_tells_while_the_cable_is_pulled_is_fetched_in_order(
    plant: Plant, tmp_path: Path
) -> None:
    events = await plain_events(plant)
    cable = Cable(plant.port)
    await cable.start()
    made = connector(plant, tmp_path, endpoint=cable.endpoint)
    try:
        link = RecordingLink()
        async with running(made, link) as task:
            await ready(plant, link)
            await events.trigger(message="before")
            await events_count(link, 1)
            cable.pull()
            assert isinstance(await outcome(task), ConnectionLost)
        for number in range(3):
            await events.trigger(message=f"while away {number}")
        again = RecordingLink()
        async with running(made, again):
            await events_count(again, 3)
            await events.trigger(message="after")
            await events_count(again, 4)
    finally:
        await cable.stop()
    assert messages(link) == ["before"]
    assert messages(again) == ["while away 0", "while away 1", "while away 2", "after"]
    assert again.gaps == []


# Without a server


class Server:
    """Answers to ConditionRefresh, one after the other; then waits for ever."""

    namespaces = ("http://opcfoundation.org/UA/",)

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    async def refresh_conditions(self, _subscription: int) -> int:
        self.asked += 1
        return self.codes.pop(0) if self.codes else 0


def alone(server: Server, link: RecordingLink, **events: Any) -> tuple[Events, Losses]:
    settings = OpcuaConnection.model_validate(
        {
            "name": "plc",
            "protocol": "opcua",
            "endpoint": "opc.tcp://127.0.0.1",
            "security": {"policy": "None", "mode": "None"},
            "events": [events],
        }
    )
    losses = Losses("plc", SystemClock())
    losses.tell = link.gap
    session: Any = server
    return Events(settings, session, link, SystemClock(), losses), losses


def row(kind: str, message: str = "", severity: Any = 500) -> tuple[int, list[Any]]:
    return 1, ["01", kind, None, None, None, None, message, severity]


NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


async def test_an_overflow_of_the_servers_queue_is_one_gap_however_often_it_is_said() -> None:
    link = RecordingLink()
    events, losses = alone(Server(), link)
    rows = [row("i=2041", "before"), *[row("i=3035")] * 500, row("i=2041", "after")]
    await events.deliver(RawEvents(rows), NOW - timedelta(seconds=1), NOW)

    assert messages(link) == ["before", "after"]
    (gap,) = link.gaps
    assert (gap.tag, gap.at, gap.until) == ("plc/_events", NOW - timedelta(seconds=1), NOW)
    assert losses.event_losses == 1


async def test_what_was_not_taken_of_a_huge_response_is_a_gap_with_its_number() -> None:
    link = RecordingLink()
    events, _ = alone(Server(), link)
    await events.deliver(RawEvents([row("i=2041", "one")], left_out=7), None, NOW)

    assert messages(link) == ["one"]
    assert "7 events" in link.gaps[0].reason


async def test_events_of_another_handle_or_too_little_severity_are_left_out() -> None:
    link = RecordingLink()
    events, losses = alone(Server(), link, severity_min=500)
    fields = row("i=2041")[1]
    rows = [(0, fields), (2, fields), row("i=2041", "little", 499), row("i=2041", "who knows", None)]
    await events.deliver(RawEvents(rows), None, NOW)

    assert messages(link) == ["who knows"]
    assert losses.strangers == 2


def alarm(name: str, severity: int, *, active: bool) -> tuple[int, list[Any]]:
    fields: list[Any] = [None] * len(FIELDS)
    values = {"event_id": "01", "kind": "i=2915", "message": f"{name} {active}", "severity": severity}
    for place, (field, _, _) in enumerate(FIELDS):
        fields[place] = (values | {"condition_node": f"ns=2;s={name}", "active": active}).get(field)
    return 1, fields


async def test_the_end_of_an_alarm_that_was_told_is_told_however_little_severe_it_is_then() -> None:
    link = RecordingLink()
    events, _ = alone(Server(), link, severity_min=500)
    rows = [
        alarm("oil", 700, active=True),
        alarm("dust", 100, active=True),
        alarm("oil", 0, active=False),
        alarm("oil", 0, active=False),
        alarm("dust", 100, active=False),
    ]
    await events.deliver(RawEvents(rows), None, NOW)

    assert messages(link) == ["oil True", "oil False"]


async def test_without_a_least_severity_nothing_is_left_out_not_even_a_severity_that_does_not_exist() -> None:
    # There are servers that end an alarm with severity 0.
    link = RecordingLink()
    events, _ = alone(Server(), link)
    await events.deliver(RawEvents([row("i=2041", "zero", 0), row("i=2041", "one", 1)]), None, NOW)

    assert [(event.message, event.severity) for event in link.events] == [("zero", 0), ("one", 1)]


async def test_conditions_are_asked_for_again_when_the_server_wishes_it_or_was_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "REFRESH_PAUSE_S", 0.0)
    busy = 0x8097_0000
    server, link = Server(busy, busy, 0), RecordingLink()
    events, _ = alone(server, link)
    task = asyncio.create_task(events.keep(3))

    async def until(asked: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while server.asked < asked:
                await asyncio.sleep(0)

    await until(3)
    await events.deliver(RawEvents([row("i=2789")] * 3), None, NOW)
    await until(4)
    for _ in range(20):
        await asyncio.sleep(0)
    assert server.asked == 4, "three wishes at once are one"
    assert link.events == []
    task.cancel()


async def test_a_refresh_that_is_never_said_to_be_over_marks_nothing_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "REFRESH_S_MAX", 0.0)
    link = RecordingLink()
    events, _ = alone(Server(), link)
    await events.deliver(RawEvents([row("i=2787"), row("i=2041")]), None, NOW)

    assert not link.events[0].refreshed


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([{"node": "nonsense"}], "is not an OPC UA node"),
        ([{"types": ["/Types/0:X"]}], "is a browse path"),
        ([{"severity_min": 0}], "greater than or equal to 1"),
        ([{"severity_min": 1001}], "less than or equal to 1000"),
        ([{}, {"node": "i=2253"}], "named twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_server_is_asked(events: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        alone_settings(events)


def alone_settings(events: Any) -> OpcuaConnection:
    return OpcuaConnection.model_validate(
        {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://127.0.0.1", "events": events}
    )


def test_events_are_off_unless_asked_for() -> None:
    assert alone_settings([]).events == ()
    (one,) = alone_settings([{}]).events
    assert (one.node, one.types, one.severity_min) == ("i=2253", (), 1)
