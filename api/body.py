"""What is sent to be done: who may send it, and how its body is read.

Until there are users and roles, only this machine may change anything: the request comes from a loopback
address and names a loopback host, so that neither the network nor a web page that a browser on this machine
shows can send one. Bodies are JSON, bounded in size and time, and read strictly. Knows no noun.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, NoReturn

import msgspec
from fastapi import Request

from api.problems import ParameterError, Problem

#: Longest body, and longest wait for it.
BODY_BYTES_MAX = 65_536
_BODY_S = 10.0
#: The connection is closed, or the client could go on sending for as long as it likes.
_CLOSE = ((b"connection", b"close"),)
#: Codes a route with a body may answer with.
BODY_CODES = (
    "only_from_this_machine",
    "unsupported_media_type",
    "body_too_large",
    "body_too_slow",
    "invalid_body",
)


def refuse_others(request: Request) -> None:
    """Let only this machine through.

    Raises:
        Problem: `only_from_this_machine`.
    """
    peer = request.client.host if request.client is not None else ""
    if not _is_loopback(peer):
        where = peer or "an unknown address"
        raise Problem("only_from_this_machine", f"The request comes from {where}.", headers=_CLOSE)
    host = request.headers.get("host", "")
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() != "localhost" and not _is_loopback(name):
        raise Problem(
            "only_from_this_machine",
            "The request names another host than this machine.",
            hint="Use http://127.0.0.1 and the port of the API.",
            headers=_CLOSE,
        )


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    # A listener of both families sees a caller over IPv4 as ::ffff:a.b.c.d.
    inner = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (inner or found).is_loopback


async def read_body(request: Request, type_: type) -> Any:
    """The body of a request as a value of a type.

    Raises:
        Problem: one of `BODY_CODES`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        said = f'The body is said to be "{media[:80]}".' if media else "It is not said what the body is."
        raise Problem("unsupported_media_type", said, headers=_CLOSE)
    raw = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > BODY_BYTES_MAX:
                    raise Problem(
                        "body_too_large", f"The body has more than {BODY_BYTES_MAX} bytes.", headers=_CLOSE
                    )
    except TimeoutError:
        raise Problem(
            "body_too_slow", f"The body was not there after {_BODY_S:.0f} s.", headers=_CLOSE
        ) from None
    return _decoded(bytes(raw), type_)


def _decoded(raw: bytes, type_: type) -> Any:
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
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        _refuse("$", f'it has "{twin[:80]}" twice', "Give every name once.")
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
