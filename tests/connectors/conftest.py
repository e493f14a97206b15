"""Makes `tests.connectors.contract` importable however pytest was started; machines may stall."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)


@pytest.fixture(autouse=True)
def _stalls_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process stands still for seconds its connectors rightly end their sessions; not in these tests.

    The tests of just that put a short time in place themselves.
    """
    monkeypatch.setattr("connectors.standstill.STANDSTILL_S_MAX", 600.0)
    monkeypatch.setattr("connectors.opcua.poll.STANDSTILL_S_MAX", 600.0)
