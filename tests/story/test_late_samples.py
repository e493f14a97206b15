"""A link cut while the PLC keeps what happens: afterwards the corrected past is the truth.

What was known during the outage can be asked for still: then nobody knew. Simulated plant on a real wire,
the gateway as a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.story.test_story import all_links_up
from tests.support.processes import free_port, gateway, plant
from tests.support.proxy import Proxy

CONFIG = """
[gateway]
id = "demo"
enterprise = "acme"
site = "berlin"

[api]
listen = "127.0.0.1:{port}"

[[connections]]
name = "plc"
protocol = "opcua"
endpoint = "{endpoint}"
security = {{ policy = "None", mode = "None" }}
keep_alive = "10s"
request_timeout = "30s"
connect_timeout = "30s"
time = "source"
[[connections.groups]]
name = "fast"
interval = "100ms"
tags = [
  {{ name = "filler", node = "nsu=urn:andon:plant;s=Filler.StateCurrent", queue_size = 200 }},
  {{ name = "capper", node = "nsu=urn:andon:plant;s=Capper.StateCurrent", queue_size = 200 }},
]

[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "plc/filler"

[[equipment]]
name = "capper-1"
path = "filling/line-1/capper-1"
model = "packml"
state = "plc/capper"
"""
MACHINES = ("filler-1", "capper-1")
CUT_S = 3.0
#: Between the change in the plant and the time its server gives it.
STAMP = timedelta(seconds=1)


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def truth(
    ledger: Sequence[Mapping[str, Any]], machine: str, begin: datetime, end: datetime
) -> list[tuple[str, datetime, datetime]]:
    """The states a machine was really in, from the plant's own ledger."""
    lines = [line for line in ledger if line["equipment"] == machine]
    ends = [parse(line["at"]) for line in lines[1:]] + [end]
    spans = [
        (line["to"], max(parse(line["at"]), begin), min(until, end))
        for line, until in zip(lines, ends, strict=True)
    ]
    return [span for span in spans if span[2] > span[1]]


def joined(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, datetime, datetime]]:
    """Intervals as they were told; neighbours in one state are one."""
    found: list[tuple[str, datetime, datetime]] = []
    for item in items:
        begin, end = parse(item["from"]), parse(item["to"])
        if found and found[-1][0] == item["state"]:
            begin = found.pop()[1]
        found.append((item["state"], begin, end))
    return found


def differences(
    told: Sequence[tuple[str, datetime, datetime]], true: Sequence[tuple[str, datetime, datetime]]
) -> list[str]:
    if [one[0] for one in told] != [one[0] for one in true]:
        return [f"states {[one[0] for one in told]} are not {[one[0] for one in true]}"]
    return [
        f"{one[0]} from {one[1]} to {one[2]} was from {other[1]} to {other[2]}"
        for one, other in zip(told, true, strict=True)
        if abs(one[1] - other[1]) > STAMP or abs(one[2] - other[2]) > STAMP
    ]


async def timeline(http: httpx.AsyncClient, machine: str, **asked: datetime) -> list[dict[str, Any]]:
    parameters = {name.rstrip("_"): at.isoformat() for name, at in asked.items()}
    answer = await http.get(f"/equipment/{machine}/timeline", params=parameters)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def now(http: httpx.AsyncClient, machine: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"/equipment/{machine}/state")).json()
    return found


async def corrections(http: httpx.AsyncClient, machine: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get(f"/equipment/{machine}/corrections")).json()["items"]
    return found


