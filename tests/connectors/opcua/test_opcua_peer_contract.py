"""The suite of all connectors, run on OPC UA against node-opcua: without security, and with every policy."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from asyncua import ua

from connectors.base import Connector
from connectors.opcua.pki import Pki
from statemodel.types import TagValue
from tests.connectors.contract import ConnectorContract
from tests.connectors.opcua.plant import Plant, build
from tests.support.peer import Peer, running_peer
from tests.support.server_certificate import make_certificate

POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")


class PeerHarness:
    connection = "plc"
    values: ClassVar[dict[str, TagValue]] = {
        "state": 6,
        "speed": 1.5,
        "run": True,
        "name": "Füller 1",
        "count": 2**53 + 1,
    }
    changed = ("state", 17)
    spoilt = "speed"
    groups = frozenset({"fast", "slow"})

    def __init__(self, peer: Peer, data_dir: Path, settings: dict[str, Any]) -> None:
        self.peer = peer
        self.data_dir = data_dir
        self.settings = settings

    async def start(self) -> None:
        await self.peer.start()

    async def stop(self) -> None:
        await self.peer.stop()

    async def set(self, tag: str, value: TagValue) -> None:
        await self.peer.set(tag, value)

    async def make_bad(self, tag: str) -> None:
        await self.peer.set(tag, None, status=int(ua.StatusCodes.BadDeviceFailure))

    async def make_good(self, tag: str) -> None:
        await self.set(tag, self.values[tag])

    def build(self) -> Connector:
        return build(Plant(self.peer.port), self.data_dir, **({"keep_alive": "1s"} | self.settings))


class TestPeer(ConnectorContract):
    @pytest.fixture
    async def device(self, tmp_path: Path) -> AsyncIterator[PeerHarness]:
        async with running_peer(tmp_path) as peer:
            yield PeerHarness(peer, tmp_path / "data", {})


class TestPeerWithSecurity(ConnectorContract):
    @pytest.fixture(params=POLICIES)
    async def device(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[PeerHarness]:
        certificate, key = make_certificate(tmp_path / "server")
        data_dir = with_identity(tmp_path)
        (data_dir / "opcua/trusted/certs/plant.der").write_bytes(certificate.read_bytes())
        settings = {
            "security": {"policy": request.param, "mode": "SignAndEncrypt"},
            "user": "andon",
            "password": "geheim",
        }
        async with running_peer(tmp_path) as peer:
            peer.options |= {
                "certificate": str(certificate.with_suffix(".pem")),
                "key": str(key),
                "policies": [request.param],
                "modes": ["SignAndEncrypt"],
                "user": ["andon", "geheim"],
            }
            yield PeerHarness(peer, data_dir, settings)


def with_identity(tmp_path: Path) -> Path:
    """A data directory whose gateway has its certificate: made once in a run, as it takes a second."""
    shared = tmp_path.parent / "identity"
    if not shared.exists():
        Pki(shared).identity(datetime.now(UTC))
    shutil.copytree(shared, tmp_path / "data")
    return tmp_path / "data"
