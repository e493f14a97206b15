"""The verbs `andon command ...`: writing to machines through a running gateway."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.cli_words import Ca, FoundBy, Json, Token, Url


class _SendsByDefault(TyperGroup):
    """`andon command TAG VALUE` is `andon command send TAG VALUE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Group`."""
        # Options may stand before the target, and before a verb too: that is not to be taken for a target.
        words = args if args and args[0].startswith("-") else args[:1]
        if args and args[0] != "--help" and self.commands.keys().isdisjoint(words):
            args = ["send", *args]
        return super().parse_args(ctx, args)


command = typer.Typer(
    cls=_SendsByDefault,
    help="Write to a machine: andon command CONNECTION/TAG VALUE, or andon command EQUIPMENT COMMAND.",
    no_args_is_help=True,
)

_Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="connection/tag, or an equipment.", show_default=False)
]
_Value = Annotated[
    str, typer.Argument(metavar="VALUE", help="The value, or the name of the command.", show_default=False)
]
_Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the command.", show_default=False)]
_Text = Annotated[bool, typer.Option("--text", help="The value is a text, whatever it looks like.")]


@command.command("send", context_settings={"ignore_unknown_options": True})
def command_send(
    target: _Target,
    value: _Value,
    expires: Annotated[str | None, typer.Option(help="After this long nothing is sent any more.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and tell, but write nothing.")] = False,
    arm: Annotated[str | None, typer.Option(help="What `command arm` gave.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Your own name for it: the same again is done once.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why; kept with it.", show_default=False)] = "",
    text: _Text = False,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Send a command. Exit code 1 when it is refused, or what is read back is something else."""
    from gateway.commands import command as verb

    wanted = verb.target_of(target, value, text=text)
    client = verb.client_of(config, url)
    verb.send(client, wanted, key=key, expires=expires, dry_run=dry_run, arm=arm, note=note, json=json)


@command.command("show")
def command_show(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False)] = None,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="Only the newest so many.")] = 20,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Commands of late, or one, and what came of them."""
    from gateway.commands import command as verb

    verb.show(verb.client_of(config, url), id_, last=last, json=json)


@command.command("approve", context_settings={"ignore_unknown_options": True})
def command_approve(
    id_: _Id,
    value: _Value,
    text: _Text = False,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """The second person: carry out a command that waits, with the value that is meant."""
    from gateway.commands import command as verb

    verb.approve(verb.client_of(config, url), id_, value, text=text, json=json)


@command.command("arm", context_settings={"ignore_unknown_options": True})
def command_arm(
    target: _Target,
    value: _Value,
    text: _Text = False,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Arm a command; prints what `command send --arm` takes within 60 seconds."""
    from gateway.commands import command as verb

    verb.arm(verb.client_of(config, url), verb.target_of(target, value, text=text), json=json)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(command, name="command")
