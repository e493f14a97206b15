"""A plant that changes fast, for measuring an OPC UA client: it must never be what is measured.

    python -m tests.support.opcua_plant --items 5000 --interval-ms 500 --states 1 --port 0 --ledger FILE

serves `opc.tcp://127.0.0.1:PORT/` without security, prints one line `{"ready":true,"endpoint":...}` and
goes on until its standard input ends, answering each line with `{"at":...,"values":...}`: CLOCK_MONOTONIC
and notifications sent so far. Then it prints `{"done":...}`: what it sent, and its CPU time.

* `nsu=urn:plant;s=V0`, `V1`, ... (Double). All change together every `--interval-ms`. At tick t, item i
  is t + i, so that a reader can check every value and see whether one is missing. `--interval-ms 0` is flat
  out: every Publish request is answered at once with a new value of every item of one subscription.
* `nsu=urn:plant;s=S0`, ... (Int32) are state words with PackML codes. They change every
  `--state-interval-ms` through Execute, Holding, Held, Unholding. Each change is a line of the ledger:
  `{"item":"S0","value":10,"n":1,"monotonic_ns":123,"at":"2026-11-22T02:44:04.123456Z"}`.

`monotonic_ns` is CLOCK_MONOTONIC, the `time.monotonic_ns()` of every process of this machine, taken just
before the change can be seen; so delays can be computed without trusting the wall clock. Values are held back
until the next publishing time of the subscription, as real servers do.

What differs from one notification to the next is value and time. Everything else is laid out once, and each
byte column of all items is filled by one slice assignment: no work per item in Python.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import resource
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from asyncua import ua

from tests.support.opcua_lean import Connection, ticks_now

URI = "urn:plant"
#: Execute, Holding, Held, Unholding: a round of legal PackML transitions.
STATES = (6, 10, 11, 12)

_HISTORY_MAX = 1000
#: Status code Good with the data value flags that say: values before this one were dropped.
_OVERFLOW = 0x0480
_DOUBLE, _INT32, _VALUE_STATUS_TIME = 11, 6, 0x07


class Columns:
    """Notifications of many Double items, laid out once."""

    _LAYOUT = struct.Struct("<IBBdIq")
    _VALUE_AT, _STATUS_AT = 6, 14

    def __init__(self, items: Sequence[tuple[int, int]]) -> None:
        """`items` are pairs of client handle and item number."""
        self.numbers = [number for _, number in items]
        first, count = self.numbers[0], len(items)
        self._consecutive = self.numbers == list(range(first, first + count))
        self._body = bytearray(
            b"".join(self._LAYOUT.pack(handle, _VALUE_STATUS_TIME, _DOUBLE, 0, 0, 0) for handle, _ in items)
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, tick: int, stamp: int, status: int) -> bytes:
        """The notifications of one tick."""
        first = self.numbers[0] + tick
        # A range is turned into doubles without a step of Python.
        values = range(first, first + len(self)) if self._consecutive else (n + tick for n in self.numbers)
        packed = array("d", values).tobytes()
        body, stride = self._body, self._LAYOUT.size
        for byte in range(8):
            body[self._VALUE_AT + byte :: stride] = packed[byte::8]
        for byte, fill in enumerate(struct.pack("<Iq", status, stamp)):
            body[self._STATUS_AT + byte :: stride] = bytes((fill,)) * len(self)
        return bytes(body)


@dataclass
class Block:
    """Items created in one call. `told` is the last tick the client knows of."""

    columns: Columns
    queue: int
    told: int


@dataclass
class StateItem:
    """A monitored state word, and the changes that have not been published."""

    handle: int
    waiting: deque[tuple[int, int]]
    overflowed: bool = False


@dataclass
class State:
    """A state word."""

    name: str
    value: int = STATES[0]
    stamp: int = field(default_factory=ticks_now)
    watchers: list[StateItem] = field(default_factory=list)


class Plant:
    """The values, and how they change."""

    def __init__(self, items: int, states: int, *, flat_out: bool, ledger: TextIO | None) -> None:
        self.items = items
        self.states = {f"S{number}": State(f"S{number}") for number in range(states)}
        self.flat_out = flat_out
        self.tick = 0
        #: Source times of the latest ticks, the present one last.
        self.stamps = deque([ticks_now()], maxlen=_HISTORY_MAX)
        self.notifications = 0
        self.dropped = 0
        self._ledger = ledger
        self._counts = itertools.count(1)

    def namespaces(self) -> Sequence[str]:
        """See `opcua_lean.Source`, like the next three."""
        return ("http://opcfoundation.org/UA/", URI)

    def value(self, name: str) -> ua.Variant | None:
        if name in self.states:
            return ua.Variant(self.states[name].value, ua.VariantType.Int32)
        number = self.number(name)
        return None if number is None else ua.Variant(float(self.tick + number), ua.VariantType.Double)

    def feed(self) -> PlantFeed:
        return PlantFeed(self)

    def advance(self) -> None:
        self.tick += 1
        self.stamps.append(ticks_now())

    def number(self, name: str) -> int | None:
        """The number of an item by its name, if there is one."""
        digits = name[1:]
        return int(digits) if name[:1] == "V" and digits.isdigit() and int(digits) < self.items else None

    def change_states(self) -> None:
        """Every state word takes its next value."""
        for state in self.states.values():
            state.value = STATES[(STATES.index(state.value) + 1) % len(STATES)]
            monotonic_ns = time.monotonic_ns()
            state.stamp = ticks_now()
            for item in state.watchers:
                item.overflowed |= len(item.waiting) == item.waiting.maxlen
                item.waiting.append((state.value, state.stamp))
            if self._ledger is not None:
                line = {
                    "item": state.name,
                    "value": state.value,
                    "n": next(self._counts),
                    "monotonic_ns": monotonic_ns,
                    "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
                }
                self._ledger.write(json.dumps(line) + "\n")
        if self._ledger is not None:
            self._ledger.flush()


class PlantFeed:
    """The items of one subscription."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._new: dict[int, list[tuple[int, int]]] = {}
        self._blocks: list[Block] = []
        self._states: list[StateItem] = []

    def monitor(self, name: str, handle: int, queue: int) -> bool:
        """See `opcua_lean.Feed`, like all of this class."""
        state, number = self._plant.states.get(name), self._plant.number(name)
        if state is not None:
            item = StateItem(handle, deque([(state.value, state.stamp)], queue))
            state.watchers.append(item)
            self._states.append(item)
        elif number is not None:
            self._new.setdefault(queue, []).append((handle, number))
        return state is not None or number is not None

    def created(self) -> None:
        before = self._plant.tick - 1
        self._blocks += (Block(Columns(items), queue, before) for queue, items in self._new.items())
        self._new = {}

    def news(self) -> bool:
        tick = self._plant.tick
        return any(block.told < tick for block in self._blocks) or any(item.waiting for item in self._states)

    def take(self) -> tuple[int, list[bytes]]:
        count, parts, plant = 0, [], self._plant
        for block in self._blocks:
            # Flat out, an item has no values between two messages: what another was told is not its own.
            queue = 1 if plant.flat_out else min(block.queue, len(plant.stamps))
            since = max(block.told, plant.tick - queue)
            lost = 0 if plant.flat_out else since - block.told
            plant.dropped += lost * len(block.columns)
            for tick in range(since + 1, plant.tick + 1):
                status = _OVERFLOW if lost and tick == since + 1 else 0
                parts.append(block.columns.at(tick, plant.stamps[tick - plant.tick - 1], status))
                count += len(block.columns)
            block.told = plant.tick
        for item in self._states:
            for value, stamp in item.waiting:
                status = _OVERFLOW if item.overflowed else 0
                parts.append(
                    struct.pack("<IBBiIq", item.handle, _VALUE_STATUS_TIME, _INT32, value, status, stamp)
                )
                item.overflowed = False
                count += 1
            item.waiting.clear()
        plant.notifications += count
        return count, parts

    def close(self) -> None:
        for state in self._plant.states.values():
            state.watchers = [one for one in state.watchers if not any(one is mine for mine in self._states)]


