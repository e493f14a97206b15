"""The whole gateway as a process: asked over REST and by the command, killed, doubled, and told on health."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.config.load import load
from tests.gateway.publish.support import retained
from tests.gateway.recorded_site import CONFIG, MODEL, record
from tests.gateway.test_commands import later
from tests.support.database import new_database, timescale_dsn
from tests.support.processes import GatewayProcess, Mosquitto, free_port, gateway

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

STATE = "acme/berlin/area/line/oven-1/_state"


class Site:
    """A gateway with a past, its database and its broker."""

    def __init__(self, config: Path, api: int, dsn: str, broker: Mosquitto) -> None:
        self.config, self.api, self.dsn, self.broker = config, api, dsn, broker

    async def rows(self, sql: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.api}", trust_env=False, timeout=60
        ) as http:
            return (await http.get(path)).json()


def write_config(directory: Path, api: int, dsn: str, broker_port: int, *, client_id: str = "") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "oven.toml").write_text(MODEL, encoding="utf-8")
    config = directory / "andon.toml"
    own_id = f'client_id = "{client_id}"' if client_id else ""
    gateway_table = CONFIG.replace(
        "[[connections]]", '[gateway.reconcile]\nsettle = "2s"\n\n[[connections]]', 1
    )
    config.write_text(
        f'{gateway_table}\n[historian]\ndsn = "{dsn}"\n[mqtt]\nbroker = "mqtt://127.0.0.1:{broker_port}"\n'
        f'{own_id}\n[api]\nlisten = "127.0.0.1:{api}"\n',
        encoding="utf-8",
    )
    return config


@asynccontextmanager
async def ground(tmp_path: Path) -> AsyncIterator[Site]:
    """Everything but the gateway: database, broker, a journal with a little history."""
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(new_database(timescale_dsn()))
        store = tmp_path / "broker"
        store.mkdir()
        broker = await stack.enter_async_context(Mosquitto(store))
        api = free_port()
        config = write_config(tmp_path / "site", api, dsn, broker.port)
        await record(load(config), datetime.now(UTC) - timedelta(minutes=5))
        yield Site(config, api, dsn, broker)


def caught_up(report: Any) -> bool:
    parts = report["parts"]
    return all(parts[name]["ok"] and not parts[name]["lag_events"] for name in ("historian", "mqtt"))


async def test_a_person_finds_and_mends_what_was_broken_by_hand(tmp_path: Path) -> None:
    async with ground(tmp_path) as site, gateway(site.config, site.api) as process:
        await process.until(caught_up)
        done = await later("reconcile", "--config", str(site.config))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "all agree" in done.stdout
        before = await site.rows("SELECT seq, body::text FROM andon.transition ORDER BY seq")
        assert len(before) >= 6
        await site.rows("DELETE FROM andon.transition WHERE seq = $1", before[2]["seq"])

        done = await later("reconcile", "--config", str(site.config), "--json")
        assert done.returncode == 1
        report = json.loads(done.stdout)
        found = {(item["kind"], item["place"]) for item in report["differences"]}
        assert ("event_missing", f"event {before[2]['seq']}") in found
        health = await site.get("/readyz")
        assert health["status"] == "degraded"
        assert "event_missing" in health["parts"]["reconcile"]["reason"]
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            metrics = (await http.get(f"http://127.0.0.1:{site.api}/metrics")).text
        assert 'andon_reconcile_differences{kind="event_missing"} 1.0' in metrics

        done = await later("reconcile", "--config", str(site.config), "--repair", "--full")
        assert done.returncode == 0, done.stdout
        assert "repaired" in done.stdout
        assert await site.rows("SELECT seq, body::text FROM andon.transition ORDER BY seq") == before
        assert (await site.get("/readyz"))["parts"]["reconcile"]["ok"]
        kept = (await site.get("/api/v1/reconciliations"))["items"]
        assert [item["agree"] for item in kept] == [True, False, True]
        assert [item["full"] for item in kept] == [True, False, False]


async def test_after_a_kill_and_a_lost_store_all_agree_again(tmp_path: Path) -> None:
    """kill -9 of the broker, its store removed, then kill -9 of the gateway: nobody mends anything."""
    async with ground(tmp_path) as site, gateway(site.config, site.api) as process:
        await process.until(caught_up)
        await site.broker.__aexit__()
        for kept in (tmp_path / "broker").glob("*.db*"):
            kept.unlink()
        await process.kill()
        await site.broker.start()
        assert STATE not in await retained(site.broker.port)
        await process.start()
        await process.until(caught_up)
        done = await later("reconcile", "--config", str(site.config), "--json", "--full")
        report = json.loads(done.stdout)
        assert (report["agree"], report["differences"]) == (True, []), done.stdout
        assert all(part["reason"] is None for part in report["parts"])
        kept = (await site.get("/api/v1/reconciliations"))["items"]
        assert [item["agree"] for item in kept] == [True] * len(kept), (
            "nothing waited for a look to be mended"
        )
        (row,) = await site.rows("SELECT seq FROM andon.current_state WHERE equipment = 'oven-1'")
        assert json.loads((await retained(site.broker.port))[STATE])["seq"] == row["seq"]


async def test_two_gateways_with_one_id_notice_each_other(tmp_path: Path) -> None:
    """Each with a journal of its own; both go on recording and both say it, until one is gone."""
    async with ground(tmp_path) as site:
        api = free_port()
        config = write_config(tmp_path / "second", api, site.dsn, site.broker.port, client_id="another")
        await record(load(config), datetime.now(UTC) - timedelta(minutes=5))
        async with gateway(site.config, site.api) as one:
            await one.until(lambda report: report["parts"]["identity"]["ok"])
            async with gateway(config, api) as two:
                for process in (one, two):
                    await process.until(lambda report: not report["parts"]["identity"]["ok"])
                reason = (await site.get("/readyz"))["parts"]["identity"]["reason"]
                assert f"process {two.pid} on " in reason
                assert "another gateway with this id writes to the same database" in reason
                assert all(process.alive for process in (one, two))
                for process in (one, two):
                    await process.until(lambda report: report["parts"]["historian"]["ok"])
                await two.stop()
            await one.until(lambda report: report["parts"]["identity"]["ok"], within_s=100.0)
            assert "another gateway with this id" in one.words()


async def test_a_gateway_started_again_is_not_taken_for_a_second(tmp_path: Path) -> None:
    async with ground(tmp_path) as site, gateway(site.config, site.api) as process:
        await process.until(caught_up)
        for _ in range(3):
            await process.kill()
            await process.start()
            await process.until(caught_up)
        seen: set[datetime] = set()
        async with asyncio.timeout(60):
            while len(seen) < 3:  # three looks of this process, in which a live second would have moved
                rows = await site.rows("SELECT seen_at FROM andon.gateway_run WHERE pid = $1", process.pid)
                seen |= {row["seen_at"] for row in rows}
                health = await site.get("/readyz")
                assert health["parts"]["identity"]["ok"], health
                await asyncio.sleep(0.1)
        assert "another gateway with this id" not in process.words()
        await process.stop()
        left = await site.rows("SELECT count(*) FROM andon.gateway_run WHERE ended_at IS NOT NULL")
        assert left[0][0] == 1


async def test_a_copied_data_directory_beside_the_first_does_not_get_far(tmp_path: Path) -> None:
    """The same journal twice. The first goes on; the second ends at what the database knows."""
    async with ground(tmp_path) as site, gateway(site.config, site.api) as one:
        await one.until(caught_up)
        await one.stop()
        second = tmp_path / "second"
        shutil.copytree(site.config.parent, second)
        api = free_port()
        config = write_config(second, api, site.dsn, site.broker.port, client_id="another")
        await one.start()
        await one.until(caught_up)
        two = GatewayProcess(config, api)
        await two.launch()
        try:
            await one.until(lambda report: not two.alive or not report["parts"]["identity"]["ok"])
            assert one.alive
            assert two.alive or "older copy" in two.words()
        finally:
            await two.kill()
