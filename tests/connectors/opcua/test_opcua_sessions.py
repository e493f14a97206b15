"""What goes wrong between a gateway and a server, and what the gateway says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.internal_session import InternalSession

from connectors.base import Write, WriteOutcome
from connectors.errors import ConnectionLost
from connectors.opcua import opening as opening_module
from connectors.opcua import run as run_module
from connectors.opcua import session as session_module
from connectors.opcua.plan import Quarantine
from statemodel.types import Quality
from tests.connectors.contract import RecordingLink, outcome, running, settled
from tests.connectors.opcua.plant import URI, VARIABLES, Plant, build


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


def group(name: str, interval: str, *tags: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": interval,
        "tags": [{"node": f"nsu={URI};s={tag['name']}"} | tag for tag in tags],
    }


STATE = {"groups": [group("fast", "50ms", {"name": "state"})]}


def values(link: RecordingLink, tag: str) -> list[Any]:
    return [sample.value for sample in link.samples if sample.tag == tag]


async def subscribed(plant: Plant, link: RecordingLink) -> Any:
    """Wait for the first value of `state`; the server's own object of the (only) subscription."""
    await link.until_value("plc/state", 6)
    (subscription,) = plant.subscriptions()
    return subscription


# Values


async def test_all_values_of_one_interval_arrive_in_order_and_in_one_batch(
    plant: Plant, tmp_path: Path
) -> None:
    link = RecordingLink()
    async with running(
        build(plant, tmp_path, groups=[group("g", "200ms", {"name": "state", "sampling": "10ms"})]), link
    ):
        await link.until_value("plc/state", 6)
        for value in (1, 2, 3, 2, 7):
            await plant.set("state", value)
        await link.until_value("plc/state", 7)
    assert values(link, "plc/state") == [6, 1, 2, 3, 2, 7]
    assert [len(batch.samples) for batch in link.batches] == [1, 5]


