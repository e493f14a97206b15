"""W1: eight Modbus devices of a thousand registers, every register a tag, read every 100 ms.

One register in a hundred changes a second, and each device has a state word that drives an equipment. The
whole gateway is on: engine, durable journal, MQTT. As with the peers, every changed register is published
too. The floor is a bare client on uvloop that asks the same and compares bytes, measured in the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import rig
from tests.benchmarks.figures import Figure

DEVICES, REGISTERS = 8, 1000
PERIOD_MS = 100.0
WARM_UP_S, WINDOW_S = 4.0, 20.0
#: Goals of this gateway, and what other gateways and scripts reached on the reference machine.
GOAL_US, GOAL_OVER_MS = 0.35, 5.0
PEERS_US = {"modbus-serial": 0.71, "pymodbus": 1.34, "Neuron (C)": 3.23, "Node-RED": 4.02, "tbgw": 19.6}
PEERS_P50 = {"modbus-serial": 49.4, "pymodbus": 52.3, "Node-RED": 52.3, "Neuron": 110.0, "tbgw": 359.5}
PEERS_P99 = {"modbus-serial": 97.0, "pymodbus": 101.8, "Node-RED": 100.9, "Neuron": 196.4, "tbgw": 513.9}
PEERS_SLOW_P99 = {"pymodbus": 109.3}
PEERS_RATE = {"modbus-serial": 2_616_845, "pymodbus": 1_478_963}
PEERS_RATE_US = {"modbus-serial": 0.371, "pymodbus": 0.665}


@dataclass(frozen=True)
class Variant:
    """One way to run it. With a period of 1 ms it runs as fast as it can."""

    name: str
    period_ms: float = PERIOD_MS
    answer_ms: float = 0.0
    publish: bool = True
    window_s: float = WINDOW_S

    @property
    def flat_out(self) -> bool:
        """Whether the period only means: as fast as it goes."""
        return self.period_ms < 10


PACED = Variant("W1")
VARIANTS = (
    PACED,
    Variant("W1, states alone on MQTT", publish=False, window_s=10),
    Variant("W1, devices take 5 ms", answer_ms=5, window_s=15),
    Variant("W1, flat out", period_ms=1, window_s=8),
)


async def measure(
    directory: Path,
    *,
    variants: Sequence[Variant] = VARIANTS,
    devices: int = DEVICES,
    registers: int = REGISTERS,
    warm_up_s: float = WARM_UP_S,
) -> Sequence[Figure]:
    """All figures of W1."""
    figures: list[Figure] = []
    floors: dict[tuple[bool, float], float] = {}
    with rig.aside():
        for place, variant in enumerate(variants):
            scratch = directory / str(place)
            scratch.mkdir()
            key = (variant.flat_out, variant.answer_ms)
            async with rig.plant(
                scratch,
                "tests.benchmarks.plant_modbus",
                *("--devices", devices, "--registers", registers, "--changes", devices * registers / 100),
                *("--dwell", 0.5, 1.5, "--codes", *rig.CODES, "--answer-ms", variant.answer_ms),
            ) as simulated:
                ports = simulated.first["ports"]
                if key not in floors:
                    floors[key] = await _floor(scratch, simulated, ports, registers, variant)
                figures += await _gateway(
                    scratch, simulated, ports, registers, variant, floors[key], warm_up_s
                )
    return figures


async def _floor(
    directory: Path, simulated: rig.Teller, ports: Sequence[int], registers: int, variant: Variant
) -> float:
    period_ms = 0.0 if variant.flat_out else variant.period_ms
    options = ("--registers", str(registers), "--period-ms", str(period_ms), *map(str, ports))
    async with rig.measured(directory, "tests.benchmarks.floor_modbus", *options) as process:
        return (await rig.floor(process, simulated, variant.window_s / 2)).us


async def _gateway(
    directory: Path,
    simulated: rig.Teller,
    ports: Sequence[int],
    registers: int,
    variant: Variant,
    floor_us: float,
    warm_up_s: float,
) -> Sequence[Figure]:
    async with rig.broker(directory) as broker:
        config = write_config(directory, broker, ports, registers, variant.period_ms, publish=variant.publish)
        with rig.States(broker) as states:
            async with rig.gateway(config) as process:
                await states.known(len(ports), process)
                await rig.window(process, simulated, warm_up_s)
                spent = await rig.window(process, simulated, variant.window_s)
            told = rig.delays(await rig.walked(simulated, directory), states, spent)
    return _figures(
        f"{variant.name} ({broker.name})" if broker.url == "embedded" else variant.name,
        variant,
        spent,
        told,
        floor_us,
    )


def write_config(
    directory: Path,
    broker: rig.Broker,
    ports: Sequence[int],
    registers: int,
    period_ms: float,
    *,
    publish: bool = False,
) -> Path:
    """A configuration with every register of every device as a tag."""
    rows = ["name,address,type,publish", "state,holding:0,uint16,false"]
    rows += [f"r{at},holding:{at},uint16,{str(publish).lower()}" for at in range(1, registers)]
    (directory / "device.csv").write_text("\n".join(rows), encoding="utf-8")
    parts = [rig.head_of_config(broker)]
    for number, port in enumerate(ports):
        name = rig.name_of(number)
        parts.append(
            f'[[connections]]\nname = "{name}"\nprotocol = "modbus"\nendpoint = "tcp://127.0.0.1:{port}"\n'
            f'[[connections.groups]]\nname = "all"\ninterval = "{period_ms:g}ms"\ntags_csv = "device.csv"\n'
        )
        parts.append(rig.equipment(name, f"{name}/state"))
    path = directory / "andon.toml"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _figures(
    name: str, variant: Variant, spent: rig.Window, told: rig.Delays, floor_us: float
) -> Sequence[Figure]:
    slow, flat_out = variant.answer_ms > 0, variant.flat_out
    cost_peers = PEERS_RATE_US if flat_out else {} if slow else PEERS_US
    goal_us = None if flat_out or slow else GOAL_US
    rate_peers = PEERS_RATE if flat_out else {}
    client = "bare client, compares bytes"
    figures = [
        Figure(f"{name}: CPU per register", spent.us, "us", floor_us, client, cost_peers, goal=goal_us),
        Figure(f"{name}: registers", spent.rate, "1/s", peers=rate_peers),
        Figure(f"{name}: share of a core", spent.core * 100, "%"),
        Figure(f"{name}: memory", spent.rss_mb, "MB"),
    ]
    for percent, floor_ms in ((50, variant.period_ms / 2), (99, variant.period_ms)):
        what = f"{name}: state word to MQTT, p{percent}"
        if flat_out:
            figures.append(Figure(what, told.ms(percent), "ms"))
            continue
        peers = {50: {}, 99: PEERS_SLOW_P99} if slow else {50: PEERS_P50, 99: PEERS_P99}
        goal_ms = variant.period_ms + GOAL_OVER_MS if percent == 99 else None
        floor_ms += variant.answer_ms
        figures.append(
            Figure(
                what, told.ms(percent), "ms", floor_ms, "the poll's own wait", peers[percent], goal=goal_ms
            )
        )
    figures.append(Figure(f"{name}: state changes lost, of {told.due}", told.lost, "changes", goal=0))
    return figures
