"""A lost connection costs nothing a server has kept (OPC 10000-4 section 6.7), and what is lost is said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.server.internal_session import InternalSession
from asyncua.server.internal_subscription import InternalSubscription

from connectors.errors import ConnectionLost
from connectors.opcua.connector import IN_VAIN_MAX, OpcuaConnector
from connectors.opcua.failures import SubscriptionGone
from statemodel.types import Quality
from tests.connectors.contract import PATIENCE_S, RecordingLink, outcome, running, settled
from tests.connectors.opcua.cable import Cable
from tests.connectors.opcua.plant import URI, Plant, build

PULSE = {
    "groups": [
        {
            "name": "fast",
            "interval": "50ms",
            "tags": [
                {"name": name, "node": f"nsu={URI};s={name}", "sampling": "10ms", "queue_size": 5000}
                for name in ("state", "speed", "count")
            ],
        }
    ]
}


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture
async def cable(plant: Plant) -> AsyncIterator[Cable]:
    cable = Cable(plant.port)
    await cable.start()
    yield cable
    await cable.stop()


def connector_at(cable: Cable, plant: Plant, tmp_path: Path, **more: Any) -> OpcuaConnector:
    return build(plant, tmp_path, endpoint=cable.endpoint, **(PULSE | more))


def values(link: RecordingLink, tag: str) -> list[Any]:
    return [sample.value for sample in link.samples if sample.tag == tag]


def sessions(plant: Plant) -> dict[Any, Any]:
    assert plant.server is not None
    return plant.server.iserver._external_sessions


async def lose(connector: OpcuaConnector, cable: Cable, plant: Plant) -> RecordingLink:
    """Run until every tag is there, then pull the cable; what was heard until then."""
    link = RecordingLink()
    async with running(connector, link) as task:
        await link.until(lambda: {"plc/state", "plc/speed", "plc/count"} <= set(link.latest), "all tags")
        cable.pull()
        assert isinstance(await outcome(task), ConnectionLost)
    return link


async def test_what_happened_while_the_connection_was_lost_is_told_in_order_and_once(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    connector = connector_at(cable, plant, tmp_path)
    before = await lose(connector, cable, plant)
    (subscription,) = plant.subscriptions()
    (session,) = sessions(plant)
    for value in (1, 2, 3, 1):
        await plant.set("state", value, at=datetime.now(UTC))
    link = RecordingLink()
    async with running(connector, link):
        await link.until(lambda: {"plc/state", "plc/speed", "plc/count"} <= set(link.latest), "all tags")
        await plant.set("state", 9)
        await link.until_value("plc/state", 9)
        assert plant.subscriptions() == [subscription]
        assert list(sessions(plant)) == [session]
    assert values(before, "plc/state") == [6]
    assert values(link, "plc/state") == [1, 2, 3, 1, 9]
    assert values(link, "plc/speed") == [1.5], "what did not change is said again, once"
    assert not link.emitted_before_up
    assert (link.gaps, connector.losses.message_count) == ([], 0)
    assert all(sample.received_at > before.seen_at[-1] for sample in link.samples)


async def test_a_pulse_on_its_way_when_the_cable_was_pulled_is_fetched_again(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    # Fault 24: answers vanish, after a keep-alive, then the connection is reset.
    connector = connector_at(cable, plant, tmp_path)
    link = RecordingLink()
    async with running(connector, link) as task:
        await link.until_value("plc/state", 6)
        (subscription,) = plant.subscriptions()
        before = len(link.cycles)
        await link.until(lambda: len(link.cycles) > before + 1, "keep-alives")
        cable.deaf = True
        number = subscription._notification_seq
        await plant.set("state", 2)
        await settled(lambda: subscription._notification_seq > number)
        await plant.set("state", 1)
        cable.pull()
        await outcome(task)
    cable.deaf = False
    after = RecordingLink()
    async with running(connector, after):
        await after.until_value("plc/state", 1)
    assert values(link, "plc/state") == [6]
    assert values(after, "plc/state") == [2, 1]
    # The second one may have been sent into the dead cable too, or not yet.
    assert 1 <= connector.losses.republished <= 2
    assert after.gaps == []


async def test_messages_the_server_no_longer_has_are_a_gap_and_no_more_than_that(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    connector = connector_at(cable, plant, tmp_path)
    link = RecordingLink()
    async with running(connector, link) as task:
        await link.until_value("plc/state", 6)
        (subscription,) = plant.subscriptions()
        cable.deaf = True
        for value in (1, 2, 3):
            number = subscription._notification_seq
            await plant.set("state", value)
            await settled(lambda number=number: subscription._notification_seq > number)  # type: ignore[misc]
        for lost in sorted(subscription._not_acknowledged_results)[-3:-1]:
            del subscription._not_acknowledged_results[lost]
        cable.pull()
        lost_at = (await outcome(task)).last_seen_at  # type: ignore[attr-defined]
    cable.deaf = False
    after = RecordingLink()
    async with running(connector, after):
        await after.until_value("plc/state", 3)
        await plant.set("state", 4)
        await after.until_value("plc/state", 4)
    # The hole is noticed at the first message that arrives; until then the value that was read stands.
    assert [*dict.fromkeys(values(after, "plc/state"))] == [3, 4]
    (gap,) = after.gaps
    assert "2 notification messages" in gap.reason
    assert gap.at <= lost_at <= gap.until


def republish(self: InternalSubscription, number: int) -> ua.NotificationMessage:
    """As OPC 10000-4 section 5.14.5 has it: the message is kept until it is acknowledged.

    The library's server forgets it at once, and with it what is on its way when the cable is pulled again.
    """
    kept = self._not_acknowledged_results.get(number)
    return ua.NotificationMessage() if kept is None else kept.NotificationMessage


async def test_no_value_is_lost_or_doubled_however_often_the_cable_is_pulled(
    plant: Plant, cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InternalSubscription, "republish", republish)
    connector = connector_at(cable, plant, tmp_path)
    chance = random.Random(4)
    told: list[Any] = []
    written = 0

    async def count() -> None:
        nonlocal written
        while True:
            await plant.set("count", written + 1)
            written += 1
            await asyncio.sleep(0.003)

    async def until_pulled() -> None:
        link = RecordingLink()
        async with running(connector, link) as task:
            await link.until(lambda: link.ups == 1, "a session")
            if chance.random() < 0.5:
                await link.until(lambda: "plc/count" in link.latest, "a value")
            await asyncio.sleep(chance.random() * 0.2)
            cable.deaf = chance.random() < 0.5
            await asyncio.sleep(chance.random() * 0.1)
            cable.pull()
            await outcome(task)
        cable.deaf = False
        told.extend(values(link, "plc/count"))
        assert link.gaps == []
        await asyncio.sleep(chance.random() * 0.1)

    await plant.set("count", 0)
    counting = asyncio.create_task(count())
    for _ in range(12):
        await until_pulled()
    counting.cancel()
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/count", written)
    told += values(link, "plc/count")
    assert told == sorted(told)
    assert sorted(set(told)) == list(range(told[0], written + 1))
    # A value that did not change across a pause may be said again; none is counted twice in between.
    assert len(told) - len(set(told)) <= 13
    assert connector.losses.message_count == 0
    assert len(sessions(plant)) <= 1


def with_transfer(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the server forget sessions with their connection, but transfer subscriptions as it should."""
    assert plant.server is not None
    server = plant.server.iserver
    service = server.subscription_service
    original = service.transfer_subscriptions

    async def transfer(params: Any, session_id: Any, callback: Any) -> Any:
        results = await original(params, session_id, callback)
        for number in params.SubscriptionIds:
            if int(number) in service.subscriptions:
                # The library goes on asking the lost connection for publish requests.
                service.subscriptions[
                    int(number)
                ].pub_request_callback = callback.__self__.get_publish_request
        return results

    monkeypatch.setattr(service, "transfer_subscriptions", transfer)
    monkeypatch.setattr(server, "lookup_external_session", lambda token: None)


