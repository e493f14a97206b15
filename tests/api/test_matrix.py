"""Every operation against every kind of caller: the table of permissions, and nothing else, decides.

The operations come from the application and the document; what each needs is written down once more in
`permissions.toml`, so that nobody opens a door by changing one word.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api.access import GRANTS, NOBODY, Permission, Principal, Role
from api.app import create_app
from api.operation import Operation
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.twins import LiveTwin, ModelsTwin, Plant, make_ports

TABLE: dict[str, str] = tomllib.loads(
    Path(__file__).with_name("permissions.toml").read_text(encoding="utf-8")
)

_plant = Plant()
_plant.fill(60)
VIEWER = Principal("anonymous", "anonymous", frozenset((Role.VIEWER,)))


def made(anonymous: Principal = NOBODY) -> FastAPI:
    """The application over a plant, whose people are those of the twin."""
    ports = msgspec.structs.replace(make_ports(_plant), access=AccessTwin(anonymous=anonymous))
    return create_app(ports, ApiSettings(heartbeat_s=0.05), now=lambda: _plant.now_at)


OPERATIONS: Sequence[Operation] = made().state.operations
#: What a caller of each kind is refused with, before anything of the operation is done; empty: let in.
REFUSED = {
    "nobody": "unauthenticated",
    "unknown": "invalid_credentials",
    "revoked": "session_ended",
    "expired": "session_ended",
    "limited": "password_must_change",
}
TOKENS = {
    "nobody": "",
    "unknown": "ak_nobody",
    "revoked": "as_revoked",
    "expired": "as_expired",
    "limited": "as_limited",
}
OF_THE_GUARD = {*REFUSED.values(), "forbidden"}
NAMES = {"name": "filler-1", "connection": "filler-plc", "id": "none", "n": "1"}


def label(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_what_each_operation_needs_is_written_down() -> None:
    """A new route gets its line there: the permission, and `scoped` where it looks at areas itself."""
    told = {label(one): one.needs.value + (" scoped" if one.scoped else "") for one in OPERATIONS}
    assert told == TABLE


def test_the_operations_are_those_of_the_document() -> None:
    document = made().openapi()
    told = {
        f"{method.upper()} {path}": operation["x-needs"]
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert told == {label(one): one.needs.value for one in OPERATIONS}


async def code(client: httpx.AsyncClient, operation: Operation, token: str) -> str:
    """The code of the guard's problem, or empty: it let the request pass, and others may have refused it."""
    path = operation.path
    for parameter in operation.params:
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", NAMES.get(parameter.name, "x"))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    method = "HEAD" if operation.path.endswith("/events") else operation.method  # a stream has no end
    body: dict[str, Any] = {} if operation.body is None else {"json": {"not a field": 1}}
    answer = await client.request(method, path, headers=headers, **body)
    if method == "HEAD":
        return {401: "unauthenticated", 403: "forbidden"}.get(answer.status_code, "")
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        assert answer.status_code not in (401, 403)
        return ""
    found = answer.json()["code"]
    assert answer.status_code != 401 or "www-authenticate" in answer.headers
    return found if found in OF_THE_GUARD else ""


def expected(operation: Operation, kind: str) -> str:
    """What the one table says."""
    if operation.needs is Permission.PUBLIC:
        return ""
    if kind in REFUSED:
        return REFUSED[kind]
    role, _, scoped = kind.partition("_")
    if Role(role) not in GRANTS[operation.needs]:
        return "forbidden"
    return "" if operation.scoped or not scoped else "forbidden"


