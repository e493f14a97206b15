"""The command `andon`: options and exit codes. What each verb does is in `gateway.commands`.

Exit codes: 0 fine, 1 failed while running, 2 the configuration or arguments are wrong, 3 the journal is
damaged or in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway import (
    cli_access,
    cli_audit,
    cli_backup,
    cli_changing,
    cli_control,
    cli_corrections,
    cli_reconcile,
    cli_topics,
)
from gateway.cli_database import database
from gateway.cli_groups import journal, model, trust
from gateway.cli_words import Ca, Config, FoundBy, Json, Token, Url
from gateway.commands.show import print_failure
from gateway.errors import GatewayError
from gateway.preflight import check_installation

app = typer.Typer(
    name="andon",
    help="The state of every machine on the floor: polled, judged, recorded, told.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Since = Annotated[
    str | None,
    typer.Option("--from", help="Begin: a time, a day, or 8h for 8 h ago.", show_default="24 h before --to"),
]
Until = Annotated[str | None, typer.Option("--to", help="End, written the same way.", show_default="now")]


def main() -> None:
    """Entry point: failures become one message and an exit code, never a trace."""
    try:
        check_installation()
        app()
    except GatewayError as failure:
        print_failure(failure)
        raise SystemExit(failure.exit_code) from None
    except BrokenPipeError:
        raise SystemExit(0) from None


def _ended(work: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Run a verb; Ctrl-C is a normal way to end one that goes on until then."""
    try:
        work(*arguments, **options)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _version(wanted: bool) -> None:
    if wanted:
        from gateway.commands.version import show_version

        show_version(json=False)
        raise typer.Exit(0)


@app.callback()
def options(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Versions, then end.")
    ] = False,
) -> None:
    """The state of every machine on the floor: polled, judged, recorded, told."""


@app.command()
def demo(
    for_: Annotated[
        str | None, typer.Option("--for", help="Stop by itself after this time, such as 30s.")
    ] = None,
    json: Json = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep data and configuration in this folder, ready for `andon run`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the plant's behaviour.")] = 1,
    speed: Annotated[float, typer.Option(help="Plant time per wall time.")] = 1.0,
) -> None:
    """A whole plant on this machine: simulated PLCs, database, broker, gateway, live table."""
    from gateway.commands.demo import run_demo

    run_demo(for_text=for_, json=json, keep=keep, seed=seed, speed=speed)


