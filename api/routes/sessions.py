"""Sessions: logging in and out, who the caller is, the own password, and the sessions that are open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from api import params
from api.access import Conflict, Denied, Password, Permission, Principal, Role, Session, SessionView
from api.guard import COOKIE, COOKIE_RENEW, bearer_of, cookie_of, denied_problem, refuse_other_sites
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.problems import Problem
from api.responses import BASE_HEADERS, NO_STORE, Headers, Ready, encode_json, json_answer
from api.settings import ApiSettings

#: Path under which browsers send the cookie that goes on with a session; nowhere else.
_RENEW_PATH = f"{PREFIX}/sessions/renew"
_BYTES_MAX = 4096


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who wants to come in. With `cookie` the tokens come as cookies that no script can read."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    password: Password
    cookie: bool = False


class Renewal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The refresh token of a session; null: the cookie has it."""

    refresh: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user's own password, before and after."""

    old: Password
    new: Password


class Caller(msgspec.Struct, frozen=True):
    """Who sends a request. `permissions` are what the roles give; `areas` null is everything.

    `must_change_password` is true for who may do nothing else before.
    """

    name: str
    kind: str
    roles: Sequence[Role]
    areas: Sequence[str] | None
    permissions: Sequence[Permission]
    must_change_password: bool


class BegunSession(msgspec.Struct, frozen=True):
    """A session. `token` goes into Authorization: Bearer; `refresh` gets the next two, once. Both null: they
    came as cookies."""

    token: str | None
    expires_at: datetime
    refresh: str | None
    refresh_expires_at: datetime
    caller: Caller


class SessionList(msgspec.Struct, frozen=True):
    """The sessions that are open."""

    items: Sequence[SessionView]


def conflict_problem(conflict: Conflict) -> Problem:
    """What cannot be done, as a problem."""
    return Problem(conflict.code, conflict.reason, hint=conflict.hint)


def caller_of(principal: Principal) -> Caller:
    """A principal as it is told."""
    return Caller(
        principal.name,
        principal.kind,
        sorted(principal.roles),
        principal.areas,
        [permission for permission in Permission if principal.may(permission)],
        principal.limited,
    )


async def log_in(context: Context, call: Call) -> Response:
    """Begin a session."""
    asked: Login = call.body
    if asked.cookie:
        refuse_other_sites(call.headers, must_say=True)
    try:
        session = await context.ports.access.log_in(asked.user, asked.password, call.peer)
    except Denied as denied:
        if denied.code == "invalid_credentials":
            denied = Denied(denied.code, "The name or the password is not right.", denied.retry_after_s)
            raise denied_problem(denied, "Check both; an admin can give the user a new password.") from None
        raise denied_problem(denied) from None
    except Conflict as conflict:
        raise conflict_problem(conflict) from None
    return _told(context, session, 201, cookie=asked.cookie, secure=call.secure)


async def renew_session(context: Context, call: Call) -> Response:
    """Go on with a session, with new tokens."""
    asked: Renewal = call.body
    refresh = asked.refresh
    if refresh is None:
        refuse_other_sites(call.headers, must_say=True)
        refresh = cookie_of(call.headers, COOKIE_RENEW)
    if refresh is None:
        raise denied_problem(Denied("unauthenticated", "The request has no refresh token."))
    try:
        session = await context.ports.access.renew(refresh, call.peer)
    except Denied as denied:
        raise denied_problem(denied) from None
    return _told(context, session, 200, cookie=asked.refresh is None, secure=call.secure)


async def get_caller(_: Context, call: Call) -> Response:
    """Who the caller is."""
    return json_answer(caller_of(call.by))


async def log_out(context: Context, call: Call) -> Response:
    """End the session the request came by."""
    if call.by.credential:
        await context.ports.access.log_out(call.by)
    elif (token := bearer_of(call.headers)) is not None:  # no more good for anything else, maybe
        await context.ports.access.log_out_by(token)
    return empty(
        (
            (b"set-cookie", _cookie(COOKIE, "", 0, "/", secure=call.secure)),
            (b"set-cookie", _cookie(COOKIE_RENEW, "", 0, _RENEW_PATH, secure=call.secure)),
        )
    )


async def change_own_password(context: Context, call: Call) -> Response:
    """Change the password of the user who asks."""
    asked: PasswordChange = call.body
    access = context.ports.access
    if call.by.kind == "anonymous":
        raise denied_problem(Denied("unauthenticated", "The request does not say whose password it is."))
    try:
        await access.change_password(call.by, asked.old, asked.new, call.peer)
    except Denied as denied:
        raise denied_problem(denied) from None
    except Conflict as conflict:
        raise conflict_problem(conflict) from None
    return empty(())


async def list_sessions(context: Context, _: Call) -> Response:
    """All sessions that are open."""
    return json_answer(SessionList(await context.ports.access.sessions()))


async def end_session(context: Context, call: Call) -> Response:
    """End somebody's session."""
    try:
        await context.ports.access.end_session(call.path["id"], call.by)
    except Conflict as conflict:
        raise conflict_problem(conflict) from None
    return empty(())


