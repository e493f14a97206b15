"""A backup as one file: its form, and reading it as a stream, so that its size needs no memory.

The file is a row of zstd frames, and everything but the tar itself stands in frames that zstd skips:

    head (JSON)  |  tar under zstd  |  SHA-256 of everything before

so that `tar --zstd -xf FILE` reads a backup that is not encrypted where no gateway is at hand. An encrypted
one has pieces under AES-256-GCM in place of the tar. In the tar: plain files only, and `manifest.json` last.
This module judges what is hostile about bytes and names; it does not know what the files mean. `packing`
writes it.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol, cast

import msgspec
import zstandard

from gateway.snapshots.failures import FileRefused, KeyRefused
from gateway.snapshots.sealing import TAG_BYTES, Seal, Sealer

FORM: Final = 1
SUFFIX: Final = ".andon-backup.tar.zst"
MANIFEST: Final = "manifest.json"
MAGIC: Final = b"ANDBACK\x01"
#: Folders a file of a backup may lie in.
ROOTS: Final = frozenset({"config", "data", "outside"})
HEAD_BYTES_MAX: Final = 1_000_000
MANIFEST_BYTES_MAX: Final = 64_000_000
FILES_MAX: Final = 200_000
#: Beyond a gigabyte nothing of a gateway becomes this many times larger when it is unpacked.
_GROWTH_MAX: Final = 1_000
_GROWTH_FREE: Final = 1_000_000_000
BLOCK: Final = 512
READ_BYTES: Final = 1 << 20
HEAD_FRAME, PIECE_FRAME, SUM_FRAME = (word.to_bytes(4, "little") for word in range(0x184D2A5B, 0x184D2A5E))
SUM_BYTES: Final = 32
_TRAILER_BYTES: Final = 8 + SUM_BYTES


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What can be known of a backup without unpacking or a key. `bytes` is the size of all files unpacked."""

    form: int = FORM
    at: datetime
    gateway: str
    version: str
    configuration: str
    stream: str
    seq: int
    batch: int
    files: int
    bytes: int
    secrets: bool
    seal: Seal | None = None


class FileTold(msgspec.Struct, frozen=True):
    """A file of a backup: its place in it, size, SHA-256, permissions; where it lay, if that is elsewhere."""

    name: str
    bytes: int
    sha256: str
    mode: int
    origin: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """All files of a backup. `left_out` says what is not in it and why; `data_dir` is as configured."""

    files: tuple[FileTold, ...]
    left_out: tuple[str, ...]
    data_dir: str


class Reader(Protocol):
    """Whatever gives bytes."""

    def read(self, size: int, /) -> bytes:
        """At most so many; none at the end."""
        ...


_HEAD_DECODER: Final = msgspec.json.Decoder(Head)
_MANIFEST_DECODER: Final = msgspec.json.Decoder(Manifest)


# Reading ----------------------------------------------------------------------------------------------------


def read_head(path: Path) -> Head:
    """What a backup says of itself; proves nothing of the rest.

    Raises:
        FileRefused: it is no backup, or one of another form.
    """
    try:
        with path.open("rb") as file:
            return _head(file, path)[0]
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error.strerror}", hint="check the path") from error


def _head(file: BinaryIO, path: Path) -> tuple[Head, bytes]:
    """The head, its bytes; the file stands behind it then."""
    frame = file.read(8)
    length = int.from_bytes(frame[4:8], "little")
    magic = file.read(len(MAGIC)) if frame[:4] == HEAD_FRAME else b""
    if magic[:-1] != MAGIC[:-1]:
        raise FileRefused(f"{path} is no backup: it does not begin as one", hint="is it the right file?")
    if magic != MAGIC:
        raise _other_form(path, magic[-1])
    if not len(MAGIC) < length <= HEAD_BYTES_MAX:
        raise FileRefused(f"{path}, byte 4: the head tells of {length} bytes", hint="use another backup")
    told = file.read(length - len(MAGIC))
    try:
        head = _HEAD_DECODER.decode(told)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileRefused(
            f"{path}, byte {8 + len(MAGIC)}: the head cannot be read: {error}", hint="use another backup"
        ) from error
    if head.form != FORM:
        raise _other_form(path, head.form)
    return head, told


def _other_form(path: Path, form: int) -> FileRefused:
    return FileRefused(
        f"{path} is a backup of form {form}, and only {FORM} is understood",
        hint="use the version of the gateway that wrote it",
    )


def check_sum(path: Path) -> Head:
    """Read a backup to its end and compare its sum: whether it is what was written. Needs no key.

    Raises:
        FileRefused: it is not.
    """
    try:
        with path.open("rb") as file:
            head, _ = _head(file, path)
            size = path.stat().st_size
            file.seek(0)
            digest, left = hashlib.sha256(), size - _TRAILER_BYTES
            while left > 0 and (data := file.read(min(left, READ_BYTES))):
                digest.update(data)
                left -= len(data)
            trailer = file.read(_TRAILER_BYTES)
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be read: {error.strerror or error}", hint="check the path, and who may read it"
        ) from error
    if left or trailer[:8] != SUM_FRAME + SUM_BYTES.to_bytes(4, "little"):
        raise FileRefused(
            f"{path} has {size} bytes and does not end as a backup", hint="it was cut off; use another one"
        )
    if trailer[8:] != digest.digest():
        raise FileRefused(
            f"{path}, bytes 0 to {size - 1}: the SHA-256 at the end is not that of what stands before it",
            hint="it was changed or damaged; use another backup",
        )
    if head.bytes > _GROWTH_FREE and head.bytes > _GROWTH_MAX * size:
        raise FileRefused(
            f"{path} says that its {size} bytes hold {head.bytes}, which no backup does",
            hint="was it really written by a gateway?",
        )
    return head


