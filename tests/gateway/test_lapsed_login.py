"""A login that ended with a restart of the gateway does not stand in the way of what everybody may see."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.access.credentials import Login, Logins
from gateway.cli import app
from gateway.client import Refused


class _Gateway(http.server.ThreadingHTTPServer):
    """Knows no session; `anonymous` says whether it answers those who send none."""

    anonymous = True
    asked: list[tuple[str, bool]]
    renewals = 0


class _Face(http.server.BaseHTTPRequestHandler):
    server: _Gateway

    def do_GET(self) -> None:
        """An empty list, or a refusal."""
        if self.path.endswith("/sessions/renew"):  # of a session it does not know
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.renewals += 1
            self._answer(401, {"code": "session_ended", "title": "t", "status": 401, "detail": "it is over"})
            return
        known = "Authorization" in self.headers
        self.server.asked.append((self.path.partition("?")[0], known))
        if known:
            self._answer(401, {"code": "session_ended", "title": "t", "status": 401, "detail": "it is over"})
        elif not self.server.anonymous:
            self._answer(401, {"code": "unauthenticated", "title": "t", "status": 401, "detail": "who?"})
        else:
            self._answer(200, {"items": [], "next": None})

    do_POST = do_GET  # noqa: N815 - as the server asks for it

    def _answer(self, status: int, told: dict[str, object]) -> None:
        body = json.dumps({"type": "about:blank", "hint": "", "instance": "i", **told}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Gateway]:
    """A gateway that was restarted since somebody logged in."""
    server = _Gateway(("127.0.0.1", 0), _Face)
    server.asked = []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ANDON_TOKEN", raising=False)
    late = datetime(9000, 1, 1, tzinfo=UTC)
    login = Login(user="ada", token="as_1", expires_at=late, refresh="ar_1", refresh_expires_at=late)
    Logins({"XDG_CONFIG_HOME": str(tmp_path)}).keep(_url(server), login)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    assert server.renewals <= 1, "what is not known is not asked for again"
    server.shutdown()
    server.server_close()
    thread.join(5)


def _url(server: _Gateway) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def _run(server: _Gateway, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--url", _url(server)])


def test_what_is_only_read_is_asked_for_without_it_and_said_so(there: _Gateway) -> None:
    done = _run(there, "state", "--json")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "has ended" in done.stderr
    assert there.asked == [("/api/v1/equipment", True), ("/api/v1/equipment", False)]


def test_it_is_said_once_for_all_questions(there: _Gateway) -> None:
    done = _run(there, "state")
    assert done.exit_code == 0
    assert done.stderr.count("has ended") == 1


def test_where_nothing_is_open_it_says_how_to_go_on(there: _Gateway) -> None:
    there.anonymous = False
    done = _run(there, "state")
    assert isinstance(done.exception, Refused)
    assert "andon login" in done.exception.hint
    assert len(there.asked) == 2


def test_a_token_that_is_named_is_meant(there: _Gateway) -> None:
    done = _run(there, "state", "--token", "as_1")
    assert isinstance(done.exception, Refused)
    assert done.exception.code == "session_ended"
    assert len(there.asked) == 1


def test_nothing_is_changed_as_somebody_else(there: _Gateway) -> None:
    done = _run(there, "correct", "filler-1", "--withdraw", "1", "--reason", "it was the other one")
    assert isinstance(done.exception, Refused)
    assert done.exception.code == "session_ended"
    assert [known for _, known in there.asked] == [True]


def test_events_come_without_it(there: _Gateway) -> None:
    there.anonymous = False
    done = _run(there, "tail", "--json")
    assert isinstance(done.exception, Refused)
    assert done.exception.code == "unauthenticated"
    assert there.asked == [("/api/v1/events", True), ("/api/v1/events", False)]
    assert "has ended" in done.stderr
