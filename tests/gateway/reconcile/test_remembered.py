"""What was published is remembered on disk, and nobody waits for the disk meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.journal import files
from gateway.reconcile.remembered import Remembered


async def test_it_is_written_beside_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def write_whole(path: Path, data: bytes) -> None:
        threads.append(threading.current_thread())
        files.write_whole(path, data)

    monkeypatch.setattr("gateway.reconcile.remembered.write_whole", write_whole)
    remembered = Remembered(tmp_path)
    await remembered.add({"a/_state": "filler-1", "b/_state": "oven-1"})
    assert Remembered(tmp_path).topics == {"a/_state": "filler-1", "b/_state": "oven-1"}
    await remembered.add({"a/_state": "filler-1"})
    await remembered.forget({"a/_state"})
    assert Remembered(tmp_path).topics == {"b/_state": "oven-1"}
    assert len(threads) == 2
    assert threading.main_thread() not in threads