class Member(msgspec.Struct, frozen=True):
    """A file on its way out of a backup: read `source` before the next one is asked for."""

    name: str
    bytes: int
    mode: int
    source: Reader


def members(path: Path, secret: str | None) -> Iterator[Member]:
    """The files of a backup in order, the manifest last; each judged before it is given.

    Raises:
        FileRefused: a name, a kind of file or a size that no backup has, or bytes that cannot be unpacked.
        KeyRefused: it is encrypted, and the key is missing or another.
    """
    try:
        with path.open("rb") as file:
            head, told = _head(file, path)
            end = path.stat().st_size - _TRAILER_BYTES
            packed: Reader = _Part(file, end - file.tell())
            if head.seal is not None:
                if not secret:
                    raise KeyRefused(f"{path} is encrypted", hint="name its key: --key env:NAME or file:PATH")
                packed = _Unsealed(packed, Sealer(secret, head.seal, told), file, end, path)
            with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
                cast(IO[bytes], packed)
            ) as stream:
                yield from _members(stream, head, path)
    except (zstandard.ZstdError, MemoryError) as error:
        raise FileRefused(f"{path} cannot be unpacked: {error}", hint="use another backup") from error
    except OSError as error:
        raise FileRefused(
            f"{path} cannot be read: {error.strerror or error}", hint="check the path, and who may read it"
        ) from error


def _members(stream: Reader, head: Head, path: Path) -> Iterator[Member]:
    seen: set[str] = set()
    room = head.bytes
    while True:
        block = _exactly(stream, BLOCK, path)
        if not block.strip(b"\x00"):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise FileRefused(f"{path}: its tar is damaged: {error}", hint="use another backup") from error
        name, size = info.name, info.size
        if info.type != tarfile.REGTYPE:
            raise _hostile(path, name, "is no plain file")
        if not allowed(name):
            raise _hostile(path, name, "lies outside of where files of a backup lie")
        if name in seen or len(seen) >= FILES_MAX:
            raise _hostile(path, name, "is there twice" if name in seen else "is one file too many")
        seen.add(name)
        room -= 0 if name == MANIFEST else size
        if size < 0 or room < 0 or (name == MANIFEST and size > MANIFEST_BYTES_MAX):
            raise _hostile(path, name, f"has {size} bytes, more than the head tells of")
        source = _Part(stream, size)
        yield Member(name, size, info.mode & 0o777, source)
        while source.left:
            if not source.read(READ_BYTES):
                raise _short(path)
        _exactly(stream, -size % BLOCK, path)


def _hostile(path: Path, name: str, what: str) -> FileRefused:
    return FileRefused(
        f'{path}: the file "{name}" in it {what}', hint="no gateway wrote this; nothing of it was unpacked"
    )


def _short(path: Path) -> FileRefused:
    return FileRefused(f"{path}: its tar ends too early", hint="use another backup")


def allowed(name: str) -> bool:
    """Whether a file of a backup may have this name."""
    parts = name.split("/")
    if name == MANIFEST:
        return True
    return (
        len(parts) > 1
        and parts[0] in ROOTS
        and all(part not in ("", ".", "..") for part in parts)
        and all(character.isprintable() for character in name)
    )


def read_manifest(data: bytes, path: Path) -> Manifest:
    """The manifest from its bytes.

    Raises:
        FileRefused: it is none.
    """
    try:
        return _MANIFEST_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileRefused(
            f"{path}: its manifest cannot be read: {error}", hint="use another backup"
        ) from error


def differences(manifest: Manifest, found: Mapping[str, tuple[int, str]]) -> list[str]:
    """What of the files unpacked (size and SHA-256 by name) is not as the manifest says."""
    told = {file.name: (file.bytes, file.sha256) for file in manifest.files}
    wrong = [f"{name} is missing" for name in told if name not in found]
    wrong += [f"{name} is not in the manifest" for name in found if name not in told]
    return wrong + [
        f"{name} is not what was written" for name in told if found.get(name, told[name]) != told[name]
    ]


def _exactly(stream: Reader, size: int, path: Path) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise _short(path)
        data += more
    return data


def read_all(source: Reader) -> bytes:
    """Everything a reader has left."""
    found = bytearray()
    while data := source.read(READ_BYTES):
        found += data
    return bytes(found)


class _Part:
    """The next so many bytes of a reader."""

    def __init__(self, source: Reader, size: int) -> None:
        self._source, self.left = source, max(0, size)

    def read(self, size: int = -1, /) -> bytes:
        """At most so many."""
        data = self._source.read(self.left if size < 0 else min(size, self.left)) if self.left else b""
        self.left -= len(data)
        return data


class _Unsealed:
    """Decrypts pieces as they are asked for."""

    def __init__(self, packed: Reader, sealer: Sealer, file: BinaryIO, end: int, path: Path) -> None:
        self._packed, self._sealer, self._file, self._end, self._path = packed, sealer, file, end, path
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        """At most so many."""
        if not self._ready and self._file.tell() < self._end:
            frame = _exactly(self._packed, 8, self._path)
            length = int.from_bytes(frame[4:], "little")
            if frame[:4] != PIECE_FRAME or not TAG_BYTES <= length <= READ_BYTES + TAG_BYTES:
                raise FileRefused(
                    f"{self._path}, byte {self._file.tell() - 8}: no piece of a backup begins here",
                    hint="use another backup",
                )
            piece = _exactly(self._packed, length, self._path)
            try:
                self._ready = self._sealer.open(piece, last=self._file.tell() == self._end)
            except KeyRefused as error:
                raise KeyRefused(f"{self._path}: {error.reason}", hint=error.hint) from error
        data, self._ready = self._ready[:size], self._ready[size:]
        return data
