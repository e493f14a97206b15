"""`andon backup` and `andon restore`: a whole gateway as one file, and back."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path

from rich.text import Text

from gateway import log
from gateway.clock import SystemClock
from gateway.commands.show import err, out, print_json, size_text, table_of
from gateway.commands.when import WrongArgument
from gateway.config.load import read_toml
from gateway.config.problems import Problem
from gateway.config.secrets import Unresolved, resolve
from gateway.snapshots import backup
from gateway.snapshots.archive import Head
from gateway.snapshots.contents import contents_of
from gateway.snapshots.restore import restore


def make_backup(
    config: Path, *, to: Path | None, key: str | None, with_secrets: bool, with_database: bool, json: bool
) -> None:
    """Write, read back and judge a backup, then say what is in it and what is not."""
    _allow_many_files()
    log.configure("warning")
    secret = key_of(key) if key else configured_key(config)
    made = backup.make(
        config,
        to,
        secret=secret,
        with_secrets=with_secrets,
        with_database=with_database,
        version=installed_version("andon-gateway"),
        now=datetime.now(UTC),
    )
    if json:
        print_json(made)
        return
    out.print(Text.assemble(("made and verified  ", "green"), made.file))
    out.print(f"    {words_of(made.head)}, {size_text(made.bytes)} of {size_text(made.head.bytes)}")
    if made.head.secrets and made.head.seal is None:
        err.print("[yellow]it holds private keys and is not encrypted:[/] keep it where only you can read it")
    for left in made.left_out:
        out.print(f"    [dim]not in it:[/] {left}", highlight=False)


def list_backups(place: Path, *, json: bool) -> None:
    """Print the backups in a folder, or where those of a configuration go."""
    if place.is_dir():
        folder = place
    elif place.suffix == ".toml":
        contents = contents_of(place, keys=False, secrets=False)
        folder = backup.default_name(contents, datetime.now(UTC)).parent
    else:
        raise WrongArgument(f"{place} is neither a folder nor a configuration", hint="name one of them")
    found = backup.listing(folder)
    if json:
        for item in found:
            print_json(item)
        return
    if not found:
        out.print(f"no backups in {folder}")
        return
    table = table_of("made (UTC)", "gateway", "version", "up to event", "size", "", "file")
    for item in found:
        head = item.head
        if head is None:
            table.add_row("-", "-", "-", "-", size_text(item.bytes), "unreadable", item.file)
            continue
        marks = " ".join(
            word for word, true in (("encrypted", head.seal is not None), ("keys", head.secrets)) if true
        )
        made = f"{head.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        table.add_row(
            made, head.gateway, head.version, f"{head.seq:,}", size_text(item.bytes), marks, item.file
        )
    out.print(table)


def verify_backup(file: Path, *, key: str | None, json: bool) -> None:
    """Read a backup to its end and judge every file in it.

    Raises:
        FileRefused: it is not what was written (exit code 3).
    """
    _look_for(file)
    head, manifest = backup.verify(file, key_of(key) if key else None)
    if json:
        print_json({"file": str(file), "head": head, "manifest": manifest})
        return
    out.print(Text.assemble(("sound  ", "green"), str(file)))
    out.print(f"    {words_of(head)}")
    if manifest is None:
        out.print("    as a whole it is what was written; with --key every file in it is judged as well")


def restore_backup(file: Path, *, to: Path, key: str | None, force: bool, json: bool) -> None:
    """Restore a backup into a folder and say what to do next."""
    _look_for(file)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # What the parts log names folders by names they no longer have at the end; we say it ourselves.
        log.configure("critical", json=True, file=nowhere)
        done = restore(file, to, secret=key_of(key) if key else None, force=force, clock=SystemClock())
    if json:
        print_json(done)
        return
    out.print(
        Text.assemble(
            ("restored  ", "green"), f"{done.files:,} files, {size_text(done.bytes)}, to {done.directory}"
        )
    )
    if done.replaced:
        out.print(f"    what was there lies in {done.replaced}")
    if done.stream:
        out.print(f"    the journal goes on as stream {done.stream}; equipment keeps its state and its count")
    out.print("next:")
    _numbered(done.next_steps)


def _look_for(file: Path) -> None:
    """A name that was mistyped says nothing of any backup.

    Raises:
        WrongArgument: there is no such file.
    """
    if not file.is_file():
        what = "is a folder, not a backup" if file.is_dir() else "there is no such file"
        folder = file if file.is_dir() else file.parent
        raise WrongArgument(
            f"{file}: {what}", hint=f"`andon backup list {folder}` shows the backups there are"
        )


def _numbered(steps: Iterable[str]) -> None:
    for number, step in enumerate(steps, 1):
        out.print(f"  {number}. {step}", markup=False)


# Keys -------------------------------------------------------------------------------------------------------


def key_of(reference: str) -> str:
    """The key a reference stands for.

    Raises:
        WrongArgument: it is no reference, or leads nowhere.
    """
    if not reference.startswith(("env:", "file:")):
        raise WrongArgument(
            "--key is a secret written in the clear", hint="write env:NAME or file:PATH and put the key there"
        )
    try:
        return resolve(reference, os.environ, Path.cwd())
    except Unresolved as error:
        raise WrongArgument(f"--key: {error.reason}", hint=error.hint) from error


def configured_key(config: Path) -> str | None:
    """The key of a configuration's own snapshots, if it names one."""
    read = read_toml(config)
    if isinstance(read, Problem):
        return None
    table = read[0].get("gateway")
    for name in ("snapshots", "encryption_key"):
        table = table.get(name) if isinstance(table, dict) else None
    if not isinstance(table, str):
        return None
    try:
        return resolve(table, os.environ, config.resolve().parent)
    except Unresolved as error:
        raise WrongArgument(f"gateway.snapshots.encryption_key: {error.reason}", hint=error.hint) from error


# Words ------------------------------------------------------------------------------------------------------


def words_of(head: Head) -> str:
    """What a backup is of, in one line."""
    when = f"{head.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    sealed = ", encrypted" if head.seal is not None else ""
    up_to = f"up to event {head.seq:,}" if head.stream else "without a journal"
    return f'gateway "{head.gateway}", {when}, {head.files:,} files, {up_to}, version {head.version}{sealed}'


def _allow_many_files() -> None:
    """All files of a backup are open at once, so that none goes away while it is made."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
