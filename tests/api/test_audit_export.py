"""An export of the audit trail: refused in words before anything goes out, and never taken for whole when it
is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from api.app import create_app
from api.auditing import AuditUnavailable
from api.server import Server
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.desk_twins import AuditTwin, whole_ports
from tests.api.twins import Plant

EXPORT = "/api/v1/audit/export"
PART = b'{"n":1}\n'


class Failing(AuditTwin):
    """Gives so many parts; then the disk refuses, or, with an access, the caller's right ends."""

    def __init__(self, parts: int, ends: AccessTwin | None = None) -> None:
        super().__init__()
        self.parts, self.ends, self.given = parts, ends, 0

    async def export(self, after: int, through: int) -> AsyncIterator[bytes]:
        while self.given < self.parts:
            self.given += 1
            yield PART
        if self.ends is None:
            raise AuditUnavailable("the audit trail cannot be read: Input/output error")
        self.ends.gone.add("key:test")
        for _ in range(3):
            self.given += 1
            yield PART


@asynccontextmanager
async def served(plant: Plant, audit: AuditTwin, access: AccessTwin) -> AsyncIterator[httpx.AsyncClient]:
    """The API on a socket: only there can an answer break off."""
    ports = msgspec.structs.replace(whole_ports(plant, access), audit=audit)
    server = Server(create_app(ports, ApiSettings(), now=lambda: plant.now_at), "127.0.0.1", 0)
    await server.start()
    headers = {"Authorization": "Bearer ak_all"}
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", headers=headers, trust_env=False, timeout=45
        ) as client:
            yield client
    finally:
        await server.stop()


async def test_a_trail_that_cannot_be_read_is_said_before_the_answer_begins(plant: Plant) -> None:
    async with served(plant, Failing(0), AccessTwin()) as client:
        told = await client.get(EXPORT)
        assert (told.status_code, told.json()["code"]) == (503, "audit_unavailable")
        assert "Input/output error" in told.json()["detail"]
        assert "retry-after" in told.headers


@pytest.mark.parametrize("parts", [1, 2])
async def test_an_export_that_cannot_go_on_is_not_taken_for_whole(
    plant: Plant, parts: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(plant, Failing(parts), AccessTwin()) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(EXPORT)
    (said,) = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert "Input/output error" in said.getMessage()


async def test_an_export_ends_with_the_right_to_it(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    access = AccessTwin()
    audit = Failing(2, ends=access)
    async with served(plant, audit, access) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(EXPORT)
    assert audit.given == 3, "nothing is read any more"
    assert [record.levelname for record in caplog.records if record.levelno >= 30] == ["WARNING"]


async def test_nothing_to_export_is_an_empty_answer(plant: Plant) -> None:
    class Empty(AuditTwin):
        async def export(self, after: int, through: int) -> AsyncIterator[bytes]:
            if after > through:
                yield PART

    async with served(plant, Empty(), AccessTwin()) as client:
        told = await client.get(EXPORT)
        assert (told.status_code, told.content) == (200, b"")
        whole = await client.head(EXPORT)
        assert (whole.status_code, whole.content) == (200, b"")
