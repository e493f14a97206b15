"""Modbus over TLS: who is trusted, and what is said when somebody is not."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from connectors.errors import DeviceRefused
from tests.connectors.contract import PATIENT, RecordingLink, running
from tests.connectors.modbus.certificates import Certificates, make_certificates
from tests.connectors.modbus.device import ScriptedDevice
from tests.connectors.modbus.test_links import both, connector, lost_soon, serving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


async def test_a_certificate_of_a_strange_authority_is_refused(certificates: Certificates) -> None:
    async with serving(ScriptedDevice(speaks="tls", tls=certificates.server())) as device:
        tls = certificates.settings(ca=str(certificates.folder / "stranger.pem"))
        with pytest.raises(DeviceRefused, match="is not trusted") as caught:
            await connector(device.endpoint, tls=tls).run(RecordingLink())
        assert "tls.ca" in caught.value.hint
        assert device.requests == []
        with pytest.raises(DeviceRefused, match="is not trusted"):
            await connector(device.endpoint).run(RecordingLink())


async def test_a_certificate_for_another_name_is_refused_unless_that_is_said(
    certificates: Certificates,
) -> None:
    async with serving(ScriptedDevice(speaks="tls", tls=certificates.server())) as device:
        wrong = certificates.settings(host="other.test")
        with pytest.raises(DeviceRefused, match="not trusted"):
            await connector(device.endpoint, tls=wrong).run(RecordingLink())
        for right in (certificates.settings(host="plc.test"), {**wrong, "check_host": False}):
            link = RecordingLink()
            async with running(connector(device.endpoint, tls=right), link):
                await both(link, 1)


async def test_a_device_that_wants_a_certificate_and_gets_none(certificates: Certificates) -> None:
    async with serving(ScriptedDevice(speaks="tls", tls=certificates.server(wants_client=True))) as device:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # the device's own words
        tls = {"ca": str(certificates.folder / "ca.pem")}
        error = await lost_soon(connector(device.endpoint, tls=tls))
    assert error.reason


async def test_files_that_are_not_there_are_named(certificates: Certificates) -> None:
    tls = certificates.settings(key="/nowhere/andon.key")
    with pytest.raises(DeviceRefused, match=r"/nowhere/andon\.key"):
        await connector("tls://127.0.0.1:1", tls=tls).run(RecordingLink())


def locked_key(certificates: Certificates, folder: Path) -> str:
    """The client's key behind a password."""
    plain = serialization.load_pem_private_key(
        Path(str(certificates.settings()["key"])).read_bytes(), password=None
    )
    locked = folder / "locked.key"
    locked.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return str(locked)


async def test_an_encrypted_key_is_refused_and_nobody_is_asked(
    certificates: Certificates, tmp_path: Path
) -> None:
    settings = certificates.settings(key=locked_key(certificates, tmp_path))
    with pytest.raises(DeviceRefused, match=r"locked\.key\) is encrypted") as caught:
        await connector("tls://127.0.0.1:1", tls=settings).read_once()
    assert "without a password" in caught.value.hint


async def test_plain_modbus_behind_a_tls_endpoint_is_said(certificates: Certificates) -> None:
    async with serving(ScriptedDevice()) as device:
        endpoint = device.endpoint.replace("tcp://", "tls://")
        error = await lost_soon(connector(endpoint, tls=certificates.settings(), connect_timeout=PATIENT))
        assert "speak TLS on this port" in error.hint
        assert device.errors, "what TLS begins with is no Modbus"
        device.errors.clear()


def test_old_versions_of_tls_are_not_spoken() -> None:
    from connectors.modbus.config import TlsSettings
    from connectors.modbus.opening import _context

    assert _context(TlsSettings()).minimum_version is ssl.TLSVersion.TLSv1_2
    assert _context(TlsSettings(check_host=False)).verify_mode is ssl.CERT_REQUIRED
