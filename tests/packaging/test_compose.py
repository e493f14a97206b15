"""docker-compose.yml and what it mounts, judged without a container engine.

What an engine would find out late (a file that is not there, a host name nobody has) and what it would never
complain about (a port open to the world, a root user) is looked for here.
"""

from __future__ import annotations

import ast
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.config.load import Loaded, load
from gateway.demo.site import write_site
from simulators.maps import PORTS
from simulators.run import parser
from tests.conftest import MISSING
from tests.support.processes import free_port

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

#: Services that begin as root or write to their root file system, each with its reason.
EXCEPTIONS = {"timescaledb": "its entry point begins as root, and tunes files of its own at the first start"}
#: Tags that pin at least major and minor.
PINNED = re.compile(r"^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)*$")

each_service = pytest.mark.parametrize("name", SERVICES)


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Source, target and mode of every volume."""
    parts = [tuple(text.split(":")) for text in service.get("volumes", [])]
    return [(source, target, mode[0] if mode else "rw") for source, target, *mode in parts]


def commands(service: dict[str, Any]) -> list[str]:
    """The health check as a list of words."""
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD", "a shell may not be there, and is one more thing to quote for"
    return list(words)


@each_service
def test_a_service_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]

    assert commands(service)
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    for other, condition in service.get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert other in SERVICES


@each_service
def test_a_service_takes_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"}
    assert service["restart"] == "unless-stopped"
    assert "max-size" in service["logging"]["options"]
    if name not in EXCEPTIONS:
        assert service["read_only"] is True
        assert "cap_add" not in service
        user, _, _ = service["user"].partition(":")
        assert int(user) > 0


@each_service
def test_images_are_pinned_or_built_here(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        build = service["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()
        assert service["image"].endswith(":local")
    else:
        assert PINNED.match(service["image"]), service["image"]


@each_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for text in SERVICES[name].get("ports", []):
        address, published, target = text.split(":")
        assert ipaddress.ip_address(address).is_loopback
        assert int(published) > 0
        assert int(target) > 0


@each_service
def test_what_is_mounted_exists_and_stays_as_it_is(name: str) -> None:
    for source, target, mode in mounts(SERVICES[name]):
        assert target.startswith("/")
        assert "docker.sock" not in source
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == "ro", f"{source}: files of this project are not for containers to write"
        else:
            assert source in COMPOSE["volumes"]
    for network in SERVICES[name]["networks"]:
        assert network in COMPOSE["networks"]
    for secret in SERVICES[name].get("secrets", []):
        assert secret in COMPOSE["secrets"]


def test_nothing_is_declared_and_not_used() -> None:
    used = {source for service in SERVICES.values() for source, _, _ in mounts(service)}
    networks = {network for service in SERVICES.values() for network in service["networks"]}
    secrets = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}

    assert set(COMPOSE["volumes"]) <= used
    assert set(COMPOSE["networks"]) == networks
    assert set(COMPOSE["secrets"]) == secrets


def test_no_password_stands_in_the_file() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "SECRET" in key.removeprefix("GF_SECURITY"):
                assert str(value).startswith("/run/secrets/"), f"{name}: {key}"
    for secret in COMPOSE["secrets"].values():
        path = ROOT / secret["file"]
        ignored = (ROOT / "deploy" / ".gitignore").read_text(encoding="utf-8").split()
        assert f"/{path.parent.name}/" in ignored
        assert str(Path(secret["file"])) in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_the_line_that_makes_the_password_makes_one(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    lines = re.findall(r"^#   ((?:install|openssl) .*)$", text, re.MULTILINE)
    assert len(lines) == 2
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")

    subprocess.run(["sh", "-euc", "\n".join(lines)], cwd=tmp_path, check=True, timeout=110)

    [path] = [tmp_path / secret["file"] for secret in COMPOSE["secrets"].values()]
    assert re.fullmatch(r"[0-9a-f]{48}\n", path.read_text(encoding="utf-8"))
    assert path.stat().st_mode & 0o777 == 0o644, "users inside containers could not read it"
    assert path.parent.stat().st_mode & 0o777 == 0o700, "other users of the host could read it"


def test_nobody_but_the_gateway_reaches_the_plcs_and_the_database() -> None:
    for guarded in ("plant", "timescaledb"):
        assert "ports" not in SERVICES[guarded]
        for network in SERVICES[guarded]["networks"]:
            assert COMPOSE["networks"][network] == {"internal": True}
            members = {name for name, service in SERVICES.items() if network in service["networks"]}
            assert members == {guarded, "gateway"}


# -- the gateway's configuration -----------------------------------------------------------------


@pytest.fixture
def deployed(tmp_path: Path) -> Loaded:
    """The configuration as the gateway's container sees it."""
    command = SERVICES["gateway"].get("command", ["run", "/etc/andon/andon.toml"])
    for source, target, _ in mounts(SERVICES["gateway"]):
        if not source.startswith("."):
            continue
        there = tmp_path / target.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, there)
        else:
            shutil.copy(ROOT / source, there)
    path = tmp_path / str(command[-1]).lstrip("/")
    secret = tmp_path / "password"
    secret.write_text("secret\n", encoding="utf-8")
    references = re.findall(r'"file:([^"]+)"', path.read_text(encoding="utf-8"))
    assert references == [f"/run/secrets/{name}" for name in SERVICES["gateway"]["secrets"]]
    text = path.read_text(encoding="utf-8").replace(references[0], str(secret))
    path.write_text(text, encoding="utf-8")
    return load(path, environment={})


