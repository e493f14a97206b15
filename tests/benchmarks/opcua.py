"""W2: five thousand OPC UA items that all change every 500 ms, published every 500 ms.

Eight state words among them drive an equipment each, and only states go to MQTT; in a variant all values do.
The plant replays encoded notifications, so that it is never what is measured; the floor is a reader that
walks them with a struct. Flat out, every Publish request is answered at once with a new value of every item.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import rig
from tests.benchmarks.figures import Figure

ITEMS, STATES = 5000, 8
PERIOD_MS = 500.0
#: Not a divisor of the period, so that changes fall everywhere in it; longer, so that none is skipped.
STATE_PERIOD_MS = 613
WARM_UP_S, WINDOW_S = 4.0, 20.0
#: Goals of this gateway, and what other gateways and clients reached on the reference machine, states only.
GOAL_US, GOAL_P99_MS = 2.5, 520.0
PEERS_US = {
    "open62541 (C), no MQTT": 0.33,
    "node-opcua": 3.2,
    "Node-RED": 21.6,
    "asyncua": 27.6,
    "tbgw": 66.7,
}
PEERS_ALL_US = {"node-opcua": 9.0, "Node-RED": 36.8, "asyncua": 50.0, "tbgw": 66.7}
PEERS_P50 = {"node-opcua": 273.3, "Node-RED": 354.1, "asyncua": 396.5, "tbgw": 985.8}
PEERS_P99 = {"node-opcua": 512.2, "Node-RED": 620.7, "asyncua": 652.1, "tbgw": 1477.0}
PEERS_RATE = {"asyncua": 46_000}


@dataclass(frozen=True)
class Variant:
    """One way to run it. With `flat_out` the plant changes as fast as it is asked; with `publish` every value
    goes to MQTT too."""

    name: str
    flat_out: bool = False
    publish: bool = False
    window_s: float = WINDOW_S


PACED = Variant("W2")
VARIANTS = (
    PACED,
    Variant("W2, all values on MQTT", publish=True, window_s=10),
    Variant("W2, flat out", flat_out=True, window_s=8),
)


async def measure(
    directory: Path,
    *,
    variants: Sequence[Variant] = VARIANTS,
    items: int = ITEMS,
    warm_up_s: float = WARM_UP_S,
) -> Sequence[Figure]:
    """All figures of W2."""
    figures: list[Figure] = []
    with rig.aside():
        for place, variant in enumerate(variants):
            scratch = directory / str(place)
            scratch.mkdir()
            ledger = scratch / "ledger.jsonl"
            options = (
                *("--items", items, "--states", STATES, "--state-interval-ms", STATE_PERIOD_MS),
                *("--interval-ms", 0 if variant.flat_out else PERIOD_MS, "--ledger", ledger),
            )
            async with rig.plant(scratch, "tests.support.opcua_plant", *options) as simulated:
                floor = await _floor(scratch, simulated, items, variant)
                figures += await _gateway(scratch, simulated, ledger, items, variant, floor, warm_up_s)
    return figures


async def _floor(directory: Path, simulated: rig.Teller, items: int, variant: Variant) -> rig.Window:
    options = ("--items", str(items), "--period-ms", str(PERIOD_MS), str(simulated.first["endpoint"]))
    async with rig.measured(directory, "tests.benchmarks.floor_opcua", *options) as process:
        return await rig.floor(process, simulated, variant.window_s / 2)


async def _gateway(
    directory: Path,
    simulated: rig.Teller,
    ledger: Path,
    items: int,
    variant: Variant,
    floor: rig.Window,
    warm_up_s: float,
) -> Sequence[Figure]:
    async with rig.broker(directory) as broker:
        config = write_config(directory, broker, str(simulated.first["endpoint"]), items, variant.publish)
        with rig.States(broker) as states:
            async with rig.gateway(config) as process:
                await states.known(STATES, process)
                await rig.window(process, simulated, warm_up_s)
                spent = await rig.window(process, simulated, variant.window_s)
            told = rig.delays(_changes(ledger), states, spent)
    name = variant.name + (f" ({broker.name})" if broker.url == "embedded" else "")
    return _figures(name, variant, spent, told, floor)


def write_config(directory: Path, broker: rig.Broker, endpoint: str, items: int, publish: bool) -> Path:
    """A configuration with every item as a tag, and an equipment for each state word."""
    node = "nsu=urn:plant;s="
    told = str(publish).lower()
    rows = ["name,node,publish"]
    rows += [f"s{number},{node}S{number},false" for number in range(STATES)]
    rows += [f"v{number},{node}V{number},{told}" for number in range(items)]
    (directory / "server.csv").write_text("\n".join(rows), encoding="utf-8")
    parts = [
        rig.head_of_config(broker),
        f'[[connections]]\nname = "plc"\nprotocol = "opcua"\nendpoint = "{endpoint}"\n'
        'security = { policy = "None", mode = "None" }\n'
        f'[[connections.groups]]\nname = "all"\ninterval = "{PERIOD_MS:g}ms"\ntags_csv = "server.csv"\n',
        *(rig.equipment(rig.name_of(number), f"plc/s{number}") for number in range(STATES)),
    ]
    path = directory / "andon.toml"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _changes(ledger: Path) -> Sequence[rig.Change]:
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [(int(line["item"][1:]), line["value"], line["monotonic_ns"] / 1e9) for line in lines]


def _figures(
    name: str, variant: Variant, spent: rig.Window, told: rig.Delays, floor: rig.Window
) -> Sequence[Figure]:
    walker = "a reader that walks them"
    paced = not variant.flat_out
    figures = [
        Figure(
            f"{name}: CPU per notification",
            spent.us,
            "us",
            floor.us,
            walker,
            {} if variant.flat_out else PEERS_ALL_US if variant.publish else PEERS_US,
            goal=GOAL_US if variant == PACED else None,
        ),
        Figure(
            f"{name}: notifications",
            spent.rate,
            "1/s",
            None if paced else floor.rate,
            "" if paced else walker,
            {} if paced else PEERS_RATE,
        ),
        Figure(f"{name}: share of a core", spent.core * 100, "%"),
        Figure(f"{name}: memory", spent.rss_mb, "MB"),
    ]
    waits = "the publishing interval's own wait"
    for percent, floor_ms in ((50, PERIOD_MS / 2), (99, PERIOD_MS)):
        what = f"{name}: state word to MQTT, p{percent}"
        if variant.flat_out:
            figures.append(Figure(what, told.ms(percent), "ms"))
            continue
        peers = {} if variant.publish else PEERS_P50 if percent == 50 else PEERS_P99
        goal = GOAL_P99_MS if percent == 99 and not variant.publish else None
        figures.append(Figure(what, told.ms(percent), "ms", floor_ms, waits, peers, goal=goal))
    figures.append(Figure(f"{name}: state changes lost, of {told.due}", told.lost, "changes", goal=0))
    return figures
