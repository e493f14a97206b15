"""Certificates that are renewed, run out, do not fit or were revoked; with Mosquitto, the whole way."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.config.schema import MqttSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.certificates import CertificateWatch, look_at, reached, until
from gateway.mqtt.link import Link
from gateway.mqtt.options import LinkOptions, files_of, link_options, tls_context
from gateway.mqtt.reasons import Renewed
from gateway.mqtt.retry import Retry
from tests.gateway.publish.support import GATEWAY, WAIT_S, Mosquitto, within
from tests.gateway.publish.support import until as come_true
from tests.support.certificates import Authority, Issued

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class HastyClock(SystemClock):
    """Every wait is a hundredth of a second; the date is what the test says."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await super().sleep(0.01)


def pair(directory: Path, name: str, *, begins: datetime, ends: datetime) -> Issued:
    """A certificate signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    issued = Issued(directory / f"{name}.pem", directory / f"{name}.key")
    issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return issued


def good_for(directory: Path, name: str, days: float) -> Issued:
    return pair(directory, name, begins=NOW - timedelta(days=1), ends=NOW + timedelta(days=days))


def options_of(issued: Issued, **more: Any) -> LinkOptions:
    settings = MqttSettings(
        broker="mqtts://127.0.0.1:8883", cert_file=str(issued.certificate), key_file=str(issued.key)
    )
    return replace(link_options(settings, GATEWAY), **more)


def put(source: Path, target: Path) -> None:
    """Replace a file at once, as whoever renews certificates does."""
    copy = target.with_suffix(".new")
    shutil.copy(source, copy)
    copy.replace(target)


async def test_new_files_that_load_are_told_at_once(tmp_path: Path) -> None:
    old, new = good_for(tmp_path, "old", 40), good_for(tmp_path, "new", 400)
    watch = CertificateWatch(options := options_of(old), HastyClock())
    since = files_of(options)
    changed = asyncio.create_task(watch.changed(since))
    await come_true(lambda: watch.own_until is not None, "looked at")
    assert watch.own_days_left == pytest.approx(40)
    assert not changed.done()
    put(new.certificate, old.certificate)
    put(new.key, old.key)
    await within(changed)
    assert watch.own_days_left == pytest.approx(400)
    assert (watch.problem, watch.warnings()) == ("", ())


@pytest.mark.parametrize("bad", ["mismatch", "garbage", "missing", "ended", "not yet"])
async def test_files_of_no_use_change_nothing_and_are_told(tmp_path: Path, bad: str) -> None:
    ours = good_for(tmp_path, "ours", 100)
    watch = CertificateWatch(options := options_of(ours), HastyClock())
    since = files_of(options)
    keep = ours.certificate.read_bytes()
    with capture_logs() as logs:
        changed = asyncio.create_task(watch.changed(since))
        await come_true(lambda: watch.own_until is not None, "looked at")
        if bad == "mismatch":
            put(good_for(tmp_path, "other", 100).certificate, ours.certificate)
        elif bad == "garbage":
            ours.certificate.write_text("not a certificate")
        elif bad == "missing":
            ours.key.unlink()
        else:
            days = -1 if bad == "ended" else 3
            other = pair(
                tmp_path,
                "other",
                begins=NOW + timedelta(days=days - 2 if days < 0 else 2),
                ends=NOW + timedelta(days=days),
            )
            put(other.certificate, ours.certificate)
            put(other.key, ours.key)
        await come_true(lambda: bool(watch.problem), "told")
        assert "ours" in watch.problem
        assert watch.warnings() == (watch.problem,)
        assert not changed.done()
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert [entry["event"] for entry in logs] == ["certificate files are of no use"], "once"
    if bad == "garbage":
        ours.certificate.write_bytes(keep)
        await within(changed)
        assert vars(watch)["problem"] == ""
    changed.cancel()


class SteppedClock(HastyClock):
    """A wait ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.go = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waits.set()
        await self.go.wait()
        self.go.clear()

    async def next_look(self) -> None:
        self.waits.clear()
        self.go.set()
        await within(self.waits.wait())


