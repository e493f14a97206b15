"""A trail on a machine with much to do: its disk is given time, unless a test says how little."""

from __future__ import annotations

import pytest

from gateway.audit import trail
from tests.gateway.audit.trails import PATIENCE_S


@pytest.fixture(autouse=True)
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "RECORD_S_MAX", PATIENCE_S)
