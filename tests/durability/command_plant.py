"""A plant for thousands of commands: simulated PLCs over real wires, what was ordered, and what is true.

The truth is the plant's ledger of writes: a line for each that came in, put down by the PLCs themselves.
Every value is ordered once for a tag and never again, so a line and an order belong together beyond doubt.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.processes import READY_S_MAX, Plant

#: What rules allow; orders above are to be refused.
VALUE_MAX = 20_000
_STILL = """
[behaviour]
random = false
line = false
[start]
"filler-1" = "Idle"
"capper-1" = "Idle"
"palletiser-1" = "Idle"
"""
_REGISTERS = range(102, 118)
_PARAMETERS = [f"{prefix}.Parameter{n}" for prefix in ("Filler", "Capper") for n in (1, 2, 3, 4)]


@dataclass(frozen=True)
class Target:
    """A tag that is written to. `address` is what the plant's ledger calls it."""

    tag: str
    equipment: str
    server: str
    address: str


TARGETS = [
    *(Target(f"palletiser-plc/r{n}", "palletiser-1", "modbus-a", f"holding:{n}") for n in _REGISTERS),
    *(
        Target(f"filler-plc/{name.replace('.', '-')}", f"{name.split('.')[0].lower()}-1", "opcua-a", name)
        for name in _PARAMETERS
    ),
]


@dataclass
class Ordered:
    """One command, and what was told of it: each answer, across all lives of the gateway."""

    key: str
    target: Target
    value: int
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def end(self) -> dict[str, Any]:
        """The last answer."""
        return self.answers[-1]

    @property
    def allowed(self) -> bool:
        return self.value <= VALUE_MAX


class Orders:
    """Orders at random: each value once for each tag; every tenth is out of range."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._next = dict.fromkeys((target.tag for target in TARGETS), 0)
        self.all: list[Ordered] = []

    def one(self, target: Target) -> Ordered:
        self._next[target.tag] += 1
        value = self._next[target.tag]
        if self._chance.random() < 0.1:
            value += VALUE_MAX
        order = Ordered(f"order-{len(self.all)}", target, value)
        self.all.append(order)
        return order


@asynccontextmanager
async def command_plant(directory: Path) -> AsyncIterator[Plant]:
    """The PLCs, as a process of their own, with their ledger of writes in `writes.jsonl`."""
    scenario = directory / "still.toml"
    scenario.write_text(_STILL, encoding="utf-8")
    command = [
        *(sys.executable, "-m", "simulators", "--scenario", str(scenario), "--port-base", "0"),
        *("--writes", str(directory / "writes.jsonl"), "--follow-stdin"),
    ]
    process = await Plant.start(command, directory / "plant.log")
    assert isinstance(process, Plant)
    heard = None
    try:
        process.servers = (await process.until("ready", READY_S_MAX))["servers"]
        heard = asyncio.create_task(_drained(process))
        yield process
    finally:
        if heard is not None:
            heard.cancel()
            await asyncio.gather(heard, return_exceptions=True)
        await process.kill()


async def _drained(process: Plant) -> None:
    """Take what it says, so that it never waits for somebody to listen."""
    assert process.child.stdout is not None
    while await process.child.stdout.readline():
        pass


def configuration(directory: Path, servers: Mapping[str, str], port: int) -> Path:
    """A gateway that may write to every target within its range."""
    registers = ",\n  ".join(
        f'{{ name = "r{n}", address = "holding:{n}", type = "uint16" }}' for n in _REGISTERS
    )
    parameters = ",\n  ".join(
        f'{{ name = "{name.replace(".", "-")}", node = "nsu=urn:andon:plant;s={name}" }}'
        for name in _PARAMETERS
    )
    rules = "\n".join(
        f'[[commands.allow]]\nequipment = "{target.equipment}"\ntag = "{target.tag}"\n'
        f'min = 0.0\nmax = {VALUE_MAX}.0\nreadback = {{ within = "5s" }}'
        for target in TARGETS
    )
    equipment = "\n".join(
        f'[[equipment]]\nname = "{name}"\npath = "line/{name}"\nmodel = "packml"\nstate = "{tag}"'
        for name, tag in (
            ("filler-1", "filler-plc/filler-state"),
            ("capper-1", "filler-plc/capper-state"),
            ("palletiser-1", "palletiser-plc/state"),
        )
    )
    path = directory / "andon.toml"
    path.write_text(
        f"""
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
data_dir = "{directory / "data"}"

