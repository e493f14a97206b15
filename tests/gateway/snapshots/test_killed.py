"""Killed at any step of writing a snapshot, making a backup or restoring one: old or new, nothing between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("operation", "steps_min"),
    [("snapshot", 6), ("make_backup", 40), ("restore_new", 60), ("restore_over", 60)],
)
def test_old_or_new(tmp_path: Path, operation: str, steps_min: int) -> None:
    command = [sys.executable, "-m", "tests.gateway.snapshots.kill_steps", operation, str(tmp_path / "root")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= steps_min
