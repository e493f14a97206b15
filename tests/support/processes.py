"""The product and its surroundings as real processes: plant, gateway, broker. Ended by pid, always."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.ports import free_port as free_port
from tests.support.ports import ports_in_a_row

READY_S_MAX = 45.0


class Process:
    """A child in a session of its own, with its output kept in a file for when something goes wrong."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path) -> None:
        self.child = child
        self.log = log

    @classmethod
    async def start(
        cls, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> Process:
        with log.open("ab") as file:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        return cls(child, log)

    async def end(self, number: signal.Signals, within_s: float = READY_S_MAX) -> int:
        """Send a signal and wait; a process that does not end in time fails the test."""
        if self.child.returncode is None:
            self.child.send_signal(number)
        async with asyncio.timeout(within_s):
            await self._ended()
        assert self.child.returncode is not None
        return self.child.returncode

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.child.returncode is None:
            self.child.kill()
        await self._ended()

    async def _ended(self) -> None:
        """Wait for the end and for its pipes: one left open is complained of in some later test."""
        await self.child.communicate()
        if self.child.stdin is not None:
            self.child.stdin.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await self.child.stdin.wait_closed()

    def words(self) -> str:
        """What it wrote to stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")


class Plant(Process):
    """The simulators, with their ledger."""

    servers: Mapping[str, str]
    ledger_path: Path

    async def order(self, **order: Any) -> None:
        """Hand in one order."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(order).encode() + b"\n")
        await self.child.stdin.drain()

    async def until(self, key: str, within_s: float) -> dict[str, Any]:
        """Read what it says until a line has this key."""
        assert self.child.stdout is not None
        async with asyncio.timeout(within_s):
            while line := await self.child.stdout.readline():
                event: dict[str, Any] = json.loads(line)
                if key in event:
                    return event
        raise AssertionError(f"the plant ended: {self.words()}")

    def ledger(self) -> list[dict[str, Any]]:
        """Every true state change so far."""
        return [json.loads(line) for line in self.ledger_path.read_text(encoding="utf-8").splitlines()]


@asynccontextmanager
async def plant(directory: Path, scenario: str, *, seed: int = 1, speed: float = 1.0) -> AsyncIterator[Plant]:
    """The plant, standing still until it is told to go."""
    ledger = directory / "ledger.jsonl"
    command = [
        *(sys.executable, "-m", "simulators", "--scenario", scenario, "--seed", str(seed)),
        *("--ledger", str(ledger), "--port-base", str(ports_in_a_row(4)), "--wait-for-go", "--follow-stdin"),
        *("--speed", str(speed)),
    ]
    process = await Plant.start(command, directory / "plant.log")
    assert isinstance(process, Plant)
    process.ledger_path = ledger
    try:
        process.servers = (await process.until("ready", READY_S_MAX))["servers"]
        yield process
    finally:
        await process.kill()


class GatewayProcess:
    """`andon run`, started, killed and started again on the same data."""

    def __init__(self, config: Path, port: int) -> None:
        self.config = config
        self.url = f"http://127.0.0.1:{port}"
        self._process: Process | None = None

    async def start(self) -> None:
        """Start and wait until it is ready."""
        await self.launch()
        await self.until(lambda report: bool(report["ready"]))

    async def launch(self) -> None:
        """Start, and wait for nothing."""
        command = [sys.executable, "-m", "gateway", "run", str(self.config), "--log-json"]
        self._process = await Process.start(command, self.config.parent / "gateway.log")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.child.returncode is None

    async def until(self, wanted: Any, within_s: float = READY_S_MAX) -> None:
        """Wait until the health report is as wanted; the process must not end before."""
        assert self._process is not None
        report: Any = "nothing was answered"
        try:
            async with (
                httpx.AsyncClient(base_url=self.url, trust_env=False) as http,
                asyncio.timeout(within_s),
            ):
                while True:
                    assert self._process.child.returncode is None, self._process.words()
                    try:
                        report = (await http.get("/readyz")).json()
                        if wanted(report):
                            return
                    except (httpx.HTTPError, ValueError, KeyError):
                        pass
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"it did not come about in {within_s} s; last was {report}") from None

    async def stop(self) -> None:
        """Ask it to stop, as a service manager does."""
        assert self._process is not None
        code = await self._process.end(signal.SIGTERM)
        assert code == 0, self._process.words()

    async def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        await self._process.kill()

    @property
    def pid(self) -> int:
        """Process id of the running gateway."""
        assert self._process is not None
        return self._process.child.pid

    def words(self) -> str:
        """Its log."""
        return self._process.words() if self._process is not None else ""


@asynccontextmanager
async def gateway(config: Path, port: int) -> AsyncIterator[GatewayProcess]:
    """A gateway that is ready, and gone at the end whatever happens."""
    process = GatewayProcess(config, port)
    try:
        await process.start()
        yield process
    finally:
        if process._process is not None:
            await process.kill()


class Mosquitto:
    """A real broker that keeps its store between runs."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.log = directory / "mosquitto.log"
        self._directory = directory
        self._process: Process | None = None
        (directory / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {directory}/\nautosave_interval 1\nuser root\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n",
            encoding="utf-8",
        )

    async def start(self) -> None:
        """Start and wait until it listens."""
        binary = os.environ.get("ANDON_TEST_MOSQUITTO") or "/usr/sbin/mosquitto"
        command = [binary, "-c", str(self._directory / "mosquitto.conf")]
        self._process = await Process.start(command, self.log)
        async with asyncio.timeout(READY_S_MAX):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self._process is not None
        return self._process.child.pid

    async def stop(self) -> None:
        """End it in order: its store is saved."""
        if self._process is not None:
            await self._process.end(signal.SIGTERM)
            self._process = None

    async def kill(self) -> None:
        """kill -9: of its store is left what it saved in the second before, or earlier."""
        if self._process is not None:
            await self._process.kill()
            self._process = None

    async def __aenter__(self) -> Mosquitto:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self._process.kill()
