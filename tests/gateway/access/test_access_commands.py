"""`andon user`, `key`, `login`: in the files of a gateway that is away, of one that runs, and over REST."""

from __future__ import annotations

import json
import time
from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from typer.testing import CliRunner

from gateway.access.shelf import Shelf
from gateway.cli import app
from gateway.errors import GatewayError
from gateway.snapshots.contents import contents_of
from tests.gateway.access.house import GOOD, OTHER, PATIENCE_S, THIRD
from tests.support.processes import GatewayProcess, free_port, gateway

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"

[api]
listen = "127.0.0.1:{port}"
anonymous = "none"
"""


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Terminal:
    """Runs the command as somebody whose home is a folder of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = directory / "andon.toml"
        self.config.write_text(CONFIG.format(port=self.port), encoding="utf-8")

    def run(self, *words: str, input_: str = "", **environment: str) -> Done:
        home = {"XDG_CONFIG_HOME": str(self.directory / "home"), "ANDON_TOKEN": None}
        result = CliRunner().invoke(app, words, input=input_, env={**home, **environment})
        if isinstance(result.exception, GatewayError):
            failure = result.exception
            return Done(failure.exit_code, result.stdout, f"{failure.reason} {failure.hint}")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def told(self, *words: str, input_: str = "", **environment: str) -> list[dict[str, Any]]:
        """The JSON lines of a command that must succeed."""
        done = self.run(*words, "--json", input_=input_, **environment)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refused(self, *words: str, input_: str = "") -> str:
        """What is said by a command that must fail."""
        done = self.run(*words, input_=input_)
        assert done.returncode in (1, 2), (done.stdout, done.stderr)
        return " ".join(done.stderr.split())


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
async def running(terminal: Terminal) -> AsyncIterator[GatewayProcess]:
    async with gateway(terminal.config, terminal.port) as process:
        yield process


def test_users_and_keys_of_a_gateway_that_is_away(terminal: Terminal) -> None:
    here = ("--config", str(terminal.config))
    (added,) = terminal.told(
        "user", "add", "ada", "--role", "operator,viewer", *here, "--password-stdin", input_=GOOD
    )
    assert added | {"created_at": "", "version": ""} == {
        "name": "ada",
        "roles": ["viewer", "operator"],
        "areas": None,
        "disabled": False,
        "must_change_password": True,
        "created_at": "",
        "version": "",
    }
    terminal.told("user", "change", "ada", "--area", "filling", "--area", "filling/line-1", *here)
    terminal.told("user", "disable", "ada", *here)
    (shown,) = terminal.told("user", "show", "ada", *here)
    assert (shown["areas"], shown["disabled"]) == (["filling"], True)
    terminal.told("user", "change", "ada", "--enable", "--everywhere", *here)
    (shown,) = terminal.told("user", "show", "ada", *here)
    assert (shown["areas"], shown["disabled"]) == (None, False)

    (key,) = terminal.told("key", "add", "mes", "--role", "viewer", "--expires", "90d", *here)
    assert key["secret"].startswith(f"ak_{key['key']['id']}_")
    text = terminal.run("key", "list", *here).stdout
    assert "mes" in text
    assert key["secret"] not in text
    terminal.told("key", "revoke", "mes", *here)
    assert terminal.told("key", "list", *here) == []
    terminal.told("user", "remove", "ada", *here)
    assert terminal.told("user", "list", *here) == []


def test_mistakes_are_said_with_a_hint(terminal: Terminal) -> None:
    here = ("--config", str(terminal.config), "--password-stdin")
    terminal.told("user", "add", "boss", "--role", "admin", *here, input_=GOOD)
    add = ("user", "add", "ada", "--role")
    for words, input_, said in (
        ((*add, "operater", *here), GOOD, 'no role "operater"'),
        ((*add, "operator", *here), "short", "characters, and must have 12"),
        ((*add, "operator", *here), "Passw0rd1234!", "tried first"),
        ((*add, "operator", *here), "", "the password is empty"),
        (("user", "add", "Ada B", "--role", "viewer", *here), GOOD, "small letters"),
        (("user", "add", "boss", "--role", "viewer", *here), GOOD, "already"),
        (("user", "add", "local", "--role", "viewer", *here), GOOD, "the gateway uses itself"),
        ((*add, "viewer", "--area", "../x", *here), GOOD, "areas look like"),
        ((*add, "viewer", "--config", str(terminal.config)), GOOD, "--password-stdin"),
        ((*add, "viewer"), GOOD, "whose users"),
        (("user", "show", "eve", "--config", str(terminal.config)), "", 'no user "eve"'),
        (("user", "remove", "boss", "--config", str(terminal.config)), "", "nobody would be left"),
        (("key", "revoke", "eve", "--config", str(terminal.config)), "", 'no key "eve"'),
        (
            (
                "key",
                "add",
                "k",
                "--role",
                "viewer",
                "--expires",
                "2020-01-01",
                "--config",
                str(terminal.config),
            ),
            "",
            "over already",
        ),
    ):
        assert said in terminal.refused(*words, input_=input_)
    path = terminal.directory / "data" / "access" / "users.json"
    path.write_text("{}x")
    assert "is damaged" in terminal.refused("user", "list", "--config", str(terminal.config))
    assert "is damaged" in terminal.refused(*add, "viewer", *here, input_=GOOD)
    assert path.read_text() == "{}x"


