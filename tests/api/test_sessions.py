"""Sessions, users and keys over REST: what is taken, what is answered, and what a browser is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.settings import ApiSettings
from tests.api.access_twin import PASSWORD, AccessTwin
from tests.api.twins import Plant, make_ports

SESSIONS, USERS, KEYS = "/api/v1/sessions", "/api/v1/users", "/api/v1/keys"
OWN = f"{SESSIONS}/own"
LOGIN = {"user": "anna", "password": PASSWORD}
NEW = {"name": "bert", "password": PASSWORD, "roles": ["operator", "viewer"], "areas": ["filling/line-1"]}
PAGE = {"Origin": "http://gateway", "X-Andon": "1"}


@pytest.fixture
def access() -> AccessTwin:
    return AccessTwin()


@pytest.fixture
def app(plant: Plant, access: AccessTwin) -> FastAPI:
    ports = msgspec.structs.replace(make_ports(plant), access=access)
    return create_app(ports, ApiSettings(), now=lambda: plant.now_at)


Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def connect(app: FastAPI) -> AsyncIterator[Connect]:
    opened: list[httpx.AsyncClient] = []

    def client(token: str = "", scheme: str = "http") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        opened.append(httpx.AsyncClient(transport=transport, base_url=f"{scheme}://gateway", headers=headers))
        return opened[-1]

    yield client
    for item in opened:
        await item.aclose()


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_login_gives_a_token_that_opens_the_door(connect: Connect) -> None:
    begun = await connect().post(SESSIONS, json=LOGIN)
    assert begun.status_code == 201
    assert begun.headers["cache-control"] == "no-store"
    assert "set-cookie" not in begun.headers
    session = begun.json()
    assert session["caller"]["roles"] == ["admin"]
    caller = (await connect(session["token"]).get(OWN)).json()
    assert (caller["name"], caller["kind"], caller["areas"]) == ("anna", "user", None)
    assert caller["permissions"] == ["public", "read", "repair", "configure", "users", "audit"]


@pytest.mark.parametrize(
    "wrong", [{"user": "bert"}, {"password": "no"}, {"user": "admin", "password": "admin"}]
)
async def test_a_wrong_name_and_a_wrong_password_are_told_alike(
    connect: Connect, wrong: dict[str, str]
) -> None:
    answer = await connect().post(SESSIONS, json=LOGIN | wrong)
    assert told(answer) == (401, "invalid_credentials")
    other = await connect().post(SESSIONS, json=LOGIN | {"user": "nobody"})
    assert answer.content == other.content
    assert answer.json()["detail"] == "The name or the password is not right."
    assert "password" in answer.json()["hint"]
    assert "key" not in answer.json()["hint"], "nobody sent one"


async def test_a_lock_says_how_long(connect: Connect) -> None:
    answer = await connect().post(SESSIONS, json=LOGIN | {"user": "locked"})
    assert told(answer) == (429, "locked_out")
    assert answer.headers["retry-after"] == "30"


async def test_who_has_no_token_is_told_who_that_is(connect: Connect) -> None:
    caller = (await connect().get(OWN)).json()
    assert caller == {
        "name": "anonymous",
        "kind": "anonymous",
        "roles": [],
        "areas": [],
        "permissions": ["public"],
        "must_change_password": False,
    }


async def test_a_session_goes_on_and_ends(connect: Connect) -> None:
    session = (await connect().post(SESSIONS, json=LOGIN)).json()
    again = await connect().post(f"{SESSIONS}/renew", json={"refresh": session["refresh"]})
    assert again.status_code == 200
    assert again.json()["token"] != session["token"]
    client = connect(again.json()["token"])
    assert (await client.get(USERS)).status_code == 200
    assert (await client.delete(OWN)).status_code == 204
    assert told(await client.get(USERS)) == (401, "invalid_credentials")
    assert told(await connect().post(f"{SESSIONS}/renew", json={"refresh": "ar_x"})) == (401, "session_ended")
    assert told(await connect().post(f"{SESSIONS}/renew", json={})) == (403, "cross_site")
    assert told(await connect().post(f"{SESSIONS}/renew", json={}, headers=PAGE)) == (401, "unauthenticated")


async def test_a_browser_gets_cookies_no_script_can_read(connect: Connect) -> None:
    client = connect()
    begun = await client.post(SESSIONS, json=LOGIN | {"cookie": True}, headers=PAGE)
    assert (begun.json()["token"], begun.json()["refresh"]) == (None, None)
    session, refresh = begun.headers.get_list("set-cookie")
    assert session.startswith("andon_session=as_1; Path=/; Max-Age=")
    assert session.endswith("; HttpOnly; SameSite=Strict")
    assert "; Path=/api/v1/sessions/renew; " in refresh
    assert "HttpOnly; SameSite=Strict" in refresh
    assert (await client.get(USERS)).status_code == 200
    assert told(await client.post(USERS, json=NEW)) == (403, "cross_site")
    assert told(await client.post(USERS, json=NEW, headers={"X-Andon": "1"})) == (403, "cross_site")
    assert told(await client.post(USERS, json=NEW, headers=PAGE | {"Origin": "http://evil"})) == (
        403,
        "cross_site",
    )
    assert (await client.post(USERS, json=NEW, headers=PAGE)).status_code == 201
    renewed = await client.post(f"{SESSIONS}/renew", json={}, headers=PAGE)
    assert renewed.status_code == 200
    assert renewed.json()["token"] is None
    over = await client.delete(OWN, headers=PAGE)
    assert over.status_code == 204
    assert all("Max-Age=0" in cookie for cookie in over.headers.get_list("set-cookie"))
    assert not client.cookies


async def test_a_token_that_has_ended_still_ends_its_session(connect: Connect, access: AccessTwin) -> None:
    assert (await connect("as_expired").delete(OWN)).status_code == 204
    cookie = {"Cookie": "andon_session=as_revoked"}
    assert told(await connect().delete(OWN, headers=cookie)) == (403, "cross_site")
    assert (await connect().delete(OWN, headers=PAGE | cookie)).status_code == 204
    assert access.logged_out_by == ["as_expired", "as_revoked"]
    assert (await connect().delete(OWN)).status_code == 204
    odd = {"Authorization": "Basic x"}
    assert (await connect().delete(OWN, headers=odd)).status_code == 204
    assert len(access.logged_out_by) == 2


async def test_a_browser_keeps_the_cookie_as_long_as_there_is_a_session_to_end(connect: Connect) -> None:
    begun = await connect().post(SESSIONS, json=LOGIN | {"cookie": True}, headers=PAGE)
    ages = [
        cookie.partition("Max-Age=")[2].partition(";")[0] for cookie in begun.headers.get_list("set-cookie")
    ]
    assert len(ages) == 2
    assert ages[0] == ages[1]


async def test_a_cookie_sent_over_tls_stays_there(connect: Connect) -> None:
    page = {"Origin": "https://gateway", "X-Andon": "1"}
    begun = await connect(scheme="https").post(SESSIONS, json=LOGIN | {"cookie": True}, headers=page)
    assert all(cookie.endswith("; Secure") for cookie in begun.headers.get_list("set-cookie"))


async def test_a_foreign_page_cannot_log_a_browser_in(connect: Connect) -> None:
    foreign = PAGE | {"Origin": "http://evil.example"}
    for headers in (foreign, {}, {"X-Andon": "1"}):
        answer = await connect().post(SESSIONS, json=LOGIN | {"cookie": True}, headers=headers)
        assert told(answer) == (403, "cross_site")
        assert "set-cookie" not in answer.headers


async def test_a_first_password_opens_one_door_only(connect: Connect, access: AccessTwin) -> None:
    client = connect("as_limited")
    assert (await client.get(OWN)).json()["must_change_password"] is True
    assert told(await client.get("/api/v1/equipment")) == (403, "password_must_change")
    change = {"old": PASSWORD, "new": "four other words, please"}
    assert told(await client.post(f"{OWN}/password", json=change | {"new": "short"})) == (
        422,
        "weak_password",
    )
    assert told(await client.post(f"{OWN}/password", json=change | {"old": "x"})) == (
        401,
        "invalid_credentials",
    )
    assert (await client.post(f"{OWN}/password", json=change)).status_code == 204
    assert told(await client.get("/api/v1/equipment")) == (401, "invalid_credentials")
    assert told(await connect("ak_admin").post(f"{OWN}/password", json=change)) == (409, "not_allowed_here")
    assert told(await connect().post(f"{OWN}/password", json=change)) == (401, "unauthenticated")


async def test_users_are_changed_by_who_saw_their_present_version(connect: Connect) -> None:
    client = connect("ak_admin")
    added = await client.post(USERS, json=NEW)
    assert added.status_code == 201
    assert PASSWORD not in added.text
    path, seen = f"{USERS}/bert", added.headers["etag"]
    assert (await client.get(path)).headers["etag"] == seen
    assert (await client.get(USERS)).json()["items"] == [added.json()]
    change = {"roles": ["engineer"], "areas": None}
    assert told(await client.patch(path, json=change)) == (428, "version_required")
    for bad in ("v1", "*", '"a", "b"'):
        assert told(await client.patch(path, json=change, headers={"If-Match": bad})) == (
            400,
            "invalid_parameter",
        )
    changed = await client.patch(path, json=change, headers={"If-Match": seen})
    assert (changed.json()["roles"], changed.json()["areas"]) == (["engineer"], None)
    assert told(await client.patch(path, json=change, headers={"If-Match": seen})) == (
        412,
        "changed_meanwhile",
    )
    assert told(await client.delete(path, headers={"If-Match": seen})) == (412, "changed_meanwhile")
    assert told(await client.delete(path)) == (428, "version_required")
    assert (await client.delete(path, headers={"If-Match": changed.headers["etag"]})).status_code == 204
    assert told(await client.get(path)) == (404, "unknown_user")
    assert told(await client.patch(path, json={}, headers={"If-Match": seen})) == (404, "unknown_user")


async def test_what_cannot_be_done_to_users_says_why(connect: Connect, access: AccessTwin) -> None:
    client = connect("ak_admin")
    await client.post(USERS, json=NEW)
    assert told(await client.post(USERS, json=NEW)) == (409, "already_exists")
    assert told(await client.post(USERS, json=NEW | {"name": "c", "password": "x"})) == (422, "weak_password")
    admin = await client.post(USERS, json=NEW | {"name": "root", "roles": ["admin"]})
    gone = await client.delete(f"{USERS}/root", headers={"If-Match": admin.headers["etag"]})
    assert told(gone) == (409, "last_admin")
    access.broken = "The audit trail cannot be written."
    assert told(await client.post(USERS, json=NEW | {"name": "d"})) == (503, "access_unavailable")


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"name": "Bert"}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "x\n"}, "name"),
        ({"roles": []}, "roles"),
        ({"roles": ["root"]}, "roles[0]"),
        ({"areas": []}, "areas"),
        ({"areas": ["/filling"]}, "areas[0]"),
        ({"areas": ["filling/"]}, "areas[0]"),
        ({"areas": [".."]}, "areas[0]"),
        ({"password": "x" * 1025}, "password"),
        ({"admin": True}, "body"),
    ],
)
async def test_a_user_is_judged_field_by_field(connect: Connect, changed: dict[str, Any], place: str) -> None:
    answer = await connect("ak_admin").post(USERS, json=NEW | changed)
    assert told(answer) == (422, "invalid_body")
    assert answer.json()["errors"][0]["parameter"] == place


async def test_a_key_shows_its_secret_once(connect: Connect) -> None:
    client = connect("ak_admin")
    added = await client.post(KEYS, json={"name": "mes", "roles": ["viewer"]})
    assert added.status_code == 201
    key = added.json()["key"]
    listed = await client.get(KEYS)
    assert listed.json()["items"] == [key]
    assert added.json()["secret"] not in listed.text
    assert told(await client.post(KEYS, json={"name": "mes", "roles": ["viewer"]})) == (409, "already_exists")
    path = f"{KEYS}/{key['id']}"
    assert told(await client.delete(path)) == (428, "version_required")
    assert told(await client.delete(path, headers={"If-Match": '"x"'})) == (412, "changed_meanwhile")
    assert (await client.delete(path, headers={"If-Match": f'"{key["version"]}"'})).status_code == 204
    assert told(await client.delete(path, headers={"If-Match": '"x"'})) == (404, "unknown_key")


async def test_an_admin_ends_sessions_of_others(connect: Connect, access: AccessTwin) -> None:
    anna = (await connect().post(SESSIONS, json=LOGIN)).json()["token"]
    client = connect("ak_admin")
    (open_,) = [item for item in (await client.get(SESSIONS)).json()["items"] if item["user"] == "anna"]
    assert anna not in open_.values()
    assert (await client.delete(f"{SESSIONS}/{open_['id']}")).status_code == 204
    assert told(await client.delete(f"{SESSIONS}/{open_['id']}")) == (404, "unknown_session")
    assert told(await connect(anna).get(USERS)) == (401, "invalid_credentials")


async def test_health_is_brief_to_who_may_not_see_everything(connect: Connect) -> None:
    assert (await connect().get("/healthz")).json() == {"status": "ok"}
    for token in ("", "ak_viewer_scoped", "as_revoked"):
        assert (await connect(token).get("/readyz")).json() == {"status": "ok", "ready": True}
    assert "journal" in (await connect("ak_viewer").get("/readyz")).json()
