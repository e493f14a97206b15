"""The bytes of the audit trail: a record as one line of JSON, the chain through the lines, what is signed.

A line is `{"n":..,"previous":"..",...,"hash":".."}`. `hash` is SHA-256 over the bytes of the line before
`,"hash":`, which hold the hash of the line before: so each line vouches for all before it. A head says how
far that goes and is signed, because a chain alone does not show that its end was cut off or that all of it
was computed anew. Pure: knows no file and no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from api.auditing import DETAILS_MAX, TEXT_CHARS_MAX, AuditEntry, AuditHead, AuditRecord, Scalar

#: What stands for the hash before the first record.
GENESIS: Final = "0" * 64
#: What ends a line after the bytes that are hashed: `,"hash":"` + 64 digits + `"}`.
_TAIL_BYTES: Final = len(b',"hash":"') + 64 + len(b'"}')
#: Most bytes of one line: of an entry with as many and as long texts as there may be.
LINE_BYTES_MAX: Final = 256 * 1024
#: Actions the trail records of itself; never from outside.
BEGIN, CUT, RESUMED, REMOVED, ANEW = (
    "audit.begin",
    "audit.cut",
    "audit.resumed",
    "audit.removed",
    "audit.anew",
)
_HEAD_PURPOSE: Final = b"andon audit head 1\n"
_CHECKPOINT_PURPOSE: Final = b"andon audit checkpoint 1\n"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AuditRecord).decode


class Checkpoint(msgspec.Struct, frozen=True):
    """Signed permission to begin later: records up to `n`, whose hash is `hash`, were removed at `at`.

    `exported` is the SHA-256 of the file they were written to before, in hexadecimal.
    """

    n: int
    hash: str
    at: datetime
    exported: str
    signature: str
    key: str


class BadLine(Exception):
    """A line is not what was written; the message says why."""


def line_of(entry: AuditEntry, n: int, previous: str, at: datetime) -> tuple[bytes, str]:
    """The line of an entry, without its line feed, and its hash. Texts that are too long are cut."""
    whole = _encode(
        AuditRecord(
            n=n,
            previous=previous,
            at=at,
            action=_bounded(entry.action),
            actor=_bounded(entry.actor),
            kind=_bounded(entry.kind),
            via=_bounded(entry.via),
            target=_bounded(entry.target),
            result=_bounded(entry.result),
            code=_bounded(entry.code),
            detail=_bounded_detail(entry.detail),
            peer=_bounded(entry.peer),
            hash=GENESIS,
        )
    )
    body = whole[:-_TAIL_BYTES]
    digest = hashlib.sha256(body).hexdigest()
    return body + b',"hash":"' + digest.encode() + b'"}', digest


def check_line(line: bytes) -> tuple[int, str, str]:
    """Number, previous hash and hash of a line that agrees with itself.

    Raises:
        BadLine: it does not.
    """
    body, tail = line[:-_TAIL_BYTES], line[-_TAIL_BYTES:]
    if not (tail.startswith(b',"hash":"') and tail.endswith(b'"}') and body.startswith(b'{"n":')):
        raise BadLine("it is not a record")
    digest = hashlib.sha256(body).hexdigest()
    if digest.encode() != tail[9:-2]:
        raise BadLine("its bytes do not have the hash it gives")
    number, _, rest = body[5:110].partition(b',"previous":"')
    try:
        return int(number), rest[:64].decode("ascii"), digest
    except ValueError as error:
        raise BadLine("it has no number") from error


def read_line(line: bytes) -> AuditRecord:
    """The record in a line, whether it agrees with itself or not.

    Raises:
        BadLine: it is not a record.
    """
    try:
        return _decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadLine(f"it is not a record: {error}") from error


def head_bytes(head: AuditHead) -> bytes:
    """What the signature of a head is over."""
    return _HEAD_PURPOSE + f"{head.n}\n{head.hash}\n{head.at.isoformat()}\n".encode()


def checkpoint_bytes(point: Checkpoint) -> bytes:
    """What the signature of a checkpoint is over."""
    words = f"{point.n}\n{point.hash}\n{point.at.isoformat()}\n{point.exported}\n"
    return _CHECKPOINT_PURPOSE + words.encode()


def anchor_bytes(n: int, hash_: str, at: datetime) -> bytes:
    """The same as `head_bytes`, for an anchor, which is a head held elsewhere."""
    return _HEAD_PURPOSE + f"{n}\n{hash_}\n{at.isoformat()}\n".encode()


def _bounded(text: str) -> str:
    kept = text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"
    return kept if kept.isascii() else kept.encode("utf-8", "replace").decode("utf-8")


def _bounded_detail(detail: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Keys in order, at most so many; what is left out is counted."""
    names = sorted(detail)
    kept: dict[str, Scalar] = {_bounded(name): _plain(detail[name]) for name in names[:DETAILS_MAX]}
    if len(names) > DETAILS_MAX:
        kept["left_out"] = len(names) - DETAILS_MAX
    return kept


def _plain(value: object) -> Scalar:
    if isinstance(value, str):
        return _bounded(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else _bounded(str(value))
    if value is None or isinstance(value, (bool, float)):
        return value
    return _bounded(str(value))