async def test_a_running_gateway_in_all_ways(terminal: Terminal, running: GatewayProcess) -> None:
    await to_thread(all_ways, terminal)


def all_ways(terminal: Terminal) -> None:
    at, url = ("--url", terminal.url), terminal.url
    assert "log" in terminal.refused("state", *at), "nobody reads without saying who asks"
    terminal.told("state", "--config", str(terminal.config))

    # The first admin changes the password at the login.
    first = (terminal.directory / "data" / "access" / "first-admin").read_text()
    login = ("login", url, "--user", "admin", "--password-stdin")
    assert "name or the password" in terminal.refused(*login, input_=f"{OTHER}\n{OTHER}\n")
    assert "line after" in terminal.refused(*login, input_=first)
    (begun,) = terminal.told(*login, input_=f"{first}{GOOD}\n")
    assert begun["user"] == "admin"
    terminal.told("state", *at)
    assert not (terminal.directory / "data" / "access" / "first-admin").exists()

    # By REST, as that admin.
    (ada,) = terminal.told(
        "user", "add", "ada", "--role", "viewer", "--no-must-change", *at, "--password-stdin", input_=OTHER
    )
    assert ada["must_change_password"] is False
    (key,) = terminal.told("key", "add", "mes", "--role", "viewer", *at)
    terminal.told("state", *at, ANDON_TOKEN=key["secret"])
    terminal.told("user", "change", "ada", "--role", "operator", *at)
    assert "nobody would be left" in terminal.refused("user", "disable", "admin", *at)
    assert [user["name"] for user in terminal.told("user", "list", *at)] == ["ada", "admin"]

    # In the files, while it runs: it counts within a second.
    ada_at = {"XDG_CONFIG_HOME": str(terminal.directory / "ada")}
    terminal.told("login", url, "--user", "ada", "--password-stdin", input_=OTHER, **ada_at)
    terminal.told("state", *at, **ada_at)
    done = terminal.run("user", "list", *at, **ada_at)
    assert (done.returncode, "users" in done.stderr) == (1, True)
    here = ("--config", str(terminal.config))
    terminal.told("user", "password", "ada", *here, "--password-stdin", input_=THIRD)
    terminal.told("key", "revoke", "mes", *here)
    eventually_refused(terminal, key["secret"])
    done = terminal.run("state", *at, **ada_at)
    assert done.returncode == 1, "the new password ended the session"

    terminal.told("logout", url)
    assert "log" in terminal.refused("user", "list", *at)
    assert "no login" in terminal.refused("logout", url)


def eventually_refused(terminal: Terminal, secret: str) -> None:
    """Ask until a revoked key is refused."""
    until_s = time.monotonic() + PATIENCE_S
    with httpx.Client(base_url=terminal.url, trust_env=False, timeout=PATIENCE_S) as http:
        while time.monotonic() < until_s:
            answer = http.get("/api/v1/equipment", headers={"Authorization": f"Bearer {secret}"})
            if answer.status_code == 401:
                return
    raise AssertionError("the key is not revoked")


def test_a_backup_lets_nobody_into_the_gateway_that_runs(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    shelf = Shelf(tmp_path / "data")
    shelf.prepare()
    for name in ("local.key", "first-admin", "users.json", "lock"):
        shelf.put(name, b"{}")
    found = contents_of(terminal.config, keys=True, secrets=True)
    names = {source.name for source in found.sources if "/access/" in source.name}
    assert names == {"data/access/users.json"}
