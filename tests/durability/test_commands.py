"""Thousands of commands over wires that lose three answers of ten, to a gateway that is killed meanwhile.

None is sent twice, none outside its limits; every write that a PLC did not carry out is found; each has one
end that never changes and one closed audit record; and what is told of each is what the plant's own ledger
says. A thousand here; `ANDON_TEST_PROFILE=long` ten thousand.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability.command_plant import (
    TARGETS,
    VALUE_MAX,
    Line,
    Ordered,
    Orders,
    Target,
    command_plant,
    configuration,
    faults,
    lines,
)
from tests.support.processes import GatewayProcess, Plant, free_port

pytestmark = pytest.mark.writes

LONG = os.environ.get("ANDON_TEST_PROFILE") == "long"
COMMANDS = 10_000 if LONG else 1_000
#: So many commands lie between two kills.
_BETWEEN_KILLS = 250
#: Shares of the writes whose answer is lost, and that the PLC takes and does not carry out.
LOST, IGNORED = 0.3, 0.03
_BUSY = ("key_running", "busy", "rate", "stopping", "audit_unavailable", "ledger_unavailable")


class Site:
    """A gateway that is killed now and then, and the people who command through it."""

    def __init__(self, directory: Path, plant: Plant) -> None:
        self.port = free_port()
        self.data = directory / "data"
        self.process = GatewayProcess(configuration(directory, plant.servers, self.port), self.port)
        self.orders = Orders(seed=7)
        self.ended = 0
        self.kills = 0
        self.up = asyncio.Event()
        self._chance = random.Random(11)
        self._enough = asyncio.Event()

    async def start(self) -> None:
        await self.process.start()
        self.up.set()

    async def kill(self) -> None:
        self.up.clear()
        await self.process.kill()
        self.kills += 1

    def headers(self, key: str) -> dict[str, str]:
        secret = (self.data / "access" / "local.key").read_text(encoding="utf-8").strip()
        return {"Authorization": f"Bearer {secret}", "Idempotency-Key": key}

    async def killer(self) -> None:
        """Kill it in the midst of everything, again and again."""
        while True:
            due = self.ended + _BETWEEN_KILLS
            while self.ended < due:
                await asyncio.sleep(0.05)
            await asyncio.sleep(self._chance.uniform(0, 0.3))
            await self.kill()
            await self.start()

    async def people(self, count: int) -> None:
        """One for each tag, who sends the next command when the last has an end."""
        left = iter(range(count))
        limits = httpx.Limits(max_connections=len(TARGETS) + 4)
        url = self.process.url
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=100, limits=limits) as http:

            async def person(target: Target) -> None:
                for _ in left:
                    order = self.orders.one(target)
                    await self.until_answered(http, order)
                    if self._chance.random() < 0.1:  # somebody sends the same once more
                        await self.until_answered(http, order)
                    self.ended += 1

            async with asyncio.TaskGroup() as group:
                for target in TARGETS:
                    group.create_task(person(target))

    async def until_answered(self, http: httpx.AsyncClient, order: Ordered) -> None:
        """Send it until there is an answer: under the same key, as a careful client does."""
        body = {"tag": order.target.tag, "value": order.value, "expires": "30s"}
        while True:
            await self.up.wait()
            try:
                response = await http.post("/api/v1/commands", json=body, headers=self.headers(order.key))
            except (httpx.HTTPError, OSError):
                await asyncio.sleep(0.05)
                continue
            answer = response.json()
            if response.status_code < 300:
                order.answers.append(answer)
                return
            assert response.status_code != 401, answer
            if answer["code"] not in _BUSY:
                assert response.status_code < 500, answer
                order.answers.append({"id": None, "status": "refused", "code": answer["code"]})
                return
            await asyncio.sleep(0.1)


def audited(data: Path) -> dict[str, list[Mapping[str, Any]]]:
    """The records of commands in the audit trail, by key."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for segment in sorted((data / "audit").glob("*.jsonl")):
        for text in segment.read_text(encoding="utf-8").splitlines():
            record = json.loads(text)
            if record["action"] == "command":
                found.setdefault(record["detail"]["key"], []).append(record)
    return found


def audit_faults(orders: list[Ordered], trail: Mapping[str, list[Mapping[str, Any]]]) -> list[str]:
    """What the audit trail does not say as it should."""
    found = []
    for order in orders:
        closing = [record for record in trail.get(order.key, ()) if record["result"] != "accepted"]
        results = [record["result"] for record in closing]
        if results != [order.end["status"]]:
            found.append(f"{order.key}: ended as {order.end['status']}, closed as {results}")
    return found