[api]
listen = "127.0.0.1:{port}"


[commands]
enabled = true
rate = "100000/1m"
expires = "60s"

{rules}

[[connections]]
name = "filler-plc"
protocol = "opcua"
endpoint = "{servers["opcua-a"]}"
security = {{ policy = "None", mode = "None" }}
request_timeout = "600ms"
[[connections.groups]]
name = "all"
interval = "50ms"
tags = [
  {{ name = "filler-state", node = "nsu=urn:andon:plant;s=Filler.StateCurrent" }},
  {{ name = "capper-state", node = "nsu=urn:andon:plant;s=Capper.StateCurrent" }},
  {parameters},
]

[[connections]]
name = "palletiser-plc"
protocol = "modbus"
endpoint = "{servers["modbus-a"]}"
unit = 1
timeout = "500ms"
timeouts_max = 50
[[connections.groups]]
name = "all"
interval = "50ms"
tags = [
  {{ name = "state", address = "holding:0", type = "uint16" }},
  {registers},
]

{equipment}
""",
        encoding="utf-8",
    )
    return path


@dataclass(frozen=True)
class Line:
    """A line of the plant's ledger, in the terms of orders."""

    address: str
    value: int
    done: str


def lines(path: Path) -> Iterator[Line]:
    """What the plant says was written to it."""
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        values = line["values"]
        assert line["service"] in ("FC6", "FC16", "Write"), line
        assert len(values) == 1, line
        yield Line(line["address"], int(values[0]), line["done"])


def faults(orders: list[Ordered], ledger: list[Line]) -> list[str]:
    """Everything that is not as promised, in words; nothing when all is well."""
    found: list[str] = []
    wrote: dict[tuple[str, int], list[str]] = {}
    for line in ledger:
        wrote.setdefault((line.address, line.value), []).append(line.done)
    known = {(order.target.address, order.value) for order in orders}
    found += [f"nobody ordered {place} = {value}" for place, value in wrote if (place, value) not in known]
    for order in orders:
        sent = wrote.get((order.target.address, order.value), [])
        found += [f"{order.key}: {fault}" for fault in _faults(order, sent)]
    return found


def _faults(order: Ordered, sent: list[str]) -> Iterator[str]:
    if len(sent) > 1:
        yield f"sent {len(sent)} times"
    if not order.answers:
        yield "never answered"
        return
    if len(order.answers) > 1 and len({_essence(answer) for answer in order.answers}) > 1:
        yield f"answered in different ways: {[_essence(answer) for answer in order.answers]}"
    status, code = order.end.get("status"), order.end.get("code", "")
    if not order.allowed and (status != "refused" or code != "out_of_range" or sent):
        yield f"out of range, and it ended as {status} ({code}), sent: {sent}"
    if status in ("refused", "expired") and "executed" in sent:
        yield f"{status} ({code}), and it was carried out"
    if status == "verified" and sent != ["executed"]:
        yield f"verified, and the plant says {sent}"
    if status == "written" and not sent:
        yield "written, and nothing reached the plant"
    if status == "mismatch" and sent != ["ignored"]:
        yield f"mismatch ({order.end.get('reason')}), and the plant says {sent}"
    if status == "mismatch" and code != "read_back":
        yield f"mismatch with code {code}"
    if sent == ["ignored"] and status not in ("mismatch", "unknown"):
        yield f"the PLC ignored it, and it ended as {status}"
    if status in (None, "accepted"):
        yield f"it has no end: {order.end}"


def _essence(answer: Mapping[str, Any]) -> tuple[Any, ...]:
    return answer.get("id"), answer.get("status"), answer.get("code")
