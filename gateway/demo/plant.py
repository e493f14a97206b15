"""The bundled plant as a child process: started, asked where it listens, stopped.

The plant is another program on purpose, as it would be on a real floor; it shares no loop with the gateway.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import StartFailed

START_S_MAX = 30.0
STOP_S_MAX = 5.0


class PlantProcess:
    """One run of the simulators. Ends with this process, however that ends: its standard input closes."""

    def __init__(self, process: asyncio.subprocess.Process, servers: Mapping[str, str]) -> None:
        self._process = process
        self.servers = servers
        """Name of each simulated PLC -> its endpoint."""

    @classmethod
    async def start(
        cls, *, scenario: str, seed: int, speed: float, ledger: Path, port_base: int | None
    ) -> PlantProcess:
        """Start the plant and wait until all its servers answer. `port_base` None: its usual ports.

        Raises:
            StartFailed: it ended or took too long; the message has its last words.
        """
        arguments = [
            *("--scenario", scenario, "--seed", str(seed), "--speed", str(speed)),
            *("--ledger", str(ledger), "--follow-stdin"),
            *(("--port-base", str(port_base)) if port_base is not None else ()),
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulators",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the gateway, which then ends the plant in order
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S_MAX):
                line = await process.stdout.readline()
            ready = json.loads(line)
            return cls(process, ready["servers"])
        except (TimeoutError, ValueError, KeyError) as error:
            words = await _last_words(process)
            raise StartFailed(f"the simulated plant did not start: {words}") from error

    async def stop(self) -> None:
        """Ask the plant to end, and wait for it."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _last_words(process: asyncio.subprocess.Process) -> str:
    if process.returncode is None:
        process.kill()
    _, errors = await process.communicate()
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
