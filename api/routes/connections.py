"""Connections: whether each link stands, since when, and what is wrong with it."""

from __future__ import annotations

from starlette.responses import Response

from api import params
from api.access import Permission
from api.examples import CONNECTION_LIST, CONNECTION_VIEW, EXAMPLE_CONNECTION
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.paging import page_by_key
from api.ports import ConnectionView
from api.responses import json_answer, list_answer
from api.routes.find import find_connection
from api.schemas import ConnectionList
from api.settings import ApiSettings

LINKS = ("connecting", "up", "down", "refused")


async def list_connections(context: Context, call: Call) -> Response:
    """All connections with the state of their links."""
    live = context.ports.live
    position = live.position()
    links = call.query["link"]
    limit = call.query["limit"] or context.settings.page_limit
    items, next_ = page_by_key(
        live.connections(),
        lambda view: view.name,
        call.query["after"],
        limit,
        lambda view: links is None or view.link in links,
    )
    page = ConnectionList(items, next_, position.stream, position.last_seq)
    return await list_answer(page, call.headers, context.settings.gzip_bytes_min)


async def get_connection(context: Context, call: Call) -> Response:
    """One connection."""
    return json_answer(find_connection(context.ports.live, call.path["name"]))


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/connections",
            "connections",
            "All connections and the state of each link",
            "`link` is `connecting`, `up`, `down` or `refused`; `cycles` has for each group the interval "
            "asked for and the figures of the last minute, in seconds; `bad_tags` gives the reason for each "
            "tag that the device will not serve or calls bad. `gaps`, `skipped_cycles` and the protocol's "
            "own `figures` count since the gateway was started.",
            list_connections,
            (
                Answer(
                    200,
                    "A page of connections.",
                    "application/json",
                    ConnectionList,
                    {"one": CONNECTION_LIST},
                    tagged=True,
                ),
            ),
            (
                params.some_of("link", LINKS, "Only connections whose link is one of these."),
                params.text("after", "Only what follows this name: `next` of the page before.", "filler-plc"),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            needs=Permission.READ,
        ),
        Operation(
            f"{PREFIX}/connections/{{name}}",
            "connections",
            "One connection",
            "Its link, last error and what may help, next attempt, cycle times, bad tags, losses, warnings.",
            get_connection,
            (Answer(200, "The connection.", "application/json", ConnectionView, {"up": CONNECTION_VIEW}),),
            (params.text("name", "Name of the connection, as configured.", EXAMPLE_CONNECTION, "path"),),
            ("unknown_connection",),
            needs=Permission.READ,
        ),
    )
