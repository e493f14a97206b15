"""Modbus over TLS: who is trusted, and what is said when somebody is not."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from connectors.errors import DeviceRefused
from tests.connectors.contract import RecordingLink, running
from tests.connectors.modbus.certificates import Certificates, make_certificates
from tests.connectors.modbus.device import ScriptedDevice
from tests.connectors.modbus.test_links import both, connector, lost_within, serving


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
        error = await lost_within(connector(device.endpoint, tls=tls), 2.0)
    assert error.reason


async def test_files_that_are_not_there_are_named(certificates: Certificates) -> None:
    tls = certificates.settings(key="/nowhere/andon.key")
    with pytest.raises(DeviceRefused, match=r"/nowhere/andon\.key"):
        await connector("tls://127.0.0.1:1", tls=tls).run(RecordingLink())


async def test_plain_modbus_behind_a_tls_endpoint_is_said(certificates: Certificates) -> None:
    async with serving(ScriptedDevice()) as device:
        endpoint = device.endpoint.replace("tcp://", "tls://")
        error = await lost_within(
            connector(endpoint, tls=certificates.settings(), connect_timeout="500ms"), 2.0
        )
        assert "speak TLS on this port" in error.hint
        assert device.errors, "what TLS begins with is no Modbus"
        device.errors.clear()


def test_old_versions_of_tls_are_not_spoken() -> None:
    from connectors.modbus.config import TlsSettings
    from connectors.modbus.opening import _context

    assert _context(TlsSettings()).minimum_version is ssl.TLSVersion.TLSv1_2
    assert _context(TlsSettings(check_host=False)).verify_mode is ssl.CERT_REQUIRED
