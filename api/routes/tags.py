"""Tags: which there are, and the latest sample of each with its quality."""

from __future__ import annotations

from starlette.responses import Response

from api import params
from api.access import Permission
from api.examples import EXAMPLE_CONNECTION, EXAMPLE_EQUIPMENT, EXAMPLE_TAG, TAG_LIST, TAG_VIEW
from api.hints import did_you_mean, shown
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.paging import page_by_key
from api.params import invalid_parameter
from api.ports import TagView
from api.responses import json_answer, list_answer
from api.routes.find import connection_names, equipment_hint, find_tag, seen_tags
from api.schemas import TagList
from api.settings import ApiSettings


async def list_tags(context: Context, call: Call) -> Response:
    """Tags with their latest samples, of one connection or quality if asked."""
    live = context.ports.live
    position = live.position()
    connection, quality = call.query["connection"], call.query["quality"]
    equipment = call.query["equipment"]
    seen = seen_tags(live, call.by)
    if connection is not None and connection not in (names := connection_names(live, call.by)):
        reason = f'no connection is named "{connection}"'
        raise invalid_parameter("connection", reason, did_you_mean(connection, names))
    limit = call.query["limit"] or context.settings.page_limit
    wanted = seen if connection is None else [view for view in seen if view.connection == connection]
    if equipment is not None:
        view = live.equipment_named(equipment)
        if view is None or not call.by.sees(view.path):
            reason = f'no equipment is named "{shown(equipment)}"'
            raise invalid_parameter("equipment", reason, equipment_hint(live, equipment, call.by))
        own = frozenset(live.tags_of(equipment))
        wanted = [view for view in wanted if view.tag in own]
    items, next_ = page_by_key(
        wanted,
        lambda view: view.tag,
        call.query["after"],
        limit,
        lambda view: quality is None or _quality(view) == quality,
    )
    page = TagList(items, next_, position.stream, position.last_seq)
    return await list_answer(page, call.headers, context.settings.gzip_bytes_min)


async def get_tag(context: Context, call: Call) -> Response:
    """One tag with its latest sample."""
    return json_answer(find_tag(context.ports.live, call.path["connection"], call.path["name"], call.by))


def _quality(view: TagView) -> str:
    return "bad" if view.latest is None else view.latest.quality.value


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/tags",
            "tags",
            "All tags with their latest samples",
            "In the order of the configuration. `quality=bad` shows what needs attention, tags that never "
            "had a sample among them.",
            list_tags,
            (Answer(200, "A page of tags.", "application/json", TagList, {"one": TAG_LIST}, tagged=True),),
            (
                params.text("connection", "Only tags of this connection.", EXAMPLE_CONNECTION),
                params.text("equipment", "Only tags this equipment uses.", EXAMPLE_EQUIPMENT),
                params.one_of("quality", params.QUALITIES, "Only tags whose latest sample has this quality."),
                params.text(
                    "after", "Only what follows this tag: `next` of the page before.", "filler-plc/state"
                ),
                params.limit(settings.page_limit, settings.page_limit_max),
            ),
            needs=Permission.READ,
            scoped=True,
        ),
        Operation(
            f"{PREFIX}/tags/{{connection}}/{{name}}",
            "tags",
            "One tag with its latest sample",
            "Value, quality and both times of the newest sample; `latest` is null before the first.",
            get_tag,
            (Answer(200, "The tag.", "application/json", TagView, {"good": TAG_VIEW}),),
            (
                params.text("connection", "Name of the connection.", EXAMPLE_CONNECTION, "path"),
                params.text("name", "Name of the tag within its connection.", EXAMPLE_TAG, "path"),
            ),
            ("unknown_tag",),
            needs=Permission.READ,
            scoped=True,
        ),
    )
