"""The verbs about who is there: `andon user ...`, `andon key ...`, `andon login`, `andon logout`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli_words import Ca, Json, Token, given_ca
from gateway.commands.where import Where

user = typer.Typer(
    help="Users: in the files of a configuration, whether its gateway runs or not, or of a running gateway.",
    no_args_is_help=True,
)
key = typer.Typer(
    help="API keys of programs: in the files of a configuration, or of a running gateway.",
    no_args_is_help=True,
)

Of = Annotated[Path | None, typer.Option("--config", help="Change the files of this configuration.")]
At = Annotated[
    str | None, typer.Option("--url", help="Ask this running gateway instead.", show_default=False)
]
Name = Annotated[str, typer.Argument(help="Name of the user.", show_default=False)]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", help="viewer, operator, engineer, admin or auditor; may be given again."),
]
AreasOf = Annotated[
    list[str] | None,
    typer.Option(
        "--area", help="Beginning of the path of equipment; may be given again.", show_default="all"
    ),
]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, not the terminal.")
]
MustChange = Annotated[
    bool,
    typer.Option(
        "--must-change/--no-must-change", help="Whether the user has to change it at the next login."
    ),
]


@user.command("list")
def user_list(
    config: Of = None, url: At = None, token: Token = None, ca: Ca = None, json: Json = False
) -> None:
    """All users, with their roles and areas."""
    from gateway.commands.users import list_users

    list_users(Where(config, url), json=json)


@user.command("show")
def user_show(
    name: Name, config: Of = None, url: At = None, token: Token = None, ca: Ca = None, json: Json = False
) -> None:
    """One user."""
    from gateway.commands.users import show_user

    show_user(Where(config, url), name, json=json)


@user.command("add")
def user_add(
    name: Name,
    role: Roles = None,
    area: AreasOf = None,
    password_stdin: FromInput = False,
    must_change: MustChange = True,
    config: Of = None,
    url: At = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Add a user. The password is asked for twice."""
    from gateway.commands.users import add_user

    add_user(
        Where(config, url),
        name,
        roles=role or [],
        areas=area,
        from_input=password_stdin,
        must_change=must_change,
        json=json,
    )


@user.command("change")
def user_change(
    name: Name,
    role: Roles = None,
    area: Annotated[
        list[str] | None,
        typer.Option(
            "--area", help="Beginning of the path of equipment; may be given again.", show_default=False
        ),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="All areas.")] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Let a disabled user in again.")] = False,
    config: Of = None,
    url: At = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Give a user other roles or areas; what is not named stays. Ends the user's sessions."""
    from gateway.commands.users import change_user

    change_user(
        Where(config, url),
        name,
        roles=role,
        areas=area,
        everywhere=everywhere,
        enable=enable,
        json=json,
    )


@user.command("password")
def user_password(
    name: Name,
    password_stdin: FromInput = False,
    must_change: MustChange = True,
    config: Of = None,
    url: At = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Give a user another password. Ends the user's sessions, and pauses after wrong passwords."""
    from gateway.commands.users import set_password

    set_password(Where(config, url), name, from_input=password_stdin, must_change=must_change, json=json)


@user.command("disable")
def user_disable(
    name: Name, config: Of = None, url: At = None, token: Token = None, ca: Ca = None, json: Json = False
) -> None:
    """Let a user in no more, and end the user's sessions."""
    from gateway.commands.users import disable_user

    disable_user(Where(config, url), name, json=json)


@user.command("remove")
def user_remove(
    name: Name, config: Of = None, url: At = None, token: Token = None, ca: Ca = None, json: Json = False
) -> None:
    """Remove a user, and end the user's sessions."""
    from gateway.commands.users import remove_user

    remove_user(Where(config, url), name, json=json)


@key.command("list")
def key_list(
    config: Of = None, url: At = None, token: Token = None, ca: Ca = None, json: Json = False
) -> None:
    """All keys, with their roles, ends and last use."""
    from gateway.commands.keys import list_keys

    list_keys(Where(config, url), json=json)


@key.command("add")
def key_add(
    name: Annotated[str, typer.Argument(help="Name of the program.", show_default=False)],
    role: Roles = None,
    area: AreasOf = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: a time, a day, or 90d from now.", show_default="never")
    ] = None,
    config: Of = None,
    url: At = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Add a key. It is shown this once, on standard output; nobody can read it later."""
    from gateway.commands.keys import add_key

    add_key(Where(config, url), name, roles=role or [], areas=area, expires=expires, json=json)


@key.command("revoke")
def key_revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the key.", show_default=False)],
    config: Of = None,
    url: At = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Revoke a key: it is of no use any more, and its streams end."""
    from gateway.commands.keys import revoke_key

    revoke_key(Where(config, url), name, json=json)


def login(
    url: Annotated[str, typer.Argument(help="Address of the gateway.", show_default=False)],
    user: Annotated[str | None, typer.Option(help="Name of the user.", show_default="your user name")] = None,
    password_stdin: FromInput = False,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Begin a session at a gateway; the other verbs with --url use it until it ends."""
    from gateway.commands.login import log_in

    log_in(url, user=user, from_input=password_stdin, ca=given_ca(), json=json)


def logout(
    url: Annotated[str, typer.Argument(help="Address of the gateway.", show_default=False)],
    json: Json = False,
) -> None:
    """End that session."""
    from gateway.commands.login import log_out

    log_out(url, json=json)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(user, name="user")
    app.add_typer(key, name="key")
    app.command("login")(login)
    app.command("logout")(logout)