async def test_tags_of_one_response_are_told_in_the_order_they_changed(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    tags = ({"name": "state", "sampling": "10ms"}, {"name": "run", "sampling": "10ms"})
    start = datetime.now(UTC)
    async with running(build(plant, tmp_path, groups=[group("g", "200ms", *tags)]), link):
        await link.until_value("plc/run", True)
        await link.until_value("plc/state", 6)
        for at, (tag, value) in enumerate([("state", 1), ("run", False), ("state", 2)]):
            await plant.set(tag, value, at=start + timedelta(milliseconds=at))
        await link.until_value("plc/state", 2)
    assert [(s.tag, s.value) for s in link.batches[-1].samples] == [
        ("plc/state", 1),
        ("plc/run", False),
        ("plc/state", 2),
    ]


async def test_status_and_source_time_come_with_the_value(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    at = datetime(2026, 3, 4, 5, 6, 7, 250_000, tzinfo=UTC)
    async with running(build(plant, tmp_path, time="source"), link):
        await link.until_value("plc/state", 6)
        await plant.set("state", 5, at=at, code=ua.StatusCodes.UncertainLastUsableValue)
        sample = await link.until_quality("plc/state", Quality.UNCERTAIN)
        assert (sample.value, sample.substatus, sample.source_at) == (5, "last_usable_value", at)
        await plant.set("state", None, at=at, code=ua.StatusCodes.BadNoCommunication)
        sample = await link.until_quality("plc/state", Quality.BAD)
        assert (sample.value, sample.substatus) == (None, "no_communication")
        await plant.set("state", 4, at=datetime(1970, 1, 1, tzinfo=UTC))
        sample = await link.until_value("plc/state", 4)
        assert sample.source_at is None
    assert all(batch.source_time for batch in link.batches)


async def test_the_server_applies_the_deadband_where_it_can(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    tags = ({"name": "speed", "deadband": 1.0, "server_deadband": True}, {"name": "state"})
    async with running(build(plant, tmp_path, groups=[group("g", "20ms", *tags)]), link):
        await link.until_value("plc/speed", 1.5)
        await plant.set("speed", 2.0)
        await plant.set("state", 7)
        await link.until_value("plc/state", 7)
        await plant.set("speed", 3.5)
        await link.until_value("plc/speed", 3.5)
    assert values(link, "plc/speed") == [1.5, 3.5]


async def test_a_deadband_the_server_refuses_is_left_to_the_gateway(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plant.server is not None
    service = plant.server.iserver.subscription_service
    original, asked = service.create_monitored_items, []

    async def create(params: Any) -> Any:
        (item,) = params.ItemsToCreate
        asked.append(hasattr(item.RequestedParameters.Filter, "DeadbandValue"))
        if asked[-1]:
            return [ua.MonitoredItemCreateResult(ua.StatusCode(ua.StatusCodes.BadFilterNotAllowed))]
        return await original(params)

    monkeypatch.setattr(service, "create_monitored_items", create)
    link = RecordingLink()
    tags = ({"name": "speed", "deadband": 1.0, "server_deadband": True},)
    async with running(build(plant, tmp_path, groups=[group("g", "20ms", *tags)]), link):
        await link.until_value("plc/speed", 1.5)
    assert asked == [True, False]
    assert link.refusals == []


@pytest.mark.parametrize("answer", [0, ua.StatusCodes.BadDeadbandFilterInvalid])
async def test_a_deadband_in_percent_is_of_the_range_the_server_knows(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    assert plant.server is not None
    await plant.nodes["speed"].add_property(
        ua.NodeId("speed.range", plant.index),
        ua.QualifiedName("EURange", 0),
        ua.Range(Low=-100.0, High=300.0),
    )
    service = plant.server.iserver.subscription_service
    original, asked = service.create_monitored_items, []

    async def create(params: Any) -> Any:
        items, results = params.ItemsToCreate, []
        for item in items:
            wanted = item.RequestedParameters.Filter
            if hasattr(wanted, "DeadbandValue"):
                asked.append((ua.DeadbandType(wanted.DeadbandType).name, wanted.DeadbandValue))
                item.RequestedParameters.Filter = None
                if answer:
                    results.append(ua.MonitoredItemCreateResult(ua.StatusCode(answer)))
                    continue
            params.ItemsToCreate = [item]
            results += await original(params)
        return results

    monkeypatch.setattr(service, "create_monitored_items", create)
    tags = (
        {"name": "speed", "deadband": "2%", "server_deadband": True},
        {"name": "again", "node": f"nsu={URI};s=speed", "deadband": "2%"},
    )
    connector = build(plant, tmp_path, groups=[group("g", "20ms", *tags)])
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/speed", 1.5)
        await link.until_value("plc/again", 1.5)
    assert asked == [("Percent", 2.0)]
    assert dict(connector.ranges) == {"plc/speed": (-100.0, 300.0), "plc/again": (-100.0, 300.0)}
    assert link.refusals == []
    assert "range_unknown" not in connector.warnings


async def test_a_percentage_of_nothing_known_is_left_out(plant: Plant, tmp_path: Path) -> None:
    connector = build(plant, tmp_path, groups=[group("g", "20ms", {"name": "speed", "deadband": "2%"})])
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/speed", 1.5)
    assert connector.ranges == {}
    assert "no range of plc/speed: its deadband" in connector.warnings["range_unknown"]


# Loss


async def test_an_overflow_is_counted_for_the_tag_and_its_value_stays_good(
    plant: Plant, tmp_path: Path
) -> None:
    link = RecordingLink()
    connector = build(plant, tmp_path, **STATE)
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        await plant.set("state", 9, code=0x00000480)
        await link.until_value("plc/state", 9)
    assert connector.losses.overflow_count == 1
    (gap,) = connector.losses.gaps
    assert (gap.connection, gap.tag) == ("plc", "plc/state")
    assert gap.at <= gap.until


async def lose_one_message(plant: Plant, subscription: Any, value: int) -> int:
    """Let the server send a message that never arrives; its number."""
    await plant.set("state", value)
    number: int = subscription._pop_publish_result().NotificationMessage.SequenceNumber
    return number


async def keep_alives(link: RecordingLink, count: int) -> None:
    """Wait until some publish responses without data have been handled."""
    before = len(link.cycles)
    await link.until(lambda: len(link.cycles) >= before + count, "keep-alives")


async def test_a_pulse_lost_after_a_keep_alive_is_fetched_again(plant: Plant, tmp_path: Path) -> None:
    # The server sends keep-alives with an empty array, which is what used to hide the loss.
    link = RecordingLink()
    connector = build(plant, tmp_path, **STATE)
    async with running(connector, link):
        subscription = await subscribed(plant, link)
        await plant.set("state", 1)
        await link.until_value("plc/state", 1)
        await keep_alives(link, 2)
        await lose_one_message(plant, subscription, 2)
        await plant.set("state", 1)
        await link.until(lambda: len(link.samples) >= 4, "the pulse")
    assert values(link, "plc/state") == [6, 1, 2, 1]
    assert connector.losses.republished == 1
    assert connector.losses.message_count == 0


async def test_a_lost_pulse_the_server_has_forgotten_is_a_gap(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    connector = build(plant, tmp_path, **STATE)
    async with running(connector, link):
        subscription = await subscribed(plant, link)
        await keep_alives(link, 2)
        number = await lose_one_message(plant, subscription, 2)
        del subscription._not_acknowledged_results[number]
        await plant.set("state", 1)
        await link.until_value("plc/state", 1)
    assert values(link, "plc/state") == [6, 1]
    assert connector.losses.message_count == 1
    assert len(connector.losses.gaps) == 1
    assert any(skipped for *_, skipped in link.cycles)


async def test_messages_are_acknowledged_so_that_the_server_need_not_keep_them(
    plant: Plant, tmp_path: Path
) -> None:
    link = RecordingLink()
    async with running(build(plant, tmp_path, **STATE), link):
        subscription = await subscribed(plant, link)
        for value in range(100, 120):
            await plant.set("state", value)
            await link.until_value("plc/state", value)
        await keep_alives(link, 2)
        assert len(subscription._not_acknowledged_results) <= 3


# Nodes


async def test_one_bad_node_of_many_is_named_and_the_others_go_on(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    tags = [{"name": name} for name, *_ in VARIABLES]
    bad = [
        {"name": "gone"},
        {"name": "elsewhere", "node": "nsu=urn:nowhere;s=x"},
        {"name": "astray", "node": "/Objects/2:Nothing"},
    ]
    async with running(build(plant, tmp_path, groups=[group("g", "20ms", *tags, *bad)]), link):
        for name, value, _ in VARIABLES:
            await link.until_value(f"plc/{name}", value)
        for name in ("gone", "elsewhere", "astray"):
            sample = await link.until_quality(f"plc/{name}", Quality.BAD)
            assert sample.substatus == "configuration_error"
        reasons = dict(link.refusals)
        assert set(reasons) == {"plc/gone", "plc/elsewhere", "plc/astray"}
        assert "BadNodeIdUnknown" in reasons["plc/gone"]
        assert "urn:nowhere" in reasons["plc/elsewhere"]
        assert "browse path" in reasons["plc/astray"]
        await plant.set("state", 99)
        await link.until_value("plc/state", 99)


async def test_a_node_that_appears_is_taken_in(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quarantine, "FIRST_S", 0.05)
    link = RecordingLink()
    async with running(
        build(plant, tmp_path, groups=[group("g", "20ms", {"name": "late"}, {"name": "state"})]), link
    ):
        await link.until_quality("plc/late", Quality.BAD)
        assert plant.server is not None
        plant.types["late"] = ua.VariantType.Int32
        await plant.add(plant.server, plant.server.nodes.objects, "late", 3, ua.VariantType.Int32)
        await link.until_value("plc/late", 3)
    assert [reason == "" for tag, reason in link.refusals if tag == "plc/late"] == [False, True]
    assert len([s for s in link.samples if s.tag == "plc/late" and s.quality is Quality.BAD]) == 1


async def test_a_tag_the_server_never_speaks_of_is_told_too(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_FIRST_WORD_MIN_S", 0.3)
    assert plant.server is not None
    service = plant.server.iserver.subscription_service
    original = service.create_monitored_items

    async def create(params: Any) -> Any:
        results = await original(params)
        (subscription,) = plant.subscriptions()
        subscription._triggered_datachanges.pop(results[1].MonitoredItemId)
        return results

    monkeypatch.setattr(service, "create_monitored_items", create)
    link = RecordingLink()
    async with running(
        build(plant, tmp_path, groups=[group("g", "50ms", {"name": "state"}, {"name": "run"})]), link
    ):
        sample = await link.until_quality("plc/run", Quality.BAD)
        assert sample.substatus == "waiting_for_initial_data"
        await plant.set("run", False)
        await link.until_value("plc/run", False)
    assert [value for value in values(link, "plc/state") if value is not None] == [6]


async def test_namespace_indexes_may_move_between_sessions(tmp_path: Path) -> None:
    plant = Plant()
    connector = build(plant, tmp_path)
    for before in ([], ["urn:new", "urn:newer"]):
        plant.namespaces = before
        await plant.start()
        link = RecordingLink()
        async with running(connector, link):
            for name, value, _ in VARIABLES:
                await link.until_value(f"plc/{name}", value)
        await plant.stop()
    assert plant.index == 4


async def test_items_are_created_within_the_limits_the_server_states(plant: Plant, tmp_path: Path) -> None:
    assert plant.server is not None
    limit = plant.server.get_node(
        ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall
    )
    await limit.write_value(2, ua.VariantType.UInt32)
    sizes = await _sizes_of_calls(plant, tmp_path, refuse_above=100)
    assert sizes == [2, 2, 1]


async def test_a_call_the_server_finds_too_large_is_halved_for_the_whole_session(
    plant: Plant, tmp_path: Path
) -> None:
    assert await _sizes_of_calls(plant, tmp_path, refuse_above=2) == [5, 2, 2, 1]


@pytest.mark.writes
@pytest.mark.parametrize(
    ("code", "service"),
    [
        (ua.uaerrors.BadTooManyOperations, "read"),
        (ua.uaerrors.BadResponseTooLarge, "read"),
        (ua.uaerrors.BadRequestTooLarge, "translate_browsepaths_to_nodeids"),
        (ua.uaerrors.BadEncodingLimitsExceeded, "write"),
    ],
)
async def test_every_service_with_parts_is_halved(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: type[Exception], service: str
) -> None:
    original, sizes = getattr(InternalSession, service), []

    async def serve(self: InternalSession, params: Any) -> Any:
        asked = {"read": "NodesToRead", "write": "NodesToWrite"}.get(service)
        size = len(getattr(params, asked) if asked else params)
        if self.external:
            sizes.append(size)
            if size > 6:
                raise code
        return await original(self, params)

    tags = [
        {"name": f"t{number}", "node": f"/Objects/nsu={URI};Plant/nsu={URI};state"} for number in range(16)
    ]
    connector = build(plant, tmp_path, groups=[group("g", "1s", *tags)])
    await plant.nodes["state"].set_writable()
    link = RecordingLink()
    monkeypatch.setattr(InternalSession, service, serve)
    async with running(connector, link):
        await link.until(lambda: len(link.latest) == 16, "all tags")
        written = await connector.write([Write(f"plc/t{number}", number) for number in range(16)])
    assert {one.outcome for one in written} == {WriteOutcome.ACCEPTED}
    assert {sample.value for sample in link.samples} <= set(range(16))
    large = [size for size in sizes if size > 6]
    assert large[:2] == [16, 8] or (service == "read" and 16 in large)
    assert len(large) <= 6, "what the server takes is remembered"


async def _sizes_of_calls(plant: Plant, tmp_path: Path, *, refuse_above: int) -> list[int]:
    assert plant.server is not None
    service = plant.server.iserver.subscription_service
    original, sizes = service.create_monitored_items, []

    async def create(params: Any) -> Any:
        sizes.append(len(params.ItemsToCreate))
        if len(params.ItemsToCreate) > refuse_above:
            raise ua.uaerrors.BadTooManyOperations
        return await original(params)

    pytest.MonkeyPatch().setattr(service, "create_monitored_items", create)  # the server is this test's own
    link = RecordingLink()
    tags = [{"name": name} for name, *_ in VARIABLES]
    async with running(build(plant, tmp_path, groups=[group("g", "20ms", *tags)]), link):
        for name, value, _ in VARIABLES:
            await link.until_value(f"plc/{name}", value)
    return sizes


# Life


async def test_a_server_that_is_shutting_down_is_lost(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    async with running(build(plant, tmp_path), link) as task:
        await link.until_value("plc/state", 6)
        assert plant.server is not None
        state = plant.server.get_node(ua.ObjectIds.Server_ServerStatus_State)
        await state.write_value(ua.ServerState.Shutdown, ua.VariantType.Int32)
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert "shutting down" in error.reason


async def test_a_subscription_that_falls_silent_is_lost_although_the_server_answers(
    plant: Plant, tmp_path: Path
) -> None:
    link = RecordingLink()
    async with running(build(plant, tmp_path, **STATE), link) as task:
        subscription = await subscribed(plant, link)
        before = len(link.seen_at)
        subscription._task.cancel()
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert 'group "fast" has been silent' in error.reason
    assert error.last_seen_at is not None
    assert len(link.seen_at) > before, "reads were answered all the time"
    assert error.last_seen_at < link.seen_at[-1], "and are no proof of the subscription's life"
    await until_no_sessions(plant)


async def test_a_subscription_the_server_ends_is_lost(plant: Plant, tmp_path: Path) -> None:
    link = RecordingLink()
    async with running(build(plant, tmp_path, **STATE), link) as task:
        subscription = await subscribed(plant, link)
        await subscription.enqueue_statuschange(ua.StatusCode(ua.StatusCodes.BadTimeout))
        await plant.set("state", 1)
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert "ended the subscription" in error.reason


async def until_no_sessions(plant: Plant) -> None:
    await settled(lambda: not plant.subscriptions())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_secure_channel_is_renewed_without_anyone_noticing(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals = 0
    original = session_module.Session.renew

    async def renew(self: session_module.Session) -> None:
        nonlocal renewals
        await original(self)
        renewals += 1
        link._news.set()

    monkeypatch.setattr(opening_module, "_CHANNEL_LIFETIME", 1.2)
    monkeypatch.setattr(session_module.Session, "renew", renew)
    link = RecordingLink()
    async with running(build(plant, tmp_path), link):
        await link.until_value("plc/state", 6)
        await link.until(lambda: renewals >= 3, "renewals")
        await plant.set("state", 8)
        await link.until_value("plc/state", 8)


async def test_flapping_leaves_nothing_behind(plant: Plant, tmp_path: Path) -> None:
    connector = build(plant, tmp_path)

    async def flap() -> None:
        link = RecordingLink()
        async with running(connector, link):
            await link.until_value("plc/state", 6)

    await flap()
    await until_no_sessions(plant)
    tasks, files = len(asyncio.all_tasks()), open_files()
    for _ in range(15):
        await flap()
    await until_no_sessions(plant)
    await settled(lambda: len(asyncio.all_tasks()) <= tasks and open_files() <= files)
