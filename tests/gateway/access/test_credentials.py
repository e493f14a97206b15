"""What the command line sends: the right thing to the right gateway, and nothing to any other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.access.credentials import BadLogins, Login, Logins, ca_for, credentials_for, place
from gateway.access.remote import Remote
from gateway.access.shelf import Shelf
from gateway.changing import asking
from gateway.client import Address, Client, NoAnswer, Refused
from tests.support.manual_clock import START, ManualClock

CONFIG = '[gateway]\nid = "g"\nenterprise = "a"\nsite = "b"\n[api]\nlisten = "{listen}"\n'


@pytest.fixture
def home(tmp_path: Path) -> Mapping[str, str]:
    """The environment of somebody without any login."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "home")}


def site(tmp_path: Path, listen: str = "127.0.0.1:8420") -> Path:
    """A configuration whose gateway left a local key."""
    config = tmp_path / "andon.toml"
    config.write_text(CONFIG.format(listen=listen))
    shelf = Shelf(tmp_path / "data")
    shelf.prepare()
    shelf.put("local.key", b"al_local\n")
    return config


def a_login(minutes: float = 10, **more: Any) -> Login:
    """A session that ends so much later."""
    known: dict[str, Any] = {
        "user": "ada",
        "token": "as_1",
        "expires_at": START + timedelta(minutes=minutes),
        "refresh": "ar_1",
        "refresh_expires_at": START + timedelta(hours=12),
        **more,
    }
    return Login(**known)


def test_what_is_named_comes_first(tmp_path: Path, home: Mapping[str, str]) -> None:
    config, url = site(tmp_path), "http://127.0.0.1:8420"
    Logins(home).keep(url, a_login())
    clock = ManualClock()

    def found(token: str | None = None, config: Path | None = None, **environment: str) -> str | None:
        return credentials_for(url, config, token=token, environment={**home, **environment}, clock=clock)

    assert found("as_given", config, ANDON_TOKEN="as_set") == "as_given"
    assert found(None, config, ANDON_TOKEN="as_set") == "as_set"
    assert found(None, config) == "al_local"
    assert found() == "as_1"
    assert credentials_for("http://other:8420", environment=home, clock=clock) is None


@pytest.mark.parametrize(
    ("listen", "url", "sent"),
    [
        ("127.0.0.1:8420", "http://127.0.0.1:8420", True),
        ("127.0.0.1:8420", "http://localhost:8420", True),
        ("[::1]:8420", "http://[::1]:8420", True),
        ("0.0.0.0:8420", "https://127.0.0.1:8420", True),
        ("10.0.0.5:8420", "http://10.0.0.5:8420", True),
        ("127.0.0.1:8420", "http://127.0.0.1:9000", False),
        ("127.0.0.1:8420", "http://evil.example:8420", False),
        ("127.0.0.1:8420", "http://127.0.0.1.evil.example:8420", False),
        ("127.0.0.1:8420", "http://127.0.0.1:8420@evil.example:8420", False),
        ("10.0.0.5:8420", "http://10.0.0.6:8420", False),
    ],
)
def test_the_local_key_goes_to_its_own_gateway_alone(
    tmp_path: Path, home: Mapping[str, str], listen: str, url: str, sent: bool
) -> None:
    found = credentials_for(url, site(tmp_path, listen), environment=home)

    assert found == ("al_local" if sent else None)


def test_a_configuration_that_is_not_there_is_no_reason_to_fail(
    tmp_path: Path, home: Mapping[str, str]
) -> None:
    (tmp_path / "odd.toml").write_text("gateway = 3")
    for name in ("missing.toml", "odd.toml"):
        assert credentials_for("http://127.0.0.1:8420", tmp_path / name, environment=home) is None


def test_logins_are_kept_for_their_owner_by_gateway(tmp_path: Path, home: Mapping[str, str]) -> None:
    logins = Logins(home)
    logins.keep("https://A.example:8420/", a_login(user="ada"))
    logins.keep("https://b.example", a_login(user="bob", ca="/etc/ca.pem"))

    assert logins.path.stat().st_mode & 0o777 == 0o600
    assert logins.path.parent.stat().st_mode & 0o777 == 0o700
    found = logins.find("https://a.example:8420")
    assert found is not None
    assert found.user == "ada"
    assert ca_for("https://b.example", environment=home) == Path("/etc/ca.pem")
    assert ca_for("https://b.example", Path("x.pem"), home) == Path("x.pem")
    assert logins.drop("https://a.example:8420") == found
    assert logins.find("https://a.example:8420") is None
    assert logins.find("https://b.example") is not None
    assert place("https://me:secret@A.example/x?y") == "https://a.example"


