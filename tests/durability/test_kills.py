"""kill -9 again and again, with the database there and away: nothing lost, twice, or out of order.

A hundred times here; `ANDON_TEST_PROFILE=long` a thousand times.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.durability.carousel import Carousel, Life, faults
from tests.story.witness import MqttWitness
from tests.support.database import new_database, timescale_dsn
from tests.support.processes import GatewayProcess, Mosquitto, free_port
from tests.support.proxy import Proxy

LONG = os.environ.get("ANDON_TEST_PROFILE") == "long"
KILLS = 1_000 if LONG else 100
MACHINES = 100
#: Kills between which the database is cut off, and healed again.
_AWAY, _THERE = 6, 14
#: The share of kills that come after the first poll, however long a start takes on this machine.
_AT_WORK = 0.7

Row = Mapping[str, Any]


async def rows_of(dsn: str) -> list[Row]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT seq, equipment, sequence, from_state, to_state, at, recorded_at, duration_s, body::text "
            "FROM andon.transition ORDER BY seq"
        )
        return [dict(row) for row in rows]
    finally:
        await connection.close()


async def numbers_of(dsn: str) -> tuple[set[str], list[int]]:
    """The streams and the numbers of every event there is."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT stream, seq FROM andon.transition UNION ALL SELECT stream, seq FROM andon.rejection "
            "UNION ALL SELECT stream, seq FROM andon.source_event ORDER BY seq"
        )
        return {str(row["stream"]) for row in rows}, [row["seq"] for row in rows]
    finally:
        await connection.close()


@asynccontextmanager
async def database_with_a_cable() -> AsyncIterator[tuple[str, Proxy]]:
    async with new_database(timescale_dsn()) as dsn:
        target = urlsplit(dsn)
        assert target.hostname is not None
        async with Proxy(target.hostname, target.port or 5432) as proxy:
            yield dsn, proxy


@pytest.mark.real
@pytest.mark.timeout(10 * KILLS + 400)
async def test_what_was_told_is_in_the_database_once_and_in_order_however_often_it_dies(
    tmp_path: Path,
) -> None:
    chance = random.Random(20261122)
    port = free_port()
    async with database_with_a_cable() as (dsn, cable), Mosquitto(tmp_path) as broker:
        target = urlsplit(dsn)
        through = urlunsplit(target._replace(netloc=f"{target.username}@127.0.0.1:{cable.port}"))
        values = {
            "historian": through,
            "broker": f"mqtt://127.0.0.1:{broker.port}",
            "listen": f"127.0.0.1:{port}",
        }
        with MqttWitness(broker.port, lasting=True) as witness:
            await asyncio.to_thread(witness.wait_subscribed)
            async with Carousel(MACHINES, seed=7) as carousel:
                gateway = GatewayProcess(carousel.config(tmp_path, values=values), port)
                try:
                    for kill in range(KILLS):
                        match kill % (_THERE + _AWAY):
                            case 0 if kill:
                                await cable.heal()
                            case turn if turn == _THERE:
                                await cable.cut()
                        carousel.new_life()
                        await gateway.launch()
                        if chance.random() < _AT_WORK:
                            await carousel.polled()
                        await asyncio.sleep(chance.uniform(0, 1))
                        assert gateway.alive, gateway.words()[-3000:]
                        await gateway.kill()
                        carousel.end_life()
                    await cable.cut()
                    await cable.heal()
                    carousel.new_life()
                    await gateway.start()
                    await carousel.stand_still()
                    await gateway.until(caught_up, 300)
                    await gateway.stop()
                finally:
                    if gateway.alive:
                        await gateway.kill()
                carousel.end_life()
            wanted = {row["seq"] for row in await rows_of(dsn)}
            async with asyncio.timeout(100):  # the broker has all of it, and the witness gets it from there
                while wanted - {event["seq"] for event in witness.first_copies}:
                    await asyncio.sleep(0.2)

        rows, (streams, numbers) = await rows_of(dsn), await numbers_of(dsn)

    anew = [line for line in gateway.words().splitlines() if "begins a new stream" in line]
    assert (len(streams), anew) == (1, [])
    assert faults(carousel.lives, carousel.names, rows) == []
    assert numbers == list(range(1, len(numbers) + 1))
    bodies = {row["seq"]: row["body"].encode() for row in rows}
    told = [event for event in witness.first_copies if event["type"] == "transition"]
    assert {event["seq"]: witness.bodies[event["id"]] for event in told} == bodies
    assert len(rows) >= 100 * KILLS, "too little happened to prove anything"


def caught_up(report: dict[str, Any]) -> bool:
    parts = report["parts"]
    return all(
        parts[name]["ok"] and parts[name]["lag_events"] == 0 for name in ("historian", "mqtt")
    ) and all(part["ok"] for part in parts.values())


# The judge itself -------------------------------------------------------------------------------------------

_T = datetime(2026, 11, 22, 6, tzinfo=UTC)


def _at(second: float) -> datetime:
    return _T + timedelta(seconds=second)


def _life() -> tuple[list[Life], list[dict[str, Any]]]:
    told = [("S0", _at(1)), ("S1", _at(2)), ("S2", _at(3)), ("S3", _at(9.9))]
    lives = [Life(_at(0), _at(10), {"m": told}), Life(_at(11), None, {"m": [("S3", _at(12))]})]
    states = ["Unknown", "S0", "S1", "S2", "Unknown", "S3"]
    times = [0.5, 1, 2, 3, 11.5, 12]
    rows = [
        {
            "equipment": "m",
            "sequence": n + 1,
            "from_state": states[n - 1] if n else "S0",
            "to_state": states[n],
            "recorded_at": _at(times[n]),
            "duration_s": 1.0,
        }
        for n in range(len(states))
    ]
    return lives, rows


def test_the_judge_finds_nothing_in_what_is_right() -> None:
    lives, rows = _life()
    assert faults(lives, ["m"], rows) == []


@pytest.mark.parametrize("lost", range(1, 6))
def test_the_judge_misses_no_loss(lost: int) -> None:
    lives, rows = _life()
    del rows[lost]
    assert faults(lives, ["m"], rows)


@pytest.mark.parametrize("doubled", range(6))
def test_the_judge_misses_no_double(doubled: int) -> None:
    lives, rows = _life()
    rows.insert(doubled, deepcopy(rows[doubled]))
    assert faults(lives, ["m"], rows)


@pytest.mark.parametrize("first", range(1, 5))
def test_the_judge_misses_no_exchange(first: int) -> None:
    lives, rows = _life()
    rows[first], rows[first + 1] = rows[first + 1], rows[first]
    assert faults(lives, ["m"], rows)
