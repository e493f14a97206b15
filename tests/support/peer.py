"""An OPC UA server that is not of the stack the connector uses: node-opcua, as a program under orders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

URI = "urn:plant"

#: Name, OPC UA type and value of the variables a server has unless told otherwise.
VARIABLES: tuple[tuple[str, str, Any], ...] = (
    ("state", "Int32", 6),
    ("speed", "Double", 1.5),
    ("run", "Boolean", True),
    ("name", "String", "Füller 1"),
    ("count", "Int64", str(2**53 + 1)),
)

_PROGRAM = Path(__file__).parent / "opcua_peer" / "server.js"


def peer_folder() -> str:
    """Where node-opcua is; the test is left out, and said to be, on a machine that has none."""
    folder = os.environ.get("ANDON_TEST_OPCUA_PEER")
    if not folder or shutil.which("node") is None:
        pytest.skip("no node-opcua here; see the last line of the run for how to have it")
    return folder


class Peer:
    """A server that can be started and stopped many times at one port, its program running all the time.

    Values are as `server.js` takes them: 64-bit integers and ticks as text, bytes as Base64.
    """

    def __init__(self, child: asyncio.subprocess.Process, directory: Path) -> None:
        self._child = child
        # One folder for all servers of a run: making its key takes longer than most tests.
        self._certificates = directory.parent / "opcua-peer"
        self._count = 0
        self._types: dict[str, str] = {}
        self.port = free_port()
        self.options: dict[str, Any] = {"variables": variables(VARIABLES)}
        """What `start` asks for, besides the port: see `start` in server.js."""
        self.namespace = 0
        """Index of `URI` since the last start."""

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"opc.tcp://127.0.0.1:{self.port}/plant"

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._child.pid

    async def order(self, what: str, **details: Any) -> Any:
        """Have one order obeyed."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._count += 1
        line = json.dumps({"id": self._count, "do": what, **details})
        self._child.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            await self._child.stdin.drain()
            answer = json.loads(await self._child.stdout.readline())
        assert answer["id"] == self._count
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    async def start(self) -> None:
        """Serve."""
        self._types = {one["name"]: one["type"] for one in self.options["variables"]}
        options = {"folder": str(self._certificates), **self.options}
        made = await self.order("start", port=self.port, **options)
        self.namespace = made["namespace"]

    async def stop(self, notice_s: float = 0.0) -> None:
        """Stop serving; harmless when stopped."""
        await self.order("stop", notice_s=notice_s)

    async def set(self, name: str, value: Any, **more: Any) -> None:
        """Give a variable a value, and if said a `type`, a `status` and a source time `at` (None: none)."""
        if self._types.get(name) in ("Int64", "UInt64") and isinstance(value, int):
            value = str(value)
        await self.order("set", name=name, value=value, **more)

    async def stats(self) -> dict[str, Any]:
        """What the server holds for its clients."""
        found: dict[str, Any] = await self.order("stats")
        return found


def variables(listed: Sequence[tuple[str, str, Any]]) -> list[dict[str, Any]]:
    """Variables as `server.js` takes them."""
    return [{"name": name, "type": type_, "value": value} for name, type_, value in listed]


@asynccontextmanager
async def running_peer(directory: Path) -> AsyncIterator[Peer]:
    """The program, without a server yet. What it says of itself goes to `peer.log` in the folder."""
    folder = peer_folder()
    with (directory / "peer.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *("node", str(_PROGRAM)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, "NODE_PATH": f"{folder}/node_modules"},
            limit=1 << 20,
        )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            await child.stdout.readline()
        yield Peer(child, directory)
    finally:
        child.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await child.wait()
        if child.returncode is None:
            child.kill()
            await child.wait()
