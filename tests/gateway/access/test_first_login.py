"""Who has to change the password at the first login may try again when the new one is not taken."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from gateway.access.credentials import Logins
from gateway.client import Refused
from gateway.commands.login import log_in

_URL = "http://127.0.0.1:8420"
_LATE = datetime(9000, 1, 1, tzinfo=UTC).isoformat()


class _There:
    """A gateway that takes one password only."""

    taken: list[str]

    def __init__(self, *_: object, **__: object) -> None:
        """Knows no address."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def log_in(self, *_: str) -> dict[str, Any]:
        """A session that may do nothing else yet."""
        ends = {"expires_at": _LATE, "refresh_expires_at": _LATE}
        return {"token": "as_1", "refresh": "ar_1", "caller": {"must_change_password": True}, **ends}

    def as_bearer(self, _: str) -> None:
        """Whoever asks."""

    def change_password(self, old: str, new: str) -> None:
        """Judge it."""
        self.taken.append(new)
        if new != "good":
            raise Refused(
                "weak_password" if new != "gone" else "locked_out", "it is not taken", hint="longer"
            )


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What somebody at a terminal types next."""
    lines: list[str] = ["first"]
    _There.taken = []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ANDON_CA", raising=False)
    monkeypatch.setattr("gateway.commands.login.Remote", _There)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: lines.pop(0))
    return lines


def _log_in() -> None:
    log_in(_URL, user="ada", from_input=False, ca=None, json=True)


def test_one_that_is_too_weak_is_asked_for_again(
    typed: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed += ["weak", "weak", "one", "other", "good", "good"]
    _log_in()
    told = capsys.readouterr().err
    assert "it is not taken; longer" in told
    assert "not the same" in told
    assert _There.taken == ["weak", "good"]
    assert Logins({"XDG_CONFIG_HOME": str(tmp_path)}).find(_URL) is not None


@pytest.mark.parametrize(("word", "tries"), [("weak", 3), ("gone", 1)])
def test_after_the_third_or_another_refusal_it_ends(typed: list[str], word: str, tries: int) -> None:
    typed += [word, word] * 4
    with pytest.raises(Refused):
        _log_in()
    assert _There.taken == [word] * tries
