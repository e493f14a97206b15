"""What the verbs about users, keys and logins share: where they change something, and how they ask for
passwords."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from api.access import Conflict, Role
from gateway.access.credentials import ca_for, credentials_for
from gateway.access.offline import Offline
from gateway.access.remote import Remote
from gateway.cli_words import given_ca, given_token
from gateway.client import Refused
from gateway.clock import SystemClock
from gateway.commands.when import WrongArgument
from gateway.commands.where import Where
from gateway.config.load import read_toml
from gateway.config.problems import ConfigurationRefused, Problem, did_you_mean

#: Longest line taken for a password.
_LINE_CHARS_MAX = 4096


@contextmanager
def opened(where: Where) -> Iterator[Offline | Remote]:
    """What is to be changed; failures of both kinds come out alike.

    Raises:
        WrongArgument: it is not said where, or said twice.
        Refused: it cannot be done; the code says why.
    """
    if (where.config is None) == (where.url is None):
        raise WrongArgument(
            "it is not clear whose users and keys these are",
            hint="--config CONFIG for the files of a gateway here, or --url URL for one that runs",
        )
    try:
        if where.config is not None:
            yield Offline(data_dir_of(where.config), SystemClock(), _own_name())
        else:
            url = where.url or ""
            bearer = credentials_for(url, token=given_token())
            with Remote(url, bearer, ca=ca_for(url, given_ca())) as remote:
                yield remote
    except Conflict as conflict:
        raise Refused(conflict.code, conflict.reason, hint=conflict.hint) from conflict


def data_dir_of(config: Path) -> Path:
    """The data directory of a configuration; the rest of it need not be right.

    Raises:
        ConfigurationRefused: the file cannot be read.
    """
    read = read_toml(config)
    if isinstance(read, Problem):
        raise ConfigurationRefused([read])
    gateway = read[0].get("gateway", {})
    named = gateway.get("data_dir", "./data") if isinstance(gateway, dict) else "./data"
    return (config.parent / str(named)).resolve()


def roles_of(words: Iterable[str]) -> frozenset[Role]:
    """Roles as they were typed, also with commas between.

    Raises:
        WrongArgument: there is none, or no such role.
    """
    roles = set()
    for word in (part.strip() for text in words for part in text.split(",")):
        if word not in {str(role) for role in Role}:
            known = [str(role) for role in Role]
            hint = did_you_mean(word, known) or f"there are: {', '.join(known)}"
            raise WrongArgument(f'there is no role "{word}"', hint=hint)
        roles.add(Role(word))
    if not roles:
        raise WrongArgument("no role is given", hint="--role operator, for example")
    return frozenset(roles)


def read_password(
    prompt: str, *, from_input: bool, twice: bool = True, if_empty: str = "nothing was changed"
) -> str:
    """A password from the terminal, without echo, or the next line of standard input. `if_empty` is the hint
    when there is none.

    Raises:
        WrongArgument: there is none, or the second is another than the first.
    """
    if from_input:
        password = sys.stdin.readline(_LINE_CHARS_MAX).rstrip("\r\n")
    else:
        if not sys.stdin.isatty():
            raise WrongArgument(
                "there is no terminal to ask for the password", hint="--password-stdin reads it from there"
            )
        password = getpass.getpass(f"{prompt}: ")
        if twice and getpass.getpass("The same again: ") != password:
            raise WrongArgument("the two are not the same", hint="try again; nothing was changed")
    if not password:
        raise WrongArgument("the password is empty", hint=if_empty)
    return password


def built(make: Callable[[], Any], type_: Any) -> Any:
    """A request as the API judges it, from what was typed.

    Raises:
        WrongArgument: a name or an area is not written as it must be.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(make()), type_)
    except msgspec.ValidationError as error:
        raise WrongArgument(
            f"that cannot be taken: {error}",
            hint="names have small letters, digits and . _ @ -; areas look like filling/line-1",
        ) from error


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
