"""The embedded database in a backup: dumped and loaded with PostgreSQL's own tools, whether it runs or not.

A dump is of one instant and of no version in particular. Knows nothing of what is in the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.embedded_postgres import EmbeddedPostgres, dsn_of_running, run_tool

#: Name of the dump in the data directory of a backup.
DUMP: Final = "database.dump"


def has_database(data_dir: Path) -> bool:
    """Whether an embedded database has ever been begun there."""
    return (data_dir / "postgres" / "PG_VERSION").exists()


async def dump(data_dir: Path, into: Path) -> None:
    """Write everything the embedded database of a data directory holds into a file.

    Raises:
        StartFailed: it does not start, or the dump fails.
    """
    async with server_of(data_dir) as dsn:
        await run_tool("pg_dump", "--format=custom", "--no-owner", f"--dbname={dsn}", f"--file={into}")


async def load(data_dir: Path, dump: Path) -> None:
    """Begin an embedded database in a data directory and load a dump into it, all of it or nothing.

    Raises:
        StartFailed: it does not start, or the dump is not taken.
    """
    async with server_of(data_dir) as dsn:
        await run_tool(
            "pg_restore",
            "--no-owner",
            "--exit-on-error",
            "--single-transaction",
            f"--dbname={dsn}",
            str(dump),
        )


@asynccontextmanager
async def server_of(data_dir: Path) -> AsyncIterator[str]:
    """The address of the server that runs, or of one that is started for the time being.

    Raises:
        StartFailed: it does not start.
    """
    if (running := dsn_of_running(data_dir)) is not None:
        yield running
        return
    server = EmbeddedPostgres(data_dir)
    try:
        yield await server.start()
    finally:
        await server.stop()
