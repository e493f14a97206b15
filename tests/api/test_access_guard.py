"""The door: who is let in, who is told what, and what a foreign page can make a browser do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from api.access import GRANTS, NOBODY, Permission, Principal, Role
from api.guard import Guard
from api.operation import Answer, Body, Operation
from api.problems import Problem
from tests.api.access_twin import EVERYTHING, AccessTwin, principal

VIEWER = Principal("anonymous", "anonymous", frozenset((Role.VIEWER,)))


def scope(method: str = "GET", type_: str = "http", peer: str = "10.0.0.7") -> dict[str, Any]:
    told: dict[str, Any] = {"type": type_, "client": (peer, 1)}
    return told if type_ == "websocket" else told | {"method": method}


async def refusal(
    guard: Guard,
    headers: Mapping[bytes, bytes],
    needs: Permission = Permission.READ,
    method: str = "GET",
    type_: str = "http",
    *,
    scoped: bool = False,
) -> str:
    """The code of the problem a request meets; empty when it is let in."""
    try:
        await guard.admit(scope(method, type_), headers, needs, scoped=scoped)
    except Problem as problem:
        return problem.kind.code
    return ""


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token.encode()}


def test_the_table_is_the_one_that_was_agreed() -> None:
    five = set(Role)
    floor, keepers = {Role.OPERATOR, Role.ENGINEER}, {Role.ENGINEER, Role.ADMIN}
    assert {permission: set(roles) for permission, roles in GRANTS.items()} == {
        Permission.PUBLIC: five,
        Permission.READ: five,
        Permission.CORRECT: floor,
        Permission.COMMAND: floor,
        Permission.APPROVE: floor,
        Permission.REPAIR: keepers,
        Permission.CONFIGURE: keepers,
        Permission.USERS: {Role.ADMIN},
        Permission.AUDIT: {Role.AUDITOR, Role.ADMIN},
    }


def test_an_operation_without_a_permission_cannot_be_built() -> None:
    parts = ("/x", "tag", "One", "One.", None, (Answer(200, "Done."),))
    with pytest.raises(TypeError, match="needs"):
        Operation(*parts)  # type: ignore[call-arg, arg-type]
    with pytest.raises(ValueError, match="takes no body"):
        Operation(*parts, needs=Permission.READ, body=Body(Principal))  # type: ignore[arg-type]


def test_nobody_without_a_role_may_anything() -> None:
    assert [permission for permission in Permission if NOBODY.may(permission)] == [Permission.PUBLIC]
    assert not NOBODY.sees("filling")
    assert not NOBODY.sees("")


def test_a_password_that_has_to_be_changed_leaves_no_permission() -> None:
    limited = Principal("new", "user", frozenset(Role), limited=True)
    assert [permission for permission in Permission if limited.may(permission)] == [Permission.PUBLIC]


@pytest.mark.parametrize(
    ("areas", "path", "seen"),
    [
        (None, "", True),
        (None, "filling/line-1/filler-1", True),
        (("filling",), "filling", True),
        (("filling",), "filling/line-1/filler-1", True),
        (("filling/line-1",), "filling/line-1", True),
        (("filling/line-1",), "filling/line-10/filler-1", False),
        (("filling/line-1",), "filling", False),
        (("fill",), "filling/line-1", False),
        (("packing", "filling"), "filling/line-1", True),
        (("filling",), "", False),
        ((), "filling", False),
    ],
)
def test_areas_are_cut_at_levels(areas: tuple[str, ...] | None, path: str, seen: bool) -> None:
    assert principal(Role.VIEWER, areas=areas).sees(path) is seen


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("role", Role)
async def test_a_role_may_what_the_table_says(role: Role, permission: Permission) -> None:
    code = await refusal(Guard(AccessTwin()), bearer(f"ak_{role}"), permission)
    assert code == ("" if role in GRANTS[permission] else "forbidden")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unauthenticated"),
        (bearer("ak_nobody"), "invalid_credentials"),
        (bearer("as_revoked"), "session_ended"),
        (bearer("as_expired"), "session_ended"),
        (bearer("as_limited"), "password_must_change"),
        ({b"authorization": b"Basic YWRtaW46YWRtaW4="}, "invalid_credentials"),
        ({b"authorization": b"Bearer"}, "invalid_credentials"),
        ({b"authorization": b"Bearer "}, "invalid_credentials"),
        ({b"authorization": b"ak_admin"}, "invalid_credentials"),
        ({b"authorization": b"Bearer " + b"x" * 9000}, "invalid_credentials"),
        ({b"cookie": b"andon_session=ak_nobody"}, "invalid_credentials"),
        ({b"cookie": b"other=ak_admin; andon_session2=ak_admin"}, "unauthenticated"),
        ({b"cookie": b"a=b; andon_session=ak_admin"}, ""),
        ({b"authorization": b"bearer ak_admin"}, ""),
    ],
)
async def test_who_is_not_known_is_told_so(headers: dict[bytes, bytes], code: str) -> None:
    assert await refusal(Guard(AccessTwin()), headers) == code


async def test_every_401_says_how_to_come_in() -> None:
    for headers in ({}, bearer("ak_nobody"), bearer("as_revoked"), {b"authorization": b"Basic x"}):
        with pytest.raises(Problem) as caught:
            await Guard(AccessTwin()).admit(scope(), headers, Permission.READ)
        assert caught.value.kind.status == 401
        assert dict(caught.value.headers)[b"www-authenticate"].startswith(b"Bearer")


async def test_what_is_public_is_open_also_with_a_token_that_is_over() -> None:
    guard = Guard(AccessTwin())
    for headers in ({}, bearer("as_revoked"), {b"authorization": b"Basic x"}):
        assert await guard.admit(scope(), headers, Permission.PUBLIC) == NOBODY


@pytest.mark.parametrize("permission", sorted(set(Permission) - {Permission.PUBLIC, Permission.READ}))
async def test_anonymous_callers_who_may_look_change_nothing(permission: Permission) -> None:
    guard = Guard(AccessTwin(anonymous=VIEWER))
    assert await refusal(guard, {}) == ""
    assert await refusal(guard, {}, permission) == "unauthenticated"


async def test_an_operation_that_does_not_look_at_areas_is_closed_to_who_has_some() -> None:
    guard = Guard(AccessTwin())
    assert await refusal(guard, bearer("ak_viewer_scoped")) == "forbidden"
    assert await refusal(guard, bearer("ak_viewer_scoped"), scoped=True) == ""


async def test_revocation_is_known_at_once() -> None:
    access = AccessTwin()
    guard = Guard(access)
    who = await guard.admit(scope(), bearer("ak_all"), Permission.READ)
    assert who == EVERYTHING
    assert guard.still(who)
    access.gone.add(who.credential)
    assert not guard.still(who)
    assert await refusal(guard, bearer("ak_all")) == "invalid_credentials"


async def test_the_peer_is_the_address_however_the_listener_sees_it() -> None:
    access = AccessTwin()
    for peer in ("10.0.0.7", "::ffff:10.0.0.7", "fe80::1"):
        await Guard(access).admit(scope(peer=peer), bearer("ak_all"), Permission.READ)
    assert access.peers == ["10.0.0.7", "10.0.0.7", "fe80::1"]


OURS = {b"host": b"gateway:8420", b"origin": b"http://gateway:8420", b"x-andon": b"1"}
SIGNED_IN = {b"cookie": b"andon_session=ak_all"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, ""),
        ({b"origin": b"https://gateway:8420"}, ""),  # a proxy in front speaks TLS
        ({b"origin": b"http://evil.example"}, "cross_site"),
        ({b"origin": b"http://gateway:8420.evil.example"}, "cross_site"),
        ({b"origin": b"http://gateway"}, "cross_site"),
        ({b"origin": b"null"}, "cross_site"),
        ({b"origin": b""}, "cross_site"),
        ({b"origin": None}, "cross_site"),
        ({b"x-andon": None}, "cross_site"),
        ({b"x-andon": b"0"}, "cross_site"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_what_a_foreign_page_has_a_browser_send_is_refused(
    method: str, changed: dict[bytes, bytes | None], code: str
) -> None:
    merged = {**OURS, **SIGNED_IN, **changed}
    headers = {name: value for name, value in merged.items() if value is not None}
    assert await refusal(Guard(AccessTwin()), headers, Permission.CORRECT, method) == code


async def test_a_token_needs_no_page_but_a_foreign_one_is_refused_with_it_too() -> None:
    guard = Guard(AccessTwin())
    assert await refusal(guard, bearer("ak_all"), Permission.CORRECT, "POST") == ""
    foreign = {**bearer("ak_all"), b"host": b"gateway", b"origin": b"http://evil.example"}
    assert await refusal(guard, foreign, Permission.CORRECT, "POST") == "cross_site"
    assert await refusal(guard, foreign) == ""  # no answer of ours lets a foreign page read it


@pytest.mark.parametrize("headers", [SIGNED_IN, {}])
async def test_an_upgrade_from_a_foreign_page_is_refused(headers: dict[bytes, bytes]) -> None:
    """A WebSocket is not held to the rules that keep foreign pages from reading answers."""
    guard = Guard(AccessTwin(anonymous=VIEWER))
    own = {**headers, b"host": b"gateway", b"origin": b"https://gateway"}
    assert await refusal(guard, own, type_="websocket") == ""
    assert (
        await refusal(guard, {**own, b"origin": b"https://evil.example"}, type_="websocket") == "cross_site"
    )


@pytest.mark.parametrize(
    ("host", "code"),
    [
        (b"127.0.0.1:8420", ""),
        (b"127.8.9.1", ""),
        (b"localhost", ""),
        (b"LOCALHOST:1", ""),
        (b"[::1]:8420", ""),
        (b"plant.example", ""),
        (b"PLANT.example:443", ""),
        (b"evil.example", "wrong_host"),
        (b"127.0.0.1.evil.example", "wrong_host"),
        (b"10.0.0.7", "wrong_host"),
        (b"[fe80::1]", "wrong_host"),
        (b"[", "wrong_host"),
        (b"LocalHost:8420", ""),
        (b"[::1].evil.test", "wrong_host"),
        (b"[::1]evil.test:8420", "wrong_host"),
        (b"[localhost]", "wrong_host"),
        (b"localhost:x@evil.test", "wrong_host"),
        (b"localhost:8420.evil.test", "wrong_host"),
        (b"127.0.0.1:8420@evil.test", "wrong_host"),
        (b"localhost:\xb2", "wrong_host"),
        (b"localhost:8420\n", "wrong_host"),
        (b"", "wrong_host"),
        (b"\xff", "wrong_host"),
    ],
)
async def test_a_gateway_on_loopback_answers_to_no_other_name(host: bytes, code: str) -> None:
    """A page whose name was pointed at 127.0.0.1 would otherwise be of the same origin."""
    guard = Guard(AccessTwin(), frozenset(("plant.example",)))
    assert await refusal(guard, {b"host": host, **bearer("ak_all")}) == code
