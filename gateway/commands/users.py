"""`andon user`: who may log in, with which roles, in which areas."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from rich.text import Text

from api.access import NewUser, Role, UserChange, UserView
from gateway.commands.accounts import built, opened, read_password, roles_of
from gateway.commands.areas import warn_of_empty
from gateway.commands.show import out, print_json, table_of
from gateway.commands.when import WrongArgument
from gateway.commands.where import Where


def list_users(where: Where, *, json: bool) -> None:
    """Print all users."""
    with opened(where) as accounts:
        users = accounts.users()
    _show(users, json=json)


def show_user(where: Where, name: str, *, json: bool) -> None:
    """Print one user."""
    with opened(where) as accounts:
        user = accounts.user(name)
    _show([user], json=json)


def add_user(
    where: Where,
    name: str,
    *,
    roles: Sequence[str],
    areas: Sequence[str] | None,
    from_input: bool,
    must_change: bool,
    json: bool,
) -> None:
    """Add a user, and print what was added."""
    wanted_roles = roles_of(roles)
    with opened(where) as accounts:
        password = read_password(f"Password of {name}", from_input=from_input)
        wanted: NewUser = built(
            lambda: NewUser(
                name=name,
                password=password,
                roles=wanted_roles,
                areas=tuple(areas) if areas else None,
                must_change_password=must_change,
            ),
            NewUser,
        )
        user = accounts.add_user(wanted)
        warn_of_empty(where, accounts, wanted.areas)
    _show([user], json=json)


def change_user(
    where: Where,
    name: str,
    *,
    roles: Sequence[str] | None,
    areas: Sequence[str] | None,
    everywhere: bool,
    enable: bool,
    json: bool,
) -> None:
    """Change roles, areas or whether the user is let in; print the user as it is then."""
    if areas and everywhere:
        raise WrongArgument("--area and --everywhere do not go together", hint="leave one of them out")
    if not (roles or areas or everywhere or enable):
        raise WrongArgument("nothing to change is named", hint="--role, --area, --everywhere or --enable")
    change: UserChange = built(
        lambda: UserChange(
            roles=roles_of(roles) if roles else UNSET,
            areas=None if everywhere else tuple(areas) if areas else UNSET,
            disabled=False if enable else UNSET,
        ),
        UserChange,
    )
    _change(where, name, change, json=json)


def set_password(where: Where, name: str, *, from_input: bool, must_change: bool, json: bool) -> None:
    """Give a user another password."""
    with opened(where) as accounts:
        user = accounts.user(name)
        password = read_password(f"New password of {name}", from_input=from_input)
        change: UserChange = built(
            lambda: UserChange(password=password, must_change_password=must_change), UserChange
        )
        user = accounts.change_user(name, change, user.version)
    _show([user], json=json)


def disable_user(where: Where, name: str, *, json: bool) -> None:
    """Let a user in no more."""
    _change(where, name, UserChange(disabled=True), json=json)


def remove_user(where: Where, name: str, *, json: bool) -> None:
    """Remove a user."""
    with opened(where) as accounts:
        user = accounts.user(name)
        accounts.remove_user(name, user.version)
    if json:
        print_json({"removed": name})
    else:
        out.print(Text(f"removed {name}"))


def _change(where: Where, name: str, change: UserChange, *, json: bool) -> None:
    with opened(where) as accounts:
        user = accounts.user(name)
        user = accounts.change_user(name, change, user.version)
        warn_of_empty(where, accounts, change.areas or None)
    _show([user], json=json)


def _show(users: Sequence[UserView], *, json: bool) -> None:
    if json:
        for user in users:
            print_json(user)
        return
    table = table_of("user", "roles", "areas", "")
    for user in users:
        notes = [("disabled", user.disabled), ("has to change the password", user.must_change_password)]
        table.add_row(
            Text(user.name, style="dim" if user.disabled else "bold"),
            Text(words_of(user.roles)),
            Text(places_of(user.areas)),
            Text(", ".join(text for text, holds in notes if holds), style="yellow"),
        )
    out.print(table)


def words_of(roles: Sequence[Role]) -> str:
    """Roles on one line."""
    return ", ".join(roles)


def places_of(areas: Sequence[str] | None) -> str:
    """Areas on one line."""
    return "everything" if areas is None else ", ".join(areas)
