"""How the body of a request is read: as JSON, bounded in size and time, and strictly. Knows no noun."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.problems import ParameterError, Problem

#: Longest body where an operation does not say, and longest wait for any.
BODY_BYTES_MAX = 65_536
_BODY_S = 10.0
#: The connection is closed, or the client could go on sending for as long as it likes.
_CLOSE = ((b"connection", b"close"),)
#: Codes a route with a body may answer with.
BODY_CODES = (
    "unsupported_media_type",
    "body_too_large",
    "body_too_slow",
    "invalid_body",
)


async def read_body(request: Request, type_: type, bytes_max: int = BODY_BYTES_MAX) -> Any:
    """The body of a request as a value of a type.

    Raises:
        Problem: one of `BODY_CODES`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        said = f'The body is said to be "{media[:80]}".' if media else "It is not said what the body is."
        raise Problem("unsupported_media_type", said, headers=_CLOSE)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > bytes_max:
        raise _too_large(bytes_max)
    raw = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError:
        raise Problem(
            "body_too_slow", f"The body was not there after {_BODY_S:.0f} s.", headers=_CLOSE
        ) from None
    except ClientDisconnect:  # nobody hears it, and it is no failure of ours that somebody left
        raise Problem("body_too_slow", "The connection ended before the body did.", headers=_CLOSE) from None
    return decoded(bytes(raw), type_)


def _too_large(bytes_max: int) -> Problem:
    return Problem("body_too_large", f"The body has more than {bytes_max} bytes.", headers=_CLOSE)


def decoded(raw: bytes, type_: type) -> Any:
    """JSON as a value of a type.

    Raises:
        Problem: `invalid_body`.
    """
    if not raw:
        _refuse("$", "the body is empty", "Send a JSON object.")
    try:
        json.loads(raw, object_pairs_hook=_without_twins)
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `")
        _refuse(place.rstrip("`") or "$", _sentence(reason), "")
    except RecursionError:
        _refuse("$", "it is nested too deeply", "")
    except (ValueError, msgspec.DecodeError) as error:  # json's error and bad UTF-8 are ValueErrors
        _refuse("$", f"it is not JSON: {str(error)[:200]}", "")


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for twin, _ in pairs:
            if twin in seen:
                _refuse("$", f'it has "{twin[:80]}" twice', "Give every name once.")
            seen.add(twin)
    return found


def _sentence(reason: str) -> str:
    return reason[:1].lower() + reason[1:300]


def _refuse(place: str, reason: str, hint: str) -> NoReturn:
    where = place.removeprefix("$").lstrip(".") or "body"
    raise Problem(
        "invalid_body",
        f'"{where}": {reason}',
        hint=hint,
        errors=(ParameterError("body", where, reason, hint),),
    )
