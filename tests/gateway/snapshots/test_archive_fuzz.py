"""Backups that are cut, changed, or were written by an enemy: refused, and nothing is restored."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from gateway.errors import GatewayError
from gateway.snapshots.archive import HEAD_FRAME, MAGIC, SUM_FRAME, FileTold, Head, Manifest, check_sum
from gateway.snapshots.backup import verify
from gateway.snapshots.failures import FileRefused, TargetRefused
from gateway.snapshots.packing import ArchiveWriter
from gateway.snapshots.restore import restore
from tests.gateway.journal.builders import ManualClock

SECRET = "e5" * 32
FILES = {"config/andon.toml": b"[gateway]\n" * 3, "data/opcua/a.der": bytes(range(256)) * 4}


def head(**changed: int) -> Head:
    given: dict[str, Any] = {"files": len(FILES), "bytes": sum(map(len, FILES.values())), **changed}
    at = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    return Head(
        at=at,
        gateway="g",
        version="1",
        configuration="andon.toml",
        stream="",
        seq=0,
        batch=0,
        secrets=False,
        **given,
    )


def small(secret: str | None = None) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file, head(), secret)
    for name, data in FILES.items():
        writer.add(name, io.BytesIO(data), len(data))
    writer.close((), "./data")
    return file.getvalue()


def refused(path: Path, tmp_path: Path, secret: str | None = None) -> str:
    """Why a backup is refused, once both ways have refused it and nothing is left of it."""
    with pytest.raises(GatewayError) as first:
        verify(path, secret)
    with pytest.raises(GatewayError) as second:
        restore(path, tmp_path / "new", secret=secret, force=False, clock=ManualClock())
    assert first.value.hint
    assert second.value.hint
    assert [item for item in tmp_path.iterdir() if item != path] == []
    return first.value.reason


@pytest.mark.parametrize("secret", [None, SECRET])
def test_every_prefix_is_refused(tmp_path: Path, secret: str | None) -> None:
    data = small(secret)
    path = tmp_path / "b"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert str(path) in refused(path, tmp_path, secret)
    path.write_bytes(data)
    verify(path, secret)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_every_flipped_bit_is_refused(tmp_path: Path, secret: str | None) -> None:
    data = small(secret)
    path = tmp_path / "b"
    dice = random.Random(61)
    for _ in range(1_000):
        place = dice.randrange(len(data))
        flipped = bytearray(data)
        flipped[place] ^= 1 << dice.randrange(8)
        path.write_bytes(bytes(flipped))
        refused(path, tmp_path, secret)


def test_flipped_bits_are_refused_also_when_the_sum_was_made_to_fit(tmp_path: Path) -> None:
    """The sum is no secret: what lies under it stands on its own feet."""
    data = small(SECRET)
    path = tmp_path / "b"
    dice = random.Random(7)
    for _ in range(300):
        place = dice.randrange(len(data) - 40)
        flipped = bytearray(data[:-40])
        flipped[place] ^= 1 << dice.randrange(8)
        path.write_bytes(ended(bytes(flipped)))
        refused(path, tmp_path, SECRET)


# -- what an enemy may write


def ended(data: bytes) -> bytes:
    """With a sum that is right."""
    return data + SUM_FRAME + (32).to_bytes(4, "little") + hashlib.sha256(data).digest()


def framed(tar: bytes, told: Head | None = None) -> bytes:
    body = MAGIC + msgspec.json.encode(told or head(bytes=10**6))
    packed = zstandard.ZstdCompressor().compress(tar)
    return ended(HEAD_FRAME + len(body).to_bytes(4, "little") + body + packed)


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar with these and a manifest that agrees."""
    told = tuple(
        FileTold(info.name, len(data), hashlib.sha256(data).hexdigest(), 0o600) for info, data in members
    )
    manifest = msgspec.json.encode(Manifest(told, (), "./data"))
    last = tarfile.TarInfo("manifest.json")
    last.size = len(manifest)
    whole = b""
    for info, data in (*members, (last, manifest)):
        whole += info.tobuf(tarfile.GNU_FORMAT) + data + b"\x00" * (-len(data) % 512)
    return whole + bytes(1024)


