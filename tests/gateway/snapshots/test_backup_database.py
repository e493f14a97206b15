"""The embedded database goes with a backup and comes back with a restore, whether its server runs or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from gateway.embedded_postgres import EmbeddedPostgres
from gateway.snapshots import backup
from gateway.snapshots.restore import restore
from tests.gateway.journal.builders import ManualClock
from tests.gateway.snapshots.sites import CONFIG, lay_out

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


async def asked(
    data_dir: Path, *statements: str, meanwhile: Callable[[], Awaitable[Any]] | None = None
) -> Any:
    """The answer of the embedded database to the last of some statements."""
    server = EmbeddedPostgres(data_dir)
    connection = await asyncpg.connect(await server.start())
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        if meanwhile is not None:
            await meanwhile()
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()
        await server.stop()


def test_it_comes_back_with_all_its_rows(tmp_path: Path) -> None:
    text = CONFIG.replace('dsn = "env:ANDON_DATABASE"', 'dsn = "embedded"').replace(
        'password = "file:secrets/database"', ""
    )
    config = lay_out(tmp_path / "site", **{"andon.toml": text})
    (tmp_path / "site/data/postgres/base").unlink()
    (tmp_path / "site/data/postgres").rmdir()
    data_dir = tmp_path / "site/data"
    fill = ("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n", "SELECT count(*) FROM t")

    def make(to: str, *, with_database: bool = True) -> backup.Made:
        return backup.make(
            config,
            tmp_path / f"{to}.zst",
            secret=None,
            with_secrets=False,
            version="1",
            now=NOW,
            with_database=with_database,
        )

    async def while_it_runs() -> None:
        made = await asyncio.to_thread(make, "running")
        assert not any("database" in left for left in made.left_out)

    assert asyncio.run(asked(data_dir, *fill, meanwhile=while_it_runs)) == 1000
    make("stopped")
    assert any("database" in left for left in make("without", with_database=False).left_out)

    for name in ("running", "stopped"):
        to = tmp_path / f"new-{name}"
        restore(tmp_path / f"{name}.zst", to, secret=None, force=False, clock=ManualClock())
        assert not (to / "data/database.dump").exists()
        assert asyncio.run(asked(to / "data", "SELECT count(*) FROM t")) == 1000