async def test_subscriptions_are_taken_into_a_new_session_where_the_old_one_is_gone(
    plant: Plant, cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_transfer(plant, monkeypatch)
    connector = connector_at(cable, plant, tmp_path)
    await lose(connector, cable, plant)
    (subscription,) = plant.subscriptions()
    for value in (1, 2, 3):
        await plant.set("state", value)
    link = RecordingLink()
    async with running(connector, link):
        await link.until(lambda: {"plc/state", "plc/speed", "plc/count"} <= set(link.latest), "all tags")
        await plant.set("state", 9)
        await link.until_value("plc/state", 9)
        assert plant.subscriptions() == [subscription]
    assert values(link, "plc/state") == [1, 2, 3, 9]
    assert link.gaps == []


async def test_a_subscription_that_is_gone_is_made_anew_and_the_outage_is_a_gap(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    connector = connector_at(cable, plant, tmp_path)
    before = await lose(connector, cable, plant)
    assert plant.server is not None
    (lost,) = plant.subscriptions()
    await plant.server.iserver.subscription_service.delete_subscriptions([lost.data.SubscriptionId])
    await plant.set("state", 1)
    await plant.set("state", 2)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 2)
    assert values(link, "plc/state") == [2]
    (gap,) = link.gaps
    assert "no longer has the subscription" in gap.reason
    assert gap.at <= before.seen_at[-1] <= gap.until


async def test_a_server_that_was_started_anew_is_not_mistaken_for_the_old_one(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    # It counts sessions and subscriptions from the same numbers, and somebody else was there first.
    tokens = InternalSession._auth_counter
    connector = connector_at(cable, plant, tmp_path)
    await lose(connector, cable, plant)
    old = {one.data.SubscriptionId for one in plant.subscriptions()}
    await plant.stop()
    await plant.start()
    assert plant.server is not None
    heard: asyncio.Queue[Any] = asyncio.Queue()

    class Handler:
        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
            heard.put_nowait(value)

    InternalSession._auth_counter = tokens + 1  # after the server's own session
    async with Client(plant.endpoint) as stranger:
        theirs = await stranger.create_subscription(50, Handler())
        await theirs.subscribe_data_change(stranger.get_node(plant.nodes["state"].nodeid))
        assert await heard.get() == 6
        assert theirs.subscription_id in old
        link = RecordingLink()
        async with running(connector, link):
            await link.until(lambda: {"plc/state", "plc/speed", "plc/count"} <= set(link.latest), "all tags")
            await plant.set("state", 5)
            await link.until_value("plc/state", 5)
            async with asyncio.timeout(PATIENCE_S):
                assert await heard.get() == 5
    (gap,) = link.gaps
    assert "started anew" in gap.reason


async def test_an_outage_longer_than_the_session_is_a_gap(
    plant: Plant, cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = connector_at(cable, plant, tmp_path)
    await lose(connector, cable, plant)
    assert connector._memory is not None
    connector._memory.lasts_s = 0.0
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
    (gap,) = link.gaps
    assert "longer than" in gap.reason


async def test_nothing_is_taken_up_where_that_is_switched_off(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    connector = connector_at(cable, plant, tmp_path, resume=False)
    await lose(connector, cable, plant)
    await plant.set("state", 1)
    await plant.set("state", 2)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 2)
    assert values(link, "plc/state") == [2]
    assert link.gaps == []


@pytest.mark.parametrize("queue_size", [1, 4])
async def test_a_queue_that_is_full_after_an_outage_is_a_gap_also_where_no_overflow_is_told(
    plant: Plant, cable: Cable, tmp_path: Path, queue_size: int
) -> None:
    tags = [
        {"name": name, "node": f"nsu={URI};s={name}", "sampling": "10ms", "queue_size": queue_size}
        for name in ("state", "speed", "count")
    ]
    groups = [{"name": "fast", "interval": "50ms", "tags": tags}]
    connector = connector_at(cable, plant, tmp_path, groups=groups)
    await lose(connector, cable, plant)
    (subscription,) = plant.subscriptions()
    subscription.pub_request_callback = lambda _: (
        None
    )  # what it had in hand for the old connection is used up
    for value in range(10, 18):
        await plant.set("state", value)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 17)
        await link.until(lambda: "plc/speed" in link.latest, "what did not change")
    assert len(values(link, "plc/state")) < 8, "the server, another stack, dropped some and did not say so"
    assert [(gap.tag, gap.reason) for gap in link.gaps] == [
        ("plc/state", "the server's queue was full, so that values may be missing")
    ]


async def test_a_subscription_that_stays_silent_after_it_was_taken_up_is_made_anew(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    connector = connector_at(cable, plant, tmp_path)
    before = await lose(connector, cable, plant)
    (silent,) = plant.subscriptions()
    silent._task.cancel()
    link = RecordingLink()
    async with running(connector, link) as task:
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert "silent" in error.reason
    said_after_s = float(error.reason.split()[-2])
    keep_alive_s = connector._settings.keep_alive.total_seconds()
    assert said_after_s <= 2 * keep_alive_s, (
        "while it is silent the state it was left in passes for the present one"
    )
    assert [gap.reason for gap in link.gaps] == [
        "changes while the connection was lost could not be fetched: "
        "the subscription of fast was taken up and stayed silent"
    ]
    assert link.gaps[0].at in before.seen_at[-5:], "the last word of the subscription; of the server, others"
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        assert plant.subscriptions() != [silent]


async def test_a_server_that_never_publishes_in_what_it_took_up_is_not_asked_to_for_ever(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    connector = connector_at(cable, plant, tmp_path)
    for _ in range(IN_VAIN_MAX):
        await lose(connector, cable, plant)
        plant.subscriptions()[0]._task.cancel()
        async with running(connector, RecordingLink()) as task:
            assert isinstance(await outcome(task), SubscriptionGone)
    await lose(connector, cable, plant)
    assert "publishes nothing" in connector.warnings["resume"]
    before, link = connector.figures()["sessions_resumed"], RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
    assert connector.figures()["sessions_resumed"] == before


async def test_a_bad_value_stays_bad_across_an_outage(plant: Plant, cable: Cable, tmp_path: Path) -> None:
    connector = connector_at(cable, plant, tmp_path)
    await plant.set("speed", None, code=ua.StatusCodes.BadSensorFailure)
    await lose(connector, cable, plant)
    link = RecordingLink()
    async with running(connector, link):
        sample = await link.until_quality("plc/speed", Quality.BAD)
    assert sample.substatus == "sensor_failure"


async def test_what_was_refused_stays_refused_across_an_outage(
    plant: Plant, cable: Cable, tmp_path: Path
) -> None:
    groups = [dict(PULSE["groups"][0])]
    groups[0]["tags"] = [*groups[0]["tags"], {"name": "gone", "node": "i=424242"}]
    connector = connector_at(cable, plant, tmp_path, groups=groups)
    await lose(connector, cable, plant)
    link = RecordingLink()
    async with running(connector, link):
        sample = await link.until_quality("plc/gone", Quality.BAD)
        await link.until_value("plc/state", 6)
    assert sample.substatus == "configuration_error"
    assert [tag for tag, reason in link.refusals if reason] == ["plc/gone"]
