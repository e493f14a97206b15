"""`andon journal status` and `verify`: what the journal holds, who has read how far, whether it is sound.

Both read its folder from outside, whether the gateway runs or not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gateway.accounts.books import Line
from gateway.accounts.survey import BooksView, look_at_books
from gateway.commands.show import age_text, out, print_json, size_text, table_of
from gateway.config.load import Loaded, load
from gateway.errors import GatewayError, JournalDamaged
from gateway.journal.survey import Survey, look, verify
from gateway.journal.values import Cursor

#: Beyond this nobody plans by the hour.
_HOURS_TOLD_MAX = 365 * 24


class BooksDoNotAddUp(GatewayError):
    """Samples that were recorded are neither delivered nor buffered nor known to be lost."""


class NoJournal(GatewayError):
    """There is no journal where the configuration says."""


def show_status(config: Path, *, tags: bool = False, json: bool) -> None:
    """Print what the journal of a configuration holds; with `tags` the account of every tag.

    Raises:
        NoJournal: there is none.
        BooksDoNotAddUp: samples are unaccounted for (exit code 1); all is printed before.
    """
    loaded = load(config, secrets_of=())
    now = datetime.now(UTC)
    survey = _look(loaded)
    bytes_max = loaded.configuration.gateway.journal.bytes_max
    books = look_at_books(Path(survey.directory), tags=tags)
    if json:
        hours = {sink: survey.hours_left(bytes_max, sink) for sink in _sinks(loaded, survey)}
        print_json({"journal": survey, "bytes_max": bytes_max, "hours_left": hours, "accounts": books})
        _judge(books)
        return
    position = survey.position
    begun_at = survey.segments[0].created_at
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column()
    facts.add_row("journal", survey.directory)
    facts.add_row("gateway", f"{survey.gateway}, stream {position.stream}")
    facts.add_row("open", f"by process {survey.holder}" if survey.holder else "by nobody")
    facts.add_row("events", _range(position.first_seq, position.last_seq))
    facts.add_row("batches", _range(position.first_batch, position.last_batch))
    if begun_at is not None:
        age = age_text((now - begun_at).total_seconds())
        facts.add_row("held since", f"{begun_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({age})")
    facts.add_row("size", _size(survey, bytes_max))
    if survey.anchor is not None:
        facts.add_row("digest", f"{survey.anchor.digest} over all that")
    out.print(facts)
    out.print()
    out.print(_sink_table(loaded, survey, bytes_max))
    if books is not None:
        out.print()
        out.print(_books_table(books, taken=loaded.configuration.historian is not None))
        if tags:
            out.print()
            out.print(_tags_table(books))
    _judge(books)


def show_verdict(config: Path, *, json: bool) -> None:
    """Read every record and say of each file whether it is sound.

    Raises:
        JournalDamaged: it is not (exit code 3).
    """
    loaded = load(config, secrets_of=())
    directory = _look(loaded).directory
    damaged = 0
    for verdict in verify(Path(directory)):
        damaged += len(verdict.damage)
        if json:
            print_json(verdict)
            continue
        line = Text(f"{verdict.name}  ")
        line.append(*(("sound", "green") if not verdict.damage else ("damaged", "bold red")))
        line.append(f"  {verdict.events:,} events, {verdict.batches:,} batches", style="dim")
        out.print(line)
        for damage in verdict.damage:
            place = (
                f"event {damage.seq}: " if damage.seq else f"batch {damage.batch}: " if damage.batch else ""
            )
            out.print(f"    {place}{damage.reason}", markup=False)
    if damaged:
        raise JournalDamaged(
            f"{damaged} places of the journal in {directory} are not what was written",
            hint="what the database holds is safe; restore the folder from a backup, or go on without them: "
            "the gateway leaves them out and says so",
        )


def _look(loaded: Loaded) -> Survey:
    directory = loaded.data_dir / "journal"
    survey = look(directory)
    if survey is None:
        raise NoJournal(
            f"there is no journal in {directory}", hint="check gateway.data_dir; `andon run` begins a journal"
        )
    return survey


def _sinks(loaded: Loaded, survey: Survey) -> list[str]:
    """Those the configuration has, and any other that has ever read."""
    configured = loaded.configuration.sinks
    return [*configured, *(sink for sink in sorted(survey.sinks) if sink not in configured)]


def _sink_table(loaded: Loaded, survey: Survey, bytes_max: int) -> Table:
    right = ("events read", "behind", "batches read", "behind", "room if it stops")
    table = table_of("sink", *right, right=right)
    position = survey.position
    for sink in _sinks(loaded, survey):
        cursor = survey.sinks.get(sink, Cursor())
        hours = survey.hours_left(bytes_max, sink)
        reads_batches = cursor.batch > 0 or sink == "historian"
        table.add_row(
            sink,
            f"{cursor.seq:,}",
            f"{max(0, position.last_seq - cursor.seq):,}",
            f"{cursor.batch:,}" if reads_batches else "-",
            f"{max(0, position.last_batch - cursor.batch):,}" if reads_batches else "-",
            _room(hours),
        )
    return table


def _judge(books: BooksView | None) -> None:
    if books is not None and not books.adds_up:
        raise BooksDoNotAddUp(
            "the books of what was recorded do not add up",
            hint="`andon journal status CONFIG --tags` says of which tags; `andon journal verify CONFIG` "
            "whether the journal is sound",
        )


_LINE = ("recorded", "delivered", "buffered", "set_aside", "missing", "difference")
#: How they are headed.
_COUNTS = (*(name.replace("_", " ") for name in _LINE), "shed")


def _books_table(books: BooksView, *, taken: bool) -> Table:
    """`taken`: a sink is configured that takes samples."""
    first = f"samples since {books.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    table = table_of(first, *_COUNTS, right=_COUNTS)
    for sink, line in books.sinks.items():
        table.add_row(sink, *_figures(line), f"{books.shed:,}")
    if not books.sinks:
        # The books of a new sink are kept within a minute of its meeting the database, and not before.
        who = "historian, not counted yet" if taken else "no sink takes samples"
        table.add_row(who, f"{books.recorded:,}", *["-"] * 5, f"{books.shed:,}")
    return table


def _tags_table(books: BooksView) -> Table:
    table = table_of("tag", "sink", *_COUNTS, right=_COUNTS)
    for one in books.tags:
        for sink, line in one.sinks.items():
            table.add_row(one.tag, sink, *_figures(line), f"{one.shed:,}")
        if not one.sinks:
            table.add_row(one.tag, "-", f"{one.recorded:,}", *["-"] * 5, f"{one.shed:,}")
    return table


def _figures(line: Line) -> list[str]:
    return [f"{getattr(line, name):,}" for name in _LINE]


def _room(hours: float | None) -> str:
    if hours is None:
        return "-"
    return age_text(hours * 3600) if hours < _HOURS_TOLD_MAX else "over a year"


def _range(first: int, last: int) -> str:
    return f"{first:,} to {last:,}" if last >= first else "none yet"


def _size(survey: Survey, bytes_max: int) -> str:
    files = "1 file" if len(survey.segments) == 1 else f"{len(survey.segments)} files"
    free = size_text(survey.free_bytes)
    said = f"{size_text(survey.bytes)} of {size_text(bytes_max)} in {files}; the disk has {free} left"
    if survey.growth_bytes_per_s:
        said += f"; grows by {size_text(survey.growth_bytes_per_s * 3600)} an hour"
    return said