@app.command()
def run(
    config: Config,
    log_json: Annotated[
        bool | None,
        typer.Option("--log-json/--log-text", help="Form of log lines.", show_default="by terminal"),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway.commands.run import run_gateway

    run_gateway(config, log_json=log_json)


@app.command()
def check(
    config: Config,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings too end with exit code 2.")] = False,
    json: Json = False,
) -> None:
    """Judge a configuration without connecting to anything; every problem at once."""
    from gateway.commands.check import check_configuration

    check_configuration(config, strict=strict, json=json)


@app.command()
def plan(
    config: Config,
    latency: Annotated[
        str | None,
        typer.Option(help="From a request to its answer, without the bytes on a line.", show_default="5ms"),
    ] = None,
    requests: Annotated[
        bool, typer.Option("--requests", help="Every request, also where they are many.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Running gateway to compare with.", show_default="as the configuration says"),
    ] = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """What reading will cost: requests, registers, cycle times, link use; beside what a gateway measures."""
    from gateway.commands.plan import show_plan

    show_plan(config, latency=latency, url=url, requests=requests, json=json)


@app.command()
def read(
    config: Annotated[
        str,
        typer.Argument(
            help="Configuration file (TOML); with --orders also an endpoint such as tcp://10.0.0.6:502.",
            show_default=False,
        ),
    ],
    tags: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tags as connection/tag; all when none is named. With --orders one, or an address."
        ),
    ] = None,
    orders: Annotated[
        bool, typer.Option("--orders", help="Modbus registers in every type and order, side by side.")
    ] = False,
    unit: Annotated[int | None, typer.Option(help="Unit id, of an endpoint with --orders.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting of that endpoint: --set 'serial={baud=9600}'."),
    ] = None,
    json: Json = False,
) -> None:
    """Connect, read every tag once, print value, quality and time, publish nothing."""
    if orders:
        from gateway.commands.orders import show_orders

        _ended(show_orders, config, tags or [], unit=unit, assignments=settings or [], json=json)
        return
    from gateway.commands.read import read_tags, refuse_endpoint

    refuse_endpoint(config, unit, settings)
    _ended(read_tags, Path(config), tags or [], json=json)


@app.command()
def browse(
    target: Annotated[
        str, typer.Argument(help="An endpoint such as opc.tcp://10.0.0.5:4840, or a configuration file.")
    ],
    connection: Annotated[
        str | None, typer.Argument(help="A connection of that configuration, with its credentials.")
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", help="Only paths like this: *Filler*/Speed, or /regular expression/.")
    ] = "",
    search: Annotated[str, typer.Option(help="Only what has this text in name, address, description.")] = "",
    depth: Annotated[int | None, typer.Option(help="How many levels down.", min=1)] = None,
    values: Annotated[bool, typer.Option("--values", help="Read present values too.")] = False,
    variables: Annotated[bool, typer.Option("--variables", help="Only what has a value.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what describes the device itself.")] = False,
    limit: Annotated[int, typer.Option(help="Most things told.", min=1)] = 200_000,
    form: Annotated[
        Literal["tree", "json", "toml", "csv"],
        typer.Option("--format", help="toml and csv are ready for the configuration."),
    ] = "tree",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    toml: Annotated[bool, typer.Option("--toml", help="The same as --format toml.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv.")] = False,
    security: Annotated[
        str | None,
        typer.Option(help="Policy, or policy/mode, of an OPC UA endpoint; None for an unprotected one."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="User name.")] = None,
    password: Annotated[str | None, typer.Option(help="Its password, as env:NAME or file:PATH.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the connection: --set unit=3.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where certificates are kept.", show_default="./data")
    ] = None,
) -> None:
    """Look around in a device: a tree, or tags ready for the configuration."""
    from connectors.browsing import Query
    from gateway.commands.browse import browse_device, connection_options

    query = Query(filter_, search, depth, variables, values, limit, everything)
    _ended(
        browse_device,
        target,
        connection,
        query,
        "json" if json else "toml" if toml else "csv" if csv else form,
        options=connection_options(security, user, password),
        assignments=settings or [],
        data_dir=data_dir,
    )


@app.command()
def state(
    equipment: Annotated[str | None, typer.Argument(help="One equipment; all when none is named.")] = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    connections: Annotated[
        bool, typer.Option("--connections", help="The links instead of the states.")
    ] = False,
    json: Json = False,
) -> None:
    """States of a running gateway, once."""
    from gateway.commands.remote import show_state, url_from

    show_state(url_from(config, url), equipment, connections=connections, json=json)


@app.command()
def tail(
    after: Annotated[str | None, typer.Option(help="Begin after this sequence; now when not given.")] = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Events of a running gateway as they come, until Ctrl-C."""
    from gateway.commands.remote import follow, url_from

    _ended(follow, url_from(config, url), after, json=json)


@app.command()
def explain(
    equipment: Annotated[str, typer.Argument(help="Name of the equipment.", show_default=False)],
    seq: Annotated[
        str | None, typer.Option(help="The transition of this sequence number, not the newest.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="The state in force then: a time, or 8h for 8 h ago.")
    ] = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Why an equipment is, or was, in a state: from the record alone."""
    from gateway.commands.explain import show_explanation
    from gateway.commands.remote import url_from

    show_explanation(url_from(config, url), equipment, seq=seq, at=at, json=json)


@app.command()
def kpi(
    equipment: Annotated[str, typer.Argument(help="Name of the equipment.", show_default=False)],
    from_: Since = None,
    to: Until = None,
    bucket: Annotated[
        str | None, typer.Option(help="hour, day, week, month, or a length such as 15m.")
    ] = None,
    tz: Annotated[
        str | None, typer.Option(help="Time zone of the calendar, such as Europe/Berlin.", show_default="UTC")
    ] = None,
    shifts: Annotated[
        str | None, typer.Option(help="Shifts instead of buckets: early=06:00-14:00,late=14:00-22:00.")
    ] = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """What the time of an equipment was spent on: durations, SEMI E10, ISO 22400."""
    from gateway.commands.kpi import show_kpi
    from gateway.commands.remote import url_from

    show_kpi(
        url_from(config, url),
        equipment,
        from_=from_,
        to=to,
        bucket=bucket,
        tz=tz,
        shifts=shifts,
        json=json,
    )


@app.command()
def history(
    equipment: Annotated[
        str, typer.Argument(help="Name of the equipment, or a tag as connection/tag.", show_default=False)
    ],
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin: a time, a day, or 8h for 8 h ago.")
    ] = None,
    to: Until = None,
    states: Annotated[
        bool, typer.Option("--states", help="The states as intervals, with corrections laid over them.")
    ] = False,
    known_at: Annotated[
        str | None, typer.Option(help="The same as it was known then: a time, a day, or 8h for 8 h ago.")
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="What was recorded, from the journal's folder, as JSON lines.")
    ] = False,
    bucket: Annotated[
        str | None, typer.Option(help="Of a tag: figures by hour, day, week, month, or a length such as 15m.")
    ] = None,
    tz: Annotated[
        str | None, typer.Option(help="Time zone of the buckets, such as Europe/Berlin.", show_default="UTC")
    ] = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Transitions of an equipment, or samples of a tag, of a running gateway, oldest first."""
    from gateway.commands.corrections import show_states
    from gateway.commands.history import export_samples, show_history
    from gateway.commands.tag_history import show_tag_history
    from gateway.commands.when import WrongArgument

    if (states or known_at is not None) and ("/" in equipment or samples):
        raise WrongArgument("--states and --known-at are for equipment", hint="leave them out")
    if "/" in equipment and not samples:
        show_tag_history(
            equipment, config=config, url=url, from_=from_, to=to, bucket=bucket, tz=tz, json=json
        )
    elif bucket is not None or tz is not None:
        raise WrongArgument("--bucket and --tz are for tags", hint="for an equipment: andon kpi --bucket")
    elif states or known_at is not None:
        show_states(equipment, config=config, url=url, from_=from_, to=to, known_at=known_at, json=json)
    elif samples:
        if from_ is not None or to is not None:
            raise WrongArgument(
                "--from and --to do not go with --samples, which gives all the journal holds",
                hint="leave them out; `andon replay` takes them",
            )
        export_samples(equipment, config=config)
    else:
        show_history(equipment, config=config, url=url, from_=from_, to=to, json=json)


@app.command()
def replay(
    config: Config,
    equipment: Annotated[
        list[str] | None, typer.Option(help="Only this equipment; may be given several times.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model file or built-in model to try, not those configured.")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="A file `andon history --samples` wrote, not the journal.")
    ] = None,
    from_database: Annotated[
        bool, typer.Option("--from-database", help="Read the database, for what the journal has freed.")
    ] = False,
    from_: Annotated[
        str | None, typer.Option("--from", help="Compare from here on.", show_default="all there is")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Compare up to here.")] = None,
    json: Json = False,
) -> None:
    """What a changed model would have made of what was recorded. Changes nothing."""
    from gateway.commands.replay import run_replay

    run_replay(
        config,
        equipment=equipment or [],
        model=model,
        recording=recording,
        from_database=from_database,
        from_=from_,
        to=to,
        json=json,
    )


app.add_typer(model, name="model")
app.add_typer(journal, name="journal")
app.add_typer(database, name="database")
cli_access.add_to(app)
cli_audit.add_to(app)
cli_backup.add_to(app)
cli_changing.add_to(app)
cli_control.add_to(app)
cli_corrections.add_to(app)
cli_reconcile.add_to(app)
cli_topics.add_to(app)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def simulate(context: typer.Context) -> None:
    """The bundled plant on the wire, with faults on demand (`andon simulate --help`)."""
    from simulators.run import main as run_simulators

    raise typer.Exit(run_simulators(context.args))


app.add_typer(trust, name="trust")


@app.command()
def version(json: Json = False) -> None:
    """Versions of the gateway and of what it stands on."""
    from gateway.commands.version import show_version

    show_version(json=json)


if __name__ == "__main__":
    main()
