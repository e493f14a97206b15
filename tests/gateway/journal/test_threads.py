"""Several journals in one process do not disturb each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(300)
def test_journals_of_one_process_share_nothing_that_two_threads_can_ruin() -> None:
    command = [sys.executable, "-m", "tests.gateway.journal.many_threads"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
