"""Answers as ready bytes, with the headers every one of them carries.

Headers are put together here and not by a middleware: an answer costs one list, and an answer made by the
error handlers has them too. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from starlette.responses import Response

from api.problems import Problem

Headers = Sequence[tuple[bytes, bytes]]

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"

#: Nothing may keep a copy: a state is old as soon as it is read.
NO_STORE = (b"cache-control", b"no-store")
#: May be kept by whoever asked, but must be asked for again each time: for answers with an ETag.
REVALIDATE = (b"cache-control", b"private, no-cache")

_SECURE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_CONTENT_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")

#: What every answer carries that is not a page.
BASE_HEADERS: Headers = (*_SECURE, _NO_CONTENT_POLICY)
#: What a page of ours carries: it loads its own files and nothing else.
PAGE_HEADERS: Headers = (
    *_SECURE,
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
_PLAIN: Headers = (NO_STORE, *BASE_HEADERS)

_VARY = (b"vary", b"accept-encoding")
_GZIP = (b"content-encoding", b"gzip")
_POSITION = re.compile(rb'(?<=,"stream":")[^"]*(","seq":[0-9]+\})\Z')
_POSITION_BYTES_MAX = 200
_INLINE_BYTES_MAX = 65_536  # what level 1 compresses in well under a millisecond

encode_json = msgspec.json.Encoder().encode


class Ready(Response):
    """A response whose body is bytes already."""

    def __init__(
        self, body: bytes, status: int = 200, media: bytes = JSON, headers: Headers = _PLAIN
    ) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-type", media), (b"content-length", b"%d" % len(body)), *headers]


def json_answer(value: Any, status: int = 200) -> Ready:
    """A value as JSON."""
    return Ready(encode_json(value), status)


def problem_answer(problem: Problem, instance: str) -> Ready:
    """A problem as the answer to a request of the path `instance`."""
    body = encode_json(problem.details(instance))
    return Ready(body, problem.kind.status, PROBLEM_JSON, (*_PLAIN, *problem.headers))


async def list_answer(
    value: Any, headers: Mapping[bytes, bytes], gzip_bytes_min: int, *, first_seq: int = 0
) -> Response:
    """A list as JSON, compressed when it is long and the client takes gzip; 304 when the client has it.

    The ETag is weak: it is of all but the `seq` at the end of lists, which moves with every event wherever it
    happens. Who keeps an older `seq` reads a little more again and misses nothing; with the `first_seq` that
    can still be read in the ETag too, nobody keeps one after which nothing can be continued.
    """
    body = encode_json(value)
    position = _POSITION.search(body, max(0, len(body) - _POSITION_BYTES_MAX))
    salt = first_seq.to_bytes(8, "big")
    digest = blake2b(body[: position.start(1)] if position else body, digest_size=9, salt=salt).digest()
    extra = ((b"etag", b'W/"%b"' % urlsafe_b64encode(digest)), REVALIDATE, *BASE_HEADERS, _VARY)
    known = headers.get(b"if-none-match")
    if known is not None and matches(known, extra[0][1].removeprefix(b"W/")):
        return _not_modified(extra)
    if len(body) < gzip_bytes_min or not accepts_gzip(headers.get(b"accept-encoding", b"")):
        return Ready(body, headers=extra)
    if len(body) <= _INLINE_BYTES_MAX:
        packed = gzip.compress(body, 1, mtime=0)
    else:
        packed = await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
    return Ready(packed, headers=(*extra, _GZIP))


def _not_modified(headers: Headers) -> Response:
    response = Response(status_code=304)
    response.raw_headers = list(headers)
    return response


def tagged_answer(
    body: bytes,
    label: str,
    headers: Mapping[bytes, bytes],
    media: bytes = JSON,
    base: Headers = BASE_HEADERS,
) -> Response:
    """Bytes with an ETag made of a label and their checksum, or 304 when the client has them already."""
    etag = b'"%b:%08x"' % (label.encode(), zlib.crc32(body))
    known = headers.get(b"if-none-match")
    extra = ((b"etag", etag), REVALIDATE, *base)
    if known is not None and matches(known, etag):
        return _not_modified(extra)
    return Ready(body, media=media, headers=extra)


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Whether an If-None-Match header names the tag (weak comparison, RFC 9110 section 13.1.2)."""
    tags = (tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b","))
    return any(tag in (etag, b"*") for tag in tags)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110 section 12.5.3)."""
    weights: dict[bytes, bool] = {}
    for part in accept_encoding.lower().split(b","):
        name, _, weight = part.partition(b";")
        weights[name.strip()] = weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return weights.get(b"gzip", weights.get(b"*", False))
