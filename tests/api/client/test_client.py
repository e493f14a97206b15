"""The Python client against the API on a real socket: typed answers, pages, events that go on, sessions."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.client import BadAnswer, ClientError, CursorLost, Event, Gateway, NoAnswer, Refused
from api.corrections import WantedCorrection
from api.problems import KINDS
from api.server import Server
from api.settings import ApiSettings
from statemodel.types import CorrectedState, Correction
from tests.api.listening import PATIENCE_S
from tests.api.twins import NAMES, START, STREAM, Plant, make_ports
from tests.support.processes import free_port

T = TypeVar("T")


class Site:
    """An API that can be stopped and started again on the same port."""

    def __init__(self) -> None:
        self.plant = Plant()
        self.plant.fill(60)
        self.port = free_port()
        self.server: Server | None = None

    async def start(self) -> None:
        settings = ApiSettings(heartbeat_s=0.05, page_limit=20, page_limit_max=1000)
        app = create_app(make_ports(self.plant), settings, now=lambda: self.plant.now_at)
        self.server = Server(app, "127.0.0.1", self.port)
        await self.server.start()

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.stop()

    def gateway(self, **options: Any) -> Gateway:
        url = f"http://127.0.0.1:{self.port}"
        return Gateway(url, timeout_s=PATIENCE_S, pause=lambda _: _short(), **options)


def _short() -> None:
    threading.Event().wait(0.01)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    async with asyncio.timeout(2 * PATIENCE_S):
        return await asyncio.to_thread(work, *arguments)


async def test_answers_are_values_and_lists_go_over_pages(site: Site) -> None:
    def ask() -> None:
        with site.gateway() as gateway:
            views = list(gateway.equipment.list(limit=1))
            assert [view.name for view in views] == list(NAMES)
            assert gateway.equipment.get("oven-1") == views[1]
            assert gateway.equipment.state("oven-1").seq == views[1].state.seq
            moves = list(gateway.equipment.transitions("oven-1", limit=3))
            assert [move.sequence for move in moves] == list(range(1, len(moves) + 1))
            assert len(moves) > 3
            at_ = moves[3].at
            assert gateway.equipment.state("oven-1", at_=at_).seq == moves[3].seq
            told = list(gateway.equipment.timeline("oven-1", from_=START, to=at_ + timedelta(minutes=5)))
            assert told[0].from_ == START
            assert [view.tag for view in gateway.tags.list(equipment="oven-1")] == ["oven-plc/temp"]
            assert gateway.tags.get("filler-plc/state").connection == "filler-plc"
            assert [view.name for view in gateway.connections.list(link=["up"])] == ["filler-plc"]
            assert list(gateway.models.names()) == ["packml", "oven"]
            assert gateway.models.get("oven")["name"] == "oven"
            assert gateway.health.ready()["ready"] is True
            assert gateway.health.live()

    await _in_thread(ask)


async def test_a_snapshot_and_what_follows_on_it_miss_nothing(site: Site) -> None:
    def ask() -> tuple[str, list[Event]]:
        with site.gateway() as gateway:
            snapshot = gateway.equipment.snapshot()
            assert [view.name for view in snapshot.items] == list(NAMES)
            events = gateway.events.follow(snapshot.cursor, types=["transition"])
            return snapshot.cursor, [next(events), next(events)]

    asked = asyncio.create_task(_in_thread(ask))
    async with asyncio.timeout(PATIENCE_S):
        while not site.plant.readers:
            await asyncio.sleep(0.01)
    first = site.plant.move("oven-1")
    second = site.plant.move("capper-2")
    await site.plant.announce()
    cursor, events = await asked
    assert cursor == f"{STREAM}:60"
    assert [event.raw for event in events] == [first.json, second.json]
    assert events[0].data["equipment"] == "oven-1"


async def test_events_go_on_over_a_restart_each_once_and_in_order(site: Site) -> None:
    told: list[Event] = []

    def follow() -> None:
        with site.gateway() as gateway:
            for event in gateway.events.follow(0):
                told.append(event)
                if len(told) == 100:
                    return

    following = asyncio.create_task(_in_thread(follow))
    async with asyncio.timeout(2 * PATIENCE_S):
        for goal in (60, 75, 90, 100):
            while len(told) < goal:
                await asyncio.sleep(0.01)
            if goal < 100:
                await site.stop()
                site.plant.fill(15 if goal < 90 else 10)
                await site.start()
    await following
    assert [event.raw for event in told] == [recorded.json for recorded in site.plant.log]


async def test_an_event_is_told_whole_whatever_characters_its_texts_have(site: Site) -> None:
    # Each of these ends a line for Python, and none of them in an event stream.
    odd = "caps\x85jam\u2028med\u2029\x1c\x0b\r\n again"
    correction = Correction(
        "oven-1",
        "baking/oven-1",
        "packml",
        START,
        START + timedelta(minutes=5),
        (CorrectedState("Held", 11, "unscheduled-down", START, START + timedelta(minutes=5)),),
        odd,
        "anna",
    )
    recorded = site.plant.record(correction)

    def follow() -> Event:
        with site.gateway() as gateway:
            return next(gateway.events.follow(60))

    event = await _in_thread(follow)
    assert event.raw == recorded.json
    assert event.data["reason"] == odd


async def test_a_cursor_that_is_lost_is_a_failure_and_no_hole(site: Site) -> None:
    site.plant.first_seq = 30

    def follow() -> None:
        with site.gateway() as gateway:
            next(gateway.events.follow(5))

    with pytest.raises(CursorLost) as lost:
        await _in_thread(follow)
    assert (lost.value.code, lost.value.details.first_seq) == ("too_old", 30)


async def test_what_is_left_out_is_told(site: Site) -> None:
    site.plant.fill(540)
    counts: list[int] = []

    def follow() -> list[Event]:
        with site.gateway() as gateway:
            events = gateway.events.follow(0, coalesce=True, left_out=lambda told: counts.append(told.count))
            return [next(events) for _ in NAMES]

    events = await _in_thread(follow)
    assert counts == [600 - len(NAMES)]
    assert {event.data["equipment"] for event in events} == set(NAMES)


async def test_waiting_for_a_state(site: Site) -> None:
    def wait(seconds: float) -> Any:
        with site.gateway() as gateway:
            return gateway.equipment.wait("oven-1", wait=timedelta(seconds=seconds))

    over = await _in_thread(wait, 0.05)
    assert not over.moved
    waiting = asyncio.create_task(_in_thread(wait, 30))
    async with asyncio.timeout(PATIENCE_S):
        while not site.plant.waiters:
            await asyncio.sleep(0.01)
    moved = site.plant.move("oven-1")
    await site.plant.announce()
    told = await waiting
    assert (told.moved, told.state.seq) == (True, moved.seq)


async def test_problems_carry_their_code_hint_and_places(site: Site) -> None:
    def ask() -> None:
        with site.gateway() as gateway:
            with pytest.raises(Refused) as unknown:
                gateway.equipment.get("filer-1")
            assert (unknown.value.code, unknown.value.status) == ("unknown_equipment", 404)
            assert unknown.value.hint == 'Did you mean "filler-1"?'
            with pytest.raises(Refused) as wrong:
                list(gateway.equipment.list(category="productiv"))
            assert [error.parameter for error in wrong.value.errors] == ["category"]
            with pytest.raises(Refused, match="Nothing is served"):
                gateway.equipment.get("../models/packml")  # a name is one segment of the path

    await _in_thread(ask)


async def test_nobody_there_is_told_apart_from_somebody_else(site: Site) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", port := free_port())

    def ask(port: int) -> None:
        with Gateway(f"127.0.0.1:{port}", timeout_s=PATIENCE_S) as gateway:
            gateway.equipment.get("oven-1")

    with pytest.raises(BadAnswer, match="not like a gateway"):
        await _in_thread(ask, port)
    server.close()
    await server.wait_closed()
    with pytest.raises(NoAnswer, match="no gateway answers"):
        await _in_thread(ask, port)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://anna:secret@line-1:8420"])
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ClientError) as refused:
        Gateway(url)
    assert "secret" not in str(refused.value)


# Without a socket -------------------------------------------------------------------------------------------


def _problem(code: str) -> httpx.Response:
    kind = KINDS[code]
    document = {
        "type": "/docs",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning,
        "instance": "/",
        "code": code,
        "hint": kind.hint,
    }
    return httpx.Response(kind.status, json=document)


def _session(count: int) -> httpx.Response:
    at_ = datetime(2026, 11, 21, tzinfo=UTC).isoformat()
    caller: dict[str, Any] = {"name": "anna", "kind": "user", "roles": [], "areas": None, "permissions": []}
    return httpx.Response(
        201,
        json={
            "token": f"as_{count}",
            "expires_at": at_,
            "refresh": f"ar_{count}",
            "refresh_expires_at": at_,
            "caller": caller | {"must_change_password": False},
        },
    )


def test_a_session_that_has_ended_is_renewed_once_and_asked_again() -> None:
    seen: list[tuple[str, str]] = []
    good = {"token": ""}

    def answer(request: httpx.Request) -> httpx.Response:
        path, token = request.url.path, request.headers.get("authorization", "")
        seen.append((path, token))
        if path == "/api/v1/sessions":
            good["token"] = "Bearer as_1"
            return _session(1)
        if path.endswith("/renew"):
            if msgspec.json.decode(request.content) != {"refresh": "ar_1"}:
                return _problem("session_ended")
            good["token"] = "Bearer as_2"
            return _session(2)
        return (
            httpx.Response(200, json={"name": "m"}) if token == good["token"] else _problem("session_ended")
        )

    with Gateway("https://line-1", transport=httpx.MockTransport(answer)) as gateway:
        gateway.sessions.log_in("anna", "secret")
        assert gateway.models.get("m") == {"name": "m"}
        good["token"] = "another"  # it ends
        assert gateway.models.get("m") == {"name": "m"}
        assert seen[-1] == ("/api/v1/models/m", "Bearer as_2")
        assert ("/api/v1/sessions/renew", "") in seen  # no token that has ended goes along
        good["token"] = "another"
        with pytest.raises(Refused) as ended:
            gateway.models.get("m")
    assert ended.value.code == "session_ended"


def test_logging_out_ends_the_session_also_when_its_token_has_ended_before() -> None:
    seen: list[tuple[str, str, str]] = []
    good = {"token": "Bearer as_1", "refresh": "ar_1"}

    def answer(request: httpx.Request) -> httpx.Response:
        path, token = request.url.path, request.headers.get("authorization", "")
        seen.append((request.method, path, token))
        if path == "/api/v1/sessions":
            return _session(1)
        if path.endswith("/renew"):
            if msgspec.json.decode(request.content) != {"refresh": good["refresh"]}:
                return _problem("session_ended")
            good["token"] = "Bearer as_2"
            return _session(2)
        if request.method == "DELETE":
            return httpx.Response(204)
        kind = "user" if token == good["token"] else "anonymous"
        caller: dict[str, Any] = {"name": "anna", "kind": kind, "roles": [], "areas": None, "permissions": []}
        return httpx.Response(200, json=caller | {"must_change_password": False})

    for ends, tokens in (("", "as_1"), ("token", "as_2"), ("token refresh", "")):
        good.update(token="Bearer as_1", refresh="ar_1")
        with Gateway("https://line-1", transport=httpx.MockTransport(answer)) as gateway:
            gateway.sessions.log_in("anna", "secret")
            good.update(dict.fromkeys(ends.split(), "another"))
            gateway.sessions.log_out()
            wanted = f"Bearer {tokens}" if tokens else ""
            assert seen[-1] == ("DELETE", "/api/v1/sessions/own", wanted), ends
            assert gateway.sessions.caller().kind == "anonymous"
            assert seen[-1][2] == ""


def test_what_is_sent_again_is_sent_under_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            raise httpx.ReadError("the line was cut")
        return _problem("unknown_equipment")

    wanted = WantedCorrection(reason="r", author="a", withdraws="x")
    with Gateway("http://line-1", transport=httpx.MockTransport(answer)) as gateway:
        with pytest.raises(Refused):
            gateway.corrections.make("oven-1", wanted)
        assert len(set(keys)) == 1
        keys.clear()
        with pytest.raises(Refused):
            gateway.corrections.make("oven-1", wanted, key="mine")
    assert set(keys) == {"mine"}


def test_credentials_do_not_follow_a_redirection() -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(302, headers={"location": "https://evil.example/"})

    with (
        Gateway("https://line-1", token="ak_1", transport=httpx.MockTransport(answer)) as gateway,
        pytest.raises(BadAnswer),
    ):
        gateway.models.get("m")
    assert hosts == ["line-1"]


def test_a_time_without_a_zone_is_refused_before_it_is_sent() -> None:
    transport = httpx.MockTransport(lambda _: _problem("unknown_equipment"))
    with Gateway("http://line-1", transport=transport) as gateway, pytest.raises(ValueError, match="zone"):
        gateway.equipment.state("oven-1", at_=datetime(2026, 11, 21))  # noqa: DTZ001 - that is the mistake


def test_every_route_has_a_method(app: FastAPI) -> None:
    """Calls every method of every noun, and looks which routes that reaches."""
    reached: set[tuple[str, str]] = set()
    routes = {
        (operation.method, operation.path): re.compile(re.sub(r"{\w+}", "[^/]+", operation.path))
        for operation in app.state.operations
    }

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.partition(b"?")[0].decode()
        exact = [
            route
            for route, pattern in routes.items()
            if route[0] == request.method and pattern.fullmatch(path)
        ]
        assert exact, (request.method, path)
        reached.add(max(exact, key=lambda route: (route[1].count("{") == 0, -route[1].count("{"))))
        return _problem("internal_error")

    with Gateway("http://line-1", transport=httpx.MockTransport(answer)) as gateway:
        for noun in vars(gateway).values():
            for name, method in inspect.getmembers(noun, inspect.ismethod):
                if (
                    not name.startswith("_")
                    and type(noun).__module__.startswith("api.client.")
                    and (type(noun).__name__ != "Wire")
                ):
                    _called(method)
    pages = {route for route in routes if not route[1].startswith("/api/v1") and "openapi" not in route[1]}
    health = {("GET", path) for path in ("/healthz", "/readyz", "/metrics")}
    assert set(routes) - reached == (pages - health) | {("GET", "/api/v1/ws")}


def _called(method: Callable[..., Any]) -> None:
    """Call a method with something for each parameter that it needs."""
    needed = {
        name: parameter
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    values: dict[str, Any] = {name: _something(name) for name in needed}
    with pytest.raises(ClientError):
        _exhausted(method(**values))


def _exhausted(told: Any) -> None:
    if isinstance(told, Iterator):
        next(told)


def _something(name: str) -> Any:
    if name in ("seq", "number", "old", "through"):
        return 1
    if name == "tag":
        return "plc/tag"
    return {"files": {}} if name == "files" else "x"
