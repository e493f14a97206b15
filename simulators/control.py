"""The simulator's standard input and output: orders come in and events go out as JSON lines.

A line that cannot be understood is answered with `{"error": ...}` and changes nothing. Knows nothing of the
plant.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final, TextIO

from simulators.orders import Order, OrderError, read_order

LINE_BYTES_MAX: Final = 65536
_LINES_AHEAD_MAX: Final = 256


def parse_line(line: str) -> Order:
    """Read one line.

    Raises:
        OrderError: with every reason.
    """
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OrderError((f"not JSON: {error}",)) from None
    if not isinstance(raw, dict):
        raise OrderError(('not an order; write an object such as {"quit":true}',))
    return read_order(raw)


class Voice:
    """Writes events as JSON lines, each at once. When nobody listens any more it falls silent."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._heard = True

    def __call__(self, event: dict[str, Any]) -> None:
        if not self._heard:
            return
        try:
            self._out.write(json.dumps(event, separators=(",", ":")) + "\n")
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._heard = False


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """The lines of a pipe, terminal or file, until its end. The descriptor keeps its blocking mode.

    A line longer than `LINE_BYTES_MAX` arrives cut to that length, and is then refused for what it is.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue(_LINES_AHEAD_MAX)

    def ready() -> None:
        if chunks.full():
            loop.remove_reader(descriptor)
            return
        chunk = _read_some(descriptor)
        chunks.put_nowait(chunk)
        if not chunk:
            loop.remove_reader(descriptor)

    try:
        loop.add_reader(descriptor, ready)
    except OSError:
        # Regular files and /dev/null cannot be waited for, and need not be.
        for line in _whole(descriptor).splitlines():
            yield line.decode("utf-8", "replace")
        return
    pending = b""
    try:
        while chunk := await chunks.get():
            loop.add_reader(descriptor, ready)
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > LINE_BYTES_MAX:
                lines, pending = [*lines, pending[:LINE_BYTES_MAX]], b""
            for line in lines:
                yield line.decode("utf-8", "replace")
        if pending:
            yield pending.decode("utf-8", "replace")
    finally:
        loop.remove_reader(descriptor)


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, LINE_BYTES_MAX)
    except OSError:
        return b""  # a terminal that was hung up


def _whole(descriptor: int) -> bytes:
    whole = b""
    while len(whole) < LINE_BYTES_MAX and (chunk := _read_some(descriptor)):
        whole += chunk
    return whole
