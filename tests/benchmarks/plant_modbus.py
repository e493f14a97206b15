"""A plant of Modbus TCP devices that costs next to nothing: raw frames in, raw frames out, a port each.

It serves 16-bit holding registers. Register 0 of a device is its state word and walks through the codes it
is given; of the others so many a second, all devices together, get a new value. Every change of a state
word goes into the ledger with CLOCK_MONOTONIC just before it can be read. It shares no code with the gateway.

Orders come as lines on stdin, answers leave as JSON lines on stdout: `stats`, `ledger PATH`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import cast

import uvloop

_REQUEST = Struct(">HHHBBHH")
_REQUEST_BYTES = _REQUEST.size
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS = 1, 2
#: Changes of ordinary registers come in as many portions a second.
_PORTIONS = 50


class Device:
    """The registers of one device, and its state word's walk."""

    def __init__(self, plant: Plant, number: int, registers: int) -> None:
        self._plant, self.number = plant, number
        self.memory = bytearray(registers * 2)
        self._place = -1
        self.walk()

    def walk(self) -> None:
        """Go to the next state, note it, and come back after a while."""
        plant = self._plant
        self._place = (self._place + 1) % len(plant.codes)
        code = plant.codes[self._place]
        plant.ledger.append((self.number, code, time.monotonic()))
        self.memory[0:2] = code.to_bytes(2, "big")
        plant.loop.call_later(plant.random.uniform(*plant.dwell_s), self.walk)


class Plant:
    """All devices."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.loop = asyncio.get_running_loop()
        self.random = random.Random(options.seed)
        self.codes: list[int] = options.codes
        self.dwell_s: tuple[float, float] = tuple(options.dwell)
        self.answer_s: float = options.answer_ms / 1000
        self.ledger: list[tuple[int, int, float]] = []
        self.registers_served = self.requests = 0
        self.devices = [Device(self, number, options.registers) for number in range(options.devices)]
        self._portion = options.changes / _PORTIONS
        self._due = 0.0
        if options.registers > 1 and options.changes:
            self.loop.call_later(1 / _PORTIONS, self._change)

    def _change(self) -> None:
        self._due += self._portion
        choose = self.random.randrange
        while self._due >= 1:
            self._due -= 1
            memory = self.devices[choose(len(self.devices))].memory
            at = 2 * choose(1, len(memory) // 2)
            value = (memory[at] << 8 | memory[at + 1]) + 1 & 0xFFFF
            memory[at : at + 2] = value.to_bytes(2, "big")
        self.loop.call_later(1 / _PORTIONS, self._change)


class Connection(asyncio.Protocol):
    """One client of one device."""

    def __init__(self, plant: Plant, device: Device) -> None:
        self._plant, self._memory = plant, device.memory
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        at = 0
        while len(data) - at >= _REQUEST_BYTES:
            answer = self._answer(*_REQUEST.unpack_from(data, at))
            at += _REQUEST_BYTES
            if self._plant.answer_s:
                self._plant.loop.call_later(self._plant.answer_s, self._send, answer)
            else:
                self._send(answer)
        self._buffer = data[at:]

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)

    def _answer(
        self, transaction: int, _protocol: int, _length: int, unit: int, function: int, start: int, count: int
    ) -> bytes:
        end = 2 * (start + count)
        if function != 3:
            return transaction.to_bytes(2, "big") + bytes(
                (0, 0, 0, 3, unit, function | 0x80, _ILLEGAL_FUNCTION)
            )
        if end > len(self._memory):
            return transaction.to_bytes(2, "big") + bytes((0, 0, 0, 3, unit, 0x83, _ILLEGAL_ADDRESS))
        plant = self._plant
        plant.requests += 1
        plant.registers_served += count
        length = 2 * count + 3
        head = bytes((0, 0, length >> 8, length & 0xFF, unit, 3, 2 * count))
        return transaction.to_bytes(2, "big") + head + self._memory[2 * start : end]


async def serve(options: argparse.Namespace) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    plant = Plant(options)
    ports = []
    for device in plant.devices:
        server = await loop.create_server(lambda d=device: Connection(plant, d), "127.0.0.1", 0)  # type: ignore[misc]
        ports.append(server.sockets[0].getsockname()[1])
    say(ports=ports)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while words := (await orders.readline()).decode().split():
        if words[0] == "stats":
            say(at=time.monotonic(), values=plant.registers_served, requests=plant.requests)
        elif words[0] == "ledger":
            say(changes=keep(plant.ledger, Path(words[1])))


def keep(ledger: Sequence[tuple[int, int, float]], path: Path) -> int:
    """Write the ledger to a file; how long it is."""
    path.write_text(json.dumps(ledger), encoding="utf-8")
    return len(ledger)


def say(**what: object) -> None:
    """One line of JSON for whoever started this."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--devices", type=int, default=8)
    options.add_argument("--registers", type=int, default=1000)
    options.add_argument("--changes", type=float, default=80.0, help="register changes a second, all devices")
    options.add_argument("--dwell", type=float, nargs=2, default=(1.0, 3.0), help="s in a state, from and to")
    options.add_argument("--codes", type=int, nargs="+", default=(0, 1), help="the state word's walk")
    options.add_argument("--answer-ms", type=float, default=0.0)
    options.add_argument("--seed", type=int, default=1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.parse_args()))


if __name__ == "__main__":
    main()
