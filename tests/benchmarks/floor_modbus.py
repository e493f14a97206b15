"""The least a Python program can spend on W1: the same requests on uvloop, the answer's bytes compared.

No tags, no types, no journal, no broker: what is left is the cost of asking and of the event loop.
Runs until stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import cast

import uvloop

_REGISTERS_MAX = 125


class Asker(asyncio.Protocol):
    """One device, read in blocks, one request after the other, once a period."""

    def __init__(self, registers: int, period_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._period_s = period_s
        starts = range(0, registers, _REGISTERS_MAX)
        self._asks = [_request(start, min(_REGISTERS_MAX, registers - start)) for start in starts]
        self._last = [b""] * len(self._asks)
        self._next = self._got = self._place = 0
        self._due = self._loop.time()
        self.news = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._begin()

    def _begin(self) -> None:
        self._place = 0
        self._ask()

    def _ask(self) -> None:
        self._next = self._next + 1 & 0xFFFF
        self._transport.write(self._next.to_bytes(2, "big") + self._asks[self._place])

    def data_received(self, data: bytes) -> None:
        place = self._place
        if data[9:] != self._last[place]:
            self._last[place] = data[9:]
            self.news += 1
        self._place = place + 1
        if self._place < len(self._asks):
            self._ask()
        elif self._period_s:
            self._due = max(self._due + self._period_s, self._loop.time())
            self._loop.call_at(self._due, self._begin)
        else:
            self._begin()


def _request(start: int, count: int) -> bytes:
    return bytes((0, 0, 0, 6, 1, 3)) + start.to_bytes(2, "big") + count.to_bytes(2, "big")


async def poll(options: argparse.Namespace) -> None:
    """Poll until stdin ends."""
    loop = asyncio.get_running_loop()
    for port in options.ports:
        await loop.create_connection(
            lambda: Asker(options.registers, options.period_ms / 1000), "127.0.0.1", port
        )
    ended = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--registers", type=int, default=1000)
    options.add_argument("--period-ms", type=float, default=100.0)
    options.add_argument("ports", type=int, nargs="+")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(poll(options.parse_args()))


if __name__ == "__main__":
    main()