def test_a_file_of_logins_that_others_can_read_is_not_used(home: Mapping[str, str]) -> None:
    logins = Logins(home)
    logins.keep("https://a.example", a_login())
    logins.path.chmod(0o644)
    with pytest.raises(BadLogins, match="read by others"):
        logins.token("https://a.example", ManualClock())
    logins.path.chmod(0o600)
    logins.path.write_text("{")
    with pytest.raises(BadLogins, match="no file of logins"):
        logins.find("https://a.example")


_ENDED: dict[str, Any] = {
    "hint": "",
    "type": "/docs",
    "title": "over",
    "status": 401,
    "detail": "over",
    "instance": "/",
}


class Renewing:
    """A gateway that renews sessions, each refresh token once."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: list[str] = []
        self.sent: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ength" in line), 0)
        if b"/sessions/renew" not in head:
            token = head.lower().partition(b"bearer ")[2].partition(b"\r")[0].decode()
            self.sent.append(token)
            if token == f"as_{self.count + 1}" and self.count:
                await self.say(writer, b"200 OK", {"items": [], "next": None})
            else:
                await self.say(writer, b"401 Unauthorized", {"code": "session_ended", **_ENDED})
            return
        refresh = json.loads(await reader.readexactly(length))["refresh"]
        self.seen.append(refresh)
        if refresh == f"ar_{self.count + 1}":
            self.count += 1
            ends = START + timedelta(hours=1)
            told = {
                "token": f"as_{self.count + 1}",
                "refresh": f"ar_{self.count + 1}",
                "expires_at": ends.isoformat(),
                "refresh_expires_at": ends.isoformat(),
            }
            status = b"200 OK"
        else:
            told, status = {"code": "session_ended", **_ENDED}, b"401 Unauthorized"
        await self.say(writer, status, told)

    async def say(self, writer: asyncio.StreamWriter, status: bytes, told: Mapping[str, Any]) -> None:
        body = json.dumps(told).encode()
        writer.write(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body
        )
        await writer.drain()
        writer.close()


async def test_a_session_about_to_end_is_renewed_by_one_process_at_a_time(home: Mapping[str, str]) -> None:
    gateway, clock = Renewing(), ManualClock()
    server = await asyncio.start_server(gateway.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        Logins(home).keep(url, a_login(minutes=0.4))
        asked = [asyncio.to_thread(credentials_for, url, environment=home, clock=clock) for _ in range(6)]
        assert await asyncio.gather(*asked) == ["as_2"] * 6
        assert gateway.seen == ["ar_1"]

        Logins(home).keep(url, a_login(minutes=-1, refresh="ar_stolen"))
        assert await asyncio.to_thread(credentials_for, url, environment=home, clock=clock) is None
        Logins(home).keep(url, a_login(minutes=-1, refresh_expires_at=START))
        assert await asyncio.to_thread(credentials_for, url, environment=home, clock=clock) is None
        assert gateway.seen == ["ar_1", "ar_stolen"]
    Logins(home).keep(url, a_login(minutes=-1))
    with pytest.raises(NoAnswer):
        await asyncio.to_thread(credentials_for, url, environment=home, clock=clock)


@pytest.mark.parametrize("how", ["client", "download", "accounts", "configuration"])
async def test_a_token_that_has_ended_by_the_gateways_clock_is_renewed_and_sent_again(
    home: Mapping[str, str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, clock = Renewing(), ManualClock()  # this machine's clock is behind: the token looks good
    server = await asyncio.start_server(gateway.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def asked() -> None:
        bearer = credentials_for(url, environment=home, clock=clock)
        assert bearer == ("as_1" if not gateway.seen else "as_2")
        match how:
            case "client":
                with Client(Address(url, bearer)) as client:
                    client.get("/equipment")
                    client.get("/equipment")
            case "download":
                with Client(url, bearer=bearer) as client:
                    assert b"items" in b"".join(client.download("/audit/export"))
            case "accounts":
                with Remote(url, bearer) as remote:
                    remote.users()
            case _:
                monkeypatch.setattr(asking, "credentials_for", lambda *_, **__: bearer)
                with asking.AskedGateway(url) as asked_gateway:
                    asked_gateway.revisions()

    async with server:
        Logins(home).keep(url, a_login())
        await asyncio.to_thread(asked)
        assert gateway.sent[:2] == ["as_1", "as_2"]
        assert set(gateway.sent[1:]) == {"as_2"}
        await asyncio.to_thread(asked)  # what was renewed is kept
        assert gateway.seen == ["ar_1"]
        gateway.count += 1  # the session is over there: the token is refused, and so is its renewal
        with pytest.raises(Refused) as refused:
            await asyncio.to_thread(asked)
        assert refused.value.code == "session_ended"
        assert len(gateway.seen) == 2, "asked for once, and not over and over"
