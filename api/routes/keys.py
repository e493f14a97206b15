"""API keys: how programs say who they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from api import params
from api.access import AddedKey, Conflict, KeyView, NewKey, Permission
from api.conditions import IF_MATCH, version_of
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.responses import json_answer
from api.routes.sessions import conflict_problem, empty
from api.settings import ApiSettings


class KeyList(msgspec.Struct, frozen=True):
    """All API keys, by name."""

    items: Sequence[KeyView]


async def list_keys(context: Context, _: Call) -> Response:
    """All keys."""
    return json_answer(KeyList(await context.ports.access.keys()))


async def add_key(context: Context, call: Call) -> Response:
    """Add a key."""
    try:
        return json_answer(await context.ports.access.add_key(call.body, call.by), 201)
    except Conflict as conflict:
        raise conflict_problem(conflict) from None


async def remove_key(context: Context, call: Call) -> Response:
    """Revoke a key."""
    version = version_of(call)
    try:
        await context.ports.access.remove_key(call.path["id"], version, call.by)
    except Conflict as conflict:
        raise conflict_problem(conflict) from None
    return empty(())


_KEY: dict[str, Any] = {
    "id": "k7d0c3b9",
    "name": "mes",
    "roles": ["viewer"],
    "areas": None,
    "created_at": "2026-11-21T22:07:03Z",
    "created_by": "admin",
    "expires_at": None,
    "last_used_at": None,
    "version": "3f6c1f0e",
}
_NEW: dict[str, Any] = {"name": "mes", "roles": ["viewer"], "expires_at": "2027-11-21T00:00:00Z"}
_ADDED = {"key": _KEY, "secret": "ak_k7d0c3b9_mGwXnQ1fP0dXK5b2oTq8o3JtUu2d7wq1m5xk4yq0a9c"}


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/keys",
            "access",
            "All API keys",
            "Without their secrets. `last_used_at` is written down now and then, not with every request.",
            list_keys,
            (Answer(200, "The keys.", "application/json", KeyList, {"one": {"items": [_KEY]}}),),
            problems=("access_unavailable",),
            needs=Permission.USERS,
        ),
        Operation(
            f"{PREFIX}/keys",
            "access",
            "Add an API key",
            "`secret` is shown this once: only what checks it is kept. Send it as a session's token.",
            add_key,
            (Answer(201, "The key and its secret.", "application/json", AddedKey, {"mes": _ADDED}),),
            problems=("already_exists", "access_unavailable"),
            body=Body(NewKey, {"for a year": _NEW}),
            needs=Permission.USERS,
            method="POST",
        ),
        Operation(
            f"{PREFIX}/keys/{{id}}",
            "access",
            "Revoke an API key",
            "It is refused from now on, and streams opened with it end within seconds. `If-Match` takes its "
            "`version` in quotation marks.",
            remove_key,
            (Answer(204, "It is revoked."),),
            (params.text("id", "Id of the key.", "k7d0c3b9", "path"), IF_MATCH),
            ("unknown_key", "version_required", "changed_meanwhile", "access_unavailable"),
            needs=Permission.USERS,
            method="DELETE",
        ),
    )
