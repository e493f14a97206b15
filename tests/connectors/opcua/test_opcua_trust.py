"""People decide who is trusted, and are told in time when a certificate ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError
from typer.testing import CliRunner

from connectors.errors import DeviceRefused
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.pki import Pki, expiry_warning
from gateway.cli import app
from gateway.errors import GatewayError
from tests.connectors.contract import RecordingLink, running
from tests.connectors.opcua.plant import Plant, Users, build
from tests.connectors.opcua.test_opcua_security import NOW, SECURE, certificate, der, put

CONFIG = '[gateway]\nid = "g"\nenterprise = "e"\nsite = "s"\ndata_dir = "data"\n'


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    return path


def andon(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["trust", *map(str, arguments)])
    if isinstance(result.exception, GatewayError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def told(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in andon(*arguments, "--json").splitlines()]


def turned_away(config: Path, one: x509.Certificate) -> None:
    with pytest.raises(DeviceRefused) as refused:
        Pki(config.parent / "data").check_server(der(one), "10.0.0.5", NOW)
    assert "andon trust approve" in refused.value.hint


def test_a_server_that_waits_is_listed_approved_and_then_trusted(
    config: Path, key: rsa.RSAPrivateKey
) -> None:
    server = certificate(key, "filler-plc")
    turned_away(config, server)
    (waiting,) = told("list", config)
    assert (waiting["state"], waiting["name"], waiting["reason"]) == (
        "rejected",
        "filler-plc",
        "not approved yet",
    )
    assert waiting["application_uri"] == "urn:plant:server"
    assert waiting["thumbprint"] in andon("show", config, waiting["thumbprint"][:8])
    assert "filler-plc" in andon("list", config)
    andon("approve", config, waiting["thumbprint"][:12].lower())
    assert Pki(config.parent / "data").check_server(der(server), "10.0.0.5", NOW) == der(server)
    assert [one["state"] for one in told("list", config)] == ["trusted"]
    with pytest.raises(GatewayError, match="already"):
        andon("approve", config, waiting["thumbprint"])


def test_who_has_no_configuration_yet_names_the_folder(config: Path, key: rsa.RSAPrivateKey) -> None:
    server = certificate(key, "filler-plc")
    turned_away(config, server)
    folder = config.parent / "data"
    config.unlink()
    (waiting,) = told("list", folder)
    andon("approve", folder, waiting["thumbprint"])
    assert Pki(folder).check_server(der(server), "10.0.0.5", NOW) == der(server)
    with pytest.raises(GatewayError, match="no certificates in the folder"):
        andon("list", config.parent)


def test_a_server_can_be_turned_away_again(config: Path, key: rsa.RSAPrivateKey) -> None:
    server = certificate(key, "filler-plc")
    turned_away(config, server)
    (waiting,) = told("list", config)
    andon("approve", config, waiting["thumbprint"])
    andon("reject", config, waiting["thumbprint"])
    turned_away(config, server)
    andon("reject", config, waiting["thumbprint"])
    assert told("list", config) == []
    assert "no certificates yet" in andon("list", config)


def test_a_name_that_fits_none_or_two_is_refused(config: Path, key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(GatewayError, match="no certificate") as none:
        andon("approve", config, "AB12CD")
    assert none.value.exit_code == 2
    folder = config.parent / "data/opcua/rejected/certs"
    for number in range(2):
        put(folder / str(number), "same.der", der(certificate(key, f"plc-{number}")))
        (folder / str(number) / "same.der").rename(folder / f"{number}.der")
    put(config.parent / "data/opcua/trusted/certs", "0.der", der(certificate(key, "other")))
    with pytest.raises(GatewayError, match="fits 2"):
        andon("show", config, "0.der")


def test_what_stands_against_a_certificate_is_said(config: Path, key: rsa.RSAPrivateKey) -> None:
    turned_away(config, certificate(key, "old", days=(-30, -2)))
    turned_away(config, certificate(key, "new", days=(2, 30)))
    turned_away(config, certificate(key, "ends \x1b[31msoon", days=(-2, 5)))
    reasons = {one["name"]: one["reason"] for one in told("list", config)}
    assert "expired on" in reasons["old"]
    assert "valid only from" in reasons["new"]
    assert "\x1b[31m" not in andon("list", config)
    assert "less than 7 days" in " ".join(andon("list", config).split())


def test_our_own_certificate_is_shown_and_made_where_there_is_none(config: Path) -> None:
    (own,) = told("own", config)
    assert Path(own["file"]).is_file()
    assert told("own", config) == [own]
    assert own["thumbprint"] in andon("own", config)
    loaded = x509.load_der_x509_certificate(Path(own["file"]).read_bytes())
    assert own["application_uri"] in str(
        loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    )


def test_expiry_is_told_more_urgently_as_it_comes_nearer() -> None:
    until = datetime(2026, 12, 31, tzinfo=UTC)
    said = {
        days: expiry_warning("it", until, until - timedelta(days=days)) for days in (31, 30, 8, 7, 2, 1, 0)
    }
    assert said[31] == ""
    assert said[30] == said[8] == "it expires on 2026-12-31, in less than 30 days"
    assert said[7] == said[2] == "it expires on 2026-12-31, in less than 7 days"
    assert said[1] == "it expires on 2026-12-31, in less than 1 day"
    assert said[0] == "it expired on 2026-12-31"


@pytest.fixture
async def plant(key: rsa.RSAPrivateKey, tmp_path: Path) -> AsyncIterator[Plant]:
    put(tmp_path / "server", "cert.der", der(certificate(key, days=(-1, 5))))
    put(tmp_path / "opcua/trusted/certs", "plant.der", (tmp_path / "server/cert.der").read_bytes())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    put(tmp_path / "server", "key.pem", pem)
    plant = Plant(
        policies=(
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
            ua.SecurityPolicyType.Basic256_SignAndEncrypt,
            ua.SecurityPolicyType.Basic128Rsa15_SignAndEncrypt,
        ),
        certificate=(tmp_path / "server/cert.der", tmp_path / "server/key.pem"),
    )
    yield plant
    await plant.stop()


async def test_a_server_certificate_that_ends_soon_is_warned_of(plant: Plant, tmp_path: Path) -> None:
    await plant.start()
    connector = build(plant, tmp_path, **SECURE)
    link = RecordingLink()
    async with running(connector, link):
        await link.until_value("plc/state", 6)
        assert list(connector.warnings) == ["server_certificate"]
        assert "less than 7 days" in connector.warnings["server_certificate"]


class Holders(Users):
    """Lets in whoever shows one certificate."""

    def __init__(self, wanted: bytes) -> None:
        super().__init__("", "")
        self.wanted = wanted

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> Any:
        return super().get_user(iserver, "", "") if certificate == self.wanted else None


async def test_a_user_certificate_logs_in(plant: Plant, tmp_path: Path) -> None:
    person = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown = certificate(person, "operator")
    put(tmp_path, "user.der", der(shown))
    pem = person.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    put(tmp_path, "user.pem", pem)
    plant.users = Holders(der(shown))
    await plant.start()
    login = {"user_certificate": str(tmp_path / "user.der"), "user_key": str(tmp_path / "user.pem")}
    (sample, *_) = await build(plant, tmp_path, **SECURE, **login).read_once()
    assert sample.value == 6
    with pytest.raises(DeviceRefused, match="user or password"):
        await build(plant, tmp_path, **SECURE).read_once()


async def test_a_user_certificate_without_its_key_is_refused_before_anything_is_said(
    plant: Plant, tmp_path: Path
) -> None:
    put(tmp_path, "user.der", b"rubbish")
    put(tmp_path, "user.pem", b"rubbish")
    login = {"user_certificate": str(tmp_path / "user.der"), "user_key": str(tmp_path / "user.pem")}
    with pytest.raises(DeviceRefused, match="holds no certificate"):
        await build(plant, tmp_path, **SECURE, **login).read_once()


@pytest.mark.parametrize("policy", ["Basic256", "Basic128Rsa15"])
async def test_deprecated_policies_work_only_when_they_are_allowed(
    plant: Plant, tmp_path: Path, policy: str
) -> None:
    await plant.start()
    with pytest.raises(ValidationError, match="deprecated"):
        build(plant, tmp_path, security={"policy": policy})
    allowed = {"policy": policy, "allow_deprecated": True}
    (sample, *_) = await build(plant, tmp_path, security=allowed).read_once()
    assert sample.value == 6


@pytest.mark.parametrize(
    "login",
    [
        {"user_certificate": "a"},
        {"user_key": "a"},
        {"user": "a", "user_certificate": "a", "user_key": "b"},
        {"user_certificate": "a", "user_key": "b", "security": {"policy": "None", "mode": "None"}},
    ],
)
def test_logins_that_make_no_sense_are_refused(login: dict[str, Any]) -> None:
    base = {"name": "p", "protocol": "opcua", "endpoint": "opc.tcp://h"}
    with pytest.raises(ValidationError):
        OpcuaConnection.model_validate(base | login)
