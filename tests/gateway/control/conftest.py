"""What holds for all tests of commands: a machine that stands still for a moment is no fault of anybody's."""

from __future__ import annotations

import pytest

from gateway.control import desk, settling
from tests.gateway.control.bench import PATIENCE_S


@pytest.fixture(autouse=True)
def _what_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal, the audit trail and the ledger answer some day; who shows what happens when they do not
    says so."""
    monkeypatch.setattr(desk, "OPEN_S_MAX", PATIENCE_S)
    monkeypatch.setattr(settling, "JOURNAL_S_MAX", PATIENCE_S)
    monkeypatch.setattr(settling, "SETTLE_S_MAX", PATIENCE_S)
