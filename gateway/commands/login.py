"""`andon login` and `andon logout`: a session of a person at a gateway elsewhere, kept for the other
verbs."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.text import Text

from gateway.access.credentials import Logins, ca_for, credentials_for, login_of, place
from gateway.access.remote import Remote
from gateway.client import NoAnswer, Refused
from gateway.commands.accounts import read_password
from gateway.commands.show import err, out, print_json
from gateway.commands.when import WrongArgument
from gateway.config.access import LOOPBACK

#: So often a person is asked for a new password that is taken.
_TRIES = 3
_NEXT_LINE = "a new one is asked for: with --password-stdin it is the line after the old one"


def log_in(url: str, *, user: str | None, from_input: bool, ca: Path | None, json: bool) -> None:
    """Begin a session and keep it. Who has to change the password first is asked for a new one."""
    name = user or _own_name()
    url = place(url)
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        err.print(
            Text("the password goes over the network in the clear: that gateway has no TLS", style="yellow")
        )
    ca = ca_for(url, ca)
    logins = Logins(os.environ)
    with Remote(url, ca=ca) as remote:
        password = read_password(f"Password of {name} at {url}", from_input=from_input, twice=False)
        session = remote.log_in(name, password)
        if _must_change(session):
            remote.as_bearer(str(session.get("token")))
            err.print(Text("the password has to be changed first", style="yellow"))
            _change_password(remote, name, password, from_input=from_input)
        login = login_of(name, session, None if ca is None else str(ca.resolve()))
    logins.keep(url, login)
    if json:
        print_json({"url": url, "user": name, "until": login.refresh_expires_at})
    else:
        out.print(Text(f"logged in at {url} as {name}, until {login.refresh_expires_at:%Y-%m-%d %H:%M} UTC"))


def log_out(url: str, *, json: bool) -> None:
    """End the session at a gateway, also where it does not answer any more: then only here."""
    logins = Logins(os.environ)
    url = place(url)
    there = logins.find(url)
    if there is None:
        raise Refused("session_ended", f"there is no login at {url}", hint="andon login URL begins one")
    with suppress(NoAnswer, Refused):
        bearer = credentials_for(url, environment={**os.environ, "ANDON_TOKEN": ""})
        with Remote(url, bearer, ca=ca_for(url)) as remote:
            remote.log_out()
    logins.drop(url)
    if json:
        print_json({"url": url, "user": there.user})
    else:
        out.print(Text(f"logged out at {url}"))


def _change_password(remote: Remote, name: str, password: str, *, from_input: bool) -> None:
    """Have the user take another password; a person at a terminal may try again when it is too weak."""
    for left in reversed(range(_TRIES)):
        try:
            new = read_password(f"New password of {name}", from_input=from_input, if_empty=_NEXT_LINE)
            remote.change_password(password, new)
        except (Refused, WrongArgument) as wrong:
            again = isinstance(wrong, WrongArgument) or wrong.code == "weak_password"
            if from_input or not left or not again or not sys.stdin.isatty():
                raise
            err.print(Text(f"{wrong.reason}; {wrong.hint}", style="yellow"))
        else:
            return


def _must_change(session: dict[str, Any]) -> bool:
    caller = session.get("caller")
    return isinstance(caller, dict) and caller.get("must_change_password") is True


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise WrongArgument("this user has no name", hint="give one with --user") from error
