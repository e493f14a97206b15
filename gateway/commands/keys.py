"""`andon key`: keys of programs. A key is shown once, when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from api.access import KeyView, NewKey
from gateway.client import Refused
from gateway.commands.accounts import built, opened, roles_of
from gateway.commands.areas import warn_of_empty
from gateway.commands.show import age_text, err, out, print_json, table_of
from gateway.commands.users import places_of, words_of
from gateway.commands.when import WrongArgument
from gateway.commands.where import Where
from statemodel.durations import parse_duration


def list_keys(where: Where, *, json: bool) -> None:
    """Print all keys."""
    with opened(where) as accounts:
        keys = accounts.keys()
    if json:
        for key in keys:
            print_json(key)
        return
    now = datetime.now(UTC)
    table = table_of("key", "id", "roles", "areas", "ends", "last used")
    for key in keys:
        table.add_row(
            Text(key.name, style="bold"),
            Text(key.id),
            Text(words_of(key.roles)),
            Text(places_of(key.areas)),
            Text(_ends(key, now)),
            Text("never" if key.last_used_at is None else _ago(key.last_used_at, now)),
        )
    out.print(table)


def add_key(
    where: Where,
    name: str,
    *,
    roles: Sequence[str],
    areas: Sequence[str] | None,
    expires: str | None,
    json: bool,
) -> None:
    """Add a key and print it: on standard output nothing else, so that it can be piped to where it
    belongs."""
    wanted_roles = roles_of(roles)
    ends = None if expires is None else read_end(expires, datetime.now(UTC))
    wanted: NewKey = built(
        lambda: NewKey(name=name, roles=wanted_roles, areas=tuple(areas) if areas else None, expires_at=ends),
        NewKey,
    )
    with opened(where) as accounts:
        warn_of_empty(where, accounts, wanted.areas)  # before: nothing may stand between a key and its print
        added = accounts.add_key(wanted)
    if json:
        print_json(added)
        return
    err.print(
        Text(f"key {added.key.name} ({added.key.id}); keep it now, it is not shown again:", style="dim")
    )
    out.print(Text(added.secret))


def revoke_key(where: Where, name: str, *, json: bool) -> None:
    """Revoke a key by its name or id."""
    with opened(where) as accounts:
        there = accounts.keys()
        named = [key for key in there if name in (key.name, key.id)]
        if not named:
            raise Refused(
                "unknown_key", f'there is no key "{name}"', hint="the keys there are: andon key list"
            )
        key = named[0]
        accounts.remove_key(key.id, key.version)
    if json:
        print_json({"revoked": key.id, "name": key.name})
    else:
        out.print(Text(f"revoked {key.name} ({key.id})"))


def read_end(text: str, now: datetime) -> datetime:
    """An instant ahead: a time, a day, or how long from now.

    Raises:
        WrongArgument: it is none of these, or lies behind.
    """
    try:
        at = now + parse_duration(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise WrongArgument(
                f'--expires: "{text}" is no time', hint='write "90d", "2027-01-31" or a time in RFC 3339'
            ) from error
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if at <= now:
        raise WrongArgument(f'--expires: "{text}" is over already', hint="name a later time")
    return at


def _ends(key: KeyView, now: datetime) -> str:
    if key.expires_at is None:
        return "never"
    if key.expires_at <= now:
        return "has ended"
    return f"in {age_text((key.expires_at - now).total_seconds())}"


def _ago(at: datetime, now: datetime) -> str:
    return f"{age_text((now - at).total_seconds())} ago"
