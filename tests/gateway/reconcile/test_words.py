"""What a person reads at the end of `andon reconcile`."""

from __future__ import annotations

import pytest

from gateway.commands import reconcile


@pytest.mark.parametrize(
    ("reason", "said"),
    [(None, "all agree"), ("not compared: the historian is not connected", "not all was")],
)
def test_what_was_not_compared_is_not_said_to_agree(
    reason: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        {"part": "memory", "compared": 4, "reason": None},
        {"part": "events", "compared": 0, "reason": reason},
    ]
    report = {"parts": parts, "differences": [], "left_out": 0, "agree": True}
    reconcile._show(report)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.endswith(said)
    assert ("all agree" in last) is (reason is None)
