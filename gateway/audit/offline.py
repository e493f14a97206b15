"""Anchors of a trail found without its gateway: in the journal's files, and in the database if wanted."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.audit.anchoring import ANCHORS_MAX
from gateway.audit.verifying import Anchor
from gateway.config.load import Loaded
from gateway.embedded_postgres import dsn_of_running
from gateway.errors import GatewayError
from gateway.historian.connection import Readers
from gateway.historian.migrate import SQL
from gateway.journal.codec import Unreadable
from gateway.journal.copied import copy_of_newest
from gateway.journal.segment import Segment
from statemodel.records import Recorded
from statemodel.types import AuditAnchor


def anchors_of(loaded: Loaded, *, database: bool) -> tuple[Sequence[Anchor], Sequence[str]]:
    """What the journal and with `database` the database hold; a sentence for what did not answer."""
    silent = []
    found: list[Anchor] = []
    try:
        found += _in_journal(loaded.data_dir / "journal")
    except (GatewayError, sqlite3.Error, Unreadable, OSError) as error:
        silent.append(f"the journal was not asked for anchors: {error}")
    if database:
        try:
            found += asyncio.run(_in_database(loaded))
        except GatewayError as error:
            silent.append(f"the database was not asked for anchors: {error.reason}")
    return found, silent


def _in_journal(directory: Path) -> Iterator[Anchor]:
    with tempfile.TemporaryDirectory(prefix="andon-audit-") as scratch:
        copied = copy_of_newest(directory, Path(scratch))
        if copied is None:
            return
        ids, newest = copied
        for id_ in ids:
            opened = (
                Segment.open_newest(newest) if id_ == ids[-1] else Segment.open_finished(directory / id_.name)
            )
            try:
                for event in opened.events(0, -1):
                    if isinstance(event, Recorded) and isinstance(event.event, AuditAnchor):
                        one = event.event
                        where = f"event {event.seq} of the journal"
                        yield Anchor(one.n, one.hash, one.key, one.at, one.signature, where)
            finally:
                opened.close()


async def _in_database(loaded: Loaded) -> Sequence[Anchor]:
    configuration = loaded.configuration
    settings = configuration.historian
    if settings is None:
        return ()
    dsn = settings.dsn
    if dsn == "embedded":
        running = dsn_of_running(loaded.data_dir)
        if running is None:
            raise _NotRunning("the embedded database does not run", hint="it runs while the gateway does")
        dsn = running
    readers = Readers(dsn, settings, configuration.gateway.id)
    try:
        rows = await readers.fetch(SQL["audit_anchors"], configuration.gateway.id, ANCHORS_MAX)
    finally:
        readers.drop()
    return [
        Anchor(row["n"], row["hash"], row["key"], row["at"], row["signature"], "the database") for row in rows
    ]


class _NotRunning(GatewayError):
    """There is no database to ask just now."""
