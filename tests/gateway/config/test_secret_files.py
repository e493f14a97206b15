"""A `file:` reference reads a plain file of bounded size; anything else is said, and waited for by nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config.secrets import SECRET_BYTES_MAX, Unresolved, resolve


def why_not(folder: Path, name: str = "secret") -> str:
    with pytest.raises(Unresolved) as refused:
        resolve(f"file:{name}", {}, folder)
    return refused.value.reason


def test_a_secret_is_the_text_of_its_file_however_it_is_linked(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("hush-9c41\r\n")
    (tmp_path / "secret").symlink_to("kept")
    assert resolve("file:secret", {}, tmp_path) == "hush-9c41"


def test_a_long_one_is_read_whole_and_a_longer_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * SECRET_BYTES_MAX)
    assert len(resolve("file:secret", {}, tmp_path)) == SECRET_BYTES_MAX
    path.write_text("x" * (SECRET_BYTES_MAX + 1))
    assert why_not(tmp_path).endswith("cannot be read: it is larger than 64 kB, and no secret")


@pytest.mark.timeout(100)
def test_what_never_ends_or_is_waited_for_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret")
    assert why_not(tmp_path).endswith("it is a pipe or a device, and no file")
    assert why_not(tmp_path, "/dev/zero").endswith("it is a pipe or a device, and no file")
    assert why_not(tmp_path, ".").endswith("it is a folder")
    assert why_not(tmp_path, "gone").endswith("No such file or directory")
