"""What a verb says of a gateway it cannot talk to because one of the two speaks no TLS, or another does."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.client import way_there
from tests.support.server_certificate import make_certificate

_VERBS = pytest.mark.parametrize(
    "verb", [("state",), ("user", "list"), ("config", "revisions"), ("command", "show")], ids=" ".join
)


@pytest.fixture(autouse=True)
def _nobody_has_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ANDON_TOKEN", raising=False)
    monkeypatch.delenv("ANDON_CA", raising=False)


class _Quiet(http.server.ThreadingHTTPServer):
    """Handshakes that fail are what these tests are about."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def _served(context: ssl.SSLContext | None) -> Iterator[int]:
    server = _Quiet(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def plain() -> Iterator[int]:
    """The port of a server without TLS."""
    yield from _served(None)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[int]:
    """The port of a server whose certificate nobody here knows, and which is for 127.0.0.2."""
    der, key = make_certificate(tmp_path, host="127.0.0.2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(der.with_name("server.pem"), key)
    yield from _served(context)


def _said(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, Exception), done.output
    return f"{done.exception} {getattr(done.exception, 'hint', '')}"


@_VERBS
def test_an_unknown_authority_can_be_named(verb: tuple[str, ...], secure: int) -> None:
    assert "--ca FILE" in _said(*verb, "--url", f"https://127.0.0.1:{secure}")


@_VERBS
def test_a_gateway_without_tls_is_asked_without(verb: tuple[str, ...], plain: int) -> None:
    assert "ask it by http://" in _said(*verb, "--url", f"https://127.0.0.1:{plain}")


@_VERBS
def test_a_certificate_for_another_name_is_told_as_that(
    verb: tuple[str, ...], secure: int, tmp_path: Path
) -> None:
    ca = str(tmp_path / "server.pem")
    assert "is for another name" in _said(*verb, "--url", f"https://127.0.0.1:{secure}", "--ca", ca)


def test_one_with_tls_that_is_asked_without_is_told_as_that() -> None:
    reason = "no gateway answers at http://127.0.0.1:8420: Server disconnected without sending a response."
    assert "https://" in way_there(reason)


def test_a_certificate_that_is_over_needs_no_other_authority(tmp_path: Path) -> None:
    der, key = make_certificate(tmp_path, days=(-9, -1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(der.with_name("server.pem"), key)
    ca = str(tmp_path / "server.pem")
    for port in _served(context):
        assert "renew it there" in _said("state", "--url", f"https://127.0.0.1:{port}", "--ca", ca)
