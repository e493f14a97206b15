"""`make bench`: runs the parts, prints one table, keeps one JSON line a figure.

The figures are for comparison, not for judging: nothing here passes or fails. Machines are noisy, so each
is shown against a floor measured in the same run or given by arithmetic.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks import (
    audit,
    engine,
    fleet,
    historian,
    journal,
    latency,
    modbus,
    mqtt,
    opcua,
    queries,
    rest,
    sparkplug,
    start,
)
from tests.benchmarks.figures import Figure, keep, show

PARTS: Mapping[str, Callable[[Path], Awaitable[Sequence[Figure]]]] = {
    "engine": engine.measure,
    "journal": journal.measure,
    "latency": latency.measure,
    "start": start.measure,
    "modbus": modbus.measure,
    "opcua": opcua.measure,
    "fleet": fleet.measure,
    "mqtt": mqtt.measure,
    "sparkplug": sparkplug.measure,
    "historian": historian.measure,
    "queries": queries.measure,
    "rest": rest.measure,
    "audit": audit.measure,
}


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__)
    options.add_argument("--only", choices=PARTS, help="one part")
    options.add_argument("--out", type=Path, default=Path("benchmarks.jsonl"), help="file of JSON lines")
    options.add_argument(
        "--samples", type=int, default=queries.SAMPLES, help="how many the queries lie among"
    )
    chosen = options.parse_args()
    queries.SAMPLES = chosen.samples
    figures: list[Figure] = []
    for name, measure in PARTS.items():
        if chosen.only in (None, name):
            sys.stderr.write(f"measuring {name}\n")
            with tempfile.TemporaryDirectory(prefix="andon-bench-") as directory:
                figures += asyncio.run(measure(Path(directory)))  # type: ignore[arg-type]
    show(figures)
    keep(figures, chosen.out)
    sys.stderr.write(f"figures kept in {chosen.out}\n")


main()
