"""A whole gateway over TLS, from its first start: who gets in, and how soon who is out is out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import GatewayProcess, free_port
from tests.support.server_certificate import make_certificate

PATIENCE_S = 45.0
CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"

[api]
listen = "127.0.0.1:{port}"
anonymous = "none"
tls = {{ cert_file = "server.pem", key_file = "key.pem" }}
"""
NEW_PASSWORD = "four words nobody joins 7"


async def test_from_the_first_start_to_a_revoked_key(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "andon.toml"
    config.write_text(CONFIG.format(port=port), encoding="utf-8")
    make_certificate(tmp_path, days=(-1, 60))
    process, url = GatewayProcess(config, port), f"https://127.0.0.1:{port}"
    await process.launch()
    trusted = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    try:
        async with httpx.AsyncClient(verify=trusted, base_url=url, timeout=PATIENCE_S) as client:
            await _serving(client)
            await _nobody_is_told_anything(client, port)
            admin = await _first_admin(client, tmp_path)
            await _a_revoked_key_ends_its_stream(client, admin)
            await _a_renewed_certificate(tmp_path, port)
    finally:
        await process.stop()


async def _serving(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if (await client.get("/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def _nobody_is_told_anything(client: httpx.AsyncClient, port: int) -> None:
    answer = await client.get("/api/v1/equipment")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["strict-transport-security"]
    answer = await client.get("/healthz", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")
    assert set((await client.get("/readyz")).json()) == {"status", "ready"}
    assert (await client.get("/metrics")).status_code == 401
    for default in ("admin", "andon", "password", ""):
        answer = await client.post("/api/v1/sessions", json={"user": "admin", "password": default or "x"})
        assert answer.status_code in (401, 429)
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    with plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(100).startswith(b"HTTP")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _first_admin(client: httpx.AsyncClient, folder: Path) -> dict[str, str]:
    """Log in with what the first start left, take a password of one's own, and log in with it."""
    left = (folder / "data" / "access" / "first-admin").read_text(encoding="utf-8")
    secret = left.split()[-1]
    first = (await _log_in(client, secret))["token"]
    answer = await client.get("/api/v1/equipment", headers=_bearer(first))
    assert answer.json()["code"] == "password_must_change"
    change = {"old": secret, "new": NEW_PASSWORD}
    answer = await client.post("/api/v1/sessions/own/password", json=change, headers=_bearer(first))
    assert answer.status_code == 204, answer.text
    return _bearer((await _log_in(client, NEW_PASSWORD))["token"])


async def _log_in(client: httpx.AsyncClient, password: str) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await client.post("/api/v1/sessions", json={"user": "admin", "password": password})
            if answer.status_code != 429:  # what was guessed before costs a pause
                assert answer.status_code == 201, answer.text
                return answer.json()
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))


async def _a_revoked_key_ends_its_stream(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    added = await client.post("/api/v1/keys", json={"name": "mes", "roles": ["viewer"]}, headers=admin)
    assert added.status_code == 201, added.text
    key, secret = added.json()["key"], added.json()["secret"]
    async with client.stream("GET", "/api/v1/events", headers=_bearer(secret)) as stream:
        told = stream.aiter_text()
        assert "retry:" in await anext(told)
        version = {"If-Match": f'"{key["version"]}"'}
        gone = await client.delete(f"/api/v1/keys/{key['id']}", headers=admin | version)
        assert gone.status_code == 204, gone.text
        answer = await client.get("/api/v1/equipment", headers=_bearer(secret))
        assert answer.status_code == 401
        async with asyncio.timeout(PATIENCE_S):
            async for _ in told:
                pass  # to its end


async def _a_renewed_certificate(folder: Path, port: int) -> None:
    make_certificate(folder, days=(-1, 90))
    renewed = ssl.create_default_context(cafile=str(folder / "server.pem"))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=renewed)
            except ssl.SSLError:  # self-signed: only the new one leads to itself
                await asyncio.sleep(0.1)
                continue
            writer.close()
            return
