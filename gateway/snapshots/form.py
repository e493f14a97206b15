"""A snapshot as bytes: a header that can be read without the rest, the rest compressed, a sum over all of it.

    "ANDSNAP" 1 | length of the header (4 bytes) | header (JSON) | body | SHA-256 of everything before

The body is MessagePack under zstd, and under AES-256-GCM where a key is set. Pure: knows no file and no
engine. Everything is judged before anything is believed: a snapshot is taken whole or refused with a reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec
import zstandard

from gateway.journal.values import Cursor
from gateway.snapshots.failures import FileRefused, KeyRefused
from gateway.snapshots.sealing import TAG_BYTES, Seal, Sealer, new_seal

#: Raised with every change an older version could not read.
FORM: Final = 1
MAGIC: Final = b"ANDSNAP\x01"
HEADER_BYTES_MAX: Final = 1_000_000
BODY_BYTES_MAX: Final = 1_000_000_000
_LENGTH_BYTES, _SUM_BYTES = 4, 32
_LEVEL: Final = 6

Kind = Literal["full", "incremental"]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is of.

    `seq` and `batch` are the last of `stream` whose effect is in it. `configuration`, `models`: SHA-256;
    `version` is that of the gateway. An incremental one holds what has changed since `parent`, a full one,
    whose sum it names. `body_bytes` is the size unpacked.
    """

    form: int = FORM
    name: str
    kind: Kind
    reason: str
    at: datetime
    gateway: str
    stream: str
    seq: int
    batch: int
    version: str
    configuration: str
    models: Mapping[str, str]
    equipment: int
    parent: str = ""
    parent_sum: str = ""
    body_bytes: int = 0
    packed_bytes: int = 0
    seal: Seal | None = None


class Content(msgspec.Struct, frozen=True):
    """What a snapshot holds. Of an incremental one: equipment and transitions that differ from its parent's.

    `equipment` is each one's `KeptEquipment` as MessagePack, `last` its newest transition as it was told,
    `gone` what the parent has and this has not. `alive` and `cursors` are the journal's, always all of them.
    """

    engine_version: int
    equipment: dict[str, bytes]
    last: dict[str, bytes]
    alive: dict[str, datetime]
    cursors: dict[str, Cursor]
    gone: tuple[str, ...] = ()


_HEADER: Final = msgspec.json.Decoder(Header)
_CONTENT: Final = msgspec.msgpack.Decoder(Content)


def pack(header: Header, content: Content, secret: str | None = None) -> bytes:
    """A snapshot as the bytes of its file; sizes and seal of the header are filled in here."""
    raw = msgspec.msgpack.encode(content)
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(raw)
    header = msgspec.structs.replace(
        header,
        body_bytes=len(raw),
        packed_bytes=len(body) + (TAG_BYTES if secret else 0),
        seal=new_seal(secret) if secret else None,
    )
    told = msgspec.json.encode(header)
    if header.seal is not None and secret:
        body = Sealer(secret, header.seal, told).seal(body, last=True)
    whole = MAGIC + len(told).to_bytes(_LENGTH_BYTES, "big") + told + body
    return whole + hashlib.sha256(whole).digest()


def sum_of(data: bytes) -> str:
    """The sum a file carries, which names exactly these bytes."""
    return data[-_SUM_BYTES:].hex()


def read_header(data: bytes, place: str) -> tuple[Header, int]:
    """The header at the beginning of a file, and where the body begins; the rest is not looked at.

    Raises:
        FileRefused: it is no snapshot, or one of a form this version does not know.
    """
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise FileRefused(f"{place} is no snapshot: it does not begin as one", hint="is it the right file?")
    if data[: len(MAGIC)] != MAGIC:
        raise FileRefused(
            f"{place} is a snapshot of form {data[len(MAGIC) - 1]}, and only {FORM} is understood"
            if len(data) >= len(MAGIC)
            else f"{place} ends after {len(data)} bytes, within its first word",
            hint="use the version of the gateway that wrote it",
        )
    begin = len(MAGIC) + _LENGTH_BYTES
    length = int.from_bytes(data[len(MAGIC) : begin], "big")
    if len(data) < begin or len(data) < begin + length or not 0 < length <= HEADER_BYTES_MAX:
        raise FileRefused(
            f"{place}, byte {len(MAGIC)}: the header should be {length} bytes long, and the file has "
            f"{max(0, len(data) - begin)} after this",
            hint="it was cut off or damaged; use another one",
        )
    try:
        header = _HEADER.decode(data[begin : begin + length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileRefused(
            f"{place}, byte {begin}: the header cannot be read: {error}", hint="use another one"
        ) from error
    if header.form != FORM:
        raise FileRefused(
            f"{place} is a snapshot of form {header.form}, and only {FORM} is understood",
            hint="use the version of the gateway that wrote it",
        )
    return header, begin + length


def unpack(data: bytes, place: str, secret: str | None = None) -> tuple[Header, Content]:
    """What a file holds, once all of it has been judged.

    Raises:
        FileRefused: it is not what was written; place and reason say where.
        KeyRefused: it is encrypted, and the key is missing or another.
    """
    header, begin = check(data, place)
    body = data[begin:-_SUM_BYTES]
    if header.seal is not None:
        if not secret:
            raise KeyRefused(
                f"{place} is encrypted", hint="set encryption_key in [gateway.snapshots] to its key"
            )
        told = data[len(MAGIC) + _LENGTH_BYTES : begin]
        body = Sealer(secret, header.seal, told).open(body, last=True)
    try:
        raw = zstandard.ZstdDecompressor(max_window_size=2**27).decompress(
            body, max_output_size=header.body_bytes
        )
        if len(raw) != header.body_bytes:
            raise FileRefused(f"{place}: the body is {len(raw)} bytes, {header.body_bytes} were written")
        return header, _CONTENT.decode(raw)
    except (zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileRefused(
            f"{place}, byte {begin}: the body cannot be unpacked: {error}", hint="use another one"
        ) from error


def check(data: bytes, place: str) -> tuple[Header, int]:
    """Whether a file is what was written, as its length and sum tell; needs no key.

    Raises:
        FileRefused: it is not.
    """
    header, begin = read_header(data, place)
    if not (header.packed_bytes >= 0 and 0 <= header.body_bytes <= BODY_BYTES_MAX):
        raise FileRefused(
            f"{place}: the header tells of a body of {header.body_bytes} bytes, and no more than "
            f"{BODY_BYTES_MAX} are believed",
            hint="it is damaged, or was not written by a gateway",
        )
    length = begin + header.packed_bytes + _SUM_BYTES
    if len(data) != length:
        raise FileRefused(
            f"{place} has {len(data)} bytes, and {length} were written",
            hint="it was cut off; use another one",
        )
    if hashlib.sha256(data[:-_SUM_BYTES]).digest() != data[-_SUM_BYTES:]:
        raise FileRefused(
            f"{place}, bytes 0 to {length - 1}: the SHA-256 at the end is not that of what stands before it",
            hint="it was changed or damaged; use another one",
        )
    return header, begin
