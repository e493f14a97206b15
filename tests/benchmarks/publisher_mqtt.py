"""The measured process of the MQTT part: the gateway's publisher over a journal that is filled already.

Ready when the journal is open; publishes from the order `go` until the broker has acknowledged every event
that was there, and tells how long that took, its CPU and its memory. With `--pace` it meanwhile records a
transition of one further equipment so many times a second, and tells when each was recorded: a listener
measures how long its retained state took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gateway.clock import SystemClock
from gateway.config.schema import GatewaySettings, JournalSettings, MqttSettings
from gateway.garbage import set_aside_what_stays
from gateway.journal import Journal
from gateway.publish.memory import MemoryJournal
from gateway.publish.publisher import SINK, MqttPublisher
from gateway.publish.source import EventSource
from statemodel.records import EquipmentState, state_after
from statemodel.types import Transition
from tests.benchmarks.journal import transition

GATEWAY = GatewaySettings(id="line-1", enterprise="acme", site="berlin")
#: The equipment whose moves are recorded meanwhile.
WATCHED = "watched"
#: How often it is looked whether all is acknowledged, in seconds.
LOOK_S = 0.005
_FILL_AT_ONCE = 500


async def fill(folder: Path, count: int) -> None:
    """Record so many transitions that nobody has published."""
    journal = await opened(folder)
    journal.require(SINK, events=True, batches=False)
    for n in range(0, count, _FILL_AT_ONCE):
        await journal.append([transition(i) for i in range(n, min(count, n + _FILL_AT_ONCE))])
    await journal.close()


async def opened(folder: Path) -> Journal:
    """The journal in a folder."""
    return await Journal.open(folder, gateway=GATEWAY.id, settings=JournalSettings(), clock=SystemClock())


@dataclass
class Moves:
    """The moves of the watched equipment: its state, and when each was recorded (CLOCK_MONOTONIC)."""

    journal: Journal
    state: EquipmentState | None = None
    recorded: list[tuple[int, float]] = field(default_factory=list)

    async def go_on(self, per_s: float) -> None:
        """Record moves until cancelled."""
        while True:
            await asyncio.sleep(1 / per_s)
            n = len(self.recorded)
            move = _moved(transition(n), n)
            done = await self.journal.append([move])
            self.recorded.append((n, time.monotonic()))
            self.state = state_after(move, done[0].seq)


def _moved(like: Transition, n: int) -> Transition:
    return Transition(
        **{name: getattr(like, name) for name in like.__struct_fields__}
        | {"equipment": WATCHED, "path": f"filling/line-0/{WATCHED}", "sequence": n}
    )


async def publish(options: argparse.Namespace) -> dict[str, Any]:
    """Publish everything there is; what it took."""
    journal = await opened(options.journal)
    last = journal.position.last_seq
    source: EventSource = journal
    if options.memory:
        source = MemoryJournal()
        await source.append(*await journal.read(0, last))
    moves = Moves(journal)
    set_aside_what_stays()
    say(ready=last)
    await asyncio.to_thread(sys.stdin.readline)
    broker = f"mqtt://127.0.0.1:{options.port}"
    publisher = publisher_of(MqttSettings(broker=broker, protocol=options.protocol), source, {WATCHED: moves})
    before_mb, began, cpu = rss_mb(), time.monotonic(), time.process_time()
    parts = [asyncio.create_task(publisher.run())]
    if options.pace:
        parts.append(asyncio.create_task(moves.go_on(options.pace)))
    while publisher.status().events < last:
        await asyncio.sleep(LOOK_S)
        for part in parts:
            if part.done():
                await part
    took_s, cpu_s, highest_mb = time.monotonic() - began, time.process_time() - cpu, peak_mb()
    for part in reversed(parts):
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)
    await journal.close()
    return {
        "events": last,
        "took_s": took_s,
        "cpu_s": cpu_s,
        "before_mb": before_mb,
        "peak_mb": highest_mb,
        "connects": publisher.status().connects,
        "recorded": moves.recorded,
    }


def publisher_of(settings: MqttSettings, source: EventSource, watched: dict[str, Moves]) -> MqttPublisher:
    """The publisher as the gateway makes it."""

    def state_of(moves: Moves) -> EquipmentState | None:
        return moves.state

    return MqttPublisher(
        settings,
        journal=source,
        gateway=GATEWAY,
        equipment={name: (f"filling/line-0/{name}", partial(state_of, of)) for name, of in watched.items()},
        clock=SystemClock(),
    )


def say(**what: object) -> None:
    """Tell the one who measures."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def peak_mb() -> float:
    return _status_mb("VmHWM")


def rss_mb() -> float:
    """Memory now; the peak begins anew from here."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--fill", type=int, default=0, help="fill the journal with so many events, and end")
    parser.add_argument("--port", type=int)
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--cloudevents", action="store_true")
    parser.add_argument("--memory", action="store_true", help="read all into memory before")
    parser.add_argument("--pace", type=float, default=0.0, help="moves of the watched equipment a second")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.fill:
            runner.run(fill(options.journal, options.fill))
        else:
            say(**runner.run(publish(options)))


if __name__ == "__main__":
    main()
