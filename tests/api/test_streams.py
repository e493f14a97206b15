"""What both forms of the stream promise alike: exact, resumable, filtered, fair, and ended with a reason.

The six checks of a watch are here by name: ordered, unique, without a gap, resumable, bookmarked, atomic.
"""

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
from tests.api.listening import PATIENCE_S, Form, hearing
from tests.api.twins import NAMES, STREAM, LiveTwin, Plant, make_ports
from tests.support.loop_time import later

STALL_S = 600.0
FORMS: tuple[Form, ...] = ("sse", "ws")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return request.param  # type: ignore[no-any-return]


def _app(plant: Plant, live: LiveTwin | None = None, **settings: float) -> FastAPI:
    ports = make_ports(plant)
    if live is not None:
        ports = msgspec.structs.replace(ports, live=live)
    limits = ApiSettings(**{"heartbeat_s": 0.05, "stall_s": STALL_S, "last_word_s": 30.0} | settings)  # type: ignore[arg-type]
    return create_app(ports, limits, now=lambda: plant.now_at)


# The six checks of a watch ----------------------------------------------------------------------------------


@hypothesis_settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("form", FORMS)
def test_a_watch_cut_anywhere_is_the_history(form: Form, data: st.DataObject) -> None:
    """While the log grows and the connection is cut, what is told is what of the log the filter takes."""
    types = data.draw(st.sampled_from([(), ("transition",), ("rejection", "source_lost")]))
    equipment = data.draw(st.sampled_from([(), ("oven-1",), ("filler-1", "capper-2")]))
    batch_max = data.draw(st.integers(1, 9))
    steps = data.draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=6))

    async def scenario() -> None:
        plant = Plant()
        plant.batch_max = batch_max
        plant.fill(data.draw(st.integers(0, 10)))
        app = _app(plant, heartbeat_s=0.01)
        told: list[tuple[str, bytes]] = []
        cursor = "0"

        def wanted() -> list[Recorded]:
            return [
                recorded
                for recorded in plant.log
                if (not types or recorded.type in types)
                and (not equipment or recorded.equipment in equipment)
            ]

        for grow, take in [*steps, (0, 1_000_000)]:
            async with hearing(app, form, after=cursor, types=types, equipment=equipment) as listener:
                await listener.until_open()
                plant.fill(grow)
                await plant.announce()
                expected = min(take, len(wanted()) - len(told))
                heard = (await listener.until_heard(expected))[:expected]
                assert {event.type for event in heard} <= {recorded.type for recorded in plant.log}
                told += [(event.cursor, event.data) for event in heard]
                if heard:
                    cursor = heard[-1].cursor
        seqs = [int(cursor.rpartition(":")[2]) for cursor, _ in told]
        assert seqs == sorted(seqs), "ordered"
        assert len(set(seqs)) == len(seqs), "unique"
        assert [data for _, data in told] == [recorded.json for recorded in wanted()], "no gap, resumable"
        assert [cursor for cursor, _ in told] == [f"{STREAM}:{recorded.seq}" for recorded in wanted()]

    asyncio.run(scenario())


async def test_bookmark_nothing_older_comes_after_it(form: Form, plant: Plant) -> None:
    """A cursor that moved past what a filter left out is kept, and is as good as one of an event."""
    app = _app(plant)
    async with hearing(app, form, after=0, types=["gap"]) as listener:
        await listener.until_true(lambda: bool(listener.heartbeats()) and listener.cursor().endswith(":60"))
        assert listener.heard() == []
        cursor = listener.cursor()
        plant.record(Gap("oven-plc", plant.now_at, plant.now_at, "buffer overflow"))
        await plant.announce()
        assert (await listener.until_heard(1))[0].cursor == f"{STREAM}:61"
    plant.first_seq = 50  # the start of the journal goes; the client was never sent an event of it
    async with hearing(app, form, after=cursor, types=["gap"]) as listener:
        assert (await listener.until_heard(1))[0].cursor == f"{STREAM}:61"


async def test_atomic_what_came_together_may_be_parted_and_is_never_torn(form: Form, plant: Plant) -> None:
    """Events of one commit are separate; each is told whole, and a cut between two loses neither."""
    plant.batch_max = 500
    app = _app(plant)
    async with hearing(app, form, after=60) as listener:
        await listener.until_open()
        plant.fill(30)  # one commit
        await plant.announce()
        first = (await listener.until_heard(7))[:7]
    async with hearing(app, form, after=first[-1].cursor) as listener:
        rest = await listener.until_heard(23)
    whole = [event.data for event in (*first, *rest)]
    assert whole == [recorded.json for recorded in plant.log[60:]]
    assert all(msgspec.json.decode(data)["stream"] == STREAM for data in whole)