def plain(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def special(kind: bytes, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo("data/x")
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, b""


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "data/../../x",
        "/etc/x",
        "data//x",
        "data/./x",
        "x",
        "data",
        "data/",
        "other/x",
        "data/a\nb",
        "config/\x1b[31m",
        "~/x",
        "data/" + "long/" * 40 + "x",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "b"
    path.write_bytes(framed(tar_of(plain(name))))
    refused(path, tmp_path)


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, linkname="/etc"),
        special(tarfile.LNKTYPE, linkname="config/a"),
        special(tarfile.CHRTYPE, devmajor=1, devminor=5),
        special(tarfile.BLKTYPE),
        special(tarfile.FIFOTYPE),
        special(tarfile.DIRTYPE),
        special(tarfile.XHDTYPE, size=2**33),
        special(tarfile.GNUTYPE_LONGNAME, size=2**33),
        special(tarfile.GNUTYPE_SPARSE, size=1),
    ],
)
def test_whatever_is_no_plain_file_is_refused(tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]) -> None:
    path = tmp_path / "b"
    path.write_bytes(framed(tar_of(member)))
    assert "is no plain file" in refused(path, tmp_path)


def _twice() -> bytes:
    return tar_of(plain("data/x"), plain("data/x"))


def _file_as_folder() -> bytes:
    return tar_of(plain("data/x"), plain("data/x/y"))


def _larger_than_told() -> bytes:
    info = tarfile.TarInfo("data/x")
    info.size = 2**40
    return info.tobuf(tarfile.GNU_FORMAT)


def _no_manifest() -> bytes:
    info, data = plain("data/x")
    return info.tobuf() + data + bytes(511) + bytes(1024)


def _other_content() -> bytes:
    return tar_of(plain("data/x", b"abc")).replace(b"abc", b"abd", 1)


def _negative() -> bytes:
    info = tarfile.TarInfo("data/x")
    info.size = -5
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    "tar",
    [_twice, _larger_than_told, _no_manifest, _other_content, _negative, lambda: b"", lambda: b"\xff" * 4096],
)
def test_a_tar_that_is_not_ours_is_refused(tmp_path: Path, tar: Callable[[], bytes]) -> None:
    path = tmp_path / "b"
    path.write_bytes(framed(tar()))
    refused(path, tmp_path)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(framed(_file_as_folder()))
    with pytest.raises(FileRefused, match="where another one does"):
        restore(path, tmp_path / "new", secret=None, force=False, clock=ManualClock())
    assert list(tmp_path.iterdir()) == [path]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Half a gigabyte of zeros in some kilobytes, and one that says it is an exabyte."""
    path = tmp_path / "b"
    info = tarfile.TarInfo("data/x")
    info.size = 2**29
    packer = zstandard.ZstdCompressor().compressobj()
    packed = packer.compress(info.tobuf(tarfile.GNU_FORMAT))
    for _ in range(2**9):
        packed += packer.compress(bytes(2**20))
    body = MAGIC + msgspec.json.encode(head(bytes=1000))
    path.write_bytes(ended(HEAD_FRAME + len(body).to_bytes(4, "little") + body + packed + packer.flush()))
    assert path.stat().st_size < 100_000
    assert "more than the head tells of" in refused(path, tmp_path)

    path.write_bytes(framed(b"", head(bytes=2**60)))
    with pytest.raises(FileRefused, match="no backup does"):
        check_sum(path)
    path.write_bytes(framed(bytes(random.Random(1).randbytes(2_000_000)), head(bytes=10**9)))
    with pytest.raises((TargetRefused, FileRefused)):
        restore(path, tmp_path / "new", secret=None, force=False, clock=ManualClock())


@pytest.mark.parametrize(
    "data", [b"", b"x", HEAD_FRAME, HEAD_FRAME + b"\xff" * 4 + MAGIC, b"\x28\xb5\x2f\xfd" * 99]
)
def test_what_is_no_backup_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "b"
    path.write_bytes(data)
    refused(path, tmp_path)