async def test_a_renewal_that_is_halfway_is_no_fault(tmp_path: Path) -> None:
    """It writes one file and then the other, and we may look in between."""
    ours, new = good_for(tmp_path, "ours", 10), good_for(tmp_path, "new", 400)
    clock = SteppedClock()
    watch = CertificateWatch(options := options_of(ours), clock)
    with capture_logs() as logs:
        changed = asyncio.create_task(watch.changed(files_of(options)))
        await within(clock.waits.wait())
        logs.clear()  # ten days are few
        put(new.certificate, ours.certificate)
        await clock.next_look()
        assert watch.problem == ""
        put(new.key, ours.key)
        clock.go.set()
        await within(changed)
        assert logs == []


async def test_people_are_warned_thirty_seven_and_one_day_before_and_at_the_end(tmp_path: Path) -> None:
    ours = good_for(tmp_path, "ours", 40)
    clock = HastyClock()
    watch = CertificateWatch(options := options_of(ours), clock)
    watch.broker_until = NOW + timedelta(days=400)
    with capture_logs() as logs:
        watching = asyncio.create_task(watch.changed(files_of(options)))
        for days, wanted in ((5, 0), (11, 1), (20, 1), (33.5, 2), (38, 2), (39.5, 3)):
            clock.at = NOW + timedelta(days=days)
            await come_true(lambda due=wanted: len(logs) >= due, "warned")  # type: ignore[misc]
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert len(logs) == wanted, days
        assert {(entry["event"], entry["whose"]) for entry in logs} == {("certificate ends soon", "our")}
        assert watch.warnings() == ("our certificate for mqtts://127.0.0.1:8883 ends in 0.5 days",)
    watching.cancel()


def test_each_threshold_is_reached_once() -> None:
    days = [400.0, 30.1, 30.0, 8.0, 7.0, 1.5, 1.0, 0.1, 0.0, -5.0]
    assert [reached(left) for left in days] == [None, None, 30, 30, 7, 7, 1, 1, 0, 0]
    assert reached(None) is None


def test_what_is_no_certificate_has_no_end() -> None:
    assert until(b"garbage") is None
    assert until(b"-----BEGIN CERTIFICATE-----\n") is None


def test_a_certificate_of_a_version_there_is_not_has_no_end(tmp_path: Path) -> None:
    issued = good_for(tmp_path, "odd", 10)
    der = x509.load_pem_x509_certificate(issued.certificate.read_bytes()).public_bytes(
        serialization.Encoding.DER
    )
    third, sixth = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"
    odd = der.replace(third, sixth, 1)
    assert until(der) is not None
    assert until(odd) is None
    issued.certificate.write_bytes(ssl.DER_cert_to_PEM_cert(odd).encode())
    assert look_at(options_of(issued), NOW).until is None


@pytest.mark.parametrize("apart", [True, False])
def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path, apart: bool) -> None:
    """OpenSSL would ask at the terminal, and wait there for ever."""
    issued = good_for(tmp_path, "ours", 10)
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    options = options_of(issued, section="[sparkplug]")
    if apart:
        issued.key.write_bytes(locked)
    else:
        issued.certificate.write_bytes(issued.certificate.read_bytes() + locked)
        options = replace(options, key_file=None)
    with pytest.raises(SinkRefused, match="is encrypted") as refused:
        tls_context(options)
    assert str(issued.key if apart else issued.certificate) in refused.value.reason
    assert "set key_file in [sparkplug]" in refused.value.hint
    assert "is encrypted" in look_at(options, NOW).problem


async def test_without_tls_there_is_nothing_to_watch() -> None:
    options = link_options(MqttSettings(broker="mqtt://127.0.0.1:1883"), GATEWAY)
    watch = CertificateWatch(options, SystemClock())
    with pytest.raises(TimeoutError):
        await within(watch.changed(()), 0.05)
    assert (watch.own_days_left, watch.broker_days_left, watch.warnings()) == (None, None, ())


def test_files_that_change_while_they_are_read_are_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = good_for(tmp_path, "ours", 10)
    seen = iter([(), ((1, 1, 1),)])
    monkeypatch.setattr("gateway.mqtt.certificates.files_of", lambda _: next(seen))
    assert "change all the time" in look_at(options_of(ours), NOW).problem


def test_a_renewal_is_no_failure_to_wait_after() -> None:
    retry = Retry()
    assert retry.failed(Renewed("new"), up_for_s=5.0, random01=0.5) == 0.0
    assert retry.alarm == ""


# --- Mosquitto


def tls_broker(mosquitto: Mosquitto, authority: Authority) -> None:
    server = authority.issue("127.0.0.1")
    mosquitto.lines += [
        f"cafile {authority.file}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
        "use_identity_as_username true",
    ]


