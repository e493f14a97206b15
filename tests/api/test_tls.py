"""TLS: which versions, which headers, and certificates that are renewed, broken, late or over."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI

from api.server import Server
from api.tls import Certificate, CertificateUnusable
from gateway.assembly.serving import certificate_trouble, serving_figures
from tests.api.listening import PATIENCE_S
from tests.support.server_certificate import make_certificate


def written(folder: Path, days: tuple[int, int] = (-1, 60)) -> tuple[Path, Path]:
    """A certificate and its key, as PEM."""
    der, key = make_certificate(folder, days=days)
    return der.with_name("server.pem"), key


@pytest.fixture
async def server(app: FastAPI, tmp_path: Path) -> AsyncIterator[Server]:
    certificate = Certificate(*written(tmp_path))
    server = Server(app, "127.0.0.1", 0, request_s=10 * PATIENCE_S, certificate=certificate)
    server.refresh_s = 0.02
    await server.start()
    yield server
    await server.stop()


def client_of(folder: Path, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "server.pem"))
    for name, version in versions.items():
        setattr(context, name, version)
    return context


async def shown(server: Server) -> bytes:
    """The certificate the server shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(found)


async def test_it_is_served_over_tls_and_says_that_it_stays_so(server: Server, tmp_path: Path) -> None:
    async with httpx.AsyncClient(verify=client_of(tmp_path), timeout=PATIENCE_S) as client:
        answer = await client.get(f"https://127.0.0.1:{server.port}/healthz")
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_without_tls_nothing_is_told_there(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    assert b"HTTP/1.1" not in answer
    writer.close()


async def test_a_plain_server_asks_no_browser_for_tls(app: FastAPI) -> None:
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}/healthz")
    assert "strict-transport-security" not in answer.headers
    await server.stop()


@pytest.mark.parametrize(("version", "taken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_are_refused(server: Server, tmp_path: Path, version: str, taken: bool) -> None:
    context = client_of(tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        assert not taken
    else:
        assert taken
        writer.close()


async def test_a_renewed_certificate_is_shown_and_nobody_is_cut_off(server: Server, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client_of(tmp_path))
    before = await shown(server)
    written(tmp_path, (-1, 90))
    async with asyncio.timeout(PATIENCE_S):
        while await shown(server) == before:
            await asyncio.sleep(0.01)
    assert server.certificate is not None
    assert server.certificate.expires_at > datetime.now(UTC) + timedelta(days=80)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_requests_during_renewals_are_all_answered(server: Server, tmp_path: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    done = asyncio.Event()

    async def ask() -> int:
        count = 0
        while not done.is_set():
            async with httpx.AsyncClient(verify=context, timeout=PATIENCE_S) as client:
                assert (await client.get(f"https://127.0.0.1:{server.port}/healthz")).status_code == 200
            count += 1
        return count

    asking = asyncio.create_task(ask())
    for days in range(60, 70):
        await asyncio.to_thread(written, tmp_path, (-1, days))
        await asyncio.sleep(0.03)  # the pace of the renewals; nothing is waited for
    done.set()
    assert await asking > 0


def test_a_pair_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    cert, key = written(tmp_path)
    certificate = Certificate(cert, key)
    until = certificate.expires_at
    assert certificate.refresh() is False
    other = ec.generate_private_key(ec.SECP256R1())
    good = key.read_bytes()
    key.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    assert certificate.refresh() is False
    trouble = certificate.trouble(datetime.now(UTC))
    assert trouble is not None
    assert "server.pem and key.pem" in trouble
    assert str(tmp_path) not in trouble
    assert certificate.expires_at == until
    key.write_bytes(good)
    assert certificate.refresh() is True
    assert certificate.trouble(datetime.now(UTC)) is None


@pytest.mark.parametrize("broken", ["no cert", "no key", "empty", "text", "encrypted"])
def test_files_that_cannot_be_used_are_refused_without_asking_anybody(tmp_path: Path, broken: str) -> None:
    cert, key = written(tmp_path)
    if broken == "no cert":
        cert.unlink()
    elif broken == "no key":
        key.unlink()
    elif broken == "empty":
        cert.write_bytes(b"")
    elif broken == "text":
        key.write_text("secret")
    else:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(
            loaded.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"passphrase"),
            )
        )
    with pytest.raises(CertificateUnusable) as caught:
        Certificate(cert, key)
    assert "server.pem and key.pem" in caught.value.reason
    assert str(tmp_path) not in caught.value.reason


def test_a_link_that_is_exchanged_counts_as_a_change(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    written(first), written(second, (-1, 200))
    live = tmp_path / "live"
    live.symlink_to(first)
    certificate = Certificate(live / "server.pem", live / "key.pem")
    (tmp_path / "next").symlink_to(second)
    (tmp_path / "next").replace(live)
    assert certificate.refresh() is True
    assert certificate.expires_at > datetime.now(UTC) + timedelta(days=190)


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(days=40), None),
        (timedelta(days=30), "expires within 30 days"),
        (timedelta(days=7, hours=1), "expires within 30 days"),
        (timedelta(days=7), "expires within 7 days"),
        (timedelta(hours=24), "expires within 1 day"),
        (timedelta(seconds=1), "expires within 1 day"),
        (timedelta(0), "has expired"),
        (timedelta(days=-3), "has expired"),
    ],
)
async def test_the_end_of_a_certificate_is_told_in_time(
    app: FastAPI, tmp_path: Path, left: timedelta, told: str | None
) -> None:
    certificate = Certificate(*written(tmp_path))
    server, now = Server(app, "127.0.0.1", 0, certificate=certificate), certificate.expires_at - left
    trouble = certificate_trouble(server, now)
    assert (trouble is None) if told is None else (trouble is not None and told in trouble)
    figures = {metric.name: metric.samples[0].value for metric in serving_figures(server, now)}
    assert figures["andon_api_certificate_expires_seconds"] == left.total_seconds()


async def test_who_does_not_agree_on_tls_is_dropped(
    app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server._HANDSHAKE_S", 0.2)
    server = Server(app, "127.0.0.1", 0, certificate=Certificate(*written(tmp_path)))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()
    await server.stop()
