"""What the command line sends to say who asks: where it is looked for, and where `andon login` keeps it.

In this order: `--token`, the variable `ANDON_TOKEN`, the local key of the gateway whose configuration was
named, the session `andon login` began there. A local key goes nowhere but to the gateway it is of. Blocks.
"""

from __future__ import annotations

import fcntl
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from connectors.base import Clock
from gateway.access.remote import Remote
from gateway.access.shelf import FOLDER, LOCAL_KEY
from gateway.access.tokens import SESSION
from gateway.client import Bearer, NoAnswer, Refused
from gateway.clock import SystemClock
from gateway.config.access import LOOPBACK
from gateway.errors import GatewayError
from gateway.snapshots.durable import whole_file

TOKEN, CA = "ANDON_TOKEN", "ANDON_CA"
_FILE_BYTES_MAX = 1_000_000
#: A token that ends sooner is exchanged before it is sent.
_SOON = timedelta(seconds=30)


class BadLogins(GatewayError):
    """The file of logins cannot be used. A person has to act."""


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A session of a user at one gateway, and the certificate authority that gateway is known by."""

    user: str
    token: str
    expires_at: datetime
    refresh: str
    refresh_expires_at: datetime
    ca: str | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    logins: dict[str, Login] = {}


def credentials_for(
    url: str,
    config: Path | None = None,
    *,
    token: str | None = None,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> str | None:
    """What to send as `Authorization: Bearer` to the gateway at `url`; None when there is nothing to send.

    `config` is the configuration the gateway was named by, `token` what `--token` says. A session that is
    about to end is renewed, which asks the gateway. It is a `Bearer`: clocks differ, and when it has
    ended is for the gateway to say.

    Raises:
        BadLogins: the file of logins cannot be read.
        NoAnswer: a session has to be renewed and nobody answers.
    """
    environment = os.environ if environment is None else environment
    if given := token or environment.get(TOKEN):
        return given.strip()
    if config is not None and (key := _local_key(url, config)) is not None:
        return key
    logins, clock = Logins(environment), clock or SystemClock()
    found = logins.token(url, clock)
    return None if found is None else Bearer(found, _Next(logins, url, clock, found))


def is_login(bearer: str | None, token: str | None, environment: Mapping[str, str] | None = None) -> bool:
    """Whether what `credentials_for` found is a login kept here, and nothing that was named just now."""
    environment = os.environ if environment is None else environment
    return bearer is not None and bearer.startswith(SESSION) and not (token or environment.get(TOKEN))


def ca_for(url: str, ca: Path | None = None, environment: Mapping[str, str] | None = None) -> Path | None:
    """The file of certificate authorities by which a gateway is known: as named, `ANDON_CA`, as at the login;
    None: those of the system."""
    environment = os.environ if environment is None else environment
    if ca is not None:
        return ca
    if named := environment.get(CA):
        return Path(named)
    login = Logins(environment).find(url)
    return Path(login.ca) if login is not None and login.ca else None


def _local_key(url: str, config: Path) -> str | None:
    """The key in the data directory of a configuration, when `url` is the gateway that runs with it."""
    try:
        read = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None  # whoever needs more of it says what is wrong with it
    gateway, api = read.get("gateway", {}), read.get("api", {})
    if not isinstance(gateway, dict) or not isinstance(api, dict):
        return None
    listen = urlsplit(f"//{api.get('listen', '127.0.0.1:8420')}")
    asked = urlsplit(url)
    host = asked.hostname or ""
    if (host not in LOOPBACK and host != listen.hostname) or asked.port not in (listen.port, None):
        return None
    path = config.parent / str(gateway.get("data_dir", "./data")) / FOLDER / LOCAL_KEY
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None  # not of our user: then it is no right of ours


class Logins:
    """The sessions of this person, by the address of the gateway."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        home = environment.get("XDG_CONFIG_HOME") or str(
            Path(environment.get("HOME", "~")).expanduser() / ".config"
        )
        self.path = Path(home) / "andon" / "logins.json"

    def find(self, url: str) -> Login | None:
        """The login at a gateway.

        Raises:
            BadLogins: the file cannot be read.
        """
        return self._read().logins.get(place(url))

    def keep(self, url: str, login: Login) -> None:
        """Keep a login, in the place of the one before.

        Raises:
            BadLogins: the file cannot be read or written.
        """
        with self._alone():
            self._write({**self._read().logins, place(url): login})

    def drop(self, url: str) -> Login | None:
        """Forget a login; what it was.

        Raises:
            BadLogins: the file cannot be read or written.
        """
        if not self.path.exists():
            return None
        with self._alone():
            logins = dict(self._read().logins)
            dropped = logins.pop(place(url), None)
            if dropped is not None:
                self._write(logins)
        return dropped

    def token(self, url: str, clock: Clock, refused: str | None = None) -> str | None:
        """The token of a login, renewed when it is about to end, or when it is the one that was `refused`;
        None when there is none, or it has ended.

        Raises:
            BadLogins, NoAnswer: see `credentials_for`.
        """
        login = self.find(url)
        if login is None or _good(login, clock, refused):
            return None if login is None else login.token
        with self._alone():  # a refresh token sent twice would end the session: one process at a time
            login = self._read().logins.get(place(url))
            if login is None or _good(login, clock, refused):
                return None if login is None else login.token
            if refused is None and login.refresh_expires_at <= clock.now():
                return None
            renewed = _renewed(url, login)
            if renewed is not None:
                self._write({**self._read().logins, place(url): renewed})
            return None if renewed is None else renewed.token

    def _read(self) -> _File:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(fd, "rb") as file:
                if os.fstat(fd).st_mode & 0o077:
                    raise BadLogins(
                        f"{self.path} can be read by others", hint=f"chmod 600 {self.path}, and log in again"
                    )
                return msgspec.json.decode(file.read(_FILE_BYTES_MAX), type=_File)
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise BadLogins(f"{self.path} cannot be read: {error.strerror or error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadLogins(
                f"{self.path} is no file of logins: {error}", hint="remove it, and log in again"
            ) from error

    def _write(self, logins: Mapping[str, Login]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_File(dict(logins)), order="sorted"), indent=2)
        with whole_file(self.path) as file:
            file.write(data + b"\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadLogins(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


class _Next:
    """The token after one that was refused, and so on; once there is none, there is none."""

    def __init__(self, logins: Logins, url: str, clock: Clock, token: str) -> None:
        self._logins, self._url, self._clock = logins, url, clock
        self._token: str | None = token

    def __call__(self) -> str | None:
        if self._token is not None:
            self._token = self._logins.token(self._url, self._clock, refused=self._token)
        return self._token


def _good(login: Login, clock: Clock, refused: str | None) -> bool:
    return login.token != refused and login.expires_at > clock.now() + _SOON


def place(url: str) -> str:
    """An address as logins are kept by: without path, in lower case."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def _renewed(url: str, login: Login) -> Login | None:
    with Remote(url, ca=Path(login.ca) if login.ca else None) as remote:
        try:
            return login_of(login.user, remote.renew(login.refresh), login.ca)
        except Refused:
            return None


def login_of(user: str, session: Mapping[str, object], ca: str | None) -> Login:
    """A login from what a gateway answers.

    Raises:
        NoAnswer: it answers like something else.
    """
    try:
        told = {name: session[name] for name in ("token", "expires_at", "refresh", "refresh_expires_at")}
        return msgspec.convert({**told, "user": user, "ca": ca}, Login)
    except (KeyError, msgspec.ValidationError) as error:
        raise NoAnswer("it answers, but not like a gateway") from error
