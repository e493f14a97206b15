"""Writing a backup: files in, one file out, piece by piece. See `archive` for its form."""

from __future__ import annotations

import hashlib
import tarfile
from typing import BinaryIO, Final

import msgspec
import zstandard

from gateway.snapshots.archive import (
    BLOCK,
    HEAD_FRAME,
    MAGIC,
    MANIFEST,
    PIECE_FRAME,
    READ_BYTES,
    SUM_BYTES,
    SUM_FRAME,
    FileTold,
    Head,
    Manifest,
    Reader,
)
from gateway.snapshots.failures import NotWritten
from gateway.snapshots.sealing import Sealer, new_seal

_LEVEL: Final = 3


class ArchiveWriter:
    """Writes one backup into a file that is open; `close` ends it."""

    def __init__(self, file: BinaryIO, head: Head, secret: str | None) -> None:
        self._file, self._sum = file, hashlib.sha256()
        head = msgspec.structs.replace(head, seal=new_seal(secret) if secret else None)
        told = msgspec.json.encode(head)
        self._sealer = Sealer(secret, head.seal, told) if secret and head.seal is not None else None
        self._frame(HEAD_FRAME, MAGIC + told)
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._waiting = bytearray()
        self._told: list[FileTold] = []

    def add(self, name: str, source: Reader, size: int, *, mode: int = 0o600, origin: str = "") -> None:
        """Copy exactly so many bytes in under a name.

        Raises:
            NotWritten: the source has fewer, or the name is too long for a tar.
        """
        self._begin(name, size, mode)
        digest, left = hashlib.sha256(), size
        while left:
            data = source.read(min(left, READ_BYTES))
            if not data:
                raise NotWritten(
                    f"{origin or name} became shorter while it was read", hint="make the backup again"
                )
            digest.update(data)
            self._tar(data)
            left -= len(data)
        self._tar(b"\x00" * (-size % BLOCK))
        self._told.append(FileTold(name, size, digest.hexdigest(), mode, origin))

    def close(self, left_out: tuple[str, ...], data_dir: str) -> Manifest:
        """Write the manifest and the end."""
        manifest = Manifest(tuple(self._told), left_out, data_dir)
        body = msgspec.json.encode(manifest)
        self._begin(MANIFEST, len(body), 0o600)
        self._tar(body + b"\x00" * (-len(body) % BLOCK + 2 * BLOCK))
        self._packed(self._zstd.flush(), last=True)
        digest = self._sum.digest()
        self._file.write(SUM_FRAME + SUM_BYTES.to_bytes(4, "little") + digest)
        return manifest

    def _begin(self, name: str, size: int, mode: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, mode
        try:
            self._tar(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        except ValueError as error:
            raise NotWritten(
                f"{name} cannot be in a backup: {error}", hint="give it a shorter path"
            ) from error

    def _tar(self, data: bytes) -> None:
        if packed := self._zstd.compress(data):
            self._packed(packed, last=False)

    def _packed(self, data: bytes, *, last: bool) -> None:
        if self._sealer is None:
            self._write(data)
            return
        self._waiting += data
        while len(self._waiting) > READ_BYTES:
            piece = bytes(self._waiting[:READ_BYTES])
            del self._waiting[:READ_BYTES]
            self._frame(PIECE_FRAME, self._sealer.seal(piece, last=False))
        if last:
            self._frame(PIECE_FRAME, self._sealer.seal(bytes(self._waiting), last=True))

    def _frame(self, magic: bytes, data: bytes) -> None:
        self._write(magic + len(data).to_bytes(4, "little") + data)

    def _write(self, data: bytes) -> None:
        self._sum.update(data)
        self._file.write(data)
