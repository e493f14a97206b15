"""Secrets are asked for only where they are needed, and leave the gateway by no way.

Commands that read what a gateway left need no secret of a link or a database they do not go to. And a gateway
whose every secret is a canary is used in every way there is; then everything it said and wrote is searched.
"""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from connectors.registry import default_registry
from gateway.audit.secrets import secrets_of
from gateway.cli import app
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused
from gateway.config.schema import Configuration
from gateway.config.secrets import SECRET_KEYS
from tests.gateway import canary_site
from tests.gateway.journal.builders import batch, opened, transition
from tests.support.processes import free_port, gateway

CONFIG = """
[gateway]
id = "line-1"
enterprise = "e"
site = "s"
[historian]
dsn = "env:ANDON_NOT_THERE"
[mqtt]
broker = "mqtt://127.0.0.1:1883"
user = "andon"
password = "file:not-there"
[[connections]]
name = "plc"
protocol = "opcua"
endpoint = "opc.tcp://127.0.0.1:4840"
security = { policy = "None", mode = "None", allow_plain_password = true }
user = "andon"
password = "env:ANDON_NOT_THERE_EITHER"
[[connections.groups]]
name = "fast"
interval = "250ms"
tags = [{ name = "tag-0", node = "nsu=urn:plant;s=Filler.StateCurrent" }]
[[equipment]]
name = "filler-1"
path = "area/line/filler-1"
model = "packml"
state = "plc/tag-0"
"""


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    async with opened(tmp_path / "data" / "journal", keep=timedelta(days=1)) as journal:
        for n in range(1, 4):
            await journal.append([transition(n)], [batch(n)])
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("journal", "status", "CONFIG"),
        ("journal", "verify", "CONFIG"),
        ("snapshot", "list", "CONFIG"),
        ("snapshot", "verify", "CONFIG"),
        ("history", "filler-1", "--samples", "--config", "CONFIG"),
        ("replay", "CONFIG"),
    ],
    ids=" ".join,
)
def test_reading_what_was_left_needs_no_secret(config: Path, command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(app, [str(config) if word == "CONFIG" else word for word in command])
    assert (told.exit_code, told.exception) == (0, None)


@pytest.mark.parametrize("command", [("replay", "CONFIG", "--from-database"), ("check", "CONFIG")])
def test_a_secret_that_is_needed_is_asked_for(config: Path, command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(app, [str(config) if word == "CONFIG" else word for word in command])
    assert isinstance(told.exception, ConfigurationRefused)
    assert told.exception.exit_code == 2
    assert "ANDON_NOT_THERE is not set" in str(told.exception.problems)


def test_what_is_left_stays_a_reference_and_a_broken_place_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    loaded = load(path, environment={"ANDON_NOT_THERE_EITHER": "s3cret"}, secrets_of=())
    historian, (mqtt,) = loaded.configuration.historian, loaded.configuration.mqtt
    assert historian is not None
    assert (historian.dsn, mqtt.password) == ("env:ANDON_NOT_THERE", "file:not-there")
    path.write_text(CONFIG.replace("[mqtt]", "[mqtt]\nkeep_alive = 'env:ANDON_NO_TIME'"))
    with pytest.raises(ConfigurationRefused) as refused:
        load(path, environment={}, secrets_of=())
    assert [problem.reason for problem in refused.value.problems] == [
        "the environment variable ANDON_NO_TIME is not set"
    ]
    path.write_text(CONFIG.replace('"file:not-there"', '"in the clear"'))
    with pytest.raises(ConfigurationRefused) as refused:
        load(path, environment={}, secrets_of=())
    assert [problem.reason for problem in refused.value.problems] == ["is a secret written in the clear"]


def secret_settings() -> set[str]:
    """Every setting there is that holds a secret."""
    found: set[str] = set()

    def walk(settings: type[BaseModel], place: str) -> None:
        for name, field in settings.model_fields.items():
            if name in SECRET_KEYS:
                found.add(f"{place}{name}")
            for inner in models_in(field.annotation):
                walk(inner, f"{place}{name}.")

    walk(Configuration, "")
    for name, protocol in default_registry().protocols.items():
        walk(protocol.settings, f"{name}:")
    return found


def models_in(type_: Any) -> set[type[BaseModel]]:
    if isinstance(type_, type):
        return {type_} if issubclass(type_, BaseModel) else set()
    return {model for inner in get_args(type_) for model in models_in(inner)}


def test_there_is_a_canary_in_every_setting_that_holds_a_secret(tmp_path: Path) -> None:
    assert secret_settings() == {
        "gateway.snapshots.encryption_key",
        "historian.password",
        "mqtt.password",
        "sparkplug.password",
        "opcua:password",
    }, "a new secret: give it a canary in canary_site, then name it here"
    loaded = load(canary_site.write(tmp_path, 1), environment=canary_site.ENVIRONMENT)
    assert set(secrets_of(loaded)) == {*canary_site.SECRETS.values(), canary_site.IN_ADDRESS}
    assert not [one for one in canary_site.SECRETS.values() if one in repr(loaded.references)]


@pytest.mark.parametrize("secret", ["short", "kestrel-Otter/4471", "ümläute-und-mehr"])
def test_a_secret_is_found_in_every_disguise(secret: str) -> None:
    """Guards the search below."""
    raw = secret.encode()
    for noise in (b"", b"a", b"ab", b"abc"):
        packed = base64.b64encode(noise + raw + b"tail")
        assert any(one in packed for one in canary_site.disguises(secret)) or len(raw) < 9


@pytest.mark.timeout(400)
async def test_no_secret_leaves_the_gateway_by_any_way(tmp_path: Path) -> None:
    port = free_port()
    config = canary_site.write(tmp_path, port)
    told: dict[str, bytes] = {}
    tokens: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in canary_site.ENVIRONMENT.items():
            patch.setenv(name, value)
        async with gateway(config, port) as process:
            access = tmp_path / "data" / "access"
            tokens["local key"] = (access / "local.key").read_text().strip()
            tokens["first admin"] = (access / "first-admin").read_text().strip().splitlines()[-1]
            async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=60) as client:
                await use(client, told, tokens)
            told["the process list"] = command_line(process.pid)
            await process.stop()
    told["the log"] = (tmp_path / "gateway.log").read_bytes()
    own = {access / "local.key": "local key", access / "first-admin": "first admin"}
    for path in sorted((tmp_path / "data").rglob("*")):
        if path.is_file():
            told[f"{path}"] = path.read_bytes()
    checked = CliRunner().invoke(app, ["check", str(config), "--json"], env=canary_site.ENVIRONMENT)
    told["andon check"] = checked.output.encode()
    snapshots = [name for name in told if "/snapshots/" in name]
    assert snapshots, "a snapshot is among what is searched"
    assert len(told) > 60

    secrets = canary_site.SECRETS | tokens
    secrets |= {"right": canary_site.RIGHT, "wrong": canary_site.WRONG, "as a name": canary_site.AS_NAME}
    secrets["in the address"] = canary_site.IN_ADDRESS
    secrets["private key"] = canary_site.pem_of_key(tmp_path)
    hits = [
        (name, place)
        for name, secret in secrets.items()
        for place, content in told.items()
        if own.get(Path(place)) != name
        if any(one in content for one in canary_site.disguises(secret))
    ]
    assert hits == []
    audit = b"".join(content for name, content in told.items() if "/audit/records" in name)
    assert audit.count(b'"action":"login"') >= 3
    assert b'"action":"user.add"' in audit


def command_line(pid: int) -> bytes:
    """What the process list shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def use(client: httpx.AsyncClient, told: dict[str, bytes], tokens: dict[str, str]) -> None:
    """Everything a caller can ask for, with secrets where they belong and where they do not."""
    local = {"authorization": f"Bearer {tokens['local key']}"}

    async def ask(what: str, method: str, path: str, echo: str = "", **more: Any) -> Any:
        """`echo` is what the caller put into the address himself and may be told again."""
        answer = await client.request(method, path, **{"headers": local, **more})
        heads = "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).encode()
        body = answer.content.replace(echo.encode(), b"") if echo else answer.content
        told[f"{what}: {method} {answer.status_code} {len(told)}"] = heads + body
        return answer.json() if answer.headers.get("content-type", "") == "application/json" else None

    api = "/api/v1"
    user = {"name": "ada", "password": canary_site.RIGHT, "roles": ["operator", "auditor"]}
    added = await ask("add a user", "POST", f"{api}/users", json={**user, "must_change_password": False})
    assert added["name"] == "ada"
    for what, who, password in (
        ("wrong password", "ada", canary_site.WRONG),
        ("a password as the name", canary_site.AS_NAME, "x"),
        ("nobody", "nobody", canary_site.WRONG),
    ):
        await ask(what, "POST", f"{api}/sessions", headers={}, json={"user": who, "password": password})
    session = (
        await client.post(f"{api}/sessions", json={"user": "ada", "password": canary_site.RIGHT})
    ).json()
    tokens["session"], tokens["refresh"] = session["token"], session["refresh"]
    key = await client.post(f"{api}/keys", headers=local, json={"name": "mes", "roles": ["viewer"]})
    tokens["key"] = key.json()["secret"]
    for bearer in (tokens["session"], tokens["key"], tokens["key"] + "x", canary_site.RIGHT):
        head = {"authorization": f"Bearer {bearer}"}
        await ask("who am I", "GET", f"{api}/sessions/own", headers=head)
        await ask("in the address", "GET", f"{api}/sessions/{bearer}", echo=bearer, headers=head)
        await ask("as a parameter", "GET", f"{api}/equipment", echo=bearer, params={"model": bearer})
    await ask(
        "a command",
        "POST",
        f"{api}/commands",
        json={"tag": "plc/tag-0", "value": 1, "note": "why not"},
        headers={**local, "idempotency-key": "k-1"},
    )
    for path, item in (await ask("the description", "GET", "/openapi.json"))["paths"].items():
        if "get" in item and not path.endswith(("/events", "/ws")):
            names = {"name": "filler-1", "connection": "plc", "number": "1", "id": "x"}
            place = (
                path.format(**names) if "tags/" not in path else path.format(connection="plc", name="tag-0")
            )
            await ask("every route", "GET", place)
    changed = await ask("the configuration", "GET", f"{api}/config")
    assert "env:CANARY_PLC" in json.dumps(changed)
    await ask("a snapshot", "GET", "/readyz")
