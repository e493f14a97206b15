"""The configuration over REST: what is asked, what is answered, and what is refused with which code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from api.app import create_app
from api.configuring import MAIN_FILE
from api.routes.configuration import BODY_BYTES_MAX
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.twins import Plant, make_ports
from tests.gateway.changing.changing_site import CSV, MAIN, Site

CONFIG = "/api/v1/config"
FASTER = MAIN.replace('"1s"', '"500ms"')


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that runs."""
    return Site(tmp_path)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """An engineer at its API."""
    plant = Plant()
    ports = structs.replace(make_ports(plant), access=AccessTwin(), configuring=site.desk)
    app = create_app(ports, ApiSettings(requests_per_s=0), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer ak_engineer"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
        yield client


def body(main: str = FASTER, csv: str = CSV) -> dict[str, Any]:
    """What is sent."""
    return {"files": {MAIN_FILE: main, "lists/slow.csv": csv}, "reason": "faster"}


async def etag(client: httpx.AsyncClient) -> dict[str, str]:
    """The header that names what runs."""
    return {"If-Match": (await client.get(CONFIG)).headers["etag"]}


def code_of(response: httpx.Response, status: int) -> str:
    """The code of a problem."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["code"])


async def test_what_runs(client: httpx.AsyncClient, site: Site) -> None:
    answer = await client.get(CONFIG)
    told = answer.json()
    assert answer.status_code == 200
    assert told["files"] == dict(site.files)
    assert told["revision"]["number"] == 1
    assert answer.headers["etag"] == f'"{told["hash"]}"'
    again = await client.get(CONFIG, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_another_one_runs(client: httpx.AsyncClient, site: Site) -> None:
    answer = await client.put(CONFIG, json=body(), headers=await etag(client))
    told = answer.json()
    assert answer.status_code == 200
    assert (told["status"], told["revision"]["number"], told["revision"]["author"]) == (
        "applied",
        2,
        "engineer",
    )
    assert told["difference"]["changes"][0]["what"][0] == {
        "key": "groups.fast.interval",
        "old": "1s",
        "new": "500ms",
        "secret": False,
    }
    assert await etag(client) == {"If-Match": answer.headers["etag"]}
    assert site.main.read_text() == FASTER
    again = await client.put(CONFIG, json=body(), headers=await etag(client))
    assert again.json()["status"] == "unchanged"


async def test_a_dry_run(client: httpx.AsyncClient, site: Site) -> None:
    answer = await client.put(f"{CONFIG}?dry_run=true", json=body(), headers=await etag(client))
    assert (answer.status_code, answer.json()["status"]) == (200, "planned")
    assert site.main.read_text() == MAIN


async def test_without_if_match(client: httpx.AsyncClient) -> None:
    assert code_of(await client.put(CONFIG, json=body()), 428) == "version_required"
    restore = await client.post(f"{CONFIG}/revisions/1/restore", json={"reason": "x"})
    assert code_of(restore, 428) == "version_required"


async def test_another_was_faster(client: httpx.AsyncClient) -> None:
    headers = await etag(client)
    answers = await asyncio.gather(
        client.put(CONFIG, json=body(), headers=headers),
        client.put(CONFIG, json=body(MAIN.replace('"1s"', '"3s"')), headers=headers),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    lost = next(answer for answer in answers if answer.status_code == 412)
    assert code_of(lost, 412) == "changed_meanwhile"
    assert lost.json()["running"]["number"] == 2
    assert lost.json()["running"]["author"] == "engineer"
    assert lost.json()["running"]["at"] == "2026-11-21T22:07:00Z"


async def test_everything_that_is_wrong(client: httpx.AsyncClient, site: Site) -> None:
    wrong = MAIN.replace('"1s"', '"soon"').replace('model = "packml"', 'model = "packlm"')
    answer = await client.put(CONFIG, json=body(wrong, "name,address\n"), headers=await etag(client))
    assert code_of(answer, 422) == "invalid_configuration"
    errors = answer.json()["errors"]
    assert next((one["file"], one["line"], one["parameter"], one["code"]) for one in errors) == (
        "andon.toml",
        19,
        "connections[0].groups[0].interval",
        "wrong_value",
    )
    assert all(one["hint"] and one["reason"] and one["place"] == "file" for one in errors)
    assert len(errors) >= 2
    assert str(site.folder) not in answer.text


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"files": {}, "reason": "x"},
        {"files": {MAIN_FILE: MAIN}},
        {"files": {MAIN_FILE: MAIN}, "reason": ""},
        {"files": {MAIN_FILE: 3}, "reason": "x"},
        {"files": {MAIN_FILE: MAIN}, "reason": "x", "source": "cli"},
        {"files": {MAIN_FILE: MAIN}, "reason": "x" * 1001},
        [],
    ],
)
async def test_a_body_that_is_none(client: httpx.AsyncClient, sent: object) -> None:
    answer = await client.put(CONFIG, json=sent, headers=await etag(client))
    assert code_of(answer, 422 if answer.status_code == 422 else 400) == "invalid_body"


async def test_50_megabytes_are_not_even_read(client: httpx.AsyncClient) -> None:
    answer = await client.put(CONFIG, json=body(MAIN + "#" * 50_000_000), headers=await etag(client))
    assert code_of(answer, 413) == "body_too_large"
    nearly = await client.put(
        CONFIG, json=body(MAIN + "#" * (BODY_BYTES_MAX - 5000)), headers=await etag(client)
    )
    assert code_of(nearly, 422) == "invalid_configuration"
    assert nearly.json()["errors"][0]["code"] == "too_large"


async def test_what_needs_a_restart(client: httpx.AsyncClient) -> None:
    sent = body(MAIN.replace('id = "line-1"', 'id = "line-2"'))
    headers = {**await etag(client), "Authorization": "Bearer ak_admin"}
    assert code_of(await client.put(CONFIG, json=sent, headers=headers), 409) == "configuration_needs_restart"


async def test_what_is_not_for_engineers(client: httpx.AsyncClient) -> None:
    sent = body(MAIN + '\n[api]\nlisten = "127.0.0.1:8500"\n')
    answer = await client.put(CONFIG, json=sent, headers=await etag(client))
    assert code_of(answer, 403) == "configuration_needs_admin"


@pytest.mark.parametrize("role", ["viewer", "operator", "auditor", "engineer_scoped"])
async def test_who_may_not_see_it(client: httpx.AsyncClient, role: str) -> None:
    who = {"Authorization": f"Bearer ak_{role}"}
    for path in ("", "/revisions", "/revisions/1", "/revisions/1/difference"):
        assert code_of(await client.get(CONFIG + path, headers=who), 403) == "forbidden"
    headers = {**await etag(client), **who}
    assert code_of(await client.put(CONFIG, json=body(), headers=headers), 403) == "forbidden"
    restore = await client.post(f"{CONFIG}/revisions/1/restore", json={"reason": "x"}, headers=headers)
    assert code_of(restore, 403) == "forbidden"


async def test_revisions_and_the_way_back(client: httpx.AsyncClient, site: Site) -> None:
    first = (await client.get(CONFIG)).json()["hash"]
    await client.put(CONFIG, json=body(), headers=await etag(client))
    told = (await client.get(f"{CONFIG}/revisions")).json()["items"]
    assert [one["number"] for one in told] == [2, 1]
    one = (await client.get(f"{CONFIG}/revisions/1")).json()
    assert one["files"][MAIN_FILE] == MAIN
    found = (await client.get(f"{CONFIG}/revisions/1/difference?to=2")).json()["changes"]
    assert found[0]["what"][0]["new"] == "500ms"
    assert (await client.get(f"{CONFIG}/revisions/2/difference")).json() == {"changes": []}
    restored = await client.post(
        f"{CONFIG}/revisions/1/restore", json={"reason": "back"}, headers=await etag(client)
    )
    assert (restored.json()["status"], restored.json()["hash"]) == ("applied", first)
    assert restored.json()["revision"]["restored"] == 1
    assert site.main.read_text() == MAIN


@pytest.mark.parametrize("number", ["9", "0", "-1", "x", "1e3", "99999999999999999999", "%20", "٣"])
async def test_a_revision_that_is_not_there(client: httpx.AsyncClient, number: str) -> None:
    assert code_of(await client.get(f"{CONFIG}/revisions/{number}"), 404) == "unknown_revision"
    assert code_of(await client.get(f"{CONFIG}/revisions/{number}/difference"), 404) == "unknown_revision"
    restore = await client.post(
        f"{CONFIG}/revisions/{number}/restore", json={"reason": "x"}, headers=await etag(client)
    )
    assert code_of(restore, 404) == "unknown_revision"


async def test_the_trail_cannot_be_written(client: httpx.AsyncClient, site: Site) -> None:
    site.audit.full = "no room"
    answer = await client.put(CONFIG, json=body(), headers=await etag(client))
    assert code_of(answer, 503) == "audit_unavailable"
    assert (await client.get(CONFIG)).status_code == 200
