"""What a tag was worth: its recorded samples, or figures of them bucket by bucket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
from starlette.responses import Response

from api import params
from api.access import Permission
from api.examples import EXAMPLE_CONNECTION, EXAMPLE_TAG, TAG_BUCKETS, TAG_SAMPLES
from api.hints import shown
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.params import Param, UnreadableError, earlier, invalid_parameter, read_time, write_time
from api.ports import TagView
from api.ranges import TZ, Bucket, bucket_param, range_params
from api.responses import list_answer
from api.routes.find import find_tag
from api.schemas import BucketView, TagBucketList, TagSampleList
from api.settings import ApiSettings
from statemodel.calendars import Unit, calendar_bounds, equal_bounds
from statemodel.durations import format_duration
from statemodel.tag_history import SampleBucket

#: The figures of a bucket, as `aggregate` takes them.
FIGURES = ("count", "min", "max", "avg", "last", "known_s")


class _Place(msgspec.Struct, frozen=True):
    """Where a page of samples begins: an instant, and how many samples of just that instant came before."""

    at: datetime
    skip: int


async def get_tag_history(context: Context, call: Call) -> Response:
    """Samples of a range, or its buckets."""
    view = find_tag(context.ports.live, call.path["connection"], call.path["name"], call.by)
    query, now = call.query, context.now()
    to = min(query["to"] or now, now)  # what has not happened yet is not told
    after: _Place | None = query["after"]
    from_ = query["from"] or earlier(to, timedelta(seconds=context.settings.timeline_s))
    begin = from_ if after is None else after.at
    if from_ >= to or begin >= to:
        hint = "Exchange from and to, or move one of them."
        raise invalid_parameter("from" if from_ >= to else "after", "it is not before to (or now)", hint)
    if query["bucket"] is None:
        if query["aggregate"] is not None or query["tz"] is not None:
            name = "aggregate" if query["aggregate"] is not None else "tz"
            raise invalid_parameter(name, "it needs bucket", "Add bucket, such as bucket=1h.")
        answer: TagSampleList | TagBucketList = await _samples(
            context, view, from_, to, after, query["limit"]
        )
    else:
        if after is not None or query["limit"] is not None:
            name = "after" if after is not None else "limit"
            raise invalid_parameter(name, "buckets are not paged", "Ask for a shorter range instead.")
        answer = await _buckets(context, view, from_, to, query)
    return await list_answer(answer, call.headers, context.settings.gzip_bytes_min)


async def _samples(
    context: Context, view: TagView, from_: datetime, to: datetime, after: _Place | None, limit: int | None
) -> TagSampleList:
    limit = limit or context.settings.page_limit_max
    begin, skip = (from_, 0) if after is None else (after.at, after.skip)
    found = await context.ports.tag_history.samples(view.tag, begin, to, limit=limit + 1, skip=skip)
    items = found.items[:limit]
    next_ = None
    if len(found.items) > limit:
        # All of one instant: those passed over at the beginning count as well.
        last = items[-1].at
        same = sum(item.at == last for item in items) + (skip if last == begin else 0)
        next_ = f"{write_time(last)}/{same}"
    return TagSampleList(
        view.tag,
        view.unit,
        from_,
        to,
        found.before if after is None else None,
        items,
        next_,
        found.incomplete,
    )


async def _buckets(
    context: Context, view: TagView, from_: datetime, to: datetime, query: Mapping[str, Any]
) -> TagBucketList:
    bounds = _bounds(query["bucket"], from_, to, query["tz"] or UTC, context.settings.buckets_max)
    found = await context.ports.tag_history.buckets(view.tag, bounds)
    figures = query["aggregate"] or frozenset(FIGURES)
    size: Bucket = query["bucket"]
    return TagBucketList(
        view.tag,
        view.unit,
        from_,
        to,
        format_duration(size) if isinstance(size, timedelta) else size,
        [_view(item, figures) for item in found.items],
        found.incomplete,
    )


def _view(item: SampleBucket, figures: frozenset[str]) -> BucketView:
    return BucketView(
        item.from_, item.to, **{name: getattr(item, name) for name in FIGURES if name in figures}
    )


def _bounds(size: Bucket, from_: datetime, to: datetime, zone: Any, buckets_max: int) -> Sequence[datetime]:
    try:
        if isinstance(size, timedelta):
            bounds = equal_bounds(from_, to, size)
        else:
            bounds = calendar_bounds(from_, to, cast(Unit, size), zone)
    except (ValueError, OverflowError):
        bounds = ()
    if not 1 < len(bounds) <= buckets_max + 1:
        raise invalid_parameter(
            "bucket", "the range holds too many of them", "Ask for a shorter range, or for larger buckets."
        )
    return bounds


#: Samples of one tag at one instant; more of them is no honest page.
_SKIP_MAX = 100_000
_PLACE = re.compile(r"(?P<at>[^/]+)/(?P<skip>[0-9]{1,9})")


def _read_place(text: str) -> _Place:
    found = _PLACE.fullmatch(text)
    if found is None or int(found["skip"]) > _SKIP_MAX:
        raise UnreadableError(f'"{shown(text)}" is not where a page ended', "Take next of the page before.")
    return _Place(read_time(found["at"]), int(found["skip"]))


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/tags/{{connection}}/{{name}}/history",
            "tags",
            "Recorded samples of a tag, or figures of them",
            "Samples are recorded on change, so each value holds until the next; `before` is the one in "
            "force at `from`. With `bucket` the range is cut up; a bucket tells `count` samples recorded, "
            "`min`, `max` and time-weighted `avg` of the values in force, `last`, and for how many seconds "
            "a number was known. What is still on its way to the database is taken from the journal; "
            "`incomplete` says in words what may be missing.",
            get_tag_history,
            (
                Answer(
                    200,
                    "A page of samples, or with `bucket` all buckets.",
                    "application/json",
                    (TagSampleList, TagBucketList),
                    {"samples": TAG_SAMPLES, "buckets": TAG_BUCKETS},
                ),
            ),
            (
                params.text("connection", "Name of the connection.", EXAMPLE_CONNECTION, "path"),
                params.text("name", "Name of the tag within its connection.", EXAMPLE_TAG, "path"),
                *range_params(settings),
                bucket_param("samples"),
                params.some_of("aggregate", FIGURES, "Only these figures of a bucket; all when left out."),
                TZ,
                Param(
                    "after",
                    _read_place,
                    {"type": "string"},
                    "`next` of the page before, which ended there.",
                    "2026-11-21T22:07:03.25Z/1",
                ),
                params.limit(settings.page_limit_max, settings.page_limit_max),
            ),
            ("unknown_tag", "history_unavailable"),
            needs=Permission.READ,
            scoped=True,
        ),
    )