# Where it begins --------------------------------------------------------------------------------------------


async def test_without_a_cursor_it_begins_now(form: Form, plant: Plant) -> None:
    async with hearing(_app(plant), form) as listener:
        await listener.until_open()
        assert listener.cursor() == f"{STREAM}:60"
        plant.move("oven-1")
        await plant.announce()
        assert (await listener.until_heard(1))[0].data == plant.log[60].json


@pytest.mark.parametrize("cursor", [57, "57", f"{STREAM}:57", f"{STREAM}-57"])
async def test_a_cursor_may_be_a_seq_a_token_or_the_id_of_an_event(
    form: Form, plant: Plant, cursor: int | str
) -> None:
    async with hearing(_app(plant), form, after=cursor) as listener:
        events = await listener.until_heard(3)
    assert [event.cursor for event in events] == [f"{STREAM}:{seq}" for seq in (58, 59, 60)]


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
    form: Form, plant: Plant, cursor: str, status: int, code: str
) -> None:
    plant.first_seq = 10
    app = _app(plant)
    async with hearing(app, form, after=cursor) as listener:
        problem = await listener.until_problem()
    assert (problem["status"], problem["code"]) == (status, code)
    assert (problem["stream"], problem["first_seq"], problem["last_seq"]) == (STREAM, 10, 60)
    assert problem["snapshot"] == "/api/v1/equipment"
    if form == "ws":
        assert (listener.close_code, listener.close_reason[: len(code)]) == (1008, code)
    assert app.state.streams.open_count == 0


async def test_the_oldest_cursor_that_leaves_no_hole_is_taken(form: Form, plant: Plant) -> None:
    plant.first_seq = 10
    async with hearing(_app(plant), form, after=9) as listener:
        assert (await listener.until_heard(1))[0].cursor == f"{STREAM}:10"


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


async def test_too_old_found_only_at_the_first_step_is_told_before_anything_else(
    form: Form, plant: Plant
) -> None:
    async with hearing(_app(plant, _Shrinking(plant)), form, after=5) as listener:
        problem = await listener.until_problem()
    assert (problem["code"], problem["first_seq"]) == ("too_old", 30)
    assert [message["type"] for message in listener.messages] in ([], ["problem"])


async def test_a_missing_database_at_the_first_step_is_unavailable(form: Form, plant: Plant) -> None:
    live = _Shrinking(plant, HistoryUnavailable("it is being restarted"))
    async with hearing(_app(plant, live), form, after=5) as listener:
        problem = await listener.until_problem()
    assert (problem["status"], problem["code"]) == (503, "history_unavailable")
    assert listener.close_code in (None, 1013)


# How it goes on, and ends -----------------------------------------------------------------------------------


async def test_a_silent_stream_is_kept_alive(form: Form, plant: Plant) -> None:
    async with hearing(_app(plant), form) as listener:
        await listener.until_true(lambda: listener.heartbeats() > 2)
        assert listener.cursor() == f"{STREAM}:60"


class _Breaking(LiveTwin):
    """Tells a few events, then fails."""

    failure: Exception = TooOld(StreamPosition(STREAM, 50, 60))

    async def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        yield self.plant.log[:3]
        raise self.failure


async def test_a_source_that_fails_later_ends_the_stream_with_a_reason(form: Form, plant: Plant) -> None:
    app = _app(plant, _Breaking(plant))
    async with hearing(app, form, after=0) as listener:
        problem = await listener.until_problem()
    assert (problem["code"], problem["first_seq"]) == ("too_old", 50)
    assert len(listener.heard()) == 3
    assert app.state.streams.open_count == 0


async def test_who_stops_reading_is_told_and_cut_off_and_holds_nobody_up(form: Form, plant: Plant) -> None:
    app = _app(plant, last_word_s=0.1)
    async with hearing(app, form, after=0) as slow, hearing(app, form, after=0) as quick:
        await slow.until_heard(1)
        slow.reading.clear()
        plant.fill(40)
        await plant.announce()
        events = await quick.until_heard(100)
        assert [event.data for event in events] == [recorded.json for recorded in plant.log]
        assert not slow.aborted.is_set()
        later(STALL_S)
        async with asyncio.timeout(PATIENCE_S):
            await slow.aborted.wait()
        assert b'"code":"stalled"' in slow.transport.written  # behind what waits to be read
        assert app.state.streams.stalled_count == 1
        plant.move("oven-1")
        await plant.announce()
        await quick.until_heard(101)
    assert app.state.streams.open_count == 0
    assert plant.readers == 0  # nothing is read on behalf of clients that are gone


