"""`andon journal import`: what a journal that was set aside still holds, into the database."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, closing
from pathlib import Path

from rich.progress import Progress

from gateway.commands.show import err, out, print_json
from gateway.commands.when import WrongArgument
from gateway.config.load import Loaded, load
from gateway.embedded_postgres import EmbeddedPostgres, dsn_of_running
from gateway.snapshots.foreign import ForeignJournal
from gateway.snapshots.importing import Imported, import_folder, refuse_live

_MISSING_SHOWN = 20


def import_journal(folder: Path, config: Path, *, json: bool) -> None:
    """Write what a folder holds beyond the database's cursor of its stream, and say what could not be."""
    loaded = load(config)
    if loaded.configuration.historian is None:
        raise WrongArgument(f"{config} has no database", hint="add [historian] to it")
    refuse_live(folder)
    with (
        tempfile.TemporaryDirectory(prefix="andon-import-") as scratch,
        closing(ForeignJournal(folder, Path(scratch))) as journal,
    ):
        done = asyncio.run(_import(journal, loaded))
    if json:
        print_json(done)
        return
    _show(done)


async def _import(journal: ForeignJournal, loaded: Loaded) -> Imported:
    settings = loaded.configuration.historian
    assert settings is not None, "looked at before"
    last = journal.position
    async with AsyncExitStack() as stack:
        dsn = settings.dsn
        if dsn == "embedded":
            running = dsn_of_running(loaded.data_dir)
            if running is None:
                server = EmbeddedPostgres(loaded.data_dir)
                running = await server.start()
                stack.push_async_callback(server.stop)
            dsn = running
        bar = stack.enter_context(Progress(console=err, transient=True))
        events = bar.add_task("events", total=last.last_seq)
        batches = bar.add_task("sample batches", total=last.last_batch)

        def tell(done: Imported) -> None:
            bar.update(events, completed=min(done.cursor.seq, last.last_seq))
            bar.update(batches, completed=min(done.cursor.batch, last.last_batch))

        return await import_folder(journal, loaded, dsn, progress=tell)


def _show(done: Imported) -> None:
    out.print(
        f"stream {done.stream}: {done.events:,} events and {done.samples:,} samples written; the database "
        f"has it up to event {done.cursor.seq:,} and batch {done.cursor.batch:,}"
    )
    if done.cursor.seq < done.last.seq or done.cursor.batch < done.last.batch:
        out.print(
            f"    [yellow]not all of it:[/] it ends at event {done.last.seq:,}, batch {done.last.batch:,}"
        )
    for missing in done.missing[:_MISSING_SHOWN]:
        numbers = (
            f"{missing.first:,}"
            if missing.first == missing.last
            else f"{missing.first:,} to {missing.last:,}"
        )
        out.print(f"    [yellow]not in the folder, or unreadable:[/] {missing.numbering} {numbers}")
    if (more := len(done.missing) - _MISSING_SHOWN) > 0:
        out.print(f"    and {more:,} more stretches, which --json lists")
    for damage in done.damage[:_MISSING_SHOWN]:
        out.print(f"    {damage.path}: {damage.reason}", markup=False)
    if done.set_aside:
        out.print(
            f"    [yellow]{done.set_aside:,} rows the database would not take[/] lie in andon.set_aside"
        )