def tls_options(mosquitto: Mosquitto, authority: Authority, client: Issued) -> LinkOptions:
    files = {
        "broker": f"mqtts://127.0.0.1:{mosquitto.port}",
        "ca_file": str(authority.file),
        "cert_file": str(client.certificate),
        "key_file": str(client.key),
    }
    return link_options(mosquitto.settings().model_copy(update=files), GATEWAY)


@pytest.mark.real
async def test_a_renewed_client_certificate_is_used_without_a_restart(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    tls_broker(mosquitto, authority)
    await mosquitto.start()
    first, second = authority.issue("first"), authority.issue("second")
    options = tls_options(mosquitto, authority, first)
    clock = SystemClock()
    watch = CertificateWatch(options, clock, check_s=0.01)
    link = await within(Link.open(options, clock, will=None))
    watching = asyncio.create_task(watch.watch(link))
    await come_true(lambda: watch.own_until is not None, "looked at")
    assert watch.broker_days_left is not None
    assert watch.broker_days_left > 0
    put(second.certificate, first.certificate)
    put(second.key, first.key)
    with pytest.raises(Renewed):
        await within(watching)
    assert link.publish("t", b"still there")
    await within(link.room(1))
    assert await link.stop(WAIT_S)
    link = await within(Link.open(options, clock, will=None))
    watching = asyncio.create_task(watch.watch(link))
    await asyncio.sleep(0.05)
    assert not watching.done(), "once only"
    watching.cancel()
    assert await link.stop(WAIT_S)
    log = mosquitto._log.read_text()
    assert "u'first'" in log
    assert "u'second'" in log


@pytest.mark.real
async def test_a_broker_whose_certificate_was_revoked_is_not_talked_to(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    tls_broker(mosquitto, authority)
    await mosquitto.start()
    client = authority.issue("client")
    options = tls_options(mosquitto, authority, client)
    server = x509.load_pem_x509_certificate((tmp_path / "1.pem").read_bytes())
    plain = authority.file.read_bytes()
    for revoked in (client, None):
        serial = server.serial_number if revoked is None else 4711
        entry = (
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(datetime.now(UTC)).build()
        )
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority._name)
            .last_update(datetime.now(UTC) - timedelta(hours=1))
            .next_update(datetime.now(UTC) + timedelta(days=1))
            .add_revoked_certificate(entry)
            .sign(authority._key, hashes.SHA256())
        )
        authority.file.write_bytes(plain + crl.public_bytes(serialization.Encoding.PEM))
        if revoked is None:
            with pytest.raises(SinkRefused, match="revoked"):
                await within(Link.open(options, SystemClock(), will=None))
        else:
            link = await within(Link.open(options, SystemClock(), will=None))
            assert await link.stop(WAIT_S)


@pytest.mark.real
@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
@pytest.mark.parametrize("shown", ["none", "of somebody else"])
async def test_a_broker_that_does_not_accept_our_certificate_is_told_as_that(
    mosquitto: Mosquitto, tmp_path: Path, version: str, shown: str
) -> None:
    """With TLS 1.3 it says so after everything else has succeeded on our side."""
    (tmp_path / "other").mkdir()
    authority = Authority(tmp_path)
    tls_broker(mosquitto, authority)
    mosquitto.lines.append(f"tls_version {version}")
    await mosquitto.start()
    options = tls_options(mosquitto, authority, Authority(tmp_path / "other").issue("client"))
    if shown == "none":
        options = replace(options, cert_file=None, key_file=None)
    for _ in range(30):
        with pytest.raises((SinkRefused, SinkUnavailable)) as refused:
            await within(Link.open(options, SystemClock(), will=None))
        assert isinstance(refused.value, SinkRefused | SinkUnavailable)
        assert "cert_file and key_file in [mqtt]" in refused.value.hint
        if "does not accept our certificate" in refused.value.reason:
            assert isinstance(refused.value, SinkRefused)
            break  # seldom it closes before we have read why
    else:
        pytest.fail("never told why")


@pytest.mark.real
async def test_a_broker_of_another_name_is_not_talked_to(mosquitto: Mosquitto, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("broker.plant"), authority.issue("client")
    mosquitto.lines += [
        f"cafile {authority.file}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
    ]
    await mosquitto.start()
    with pytest.raises(SinkRefused, match=r"not trusted.*IP address mismatch"):
        await within(Link.open(tls_options(mosquitto, authority, client), SystemClock(), will=None))
