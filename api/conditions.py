"""Conditional changes: what people edit is changed only by who says which version was read."""

from __future__ import annotations

import re

from api.operation import Call
from api.params import Param, UnreadableError, read_header
from api.problems import Problem


def _read_etag(text: str) -> str:
    found = re.fullmatch(r'\s*(?:W/)?"([!#-~]{1,128})"\s*', text)
    if found is None:
        raise UnreadableError("it is not one ETag", 'Send it as it came, such as "3f6c1f0e".')
    return found[1]


#: The header that names the version a change is meant for.
IF_MATCH = Param(
    "If-Match",
    _read_etag,
    {"type": "string"},
    "The ETag of what was read and is to be changed. Without it nothing is changed (428), nor when it is no "
    "longer the present one (412).",
    '"3f6c1f0e"',
    "header",
)


def version_of(call: Call) -> str:
    """The version a request is meant for.

    Raises:
        Problem: `version_required`, or `invalid_parameter`.
    """
    given = call.headers.get(b"if-match")
    if given is None:
        raise Problem("version_required", "The request has no If-Match header.")
    version: str = read_header(given, IF_MATCH)
    return version


def etag_of(version: str) -> tuple[bytes, bytes]:
    """The header that tells a version."""
    return b"etag", b'"%b"' % version.encode()