KINDS = [*REFUSED, *Role, *(f"{role}_scoped" for role in Role)]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(made(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
async def test_every_operation_lets_in_whom_the_table_says(
    client: httpx.AsyncClient, operation: Operation
) -> None:
    for kind in KINDS:
        found = await code(client, operation, TOKENS.get(kind, f"ak_{kind}"))
        if operation.needs is Permission.PUBLIC:
            continue  # it may ask itself who calls, and says so in its own words
        if operation.path.endswith("/events") and kind in REFUSED:
            assert found in ("unauthenticated", "forbidden"), kind  # HEAD has no body to tell which
        else:
            assert found == expected(operation, kind), kind


async def test_callers_who_may_look_without_a_name_change_nothing() -> None:
    transport = httpx.ASGITransport(made(VIEWER), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for operation in OPERATIONS:
            if operation.needs is not Permission.PUBLIC:
                allowed = operation.needs is Permission.READ
                assert await code(client, operation, "") == ("" if allowed else "unauthenticated"), label(
                    operation
                )


# Areas ------------------------------------------------------------------------------------------------------

#: Everything of the plant that lies outside the areas of the scoped callers, who see oven-1 alone.
OUTSIDE = ("filler-1", "capper-2", "filler-plc")
_OF_A_NAME = [one for one in OPERATIONS if one.scoped and "{name}" in one.path and "/models/" not in one.path]


@pytest.mark.parametrize("operation", _OF_A_NAME, ids=label)
async def test_what_is_outside_is_answered_like_what_is_not_there(
    client: httpx.AsyncClient, operation: Operation
) -> None:
    example = {} if operation.body is None else {"json": next(iter(operation.body.examples.values()))}
    headers = {"Authorization": "Bearer ak_operator_scoped"}

    async def asked(connection: str, name: str) -> tuple[int, str]:
        path = operation.path.replace("{connection}", connection).replace("{name}", name)
        answer = await client.request(operation.method, path, headers=headers, **example)
        return answer.status_code, answer.text.replace(name, "NAME").replace(connection, "CONNECTION")

    if "{connection}" in operation.path:
        hidden, absent = await asked("filler-plc", "state"), await asked("qqqqqq-qqq", "xxxxx")
    else:
        hidden, absent = await asked("", "filler-1"), await asked("", "qqqqqq-q")
    assert hidden == absent
    assert hidden[0] == 404


@pytest.mark.parametrize("role", ["viewer", "operator", "engineer", "admin", "auditor"])
async def test_no_answer_to_a_scoped_caller_names_anything_outside(
    client: httpx.AsyncClient, role: str
) -> None:
    headers = {"Authorization": f"Bearer ak_{role}_scoped"}
    seen = 0
    for operation in OPERATIONS:
        if (
            operation.method != "GET"
            or not operation.path.startswith("/api/v1")
            or "/events" in operation.path
        ):
            continue
        path = operation.path.replace("{connection}", "oven-plc").replace(
            "{name}", "temp" if "{connection}" in operation.path else "oven-1"
        )
        for query in ("", "?quality=bad", "?limit=1000", "?connection=filler-plc", "?seq=1", "?seq=2"):
            answer = await client.get(path + query, headers=headers)
            text = answer.text.replace("connection=filler-plc", "").replace(
                '\\"filler-plc\\"', ""
            )  # its own words back
            assert not [name for name in OUTSIDE if name in text], (path, query)
            seen += answer.status_code == 200
    assert seen > 15


async def test_a_model_of_equipment_outside_is_not_there_for_a_scoped_caller(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelsTwin, "names", lambda _: ["packml", "oven", "filler-secret"])
    view = LiveTwin._view
    models = {"oven-1": "oven"}
    monkeypatch.setattr(
        LiveTwin,
        "_view",
        lambda live, name: msgspec.structs.replace(view(live, name), model=models.get(name, "filler-secret")),
    )
    scoped, open_ = ({"Authorization": f"Bearer ak_viewer{kind}"} for kind in ("_scoped", ""))

    async def asked(path: str, headers: dict[str, str]) -> tuple[int, str]:
        answer = await client.get(f"/api/v1/{path}", headers=headers)
        return answer.status_code, answer.text.replace(path.rpartition("filler-")[2], "NAME")

    names = (await client.get("/api/v1/models", headers=scoped)).json()["items"]
    assert names == [{"name": "packml"}, {"name": "oven"}], "built-in ones, and those of what it sees"
    assert (await client.get("/api/v1/models/oven", headers=scoped)).status_code == 200
    for path in ("models/{}", "equipment?model={}"):
        hidden, absent = path.format("filler-secret"), path.format("filler-nobody")
        assert await asked(hidden, scoped) == await asked(absent, scoped)
        assert (await asked(hidden, scoped))[0] in (400, 404)
        assert (await asked(hidden, open_))[0] == 200
    for path in ("models/filler-secrrt", "equipment?model=filler-secrrt"):
        assert "filler-secret" in (await asked(path, open_))[1]
        assert "filler-secret" not in (await asked(path, scoped))[1]


async def test_a_stream_of_a_scoped_caller_refuses_names_from_outside_like_unknown_ones(
    client: httpx.AsyncClient,
) -> None:
    headers = {"Authorization": "Bearer ak_viewer_scoped"}
    answers = []
    for name in ("filler-1", "qqqqqq-q"):
        async with asyncio.timeout(45):
            answer = await client.get(f"/api/v1/events?equipment={name}", headers=headers)
        answers.append((answer.status_code, answer.text.replace(name, "NAME")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 400


# Fields nobody asked for ------------------------------------------------------------------------------------

EXTRA = (
    "id",
    "_id",
    "uuid",
    "name_",
    "role",
    "roles_",
    "admin",
    "is_admin",
    "isAdmin",
    "superuser",
    "permissions",
    "scopes",
    "credential",
    "token",
    "secret",
    "password_hash",
    "hash",
    "salt",
    "verified",
    "approved",
    "approved_by",
    "armed",
    "status",
    "result",
    "seq",
    "stream",
    "recorded_at",
    "created_by",
    "author_",
    "__proto__",
    "constructor",
)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.body is not None], ids=label)
async def test_fields_nobody_asked_for_are_refused(client: httpx.AsyncClient, operation: Operation) -> None:
    assert operation.body is not None
    assert len(EXTRA) >= 30
    fields = {field.encode_name for field in msgspec.structs.fields(operation.body.type_)}
    path = operation.path.replace("{name}", "filler-1").replace("{id}", "none").replace("{n}", "1")
    headers = {"Authorization": "Bearer ak_all", "If-Match": '"v1"', "Idempotency-Key": "one"}
    for example in operation.body.examples.values():
        for extra in EXTRA:
            if extra not in fields:
                answer = await client.request(
                    operation.method, path, json={**example, extra: "x"}, headers=headers
                )
                assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body"), extra
