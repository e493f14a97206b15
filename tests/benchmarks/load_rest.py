"""A client that loads a REST face: as fast as it is answered, or at a steady rate. A process of its own.

It parses no more of an answer than its length, so that it costs less than what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import cast

import uvloop

from tests.benchmarks.figures import percentile


class _Connection(asyncio.Protocol):
    """One connection that has one request under way at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no such class
        self._load.idle(self)

    def ask(self) -> None:
        """Send the request."""
        self._sent_s = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        place = self._buffer.lower().find(b"content-length: ", 0, head)
        length = int(self._buffer[place + 16 : self._buffer.find(b"\r\n", place)])
        if len(self._buffer) < head + 4 + length:
            return
        status = self._buffer[9:12].decode()
        self._buffer = b""
        self._load.answered(self, status, time.perf_counter() - self._sent_s, length)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost += 1


class Load:
    """Requests on some connections, for a time."""

    def __init__(self, request: bytes, rate: float | None) -> None:
        self.request = request
        self.rate = rate
        self.times_s: list[float] = []
        self.statuses: dict[str, int] = {}
        self.answered_count = 0
        self.bytes = 0
        self.lost = 0
        self.measuring = False
        self._idle: list[_Connection] = []

    def idle(self, connection: _Connection) -> None:
        """A connection has nothing under way."""
        if self.rate is None:
            connection.ask()
        else:
            self._idle.append(connection)

    def answered(self, connection: _Connection, status: str, took_s: float, length: int) -> None:
        """An answer is there as a whole."""
        self.answered_count += 1
        if self.measuring:
            self.times_s.append(took_s)
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.bytes = length
        self.idle(connection)

    async def steadily(self, until_s: float) -> None:
        """Ask at the rate, on whichever connection is idle."""
        assert self.rate is not None
        due_s = time.perf_counter()
        while due_s < until_s:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            if self._idle:
                self._idle.pop(0).ask()
            due_s += 1 / self.rate


async def run(
    port: int, path: str, *, connections: int, for_s: float, rate: float | None, key: str
) -> dict[str, object]:
    """Load one path; what came of it."""
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    head = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{authorization}\r\n"
    load = Load(head.encode(), rate)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port)
    began_s = time.perf_counter()
    end_s = began_s + 0.5 + for_s
    steady = asyncio.create_task(load.steadily(end_s)) if rate is not None else None
    await asyncio.sleep(0.5)  # the first answers warm everything up
    load.measuring = True
    measured_s = time.perf_counter()
    await asyncio.sleep(for_s)
    load.measuring = False
    elapsed_s = time.perf_counter() - measured_s
    if steady is not None:
        await steady
    return {
        "per_s": len(load.times_s) / elapsed_s,
        "p50_ms": percentile(load.times_s, 50) * 1000,
        "p99_ms": percentile(load.times_s, 99) * 1000,
        "statuses": load.statuses,
        "bytes": load.bytes,
        "lost": load.lost,
        "answered": load.answered_count,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("port", type=int)
    options.add_argument("path")
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--for", dest="for_s", type=float, default=4.0)
    options.add_argument("--rate", type=float)
    options.add_argument("--key", default="")
    chosen = options.parse_args()
    told = uvloop.run(
        run(
            chosen.port,
            chosen.path,
            connections=chosen.connections,
            for_s=chosen.for_s,
            rate=chosen.rate,
            key=chosen.key,
        )
    )
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