def _told(context: Context, session: Session, status: int, *, cookie: bool, secure: bool) -> Response:
    told = BegunSession(
        None if cookie else session.token,
        session.expires_at,
        None if cookie else session.refresh,
        session.refresh_expires_at,
        caller_of(session.principal),
    )
    headers: list[tuple[bytes, bytes]] = [NO_STORE, *BASE_HEADERS]
    if cookie:
        # Both stay as long as the session: a token that has ended is what a browser can still log out by.
        age_s = max(0, int((session.refresh_expires_at - context.now()).total_seconds()))
        for name, value, path in (
            (COOKIE, session.token, "/"),
            (COOKIE_RENEW, session.refresh, _RENEW_PATH),
        ):
            headers.append((b"set-cookie", _cookie(name, value, age_s, path, secure=secure)))
    return Ready(encode_json(told), status, headers=headers)


def _cookie(name: str, value: str, age_s: int, path: str, *, secure: bool) -> bytes:
    flags = "; Secure" if secure else ""
    return f"{name}={value}; Path={path}; Max-Age={age_s}; HttpOnly; SameSite=Strict{flags}".encode()


def empty(headers: Headers) -> Response:
    """An answer without a body."""
    response = Response(status_code=204)
    response.raw_headers = [NO_STORE, *BASE_HEADERS, *headers]
    return response


_CALLER: dict[str, Any] = {
    "name": "anna",
    "kind": "user",
    "roles": ["operator"],
    "areas": ["filling/line-1"],
    "permissions": ["public", "read", "correct", "command", "approve"],
    "must_change_password": False,
}
_SESSION: dict[str, Any] = {
    "token": "as_mGwXnQ1fP0dXK5b2oTq8o3JtUu2d7wq1m5xk4yq0a9c",
    "expires_at": "2026-11-21T22:22:03Z",
    "refresh": "ar_0yQm5k4xq1w7d2Uu3JtTq8o2b5dXK0P1fQnGwXm9ca",
    "refresh_expires_at": "2026-11-22T10:07:03Z",
    "caller": _CALLER,
}
_OPEN: dict[str, Any] = {
    "id": "3f6c1f0e",
    "user": "anna",
    "peer": "10.0.0.31",
    "begun_at": "2026-11-21T22:07:03Z",
    "last_used_at": "2026-11-21T22:09:41Z",
    "expires_at": "2026-11-22T10:07:03Z",
}
_WORDS = {"user": "anna", "password": "correct horse battery staple"}
_DENIED = ("invalid_credentials", "locked_out", "too_many_requests", "access_unavailable")


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    cookies = {"Set-Cookie": "With `cookie`: the tokens, for browsers alone."}
    return (
        Operation(
            f"{PREFIX}/sessions",
            "access",
            "Log in",
            "Begins a session. Send its `token` as `Authorization: Bearer ...`; before it expires, get the "
            "next with `refresh`. With `cookie` both come as cookies that no script can read; then every "
            "request but GET needs the header `X-Andon: 1`. What is wrong, name or password, is not told.",
            log_in,
            (
                Answer(
                    201, "The session.", "application/json", BegunSession, {"anna": _SESSION}, headers=cookies
                ),
            ),
            problems=_DENIED,
            body=Body(Login, {"tokens": _WORDS, "cookies": _WORDS | {"cookie": True}}, _BYTES_MAX),
            needs=Permission.PUBLIC,
            method="POST",
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/sessions",
            "access",
            "The sessions that are open",
            "Of all users. Keys and tokens of an issuer have none.",
            list_sessions,
            (Answer(200, "The sessions.", "application/json", SessionList, {"one": {"items": [_OPEN]}}),),
            problems=("access_unavailable",),
            needs=Permission.USERS,
        ),
        Operation(
            _RENEW_PATH,
            "access",
            "Go on with a session",
            "Gives the next two tokens. A refresh token is good once: sent again, it ends the session, "
            "because then somebody else has it too.",
            renew_session,
            (
                Answer(
                    200,
                    "The session, with new tokens.",
                    "application/json",
                    BegunSession,
                    {"anna": _SESSION},
                    headers=cookies,
                ),
            ),
            problems=("unauthenticated", "session_ended", *_DENIED),
            body=Body(Renewal, {"token": {"refresh": _SESSION["refresh"]}, "cookie": {}}, _BYTES_MAX),
            needs=Permission.PUBLIC,
            method="POST",
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/sessions/own",
            "access",
            "Who the caller is",
            "Name, roles, areas and permissions of whoever sends the request.",
            get_caller,
            (Answer(200, "The caller.", "application/json", Caller, {"anna": _CALLER}),),
            needs=Permission.PUBLIC,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/sessions/own",
            "access",
            "Log out",
            "Ends the session the request came by, and takes back its cookies. Its streams end too. A token "
            "that has ended will do.",
            log_out,
            (Answer(204, "It is over, or there was none.", headers=cookies),),
            problems=("access_unavailable",),
            needs=Permission.PUBLIC,
            method="DELETE",
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/sessions/own/password",
            "access",
            "Change the own password",
            "Ends the sessions of the user: log in again with the new one.",
            change_own_password,
            (Answer(204, "It is changed."),),
            problems=("unauthenticated", "session_ended", "weak_password", "not_allowed_here", *_DENIED),
            body=Body(
                PasswordChange,
                {"one": {"old": "correct horse battery staple", "new": "four other words, please"}},
                _BYTES_MAX,
            ),
            needs=Permission.PUBLIC,
            method="POST",
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/sessions/{{id}}",
            "access",
            "End a session",
            "Its token is of no use any more, and its streams end within seconds.",
            end_session,
            (Answer(204, "It is over."),),
            (params.text("id", "Id of the session.", "3f6c1f0e", "path"),),
            ("unknown_session", "access_unavailable"),
            needs=Permission.USERS,
            method="DELETE",
        ),
    )
