"""Verbs of the command that have verbs of their own: `andon model`, `andon journal`, `andon trust`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli_words import Config, Form, Json

model = typer.Typer(help="State models: the built-in ones, and those of your own.", no_args_is_help=True)


@model.command("list")
def model_list(json: Json = False) -> None:
    """The built-in models."""
    from gateway.commands.model import list_models

    list_models(json=json)


@model.command("show")
def model_show(
    name: Annotated[str, typer.Argument(help="A built-in model, or a model file.", show_default=False)],
    form: Form = "table",
) -> None:
    """A model: states, codes, categories, transitions, rules."""
    from gateway.commands.model import Format, show_model

    show_model(name, Format(form))


@model.command("check")
def model_check(
    file: Annotated[Path, typer.Argument(help="Model file (TOML).", show_default=False)],
    form: Form = "table",
    json: Json = False,
) -> None:
    """Judge a model file, every problem at once, and show it when it is sound."""
    from gateway.commands.model import Format, check_model

    check_model(file, Format(form), json=json)


journal = typer.Typer(
    help="The journal of a configuration, whether its gateway runs or not.", no_args_is_help=True
)


@journal.command("status")
def journal_status(
    config: Config,
    tags: Annotated[bool, typer.Option("--tags", help="The account of every tag as well.")] = False,
    json: Json = False,
) -> None:
    """What it holds, who has read how far, how long it lasts if a sink stops, whether the books add up."""
    from gateway.commands.journal import show_status

    show_status(config, tags=tags, json=json)


@journal.command("verify")
def journal_verify(config: Config, json: Json = False) -> None:
    """Read every record and say whether it is what was written; exit code 3 when one is not."""
    from gateway.commands.journal import show_verdict

    show_verdict(config, json=json)


@journal.command("import")
def journal_import(
    folder: Annotated[
        Path, typer.Argument(help="A journal's folder: set aside, or from a backup.", show_default=False)
    ],
    config: Config,
    json: Json = False,
) -> None:
    """Write into the database what a journal that was set aside still holds; a gateway may run meanwhile."""
    from gateway.commands.importing import import_journal

    import_journal(folder, config, json=json)


trust = typer.Typer(name="trust", help="Which OPC UA servers are trusted, and deciding on those that wait.")
Keeper = Annotated[
    Path,
    typer.Argument(
        help="Configuration file (TOML), or the data folder of `browse` (./data).", show_default=False
    ),
]
Which = Annotated[
    str, typer.Argument(metavar="CERTIFICATE", help="Beginning of its thumbprint, or its file name.")
]


@trust.command("list")
def trust_list(config: Keeper, json: Json = False) -> None:
    """All certificates: those that wait for a decision first."""
    from gateway.commands.trust import list_trust

    list_trust(config, json=json)


@trust.command("show")
def trust_show(config: Keeper, certificate: Which, json: Json = False) -> None:
    """All there is to know of one certificate."""
    from gateway.commands.trust import show_trust

    show_trust(config, certificate, json=json)


@trust.command("approve")
def trust_approve(config: Keeper, certificate: Which, json: Json = False) -> None:
    """Trust a server that waits. Compare the thumbprint with the server first."""
    from gateway.commands.trust import approve_trust

    approve_trust(config, certificate, json=json)


@trust.command("reject")
def trust_reject(config: Keeper, certificate: Which, json: Json = False) -> None:
    """Remove a certificate that waits, or trust a server no longer."""
    from gateway.commands.trust import reject_trust

    reject_trust(config, certificate, json=json)


@trust.command("own")
def trust_own(config: Keeper, json: Json = False) -> None:
    """Where the gateway's own certificate is, to be approved on servers; made if there is none yet."""
    from gateway.commands.trust import show_own

    show_own(config, json=json)
