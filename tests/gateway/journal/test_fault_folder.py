"""A folder that cannot be used: one line, that names it and says what to do, with the right exit code."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import GatewayError, JournalInUse, StartFailed
from gateway.journal import files
from tests.gateway.journal.builders import PATIENCE_S, opened, transition

ROOT = Path(__file__).resolve().parents[3]
#: Opens a journal as a user who may not do everything, and prints how that went.
_OPEN = """
import asyncio, os, sys
from pathlib import Path
from gateway.errors import GatewayError
from tests.gateway.journal.builders import opened
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    async with opened(Path(sys.argv[1])):
        print("opened")
try:
    asyncio.run(main())
except GatewayError as error:
    print(error.reason); print(error.hint)
    sys.exit(error.exit_code)
"""


def opened_by_nobody(directory: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", _OPEN, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "not ours"])
async def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "journal"
    for way in (tmp_path, *tmp_path.parents[:2]):  # pytest keeps its folders for itself
        way.chmod(0o755)
    folder.mkdir()
    folder.chmod(mode)
    try:
        code, said = await asyncio.to_thread(opened_by_nobody, folder)
    finally:
        folder.chmod(0o755)
    assert code == 1
    assert str(folder) in said
    assert "gateway.data_dir" in said
    assert list(folder.iterdir()) == []


async def test_a_link_to_nowhere_is_named_and_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "journal"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(StartFailed, match="journal") as refused:
        async with opened(link):
            pass
    assert refused.value.exit_code == 1
    (tmp_path / "gone").mkdir()
    async with opened(link) as journal:
        await journal.append([transition(1)])
    async with opened(tmp_path / "gone") as journal:
        assert journal.position.last_seq == 1


async def test_a_link_in_place_of_the_reserve_stays_harmless(tmp_path: Path) -> None:
    """A reserve that is a link must not write, cut or remove what it points to."""
    folder, other = tmp_path / "journal", tmp_path / "other"
    other.write_bytes(b"somebody's")
    async with opened(folder) as journal:
        await journal.append([transition(1)])
    (folder / "ballast").unlink(missing_ok=True)
    (folder / "ballast").symlink_to(other)
    files.set_ballast_aside(folder)
    files.spend_ballast(folder, 4)
    assert other.read_bytes() == b"somebody's"


async def test_a_second_process_is_refused_at_once_and_told_who(tmp_path: Path) -> None:
    async with opened(tmp_path):
        async with asyncio.timeout(PATIENCE_S):  # the first stays for ever
            with pytest.raises(JournalInUse, match=str(os.getpid())) as refused:
                async with opened(tmp_path):
                    pass
        assert refused.value.exit_code == 3


async def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    with pytest.raises(GatewayError, match="cannot be used") as refused:
        async with opened(tmp_path / "journal"):
            pass
    assert refused.value.exit_code == 1
