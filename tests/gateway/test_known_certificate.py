"""A gateway found by its configuration is known by the very certificate named there, whoever that is for."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.support.server_certificate import make_certificate

#: What only an answer under TLS can bring about: the server there is no gateway.
_ANSWERED = "but not like a gateway"


@pytest.fixture(autouse=True)
def _nobody_has_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ANDON_TOKEN", raising=False)
    monkeypatch.delenv("ANDON_CA", raising=False)


class _Quiet(http.server.ThreadingHTTPServer):
    """Handshakes that fail are what these tests are about."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a server whose certificate is for another name than it is asked by here."""
    der, key = make_certificate(tmp_path / "plant", host="127.0.0.2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(der.with_name("server.pem"), key)
    server = _Quiet(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


def _config(folder: Path, port: int, cert_file: str = "plant/server.pem") -> str:
    path = folder / "andon.toml"
    tls = f'tls = {{ cert_file = "{cert_file}", key_file = "plant/key.pem" }}'
    path.write_text(f'[api]\nlisten = "0.0.0.0:{port}"\n{tls}\n')
    return str(path)


def _said(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, Exception), done.output
    return f"{done.exception} {getattr(done.exception, 'hint', '')}"


@pytest.mark.parametrize("verb", [("state",), ("config", "revisions"), ("command", "show")], ids=" ".join)
def test_a_certificate_without_a_loopback_name_is_known(
    verb: tuple[str, ...], port: int, tmp_path: Path
) -> None:
    assert _ANSWERED in _said(*verb, "--config", _config(tmp_path, port))


def test_another_address_is_held_to_authorities_and_names(port: int, tmp_path: Path) -> None:
    told = _said("state", "--config", _config(tmp_path, port), "--url", f"https://127.0.0.1:{port}")
    assert "CERTIFICATE_VERIFY_FAILED" in told


def test_authorities_that_are_named_count_instead(port: int, tmp_path: Path) -> None:
    ca = str(tmp_path / "plant" / "server.pem")
    assert "is for another name" in _said("state", "--config", _config(tmp_path, port), "--ca", ca)


def test_only_the_first_certificate_of_the_file_is_that_of_the_gateway(port: int, tmp_path: Path) -> None:
    other, _ = make_certificate(tmp_path / "other", host="127.0.0.3")
    chain = tmp_path / "chain.pem"
    own = (tmp_path / "plant" / "server.pem").read_text()
    chain.write_text(other.with_name("server.pem").read_text() + own)
    assert "CERTIFICATE_VERIFY_FAILED" in _said("state", "--config", _config(tmp_path, port, "chain.pem"))
    chain.write_text(own + other.with_name("server.pem").read_text())
    assert _ANSWERED in _said("state", "--config", _config(tmp_path, port, "chain.pem"))


def test_without_the_file_the_authorities_are_asked(port: int, tmp_path: Path) -> None:
    assert "--ca FILE" in _said("state", "--config", _config(tmp_path, port, "elsewhere.pem"))
