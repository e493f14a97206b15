"""`--token` and `--ca` of the verbs that ask a gateway: they reach the address, and end with the verb."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from gateway.access.credentials import Login, Logins
from gateway.cli import app
from gateway.client import Address, NoAnswer, Refused

_ELSEWHERE = "https://line-2.example:8420"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Address]:
    """The addresses `andon state` asks."""
    found: list[Address] = []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ANDON_TOKEN", raising=False)
    monkeypatch.delenv("ANDON_CA", raising=False)
    monkeypatch.setattr("gateway.commands.remote.show_state", lambda url, *_, **__: found.append(url))
    return found


def _run(*arguments: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


def test_they_reach_the_gateway_asked_and_no_later_verb(asked: list[Address]) -> None:
    _run("state", "--url", _ELSEWHERE, "--token", "ak_1", "--ca", "plant-ca.pem")
    _run("state", "--url", _ELSEWHERE)
    assert [(str(one), one.bearer, one.ca) for one in asked] == [
        (_ELSEWHERE, "ak_1", Path("plant-ca.pem")),
        (_ELSEWHERE, None, None),
    ]


def test_they_win_over_the_environment(asked: list[Address], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDON_TOKEN", "ak_2")
    monkeypatch.setenv("ANDON_CA", "other-ca.pem")
    _run("state", "--url", _ELSEWHERE, "--token", "ak_1", "--ca", "plant-ca.pem")
    _run("state", "--url", _ELSEWHERE)
    assert [(one.bearer, one.ca) for one in asked] == [
        ("ak_1", Path("plant-ca.pem")),
        ("ak_2", Path("other-ca.pem")),
    ]


@pytest.mark.parametrize(
    "verb",
    [
        ("command", "send", "filler-1", "Start"),
        ("command", "show"),
        ("command", "approve", "5b1f", "90"),
        ("command", "arm", "filler-plc/speed_sp", "90"),
        ("state",),
        ("tail",),
    ],
    ids=" ".join,
)
def test_who_is_named_asks_although_somebody_else_has_logged_in_there(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokens: list[str | None] = []

    def nobody(url: str, *, token: str | None, **_: Any) -> None:
        tokens.append(token)
        raise NoAnswer("nobody is there")

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("ANDON_TOKEN", raising=False)
    late = datetime(9000, 1, 1, tzinfo=UTC)
    login = Login(user="admin", token="as_1", expires_at=late, refresh="ar_1", refresh_expires_at=late)
    Logins({"XDG_CONFIG_HOME": str(tmp_path)}).keep(_ELSEWHERE, login)
    monkeypatch.setattr("gateway.client.Wire", nobody)
    CliRunner().invoke(app, [*verb, "--url", _ELSEWHERE, "--token", "ak_1"])
    CliRunner().invoke(app, [*verb, "--url", _ELSEWHERE])
    assert tokens == ["ak_1", "as_1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("filler-1", "Start", "--url", _ELSEWHERE, "--token", "ak_1"),
        ("--url", _ELSEWHERE, "--token", "ak_1", "filler-1", "Start"),
        ("--dry-run", "filler-plc/offset", "-5", "--token", "ak_1", "--url", _ELSEWHERE),
    ],
    ids=" ".join,
)
def test_a_command_is_sent_wherever_its_options_stand(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked_as: list[tuple[str, str | None]] = []

    def nobody(url: str, *, token: str | None, **_: Any) -> None:
        asked_as.append((url, token))
        raise NoAnswer("nobody is there")

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("gateway.client.Wire", nobody)
    CliRunner().invoke(app, ["command", *arguments])
    assert asked_as == [(_ELSEWHERE, "ak_1")]


def test_an_option_before_a_named_verb_of_commands_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("gateway.client.Wire", never)
    assert CliRunner().invoke(app, ["command", "--url", _ELSEWHERE, "approve", "5b1f", "90"]).exit_code == 2


@pytest.mark.parametrize(
    ("asked_as", "author"),
    [
        (("--token", "as_1"), None),
        (("--token", "ak_1"), None),
        (("--token", "al_1"), "jane"),
        (("--token", "as_1", "--author", "anna"), "anna"),
    ],
)
def test_a_correction_has_the_name_of_who_asks_where_the_gateway_knows_it(
    asked_as: tuple[str, ...], author: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bodies: list[Any] = []

    def posted(_: object, path: str, body: Any, headers: object) -> None:
        bodies.append(body)
        raise NoAnswer("nobody is there")

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("getpass.getuser", lambda: "jane")
    monkeypatch.setattr("gateway.client.Client.post", posted)
    what = ("--withdraw", "1", "--reason", "it was the other one")
    CliRunner().invoke(app, ["correct", "filler-1", *what, "--url", _ELSEWHERE, *asked_as])
    assert [body.get("author") for body in bodies] == [author]


@pytest.mark.parametrize(
    ("code", "next_"),
    [
        ("unauthenticated", "andon login URL"),
        ("session_ended", "andon login URL"),
        ("password_must_change", "andon login URL"),
        ("forbidden", "--token"),
        ("not_armed", "andon command arm"),
    ],
)
def test_a_refusal_names_verbs_at_a_terminal_and_no_headers(code: str, next_: str) -> None:
    refused = Refused(code, "no", hint="Send Authorization: Bearer; POST /api/v1/somewhere does it.")
    assert next_ in refused.hint
    assert "Bearer" not in refused.hint
    assert "/api/" not in refused.hint


def test_every_verb_that_asks_a_gateway_elsewhere_takes_them() -> None:
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    without = []
    for name, command in top.commands.items():
        verbs = command.commands if isinstance(command, TyperGroup) else {"": command}
        for inner, verb in verbs.items():
            options = {word for param in verb.params for word in param.opts}
            if "--url" in options and not {"--token", "--ca"} <= options:
                without.append(f"{name} {inner}".strip())
    assert without == []