@pytest.mark.timeout(900 + COMMANDS // 2)
async def test_commands_are_carried_out_once_and_told_as_they_are(tmp_path: Path) -> None:
    async with command_plant(tmp_path) as plant:
        site = Site(tmp_path, plant)
        for server in ("opcua-a", "modbus-a"):
            await plant.order(fault="lost_answers", server=server, share=LOST)
            await plant.order(fault="ignored_writes", server=server, share=IGNORED)
        killer = None
        try:
            await site.start()
            killer = asyncio.create_task(site.killer())
            await site.people(COMMANDS)
            killer.cancel()
            await asyncio.gather(killer, return_exceptions=True)
            if not site.process.alive:
                await site.start()
            await site.process.until(lambda report: report["ready"])
            await site.process.stop()
        finally:
            if killer is not None:
                killer.cancel()
            if site.process.alive:
                await site.process.kill()
        orders, ledger = site.orders.all, list(lines(tmp_path / "writes.jsonl"))

    assert faults(orders, ledger) == []
    assert audit_faults(orders, audited(site.data)) == []
    ends = Counter(order.end["status"] for order in orders)
    unanswered = Counter(order.end.get("code") for order in orders)["unanswered"]
    ignored = sum(line.done == "ignored" for line in ledger)
    codes = Counter((order.end["status"], order.end.get("code")) for order in orders)
    print(f"{len(orders)} commands, {site.kills} kills: {dict(codes)}; {ignored=}")
    assert len(orders) == COMMANDS
    assert site.kills >= 0.7 * (COMMANDS // _BETWEEN_KILLS)
    assert unanswered >= 0.15 * COMMANDS, "too few answers were lost to prove anything"
    assert ends["mismatch"] >= 0.005 * COMMANDS
    assert ends["verified"] >= 0.6 * COMMANDS
    assert ends["unknown"] <= site.kills * len(TARGETS) + 0.03 * COMMANDS, "only what a kill met is not known"


# The judge itself -------------------------------------------------------------------------------------------

_TARGET = TARGETS[0]


def _order(value: int = 1, *statuses: str, code: str = "") -> Ordered:
    answers: list[dict[str, Any]] = [{"id": "1", "status": status, "code": code} for status in statuses]
    return Ordered("k", _TARGET, value, answers)


@pytest.mark.parametrize(
    ("order", "done", "words"),
    [
        (_order(1, "verified"), ["executed"], ""),
        (_order(1, "unknown"), [], ""),
        (_order(1, "unknown"), ["executed"], ""),
        (_order(1, "mismatch", code="read_back"), ["ignored"], ""),
        (_order(VALUE_MAX + 1, "refused", code="out_of_range"), [], ""),
        (_order(1, "verified"), ["executed", "executed"], "sent 2 times"),
        (_order(1, "verified"), ["ignored"], "verified, and the plant says"),
        (_order(1, "verified"), [], "verified, and the plant says"),
        (_order(1, "refused", code="interrupted"), ["executed"], "and it was carried out"),
        (_order(1, "written"), ["ignored"], "the PLC ignored it"),
        (_order(1, "mismatch", code="read_back"), ["executed"], "mismatch"),
        (_order(VALUE_MAX + 1, "verified"), ["executed"], "out of range"),
        (_order(VALUE_MAX + 1, "refused", code="out_of_range"), ["executed"], "out of range"),
        (_order(1, "accepted"), [], "it has no end"),
        (_order(1), [], "never answered"),
        (_order(1, "unknown", "verified"), ["executed"], "answered in different ways"),
    ],
)
def test_the_judge_finds_what_is_wrong(order: Ordered, done: list[str], words: str) -> None:
    found = faults([order], [Line(_TARGET.address, order.value, what) for what in done])
    assert [words in fault for fault in found if words][:1] == [True] * bool(words)
    assert bool(found) == bool(words)
    assert faults([order], [Line(_TARGET.address, 77, "executed")])[:1] == [
        f"nobody ordered {_TARGET.address} = 77"
    ]


def test_the_judge_finds_what_the_audit_trail_lacks_or_has_twice() -> None:
    order = _order(1, "verified")
    closed: Mapping[str, Any] = {"result": "verified"}
    opened: Mapping[str, Any] = {"result": "accepted"}
    assert audit_faults([order], {"k": [opened, closed]}) == []
    for wrong in ([], [opened], [opened, closed, closed], [opened, {"result": "unknown"}]):
        assert len(audit_faults([order], {"k": wrong})) == 1