@pytest.mark.timeout(500)
async def test_what_a_plc_kept_during_an_outage_makes_the_past_the_truth(tmp_path: Path) -> None:
    async with plant(tmp_path, "demo") as simulated:
        port, target = free_port(), urlsplit(simulated.servers["opcua-a"])
        config = tmp_path / "andon.toml"
        async with AsyncExitStack() as stack:
            cable = await stack.enter_async_context(Proxy("127.0.0.1", target.port or 0))
            endpoint = f"opc.tcp://127.0.0.1:{cable.port}"
            config.write_text(CONFIG.format(port=port, endpoint=endpoint), encoding="utf-8")
            running = await stack.enter_async_context(gateway(config, port))
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"{running.url}/api/v1", trust_env=False, timeout=60)
            )
            await running.until(all_links_up)
            await simulated.order(go=True)
            await asyncio.sleep(8)  # snapshots serve only for what happens a while after them
            cut_at = datetime.now(UTC)
            begin = cut_at - timedelta(seconds=3)
            await cable.cut()
            await asyncio.sleep(CUT_S * 0.7)
            async with asyncio.timeout(60):
                while [(await now(http, name))["state"] for name in MACHINES] != ["Unknown"] * len(MACHINES):
                    await asyncio.sleep(0.05)
            known_at = datetime.now(UTC)
            during = {name: await timeline(http, name, from_=begin, to=known_at) for name in MACHINES}
            await asyncio.sleep(CUT_S * 0.3)
            await cable.heal()
            await running.until(all_links_up)
            end = datetime.now(UTC) + timedelta(seconds=3)
            async with asyncio.timeout(90):
                while not all([await corrections(http, name) for name in MACHINES]):
                    await asyncio.sleep(0.2)

            await asyncio.sleep(max(0.0, (end + STAMP - datetime.now(UTC)).total_seconds()))
            ledger = simulated.ledger()
            for name in MACHINES:
                true = truth(ledger, name, begin, end)
                for _ in range(300):  # what was seen by the end may still be on its way
                    told = await timeline(http, name, from_=begin, to=end)
                    if not (wrong := differences(joined(told), true)):
                        break
                    await asyncio.sleep(0.1)
                assert wrong == [], name
                assert [i["state"] for i in told].count("Unknown") == 0
                made = await corrections(http, name)
                assert [event["author"] for event in made] == ["late samples"]
                assert made[0]["cause"]["rule"] == "late_samples"
                assert made[0]["cause"]["inputs"], "what was corrected rests on samples"
                then = await timeline(http, name, from_=begin, to=end, known_at=known_at)
                assert [i | {"to": None, "duration_s": None} for i in then] == [
                    i | {"to": None, "duration_s": None} for i in during[name]
                ]
                assert (then[-1]["state"], parse(then[-1]["to"])) == ("Unknown", known_at)
                recorded = (await http.get(f"/equipment/{name}/transitions")).json()["items"]
                assert any(event["to_state"] == "Unknown" for event in recorded), "nothing is taken back"
            changes = [
                line for line in ledger if cut_at < parse(line["at"]) < cut_at + timedelta(seconds=CUT_S)
            ]
            assert len(changes) >= 2, "an outage in which nothing happened proves little"
            await corrected_by_hand(config, http, cut_at - timedelta(seconds=2), cut_at)


async def corrected_by_hand(config: Path, http: httpx.AsyncClient, begin: datetime, end: datetime) -> None:
    """What a person knows better, told by the command line of the same gateway."""
    before = await timeline(http, "filler-1", from_=begin, to=end)
    known_at = datetime.now(UTC)
    told = await andon(
        *("correct", "filler-1", "--from", begin.isoformat(), "--to", end.isoformat(), "--state", "Held"),
        *("--reason", "no caps", "--author", "anna", "--config", str(config), "--json"),
    )
    assert [one["state"] for one in told[0]["intervals"]] == ["Held"]
    asked = ("--from", begin.isoformat(), "--to", end.isoformat(), "--config", str(config), "--json")
    now = await andon("history", "filler-1", "--states", *asked)
    assert [(one["state"], one["seq"], one["corrected"]) for one in now] == [("Held", told[0]["seq"], True)]
    then = await andon("history", "filler-1", "--known-at", known_at.isoformat(), *asked)
    assert then == before
    await andon(
        "correct",
        "filler-1",
        "--withdraw",
        told[0]["id"],
        "--reason",
        "it was the other",
        "--config",
        str(config),
        "--json",
    )
    assert await andon("history", "filler-1", "--states", *asked) == before


async def andon(*arguments: str) -> list[dict[str, Any]]:
    """What the command prints, line by line."""
    command = (sys.executable, "-m", "gateway", *arguments)
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(100):
        out, error = await child.communicate()
    assert child.returncode == 0, error.decode()
    return [json.loads(line) for line in out.splitlines()]