async def _every(interval_s: float, what: Callable[[], None]) -> None:
    """Do something at a fixed rate; what cannot be done in time is done late, never twice at once."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        due_s = max(due_s + interval_s, loop.time())
        await asyncio.sleep(due_s - loop.time())
        what()


async def _until_input_ends(plant: Plant) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        print(json.dumps({"at": time.monotonic(), "values": plant.notifications}), flush=True)


async def _main(arguments: argparse.Namespace, ledger: TextIO | None) -> None:
    flat_out = arguments.interval_ms == 0
    plant = Plant(arguments.items, arguments.states, flat_out=flat_out, ledger=ledger)
    endpoint = ""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(plant, lambda: endpoint), "127.0.0.1", arguments.port
    )
    endpoint = f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    print(json.dumps({"ready": True, "endpoint": endpoint, "items": plant.items}), flush=True)
    tasks = [asyncio.create_task(_every(arguments.state_interval_ms / 1000, plant.change_states))]
    if not flat_out:
        tasks.append(asyncio.create_task(_every(arguments.interval_ms / 1000, plant.advance)))
    try:
        await _until_input_ends(plant)
    finally:
        for task in tasks:
            task.cancel()
        server.close()
        used = resource.getrusage(resource.RUSAGE_SELF)
        sent = {"notifications": plant.notifications, "dropped": plant.dropped, "ticks": plant.tick}
        print(json.dumps({"done": sent | {"cpu_s": used.ru_utime + used.ru_stime}}), flush=True)


@contextmanager
def _opened(path: str | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with Path(path).open("w", encoding="utf-8") as file:
        yield file


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="an OPC UA plant that changes fast")
    parser.add_argument("--items", type=int, default=5000, help="number of variables V0, V1, ...")
    parser.add_argument("--interval-ms", type=float, default=500, help="between changes; 0: flat out")
    parser.add_argument("--states", type=int, default=1, help="number of state words S0, S1, ...")
    parser.add_argument("--state-interval-ms", type=float, default=500, help="between changes of each")
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0: one that is free")
    parser.add_argument("--ledger", help="file for every change of a state word")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _arguments()
    with _opened(chosen.ledger) as ledger_file:
        asyncio.run(_main(chosen, ledger_file))