async def test_a_client_that_leaves_while_it_is_told_why_is_not_cut_off(form: Form, plant: Plant) -> None:
    app = _app(plant, stall_s=0.2, last_word_s=600.0)
    async with hearing(app, form, after=0) as slow:
        await slow.until_open()
        slow.reading.clear()
        await _until(lambda: bool(slow.transport.written))
        slow.leave()
        await _until(lambda: app.state.streams.open_count == 0)
        assert slow.aborted.is_set()  # of a connection that is gone


async def test_a_slow_client_that_does_read_is_served_to_the_end(form: Form, plant: Plant) -> None:
    async with hearing(_app(plant), form, after=0) as listener:
        for _ in range(20):
            listener.reading.clear()
            await asyncio.sleep(0)
            listener.reading.set()
        assert len(await listener.until_heard(60)) == 60
    assert not listener.aborted.is_set()


async def test_a_heartbeat_that_had_to_wait_never_moves_the_cursor_back(form: Form, plant: Plant) -> None:
    plant.batch_max = 1
    app = _app(plant)
    async with hearing(app, form, after=60, types=["gap"]) as listener:
        await listener.until_true(lambda: listener.heartbeats() > 0)
        listener.reading.clear()
        plant.record(plant.refuse("oven-1"))  # passed over
        plant.record(Gap("oven-plc", plant.now_at, plant.now_at, "buffer overflow"))  # told, but not taken
        await plant.announce()
        await asyncio.sleep(0.15)  # heartbeats fall due while the event waits
        listener.reading.set()
        await listener.until_heard(1)
        told = listener.heartbeats()
        await listener.until_true(lambda: listener.heartbeats() > told + 1)
        assert listener.cursor() == f"{STREAM}:62"


async def test_leaving_frees_the_place(form: Form, plant: Plant) -> None:
    app = _app(plant)
    async with hearing(app, form) as listener:
        await listener.until_open()
        assert app.state.streams.open_count == 1
    assert app.state.streams.open_count == 0
    assert plant.readers == 0


async def test_one_stream_too_many_is_refused(form: Form, plant: Plant) -> None:
    app = _app(plant, streams_max=1)
    async with hearing(app, form) as first:
        await first.until_open()
        async with hearing(app, form) as second:
            await second.until_true(lambda: second.done)
        problem = msgspec.json.decode(second.received)
        assert (second.status, problem["code"]) == (503, "too_many_streams")
        assert second.headers[b"retry-after"] == b"5"
        plant.move("oven-1")
        await plant.announce()
        await first.until_heard(1)
    async with hearing(app, form) as third:
        await third.until_open()
        assert third.status in (101, 200)


async def test_closing_ends_open_streams_and_refuses_new_ones(form: Form, plant: Plant) -> None:
    app = _app(plant)
    async with hearing(app, form, after=0) as listener:
        await listener.until_heard(60)
        app.state.streams.close()
        problem = await listener.until_problem()
    assert problem["code"] == "stopping"
    assert listener.close_code in (None, 1012)
    async with hearing(app, form) as late:
        await late.until_true(lambda: late.done)
    assert (late.status, msgspec.json.decode(late.received)["code"]) == (503, "stopping")


async def test_a_failure_of_the_gateway_is_no_silence(
    form: Form, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Breaking, "failure", ZeroDivisionError("a defect"))
    codes = []

    async def scenario() -> None:
        async with hearing(_app(plant, _Breaking(plant)), form, after=0) as listener:
            await listener.until_heard(3)
            if form == "ws":
                await listener.until_true(lambda: listener.done)
                codes.append(listener.close_code)

    with pytest.raises(ZeroDivisionError):
        await scenario()
    assert codes in ([], [1011])


async def test_many_idle_clients_all_hear_the_next_event(form: Form, plant: Plant) -> None:
    app = _app(plant)
    async with contextlib.AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(hearing(app, form)) for _ in range(200)]
        for listener in listeners:
            await listener.until_open()
        plant.move("capper-2")
        await plant.announce()
        for listener in listeners:
            assert (await listener.until_heard(1))[0].data == plant.log[-1].json
    assert app.state.streams.open_count == 0