def test_the_gateways_configuration_loads(deployed: Loaded) -> None:
    configuration = deployed.configuration

    assert len(configuration.equipment) == 6
    assert configuration.historian is not None
    assert configuration.historian.password == "secret"
    assert str(deployed.data_dir) in [target for _, target, _ in mounts(SERVICES["gateway"])]


def test_every_host_is_a_service_the_gateway_shares_a_network_with(deployed: Loaded) -> None:
    configuration = deployed.configuration
    assert configuration.historian is not None
    (mqtt,) = configuration.mqtt
    urls = [configuration.historian.dsn, mqtt.broker]
    urls += [connection.endpoint for connection in configuration.connections]

    for url in urls:
        host = urlsplit(url).hostname
        assert host in SERVICES, url
        assert set(SERVICES[host]["networks"]) & set(SERVICES["gateway"]["networks"]), host
        assert host in SERVICES["gateway"]["depends_on"]


def test_the_plcs_listen_where_the_gateway_calls(deployed: Loaded) -> None:
    command = SERVICES["plant"]["command"]
    assert command[0] == "simulate"
    options = parser().parse_args(command[1:])
    assert options.host == "0.0.0.0"
    assert options.allow_remote
    assert options.port_base is None

    called = {urlsplit(connection.endpoint).port for connection in deployed.configuration.connections}
    code = commands(SERVICES["plant"])[-1]

    assert called == set(PORTS.values())
    assert {int(number) for number in re.findall(r"\d{5}", code)} == called


def test_the_api_listens_where_it_is_published_and_asked(deployed: Loaded) -> None:
    assert deployed.configuration.api is not None
    _, _, port = deployed.configuration.api.listen.rpartition(":")
    [published] = SERVICES["gateway"]["ports"]
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))

    assert published.endswith(f":{port}")
    assert f"http://127.0.0.1:{port}/healthz" in commands(SERVICES["gateway"])[-1]
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": [f"gateway:{port}"]}]


def test_the_python_of_health_checks_is_python() -> None:
    for service in SERVICES.values():
        words = commands(service)
        if words[0] == "python":
            ast.parse(words[-1])


def test_the_plant_is_that_of_the_demo(deployed: Loaded, tmp_path: Path) -> None:
    """Two files, since one has its addresses filled in at run time; but one plant."""
    names = ("historian", "broker", "mqtt_port", "listen", "opcua-a", "opcua-b", "modbus-a", "modbus-b")
    values = {name: f"opc.tcp://{name}:1" if "opcua" in name else f"tcp://{name}:1" for name in names}
    values |= {"mqtt_port": "1883", "listen": "127.0.0.1:1"}
    demo = tomllib.loads(write_site(tmp_path / "demo", values).read_text(encoding="utf-8"))
    here = tomllib.loads((ROOT / "deploy" / "andon.toml").read_text(encoding="utf-8"))

    for connection in (*demo["connections"], *here["connections"]):
        del connection["endpoint"]
    assert here["connections"] == demo["connections"]
    assert here["equipment"] == demo["equipment"]
    assert {"id", "enterprise", "site"} <= here["gateway"].keys()
    assert {key: value for key, value in here["gateway"].items() if key != "data_dir"} == {
        key: value for key, value in demo["gateway"].items() if key != "data_dir"
    }


# -- the broker's configuration ------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif(MISSING["Mosquitto"], reason="needs Mosquitto")
def test_mosquitto_takes_its_configuration(tmp_path: Path) -> None:
    port = free_port()
    text = (ROOT / "deploy" / "mosquitto.conf").read_text(encoding="utf-8")
    assert "listener 1883\n" in text
    text = text.replace("listener 1883\n", f"listener {port} 127.0.0.1\n")
    text = text.replace("/mosquitto/data/", f"{tmp_path}/")
    if os.geteuid() == 0:
        text += "user root\n"  # else it becomes a user who may not enter this test's folder
    path = tmp_path / "mosquitto.conf"
    path.write_text(text, encoding="utf-8")
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "mosquitto"

    with subprocess.Popen(
        [program, "-c", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as broker:
        try:
            assert answers(port, broker), broker.communicate(timeout=45)[0].decode()
        finally:
            broker.terminate()
            said = broker.communicate(timeout=45)[0].decode()
    assert "Error" not in said, said
    assert "deprecated" not in said, said


def answers(port: int, broker: subprocess.Popen[bytes]) -> bool:
    """Whether the broker lets somebody in within some time."""
    deadline_s = time.monotonic() + 45.0
    while time.monotonic() < deadline_s and broker.poll() is None:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False
