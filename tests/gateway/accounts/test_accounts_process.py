"""A whole gateway killed again and again, its database cut off and back: REST, command, SQL and PLC agree on
how much there was."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from tests.durability.carousel import UNDER_WAY, Carousel
from tests.durability.test_kills import caught_up, database_with_a_cable
from tests.support.processes import GatewayProcess, Mosquitto, free_port

KILLS = 6
COUNTED = """
SELECT t.tag, count(*) AS rows, count(*) FILTER (WHERE s.quality = 0) AS good
FROM andon.sample AS s JOIN andon.tag AS t USING (tag_id) GROUP BY 1
"""


@pytest.mark.real
@pytest.mark.timeout(400)
async def test_the_books_of_a_gateway_that_was_killed_agree_with_all_others(tmp_path: Path) -> None:
    chance, port = random.Random(20261122), free_port()
    async with database_with_a_cable() as (dsn, cable), Mosquitto(tmp_path) as broker:
        target = urlsplit(dsn)
        through = urlunsplit(target._replace(netloc=f"{target.username}@127.0.0.1:{cable.port}"))
        values = {
            "historian": through,
            "broker": f"mqtt://127.0.0.1:{broker.port}",
            "listen": f"127.0.0.1:{port}",
        }
        async with Carousel(12, seed=3) as carousel:
            gateway = GatewayProcess(carousel.config(tmp_path, values=values), port)
            try:
                for kill in range(KILLS):
                    if kill == 2:
                        await cable.cut()
                    elif kill == 4:
                        await cable.heal()
                    carousel.new_life()
                    await gateway.start()
                    await asyncio.sleep(chance.uniform(0.3, 1.5))
                    await gateway.kill()
                    carousel.end_life()
                carousel.new_life()
                await gateway.start()
                await asyncio.sleep(1.0)
                async with asyncio.timeout(60):
                    while said_by_the_plc(carousel)[0].total() <= 600:
                        await asyncio.sleep(0.1)
                await carousel.stand_still()
                await gateway.until(caught_up, 100)
                view, tags = await settled(port)
                outside = await said_by_the_command(gateway.config)
                rows = await counted(dsn)
                await gateway.stop()
            finally:
                if gateway.alive:
                    await gateway.kill()
            carousel.end_life()
        stopped = await said_by_the_command(gateway.config)
        rows_at_end = await counted(dsn)

    assert [line for line in gateway.words().splitlines() if "begins a new stream" in line] == []
    assert (view["adds_up"], view["difference"], view["shed"], view["uncounted_batches"]) == (True, 0, 0, 0)
    assert {tag: account["sinks"]["historian"]["delivered"] for tag, account in tags.items()} == {
        tag: row["rows"] for tag, row in rows.items()
    }
    assert view["recorded"] == sum(row["rows"] for row in rows.values())
    for said, there in ((outside, rows), (stopped, rows_at_end)):
        assert said["adds_up"]
        assert {one["tag"]: one["recorded"] for one in said["tags"]} == {
            tag: row["rows"] for tag, row in there.items()
        }
    told, under_way = said_by_the_plc(carousel)
    for name in carousel.names:
        good = rows[f"plc/{name}"]["good"]
        assert told[name] - under_way[name] <= good <= told[name], name
    assert sum(told.values()) > 500, "too little happened to prove anything"


async def settled(port: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The books once nothing is under way any more, and those of every tag by name."""
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=60) as http,
        asyncio.timeout(60),
    ):
        while True:
            view = (await http.get("/accounts")).json()
            sinks = {sink["sink"]: sink for sink in view["sinks"]}
            if not sinks["historian"]["samples"]["buffered"] and not view["flow"]["in_hand"]:
                break
            await asyncio.sleep(0.05)
        assert sinks["mqtt"]["samples"] is None
        assert all(
            sink["events"]["recorded"] == sink["events"]["delivered"] + sink["events"]["buffered"]
            for sink in sinks.values()
        )
        flow = view["flow"]
        assert flow["received"] + flow["made"] == sum(
            flow[part] for part in ("unchanged", "by_rules", "not_recorded", "recorded", "shed", "in_hand")
        )
        tags = (await http.get("/accounts/tags?limit=1000")).json()["items"]
        one = (await http.get("/tags/plc/machine-0/account")).json()
        assert one == next(item for item in tags if item["tag"] == one["tag"])
        figures = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
        assert f"andon_accounts_recorded_samples_total {float(view['recorded'])}" in figures
        return view, {item["tag"]: item for item in tags}


async def said_by_the_command(config: Path) -> dict[str, Any]:
    """What `andon journal status --tags` makes of the folder, from outside."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "journal", "status", str(config), "--tags", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await child.communicate()
    assert child.returncode == 0
    accounts: dict[str, Any] = json.loads(answer)["accounts"]
    return accounts


async def counted(dsn: str) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return {row["tag"]: row for row in await connection.fetch(COUNTED)}
    finally:
        await connection.close()


def said_by_the_plc(carousel: Carousel) -> tuple[Counter[str], Counter[str]]:
    """How many values were told of each machine, and how many of these right before a kill."""
    told: Counter[str] = Counter()
    under_way: Counter[str] = Counter()
    for life in carousel.lives:
        for name, values in life.told.items():
            told[name] += len(values)
            end = life.ended_at
            under_way[name] += sum(end is not None and at >= end - UNDER_WAY for _, at in values)
    return told, under_way
