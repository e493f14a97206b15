"""The event stream: exact, resumable, filtered, and fair to everybody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.app import create_app
from api.ports import HistoryUnavailable, StreamPosition, TooOld
from api.settings import ApiSettings
from statemodel.records import Recorded
from statemodel.types import Gap
from tests.api.listening import PATIENCE_S, listening
from tests.api.twins import STREAM, LiveTwin, Plant, make_ports
from tests.support.loop_time import later


async def test_data_is_what_was_journalled_byte_by_byte(app: FastAPI, plant: Plant) -> None:
    async with listening(app, "after=0") as listener:
        events = await listener.until(60)
    assert [event["data"] for event in events] == [recorded.json for recorded in plant.log]
    assert [event["event"].decode() for event in events] == [recorded.type for recorded in plant.log]
    assert [event["id"].decode() for event in events] == [f"{STREAM}:{seq}" for seq in range(1, 61)]
    assert {event["event"] for event in events} == {b"transition", b"rejection", b"source_lost"}


async def test_without_a_cursor_it_begins_now_and_says_where(app: FastAPI, plant: Plant) -> None:
    async with listening(app) as listener:
        await listener.until_seen(f"retry: 2000\nid: {STREAM}:60\n\n".encode())
        plant.move("oven-1")
        await plant.announce()
        events = await listener.until(1)
    assert events[0]["data"] == plant.log[60].json
    assert listener.headers[b"content-type"] == b"text/event-stream"
    assert listener.headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("cursor", ["57", f"{STREAM}:57", f"{STREAM}-57"])
async def test_a_cursor_may_be_a_seq_a_token_or_the_id_of_an_event(app: FastAPI, cursor: str) -> None:
    async with listening(app, f"after={cursor}") as listener:
        events = await listener.until(3)
    assert [event["id"].decode() for event in events] == [f"{STREAM}:{seq}" for seq in (58, 59, 60)]


async def test_last_event_id_wins_over_the_query(app: FastAPI) -> None:
    async with listening(app, "after=1", {"Last-Event-ID": f"{STREAM}:58"}) as listener:
        events = await listener.until(2)
    assert events[0]["id"].decode() == f"{STREAM}:59"


async def test_an_empty_last_event_id_counts_as_none(app: FastAPI) -> None:
    async with listening(app, "after=58", {"Last-Event-ID": ""}) as listener:
        events = await listener.until(2)
    assert events[0]["id"].decode() == f"{STREAM}:59"


@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_cut_anywhere_and_resumed_it_is_the_continuous_stream(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    types = data.draw(st.sampled_from(["", "transition", "rejection,source_lost"]))
    equipment = data.draw(st.sampled_from(["", "oven-1", "filler-1,capper-2"]))
    batch_max = data.draw(st.integers(1, 9))
    cuts = data.draw(st.lists(st.integers(1, 15), max_size=6))

    async def scenario() -> None:
        plant = Plant()
        plant.fill(count)
        plant.batch_max = batch_max
        app = create_app(make_ports(plant), ApiSettings(heartbeat_s=0.01), now=lambda: plant.now_at)
        filters = "".join(f"&{n}={v}" for n, v in (("types", types), ("equipment", equipment)) if v)
        wanted = [
            recorded.json
            for recorded in plant.log
            if (not types or recorded.type in types.split(","))
            and (not equipment or recorded.equipment in equipment.split(","))
        ]
        told: list[bytes] = []
        cursor: str | None = None
        for cut in [*cuts, len(wanted)]:
            expected = min(cut, len(wanted) - len(told))
            headers = {"Last-Event-ID": cursor} if cursor else {}
            async with listening(app, f"after=0{filters}", headers) as listener:
                events = await listener.until(expected)
                await listener.until_seen(b"id: ")
            taken = events[:expected]
            told += [event["data"] for event in taken]
            if taken:
                cursor = taken[-1]["id"].decode()
        assert told == wanted

    asyncio.run(scenario())


async def test_a_heartbeat_moves_the_cursor_past_what_a_filter_left_out(app: FastAPI, plant: Plant) -> None:
    async with listening(app, "after=0&types=gap") as listener:
        await listener.until_seen(f": heartbeat\nid: {STREAM}:60\n\n".encode())
        assert listener.events() == []
        cursor = listener.last_id()
    plant.first_seq = 50  # the start of the journal goes; the client was never sent an event
    async with listening(app, "after=0&types=gap", {"Last-Event-ID": cursor}) as listener:
        await listener.until_seen(b"retry:")
        assert listener.status == 200


async def test_a_heartbeat_that_had_to_wait_never_moves_the_cursor_back(plant: Plant) -> None:
    plant.batch_max = 1
    settings = ApiSettings(heartbeat_s=0.05, stall_s=60)
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    async with listening(app, "after=60&types=gap") as listener:
        await listener.until_seen(b": heartbeat\n\n")
        listener.reading.clear()
        plant.record(plant.refuse("oven-1"))  # passed over
        plant.record(Gap("oven-plc", plant.now_at, plant.now_at, "buffer overflow"))  # told, but not taken
        await plant.announce()
        await asyncio.sleep(3 * settings.heartbeat_s)  # heartbeats fall due while the event waits
        listener.reading.set()
        await listener.until(1)
        await listener.until_seen(b"id: %b:62\nevent: gap" % STREAM.encode())
        told = len(listener.received)
        await listener.until_true(lambda: b"heartbeat" in listener.received[told:])
        ids = [block["id"].decode() for block in listener.blocks() if "id" in block]
    assert ids == [f"{STREAM}:60", f"{STREAM}:62"]


async def test_a_silent_stream_is_kept_alive(app: FastAPI) -> None:
    async with listening(app) as listener:
        await listener.until_seen(b": heartbeat\n\n")


@pytest.mark.parametrize(
    ("cursor", "status", "code"),
    [
        ("3", 410, "too_old"),
        (f"{STREAM}:3", 410, "too_old"),
        ("b0d1e8a2-0000-4000-8000-000000000000:55", 410, "other_stream"),
        ("61", 416, "from_the_future"),
        ("999999999999999999", 416, "from_the_future"),
    ],
)
async def test_a_useless_cursor_is_told_where_to_start_again(
    app: FastAPI, plant: Plant, cursor: str, status: int, code: str
) -> None:
    plant.first_seq = 10
    for query, headers in ((f"after={cursor}", {}), ("", {"Last-Event-ID": cursor})):
        async with listening(app, query, headers) as listener:
            problem = msgspec.json.decode(await listener.until_end())
        assert (listener.status, problem["code"]) == (status, code)
        assert (problem["stream"], problem["first_seq"], problem["last_seq"]) == (STREAM, 10, 60)
        assert problem["snapshot"] == "/api/v1/equipment"
        assert listener.headers[b"content-type"] == b"application/problem+json"


async def test_the_oldest_cursor_that_leaves_no_hole_is_taken(app: FastAPI, plant: Plant) -> None:
    plant.first_seq = 10
    async with listening(app, "after=9") as listener:
        events = await listener.until(1)
    assert events[0]["id"].decode() == f"{STREAM}:10"


class _Shrinking(LiveTwin):
    """Loses its oldest events between the question and the first step, as pruning can."""

    def __init__(self, plant: Plant, failure: Exception | None = None) -> None:
        super().__init__(plant)
        self.failure = failure

    async def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        if self.failure is not None:
            raise self.failure
        self.plant.first_seq = 30
        async for batch in super().events(after, wants):
            yield batch


async def test_too_old_found_only_at_the_first_step_is_still_a_problem_document(plant: Plant) -> None:
    ports = msgspec.structs.replace(make_ports(plant), live=_Shrinking(plant))
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    async with listening(app, "after=5") as listener:
        problem = msgspec.json.decode(await listener.until_end())
    assert (listener.status, problem["code"], problem["first_seq"]) == (410, "too_old", 30)


async def test_a_missing_database_at_the_first_step_is_unavailable(plant: Plant) -> None:
    live = _Shrinking(plant, HistoryUnavailable("it is being restarted"))
    app = create_app(
        msgspec.structs.replace(make_ports(plant), live=live), ApiSettings(), now=lambda: plant.now_at
    )
    async with listening(app, "after=5") as listener:
        problem = msgspec.json.decode(await listener.until_end())
    assert (listener.status, problem["code"]) == (503, "history_unavailable")
    assert listener.headers[b"retry-after"] == b"5"


class _Breaking(LiveTwin):
    """Tells a few events, then fails."""

    async def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        yield self.plant.log[:3]
        raise TooOld(StreamPosition(STREAM, 50, 60))


async def test_a_source_that_fails_later_ends_the_stream_cleanly(plant: Plant) -> None:
    app = create_app(
        msgspec.structs.replace(make_ports(plant), live=_Breaking(plant)),
        ApiSettings(),
        now=lambda: plant.now_at,
    )
    async with listening(app, "after=0") as listener:
        whole = await listener.until_end()
    assert whole.endswith(b"\n\n: end\n\n")
    assert len(listener.events()) == 3
    assert app.state.streams.open_count == 0


async def test_who_stops_reading_is_cut_off_and_holds_nobody_up(plant: Plant) -> None:
    settings = ApiSettings(heartbeat_s=0.05, stall_s=600, last_word_s=0.1)
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    async with listening(app, "after=0") as slow, listening(app, "after=0") as quick:
        await slow.until(1)
        slow.reading.clear()
        plant.fill(40)
        await plant.announce()
        events = await quick.until(100)
        assert [event["data"] for event in events] == [recorded.json for recorded in plant.log]
        assert not slow.aborted.is_set()
        later(settings.stall_s)
        async with asyncio.timeout(PATIENCE_S):
            await slow.aborted.wait()
        assert app.state.streams.stalled_count == 1
        plant.move("oven-1")
        await plant.announce()
        await quick.until(101)
    assert app.state.streams.open_count == 0
    assert plant.readers == 0  # nothing is read on behalf of clients that are gone


async def test_a_slow_client_that_does_read_is_served_to_the_end(app: FastAPI, plant: Plant) -> None:
    async with listening(app, "after=0") as listener:
        for _ in range(20):
            listener.reading.clear()
            await asyncio.sleep(0)
            listener.reading.set()
        events = await listener.until(60)
    assert len(events) == 60
    assert not listener.aborted.is_set()


async def test_leaving_frees_the_place(app: FastAPI, plant: Plant) -> None:
    async with listening(app) as listener:
        await listener.until_seen(b"retry:")
        assert app.state.streams.open_count == 1
    assert app.state.streams.open_count == 0
    assert plant.readers == 0


async def test_one_stream_too_many_is_refused(plant: Plant) -> None:
    app = create_app(make_ports(plant), ApiSettings(streams_max=1), now=lambda: plant.now_at)
    async with listening(app) as first:
        await first.until_seen(b"retry:")
        async with listening(app) as second:
            problem = msgspec.json.decode(await second.until_end())
        assert (second.status, problem["code"]) == (503, "too_many_streams")
        assert second.headers[b"retry-after"] == b"5"
        plant.move("oven-1")
        await plant.announce()
        await first.until(1)
    async with listening(app) as third:
        await third.until_seen(b"retry:")


async def test_closing_ends_open_streams_and_refuses_new_ones(app: FastAPI, plant: Plant) -> None:
    async with listening(app, "after=0") as listener:
        await listener.until(60)
        app.state.streams.close()
        whole = await listener.until_end()
    assert whole.endswith(b": end\n\n")
    async with listening(app) as late:
        problem = msgspec.json.decode(await late.until_end())
    assert (late.status, problem["code"]) == (503, "stopping")


async def test_head_says_what_get_would_and_ends(app: FastAPI) -> None:
    async with listening(app, method="HEAD") as listener:
        assert await listener.until_end() == b""
    assert (listener.status, listener.headers[b"content-type"]) == (200, b"text/event-stream")


@pytest.mark.parametrize(
    ("query", "parameter", "hint"),
    [
        ("types=transitions", "types", 'Did you mean "transition"?'),
        ("types=transition,,gap", "types", "Separate names with single commas."),
        ("equipment=filer-1", "equipment", 'Did you mean "filler-1"?'),
        ("after=-5", "after", "Write a sequence number, or stream:seq as an earlier answer gave it."),
    ],
)
async def test_filters_that_would_never_match_are_refused(
    app: FastAPI, query: str, parameter: str, hint: str
) -> None:
    async with listening(app, query) as listener:
        problem = msgspec.json.decode(await listener.until_end())
    assert listener.status == 400
    assert [(error["parameter"], error["hint"]) for error in problem["errors"]] == [(parameter, hint)]


async def test_a_broken_last_event_id_is_named_as_a_header(app: FastAPI) -> None:
    async with listening(app, "", {"Last-Event-ID": "garbage"}) as listener:
        problem = msgspec.json.decode(await listener.until_end())
    assert listener.status == 400
    assert (problem["errors"][0]["place"], problem["errors"][0]["parameter"]) == ("header", "Last-Event-ID")


async def test_many_idle_clients_all_hear_the_next_event(app: FastAPI, plant: Plant) -> None:
    async with contextlib.AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(app)) for _ in range(200)]
        for listener in listeners:
            await listener.until_seen(b"retry:")
        plant.move("capper-2")
        await plant.announce()
        for listener in listeners:
            assert (await listener.until(1))[0]["data"] == plant.log[-1].json
    assert app.state.streams.open_count == 0