# For a dashboard that cannot keep up ------------------------------------------------------------------------


async def test_a_client_far_behind_is_told_the_newest_and_how_much_was_left_out(
    form: Form, plant: Plant
) -> None:
    plant.fill(940)
    app = _app(plant, coalesce_behind_events=100)
    async with hearing(app, form, after=0, coalesce=True) as listener:
        heard = await listener.until_heard(len(NAMES))
        (notice,) = listener.notices()
        assert (notice["after"], notice["up_to"]) == (0, 1000)
        assert notice["count"] == 1000 - len(NAMES)
        newest = {r.equipment: r for r in plant.log if r.type == "transition"}
        assert [event.data for event in heard] == [
            r.json for r in sorted(newest.values(), key=lambda r: r.seq)
        ]
        plant.fill(20)  # close behind: everything again
        await plant.announce()
        rest = (await listener.until_heard(len(NAMES) + 20))[len(NAMES) :]
        assert [event.data for event in rest] == [r.json for r in plant.log[1000:]]
        assert len(listener.notices()) == 1


async def test_who_is_not_behind_or_did_not_ask_is_told_everything(form: Form, plant: Plant) -> None:
    app = _app(plant, coalesce_behind_events=60)
    async with hearing(app, form, after=0, coalesce=True) as listener:
        assert len(await listener.until_heard(60)) == 60
    plant.fill(1)
    async with hearing(app, form, after=0) as listener:
        assert len(await listener.until_heard(61)) == 61
        assert listener.notices() == []


async def test_what_is_left_out_is_counted_as_the_filter_sees_it(form: Form, plant: Plant) -> None:
    plant.fill(440)
    app = _app(plant)
    filters = {"equipment": ["oven-1"], "types": ["transition"]}
    async with hearing(app, form, after=0, coalesce=True, **filters) as listener:  # type: ignore[arg-type]
        heard = await listener.until_heard(1)
        mine = [r for r in plant.log if r.equipment == "oven-1" and r.type == "transition"]
        assert heard[0].data == mine[-1].json
        assert listener.notices()[0]["count"] == len(mine) - 1
        await listener.until_true(lambda: listener.cursor() == f"{STREAM}:500")  # a heartbeat brings it


class _Slow(LiveTwin):
    """Takes much longer than a heartbeat over a page in the middle, as a database can."""

    def __init__(self, plant: Plant) -> None:
        super().__init__(plant)
        self.read = asyncio.Event()

    async def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        pages = 0
        async for batch in super().events(after, wants):
            pages += 1
            if pages == 3:
                await self.read.wait()
            yield batch


async def test_while_it_catches_up_no_heartbeat_passes_over_what_is_not_told_yet(
    form: Form, plant: Plant
) -> None:
    plant.batch_max = 40
    plant.fill(180)
    live = _Slow(plant)
    app = _app(plant, live, heartbeat_s=0.02)
    async with hearing(app, form, after=0, coalesce=True) as listener:
        await listener.until_true(lambda: listener.heartbeats() > 2)
        assert listener.heard() == []
        assert listener.cursor() == f"{STREAM}:0"
        live.read.set()
        assert len(await listener.until_heard(len(NAMES))) == len(NAMES)


async def test_cut_while_catching_up_it_is_told_the_newest_of_everything(form: Form, plant: Plant) -> None:
    """Whatever of an abridged answer arrived: continued after it, no equipment's newest state is missing."""
    plant.fill(340)
    app = _app(plant)
    newest = {r.equipment: r.json for r in plant.log if r.type == "transition"}
    for count in range(1, len(NAMES) + 1):
        async with hearing(app, form, after=0, coalesce=True) as listener:
            first = (await listener.until_heard(count))[:count]
        known = {msgspec.json.decode(event.data)["equipment"]: event.data for event in first}
        async with hearing(app, form, after=first[-1].cursor, types=["transition"]) as listener:
            for event in await listener.until_heard(
                sum(
                    r.seq > int(first[-1].cursor.rpartition(":")[2])
                    for r in plant.log
                    if r.type == "transition"
                )
            ):
                known[msgspec.json.decode(event.data)["equipment"]] = event.data
        assert known == newest


async def _until(condition: object) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
