"""A small site that can be described, run in this process, and described otherwise while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from gateway.app import Gateway
from gateway.assembly.exchange import Applied
from gateway.changing.difference import difference
from gateway.config.load import Loaded, load
from statemodel.records import Recorded

#: How long anything may take that has to come some day: well beyond what a busy machine stands still.
PATIENCE_S = 45.0
STATES = ("Off", "Idle", "Busy", "Done")


@dataclass
class Machine:
    """An equipment: `tag` is `connection/register`."""

    tag: str
    model: str = "ring"
    path: str = ""


@dataclass
class Site:
    """What a configuration says. Connections: name to port, registers read, and period in ms."""

    links: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    mqtt: dict[str, str] = field(default_factory=dict)
    sparkplug: str = ""
    historian: str = ""
    flush_ms: int = 100
    listen: str = ""
    #: Further settings of [api] and of [gateway], as lines.
    of_api: str = ""
    of_gateway: str = ""
    gateway_id: str = "living"
    extra: str = ""
    #: Models by name: their states in the order of the codes.
    models: dict[str, Sequence[str]] = field(default_factory=lambda: {"ring": STATES})

    def copy(self) -> Site:
        return deepcopy(self)

    def text(self) -> str:
        parts = [
            f'[gateway]\nid = "{self.gateway_id}"\nenterprise = "acme"\nsite = "berlin"\n',
            f'data_dir = "data"\n{self.of_gateway}\n',
        ]
        if self.historian:
            parts.append(f'[historian]\ndsn = "{self.historian}"\nflush = "{self.flush_ms}ms"\n')
        if self.listen:
            parts.append(f'[api]\nlisten = "{self.listen}"\n{self.of_api}\n')
        parts += [f'[[mqtt]]\nname = "{name}"\nbroker = "{url}"\n' for name, url in self.mqtt.items()]
        if self.sparkplug:
            parts.append(f'[sparkplug]\nbroker = "{self.sparkplug}"\ngroup = "plant"\n')
        for name, (port, registers, period_ms) in self.links.items():
            tags = "".join(
                f'{{ name = "r{n}", address = "holding:{n}", type = "uint16", publish = true }}, '
                for n in range(registers)
            )
            parts.append(
                f'[[connections]]\nname = "{name}"\nprotocol = "modbus"\nendpoint = "tcp://127.0.0.1:{port}"\n'
                'timeout = "30s"\nconnect_timeout = "30s"\n'
                f'[[connections.groups]]\nname = "all"\ninterval = "{period_ms}ms"\ntags = [{tags}]\n'
            )
        for name, machine in self.machines.items():
            parts.append(
                f'[[equipment]]\nname = "{name}"\npath = "{machine.path or f"area/{name}"}"\n'
                f'model = "{machine.model}.toml"\nstate = "{machine.tag}"\n'
            )
        return "\n".join([*parts, self.extra])

    def write(self, directory: Path) -> Path:
        for name, states in self.models.items():
            listed = ", ".join(
                f'{{ name = "{state}", code = {code}, category = "standby" }}'
                for code, state in enumerate(states)
            )
            (directory / f"{name}.toml").write_text(
                f'name = "{name}"\ninitial = "{states[0]}"\nstates = [{listed}]\n'
                'transitions = [{ from = "*", to = "*" }]\n',
                encoding="utf-8",
            )
        path = directory / "andon.toml"
        path.write_text(self.text(), encoding="utf-8")
        return path

    def load(self, directory: Path) -> Loaded:
        return load(self.write(directory))


class Running:
    """A gateway of this process, and the folder it reads."""

    def __init__(self, gateway: Gateway, directory: Path, stop: asyncio.Event) -> None:
        self.gateway, self.directory, self.stop = gateway, directory, stop

    async def apply(self, site: Site) -> Applied:
        new = site.load(self.directory)
        return await self.gateway.exchange.apply(new, difference(self.gateway.exchange.loaded, new))

    def state(self, name: str) -> str:
        return self.gateway.live.state(name).state

    def link(self, name: str) -> str:
        return {view.name: view.link for view in self.gateway.live.connections()}[name]

    async def until(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_state(self, name: str, state: str) -> None:
        await self.until(lambda: self.state(name) == state)

    async def until_up(self) -> None:
        await self.until(lambda: {view.link for view in self.gateway.live.connections()} <= {"up"})

    async def events(self) -> list[Recorded]:
        """All that is on record, in order; read as a stream reads it."""
        last = self.gateway.live.position().last_seq
        found: list[Recorded] = []
        async with asyncio.timeout(PATIENCE_S):
            async for page in self.gateway.live.events(0):
                found += page
                if not page or found[-1].seq >= last:
                    return found
        return found


@asynccontextmanager
async def running(directory: Path, site: Site) -> AsyncIterator[Running]:
    """Ready when the body begins, stopped cleanly after it."""
    stop, ready = asyncio.Event(), asyncio.Event()
    gateway = Gateway(site.load(directory), started=lambda _: ready.set())
    task = asyncio.create_task(gateway.run(stop))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        if task.done():
            await task
        yield Running(gateway, directory, stop)
    finally:
        waiting.cancel()
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await task
