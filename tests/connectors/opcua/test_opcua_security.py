"""Certificates and passwords, against servers that ask for them."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from connectors.errors import DeviceRefused
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.opening import _check_password_is_safe
from connectors.opcua.pki import REJECTED_MAX, Pki
from tests.connectors.contract import RecordingLink, outcome, running
from tests.connectors.opcua.plant import Plant, Users, build

NOW = datetime.now(UTC)
SECURE = {"security": {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}}
_POLICIES = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(
    key: rsa.RSAPrivateKey,
    name: str = "plant",
    *,
    issuer: str | None = None,
    hosts: tuple[str, ...] = (),
    days: tuple[int, int] = (-1, 30),
    authority: bool = False,
) -> x509.Certificate:
    """A certificate signed with the one key of these tests, by itself or by an issuer of the given name."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier("urn:plant:server")]
    names += [x509.DNSName(host) for host in hosts]
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def der(one: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return one.public_bytes(serialization.Encoding.DER)


def put(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


@pytest.fixture
async def plant(key: rsa.RSAPrivateKey, tmp_path: Path) -> AsyncIterator[Plant]:
    """A server with a certificate and one user."""
    put(tmp_path / "server", "cert.der", der(certificate(key)))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    put(tmp_path / "server", "key.pem", pem)
    plant = Plant(
        policies=_POLICIES,
        certificate=(tmp_path / "server/cert.der", tmp_path / "server/key.pem"),
        users=Users("andon", "geheim"),
    )
    yield plant
    await plant.stop()


async def refusal(connector: Any) -> DeviceRefused:
    link = RecordingLink()
    error = await outcome(asyncio.create_task(connector.run(link)))
    assert isinstance(error, DeviceRefused), error
    assert link.ups == 0
    return error


async def test_an_unknown_server_is_refused_until_a_person_moves_its_certificate(
    plant: Plant, tmp_path: Path
) -> None:
    await plant.start()
    connector = build(plant, tmp_path, **SECURE, user="andon", password="geheim")
    error = await refusal(connector)
    (rejected,) = (tmp_path / "opcua/rejected/certs").iterdir()
    trusted = tmp_path / "opcua/trusted/certs"
    assert '"plant" is not trusted yet' in error.reason
    assert str(rejected) in error.hint
    assert str(trusted) in error.hint
    assert not plant.subscriptions()
    rejected.rename(trusted / rejected.name)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        await plant.set("state", 7)
        await link.until_value("plc/state", 7)


@pytest.mark.parametrize(
    ("policy", "mode"),
    [
        ("Basic256Sha256", "Sign"),
        ("Aes128_Sha256_RsaOaep", "SignAndEncrypt"),
        ("Aes256_Sha256_RsaPss", "SignAndEncrypt"),
    ],
)
async def test_all_policies_work(plant: Plant, tmp_path: Path, policy: str, mode: str) -> None:
    await plant.start()
    trust(tmp_path)
    security = {"security": {"policy": policy, "mode": mode}}
    samples = await build(plant, tmp_path, **security, user="andon", password="geheim").read_once()
    assert samples[0].value == 6


def trust(tmp_path: Path) -> None:
    put(tmp_path / "opcua/trusted/certs", "plant.der", (tmp_path / "server/cert.der").read_bytes())


@pytest.mark.parametrize(
    "login", [{"user": "andon", "password": "falsch"}, {}], ids=["wrong password", "anonymous"]
)
async def test_a_wrong_login_is_refused_in_words(plant: Plant, tmp_path: Path, login: dict[str, str]) -> None:
    await plant.start()
    trust(tmp_path)
    error = await refusal(build(plant, tmp_path, **SECURE, **login))
    assert "user or password" in error.reason
    assert "falsch" not in f"{error!r} {error.hint}"


async def test_a_server_without_the_configured_security_is_refused_with_what_it_offers(
    tmp_path: Path,
) -> None:
    plant = Plant()
    await plant.start()
    error = await refusal(build(plant, tmp_path, **SECURE))
    await plant.stop()
    assert "does not offer Basic256Sha256/SignAndEncrypt" in error.reason
    assert "None/None" in error.hint


async def test_a_server_that_only_takes_protected_links_refuses_others(plant: Plant, tmp_path: Path) -> None:
    await plant.start()
    error = await refusal(build(plant, tmp_path))
    assert "does not offer the configured security" in error.reason


async def test_a_server_that_does_not_trust_us_names_the_file_to_approve(
    plant: Plant, tmp_path: Path
) -> None:
    async def validator(certificate: x509.Certificate, description: Any) -> None:
        raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    plant.validator = validator
    await plant.start()
    trust(tmp_path)
    error = await refusal(build(plant, tmp_path, **SECURE, user="andon", password="geheim"))
    assert "does not trust this gateway's certificate" in error.reason
    assert str(tmp_path / "opcua/own/certs/andon.der") in error.hint


def test_our_certificate_is_made_once_and_fits_the_standard(tmp_path: Path) -> None:
    first = Pki(tmp_path).identity(NOW)
    assert Pki(tmp_path).identity(NOW + timedelta(days=400)) == first
    made = x509.load_der_x509_certificate(first.certificate)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [first.application_uri]
    public = made.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 2048
    assert first.not_after - NOW > timedelta(days=4 * 365)
    key_file = tmp_path / "opcua/own/private/andon.pem"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700
    assert first.key.hex() not in repr(first)
    assert str(first.key) not in repr(first)


def test_a_damaged_certificate_of_ours_is_reported_not_replaced(tmp_path: Path) -> None:
    Pki(tmp_path).identity(NOW)
    file = tmp_path / "opcua/own/certs/andon.der"
    file.write_bytes(b"\x00")
    with pytest.raises(DeviceRefused) as refused:
        Pki(tmp_path).identity(NOW)
    assert str(file) in refused.value.hint
    assert file.read_bytes() == b"\x00"


def check(tmp_path: Path, *chain: x509.Certificate, host: str = "10.0.0.5", now: datetime = NOW) -> str:
    """What is said of a server that shows this chain; empty when it is trusted."""
    try:
        Pki(tmp_path).check_server(b"".join(der(one) for one in chain), host, now)
    except DeviceRefused as refused:
        return refused.reason
    return ""


def test_a_trusted_certificate_is_good_for_its_time(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    server = certificate(key)
    put(tmp_path / "opcua/trusted/certs", "a.der", der(server))
    put(tmp_path / "opcua/trusted/certs", "rubbish.der", b"rubbish")
    assert check(tmp_path, server) == ""
    assert "is valid" in check(tmp_path, server, now=NOW + timedelta(days=31))
    assert "is valid" in check(tmp_path, server, now=NOW - timedelta(days=2))
    assert "not trusted yet" in check(tmp_path, certificate(key)), "the same name is not the same certificate"


def test_an_issuer_can_be_trusted_for_the_hosts_it_names(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    root = certificate(key, "root", authority=True)
    middle = certificate(key, "middle", issuer="root", authority=True)
    server = certificate(key, issuer="middle", hosts=("plc.local",))
    assert "not trusted yet" in check(tmp_path, server, middle, root)
    put(tmp_path / "opcua/trusted/certs", "root.pem", root.public_bytes(serialization.Encoding.PEM))
    assert check(tmp_path, server, middle, host="PLC.local") == ""
    assert "not trusted yet" in check(tmp_path, server, host="plc.local"), "the way to the root is missing"
    put(tmp_path / "opcua/issuer/certs", "middle.der", der(middle))
    assert check(tmp_path, server, host="plc.local") == ""
    assert "not for the host" in check(tmp_path, server, host="other.local")
    below_server = certificate(key, "forged", issuer="plant", hosts=("plc.local",))
    assert "not trusted yet" in check(tmp_path, below_server, server, middle), "a server is no issuer"


def test_a_revoked_certificate_is_refused(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    root = certificate(key, "root", authority=True)
    server = certificate(key, issuer="root", hosts=("plc.local",))
    put(tmp_path / "opcua/trusted/certs", "root.der", der(root))
    revoked = (
        x509.RevokedCertificateBuilder().serial_number(server.serial_number).revocation_date(NOW).build()
    )
    for issuer, expected in (("stranger", ""), ("root", "has been revoked")):
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(issuer))
            .last_update(NOW)
            .next_update(NOW + timedelta(days=1))
            .add_revoked_certificate(revoked)
            .sign(key, hashes.SHA256())
        )
        put(tmp_path / "opcua/trusted/crl", "list.crl", der(crl))
        said = check(tmp_path, server, host="plc.local")
        assert expected in said
        assert bool(expected) == bool(said)


def test_strangers_cannot_fill_the_disk(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    for number in range(REJECTED_MAX + 5):
        check(tmp_path, certificate(key, f"../{number}\n"))
    files = list((tmp_path / "opcua/rejected/certs").iterdir())
    assert len(files) == REJECTED_MAX
    assert {file.parent for file in files} == {tmp_path / "opcua/rejected/certs"}


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    for blob in (b"", b"\x30", b"\x30\x82\xff\xff1234", b"rubbish", b"\x30\x00\x00\x00"):
        with pytest.raises(DeviceRefused):
            Pki(tmp_path).check_server(blob, "h", NOW)


@pytest.mark.parametrize(
    ("security", "token", "refused"),
    [
        ({"mode": "Sign"}, "http://opcfoundation.org/UA/SecurityPolicy#None", True),
        ({"mode": "Sign"}, "", True),
        ({"mode": "Sign"}, "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256", False),
        ({"mode": "Sign", "allow_plain_password": True}, "", False),
        ({}, "http://opcfoundation.org/UA/SecurityPolicy#None", False),
    ],
)
def test_no_password_leaves_in_the_clear_unasked(security: dict[str, Any], token: str, refused: bool) -> None:
    settings = OpcuaConnection.model_validate(
        {
            "name": "p",
            "protocol": "opcua",
            "endpoint": "opc.tcp://h",
            "user": "a",
            "password": "b",
            "security": security,
        }
    )
    client: Any = SimpleNamespace(server_policy=lambda _: SimpleNamespace(SecurityPolicyUri=token))
    if not refused:
        _check_password_is_safe(settings, client)
        return
    with pytest.raises(DeviceRefused, match="not sent"):
        _check_password_is_safe(settings, client)
