"""Users: who there is, with which roles and areas; adding, changing, removing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from api import params
from api.access import Conflict, NewUser, Permission, UserChange, UserView
from api.conditions import IF_MATCH, etag_of, version_of
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.responses import BASE_HEADERS, NO_STORE, Ready, encode_json, json_answer
from api.routes.sessions import conflict_problem, empty
from api.settings import ApiSettings


class UserList(msgspec.Struct, frozen=True):
    """All users, by name."""

    items: Sequence[UserView]


async def list_users(context: Context, _: Call) -> Response:
    """All users."""
    return json_answer(UserList(await context.ports.access.users()))


async def get_user(context: Context, call: Call) -> Response:
    """One user."""
    try:
        return _told(await context.ports.access.user(call.path["name"]))
    except Conflict as conflict:
        raise conflict_problem(conflict) from None


async def add_user(context: Context, call: Call) -> Response:
    """Add a user."""
    try:
        return _told(await context.ports.access.add_user(call.body, call.by), 201)
    except Conflict as conflict:
        raise conflict_problem(conflict) from None


async def change_user(context: Context, call: Call) -> Response:
    """Change a user."""
    version = version_of(call)
    try:
        return _told(await context.ports.access.change_user(call.path["name"], call.body, version, call.by))
    except Conflict as conflict:
        raise conflict_problem(conflict) from None


async def remove_user(context: Context, call: Call) -> Response:
    """Remove a user."""
    version = version_of(call)
    try:
        await context.ports.access.remove_user(call.path["name"], version, call.by)
    except Conflict as conflict:
        raise conflict_problem(conflict) from None
    return empty(())


def _told(user: UserView, status: int = 200) -> Response:
    return Ready(encode_json(user), status, headers=(NO_STORE, *BASE_HEADERS, etag_of(user.version)))


_USER: dict[str, Any] = {
    "name": "anna",
    "roles": ["operator"],
    "areas": ["filling/line-1"],
    "disabled": False,
    "must_change_password": True,
    "created_at": "2026-11-21T22:07:03Z",
    "version": "3f6c1f0e",
}
_NEW = {
    "name": "anna",
    "password": "correct horse battery staple",
    "roles": ["operator"],
    "areas": ["filling/line-1"],
}
_NAME = params.text("name", "Name of the user.", "anna", "path")
_ETAG = {"ETag": "The version; send it as If-Match to change it."}


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    one = f"{PREFIX}/users/{{name}}"
    changed = ("unknown_user", "version_required", "changed_meanwhile", "last_admin", "access_unavailable")
    return (
        Operation(
            f"{PREFIX}/users",
            "access",
            "All users",
            "With their roles and areas; never anything of a password.",
            list_users,
            (Answer(200, "The users.", "application/json", UserList, {"one": {"items": [_USER]}}),),
            problems=("access_unavailable",),
            needs=Permission.USERS,
        ),
        Operation(
            f"{PREFIX}/users",
            "access",
            "Add a user",
            "The user has to change the password at the first login unless `must_change_password` is false.",
            add_user,
            (Answer(201, "The user.", "application/json", UserView, {"anna": _USER}, headers=_ETAG),),
            problems=("already_exists", "weak_password", "access_unavailable"),
            body=Body(NewUser, {"an operator": _NEW}),
            needs=Permission.USERS,
            method="POST",
        ),
        Operation(
            one,
            "access",
            "One user",
            "With the version that a change has to name.",
            get_user,
            (Answer(200, "The user.", "application/json", UserView, {"anna": _USER}, headers=_ETAG),),
            (_NAME,),
            ("unknown_user", "access_unavailable"),
            needs=Permission.USERS,
        ),
        Operation(
            one,
            "access",
            "Change a user",
            "What is left out stays. The user's sessions end at once, and open streams within seconds.",
            change_user,
            (Answer(200, "The user.", "application/json", UserView, {"anna": _USER}, headers=_ETAG),),
            (_NAME, IF_MATCH),
            (*changed, "weak_password"),
            Body(UserChange, {"roles": {"roles": ["engineer"], "areas": None}, "out": {"disabled": True}}),
            needs=Permission.USERS,
            method="PATCH",
        ),
        Operation(
            one,
            "access",
            "Remove a user",
            "The user's sessions end at once, and open streams within seconds.",
            remove_user,
            (Answer(204, "The user is gone."),),
            (_NAME, IF_MATCH),
            changed,
            needs=Permission.USERS,
            method="DELETE",
        ),
    )
