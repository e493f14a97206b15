"""Whatever is asked, the answer is a documented one, and never a failure of ours."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.access import NewUser, Role
from api.app import create_app
from api.commanding import CommandRequest
from api.problems import KINDS, ProblemDetails
from api.settings import ApiSettings
from tests.api.access_twin import EVERYTHING, PASSWORD, AccessTwin
from tests.api.desk_twins import whole_ports
from tests.api.listening import listening
from tests.api.twins import NAMES, STREAM, Plant

_plant = Plant()
_plant.fill(60)
_plant.first_seq = 10
_access = AccessTwin(anonymous=EVERYTHING)
_ports = whole_ports(_plant, _access)
_app = create_app(_ports, ApiSettings(heartbeat_s=0.01, page_limit_max=50), now=lambda: _plant.now_at)
_document = _app.openapi()
_EVENTS = "/api/v1/events"
_WEBSOCKET = "/api/v1/ws"
_PATHS = sorted(path for path, item in _document["paths"].items() if "get" in item and path != _EVENTS)

_names = st.one_of(
    st.sampled_from(
        [*NAMES, "filler-plc", "oven-plc", "state", "temp", "packml", "..", ".", "%00", "a/b", "é"]
    ),
    st.text(min_size=1, max_size=30),
)
_values = st.one_of(
    st.sampled_from(
        [
            "2026-11-21T20:10:00Z",
            "2026-11-21T20:10:00+01:00",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00Z",
            "2026-11-21T20:10:00",
            "5",
            "0",
            "-1",
            "1e9",
            "NaN",
            "9" * 30,
            f"{STREAM}:20",
            f"{STREAM}:2",
            "other:3",
            "bad",
            "transition,gap",
            "filler-1",
            "oven-plc",
            "",
            "'; DROP TABLE andon.transition; --",
            "\x00",
        ]
    ),
    st.text(max_size=40),
)


@st.composite
def _query(draw: st.DrawFn, path: str) -> bytes:
    known = [p["name"] for p in _document["paths"][path]["get"]["parameters"] if p["in"] == "query"]
    names = st.one_of(st.sampled_from([*known, "unknown"]), st.text(max_size=8))
    pairs = draw(st.lists(st.tuples(names, _values), max_size=4))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=20)).replace(b"#", b"").replace(b" ", b"")
    if draw(st.booleans()):  # mostly well-formed requests must be among them
        pairs = list(dict(pairs).items())
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs).encode()


def _judge(path: str, status: int, media: str, body: bytes) -> None:
    documented: dict[str, Any] = _document["paths"][path]["get"]["responses"]
    assert str(status) in documented, (path, status, body)
    assert status < 500, body
    if status == 304:
        return
    assert media.partition(";")[0] in documented[str(status)]["content"], (path, status, media)
    if media == "application/problem+json":
        problem = msgspec.json.decode(body, type=ProblemDetails)
        assert problem.status == status
        examples = documented[str(status)]["content"][media]["examples"]
        assert problem.code in examples, (path, problem)
        assert KINDS[problem.code].status == status


@hypothesis_settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_get_is_answered_as_documented(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(_PATHS))
    query = data.draw(_query(path))
    filled = path
    for parameter in _document["paths"][path]["get"]["parameters"]:
        if parameter["in"] == "path":
            name = data.draw(_names)
            filled = filled.replace(f"{{{parameter['name']}}}", name)
    headers = data.draw(
        st.dictionaries(
            st.sampled_from([b"if-none-match", b"accept-encoding", b"accept", b"range", b"last-event-id"]),
            st.binary(max_size=20),
            max_size=2,
        )
    )
    status, media, body = asyncio.run(_get(filled, query, list(headers.items())))
    if status == 404 and b'"not_found"' in body:
        assert "/" in filled.removeprefix(path.split("{")[0])  # a name with a slash is another path
        return
    _judge(path, status, media, body)


async def _get(path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, str, bytes]:
    """Ask as a server does that has decoded the path; no client of ours tidies the request up before."""
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query,
        "headers": headers,
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 1),
    }
    await _app(scope, receive, send)  # type: ignore[arg-type]
    start = dict(told[0]["headers"])
    return told[0]["status"], start.get(b"content-type", b"").decode(), b"".join(m["body"] for m in told[1:])


@hypothesis_settings(max_examples=150, deadline=None)
@given(query=_query(_EVENTS), last_event_id=st.one_of(st.none(), _values.filter(str.isascii)))
def test_any_stream_begins_or_is_refused_as_documented(query: bytes, last_event_id: str | None) -> None:
    async def scenario() -> None:
        _plant.grown = asyncio.Condition()  # of the loop of this example
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        async with listening(_app, query.decode("latin-1"), headers) as listener:
            await listener.until_true(lambda: listener.done or b"id: " in listener.received)
            media = listener.headers[b"content-type"].decode()
            _judge(_EVENTS, listener.status, media, listener.received)

    asyncio.run(scenario())


async def test_a_request_with_everything_right_is_answered_everywhere() -> None:
    """Guards the fuzz above: its plant answers 200 on every route."""
    await _access.add_user(
        NewUser(name="anna", password=PASSWORD, roles=frozenset((Role.VIEWER,))), EVERYTHING
    )
    request = CommandRequest(key="one", tag="filler-plc/speed", value=7)
    assert _ports.commands is not None
    command = await _ports.commands.submit(request, EVERYTHING, "rest")
    values = {"connection": "filler-plc", "name": "filler-1", "id": command.id, "number": "1"}
    transport = httpx.ASGITransport(_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in _PATHS:
            named = values | {
                "name": {"tags": "state", "models": "packml", "connections": "oven-plc", "users": "anna"}.get(
                    path.split("/")[3] if path.count("/") > 2 else "", "filler-1"
                )
            }
            response = await client.get(path.format(**named))
            assert response.status_code == (426 if path == _WEBSOCKET else 200), path
