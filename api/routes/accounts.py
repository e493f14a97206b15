"""Loss accounting: what was recorded, and where each sample and event of it is now."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission
from api.accounting import AccountsView, TagAccount
from api.examples import EXAMPLE_CONNECTION, EXAMPLE_TAG
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.paging import page_in_order
from api.responses import json_answer, list_answer
from api.routes.find import find_tag
from api.settings import ApiSettings

_STREAM = "7d0c3b9e-5a2f-4e0b-9a57-2f1c8f6f4b1d"


class TagAccountList(msgspec.Struct, frozen=True):
    """Accounts of tags, by name."""

    items: Sequence[TagAccount]
    next: str | None
    stream: str
    seq: int


async def get_accounts(context: Context, _: Call) -> Response:
    """The books: all tags together, and each sink."""
    return json_answer(context.ports.accounts.view())


async def list_tag_accounts(context: Context, call: Call) -> Response:
    """The account of every tag, or of those of which something is lost."""
    position = context.ports.live.position()
    limit = call.query["limit"] or context.settings.page_limit
    accounts = context.ports.accounts.tags()
    if call.query["only"] == "lost":
        accounts = [account for account in accounts if _has_lost(account)]
    items, next_ = page_in_order(accounts, lambda account: account.tag, call.query["after"], limit)
    page = TagAccountList(items, next_, position.stream, position.last_seq)
    return await list_answer(page, call.headers, context.settings.gzip_bytes_min)


async def get_tag_account(context: Context, call: Call) -> Response:
    """The account of one tag."""
    view = find_tag(context.ports.live, call.path["connection"], call.path["name"], call.by)
    return json_answer(context.ports.accounts.tag(view.tag))


def _has_lost(account: TagAccount) -> bool:
    lines = account.sinks.values()
    return bool(account.shed) or any(line.set_aside or line.missing or line.difference for line in lines)


_LINE = {
    "recorded": 81204,
    "delivered": 80961,
    "buffered": 240,
    "set_aside": 3,
    "missing": 0,
    "difference": 0,
}
_EVENTS = _LINE | {"recorded": 1042, "delivered": 1042, "buffered": 0, "set_aside": 0}
_TAG = {
    "tag": f"{EXAMPLE_CONNECTION}/{EXAMPLE_TAG}",
    "recorded": 81204,
    "shed": 0,
    "adds_up": True,
    "sinks": {"historian": _LINE},
}
_VIEW = {
    "stream": _STREAM,
    "since": "2026-11-01T06:00:00Z",
    "adds_up": True,
    "difference": 0,
    "recorded": 81204,
    "shed": 0,
    "uncounted_batches": 0,
    "flow": {
        "since": "2026-11-21T05:12:00Z",
        "received": 240160,
        "made": 12,
        "unchanged": 221960,
        "by_rules": 1040,
        "not_recorded": 2000,
        "recorded": 15170,
        "shed": 0,
        "in_hand": 2,
    },
    "sinks": [
        {
            "sink": "historian",
            "adds_up": True,
            "events": _EVENTS,
            "samples": _LINE,
            "missing_batches": 0,
        },
        {"sink": "mqtt", "adds_up": True, "events": _EVENTS, "samples": None, "missing_batches": 0},
    ],
}


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/accounts",
            "accounts",
            "Loss accounting: what was recorded, and where it is now",
            "For each sink `recorded` = `delivered` + `buffered` + `set_aside` + `missing`; `adds_up` says "
            "whether that holds for every tag, `difference` how many samples are unaccounted for. Exact "
            "since `since`, across restarts and crashes. `flow` is the way of samples into it since the "
            "gateway was started: `received` + `made` = `unchanged` + `by_rules` + `not_recorded` + "
            "`recorded` + `shed` + `in_hand`.",
            get_accounts,
            (Answer(200, "The books.", "application/json", AccountsView, {"adds_up": _VIEW}),),
            needs=Permission.READ,
        ),
        Operation(
            f"{PREFIX}/accounts/tags",
            "accounts",
            "The account of every tag",
            "Every tag that was ever recorded, by name, also those that have left the configuration.",
            list_tag_accounts,
            (
                Answer(
                    200,
                    "A page of accounts.",
                    "application/json",
                    TagAccountList,
                    {"one": {"items": [_TAG], "next": None, "stream": _STREAM, "seq": 1042}},
                ),
            ),
            (
                params.one_of(
                    "only", ("lost",), "Only tags of which something was shed, set aside, missing or lost."
                ),
                params.text(
                    "after", "Only what follows this tag: `next` of the page before.", "filler-plc/state"
                ),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            needs=Permission.READ,
        ),
        Operation(
            f"{PREFIX}/tags/{{connection}}/{{name}}/account",
            "accounts",
            "The account of one tag",
            "How many samples of it were recorded, how many there was no room for (`shed`), and what became "
            "of the recorded ones in each sink. All 0 for a tag that is not recorded.",
            get_tag_account,
            (Answer(200, "The account.", "application/json", TagAccount, {"adds_up": _TAG}),),
            (
                params.text("connection", "Name of the connection.", EXAMPLE_CONNECTION, "path"),
                params.text("name", "Name of the tag within its connection.", EXAMPLE_TAG, "path"),
            ),
            ("unknown_tag",),
            needs=Permission.READ,
            scoped=True,
        ),
    )
