"""The plant that clients are measured by tells the truth: each value once, and its states in the ledger."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.contract import RecordingLink, running
from tests.connectors.opcua.plant import Plant, build

_ITEMS = 2500


def told_states(link: RecordingLink) -> list[Any]:
    return [sample.value for sample in link.samples if sample.tag == "plc/S0"]


@pytest.mark.parametrize("interval_ms", ["50", "0"], ids=["at a rate", "flat out"])
async def test_every_value_of_every_item_comes_once_and_the_states_are_in_the_ledger(
    tmp_path: Path, interval_ms: str
) -> None:
    ledger = tmp_path / "ledger"
    plant = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.opcua_plant", "--items", str(_ITEMS), "--ledger", str(ledger)),
        *("--interval-ms", interval_ms, "--state-interval-ms", "70"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert plant.stdin is not None
    assert plant.stdout is not None
    ready = json.loads(await plant.stdout.readline())
    names = [*(f"V{number}" for number in range(_ITEMS)), "S0"]
    # Queues in which nothing is lost, and keep-alives that are there, when either program stalls for a while.
    tags = [{"name": name, "node": f"nsu=urn:plant;s={name}", "queue_size": 900} for name in names]
    groups = [{"name": "g", "interval": "100ms", "tags": tags}]
    one = build(Plant(1), tmp_path, endpoint=ready["endpoint"], groups=groups, keep_alive="10s")
    link = RecordingLink()
    async with running(one, link):
        await link.until(lambda: len(link.samples) > 20 * _ITEMS and len(told_states(link)) > 1, "news")
    plant.stdin.close()
    done: dict[str, Any] = json.loads(await plant.stdout.readline())["done"]
    await plant.wait()
    told: dict[str, list[Any]] = {}
    for sample in link.samples:
        told.setdefault(sample.tag.removeprefix("plc/"), []).append(sample.value)
    states = told.pop("S0")
    assert len(told) == _ITEMS
    for name, values in told.items():
        assert values == [values[0] + step for step in range(len(values))], name
        assert values[0] - int(name[1:]) >= told["V0"][0], "no item is behind the one created first"
    changed = [json.loads(line)["value"] for line in ledger.read_text(encoding="utf-8").splitlines()]
    changed = [6, *changed]
    assert any(changed[at : at + len(states)] == states for at in range(len(changed)))
    assert len(set(states)) > 1
    assert done["dropped"] == 0
    assert done["notifications"] >= len(link.samples)
    assert (link.gaps, one.losses.message_count, one.losses.strangers) == ([], 0, 0)
