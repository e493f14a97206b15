"""A plant on the wire: brings the play, the wall clock, the ledger, the servers and the faults together.

Use it as an async context manager:

    async with Simulation(Options(scenario="story", port_base=0), say=print) as plant:
        print(plant.endpoints["modbus-b"])
        await plant.finished.wait()
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from simulators.faults import FaultDesk, Say
from simulators.ledger import Ledger, rfc3339
from simulators.maps import MODBUS, OPCUA, PORTS, SERVERS, UNIT
from simulators.modbus_server import ModbusServer
from simulators.opcua_server import OpcuaServer
from simulators.orders import Adjust, Clear, Command, Fault, Go, Order, Quit
from simulators.plant import Moment
from simulators.play import Play
from simulators.scenario import Scenario, load
from simulators.writes import WriteLedger

LATE_S_MAX: Final = 0.02
"""When the computer was busy for longer than this, the plant clock waits instead of making up for it:
catching up would shorten the states that follow, below what the scenario promises."""

SPEED_MIN, SPEED_MAX = 0.1, 100.0
_ORDERS_MAX: Final = 256


class OptionsError(ValueError):
    """The options cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a plant. `port_base` None means the fixed ports, 0 ports the operating system chooses."""

    scenario: str | Scenario = "demo"
    seed: int = 1
    speed: float = 1.0
    ledger: Path | None = None
    writes: Path | None = None
    """Where to write down what clients wrote."""
    host: str = "127.0.0.1"
    port_base: int | None = None
    allow_remote: bool = False
    wait_for_go: bool = False
    """Serve the initial states, and let the plant's time begin with the first `Go` order."""

    def __post_init__(self) -> None:
        if not SPEED_MIN <= self.speed <= SPEED_MAX:
            raise OptionsError(f"--speed {self.speed:g}: must be from {SPEED_MIN:g} to {SPEED_MAX:g}")
        try:
            loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            raise OptionsError(
                f'--host {self.host}: is not an IP address; write one such as "127.0.0.1"'
            ) from None
        if not loopback and not self.allow_remote:
            raise OptionsError(
                f"--host {self.host}: others could reach the servers, which have no security; "
                "add --allow-remote if that is meant, for tests only"
            )
        if self.port_base and not 1024 <= self.port_base <= 65535 - len(SERVERS):
            raise OptionsError(
                f"--port-base {self.port_base}: must be 0, or from 1024 to {65535 - len(SERVERS)}"
            )

    def port(self, server: str) -> int:
        """The port of a server; 0 when the operating system is to choose."""
        if self.port_base is None:
            return PORTS[server]
        return self.port_base + SERVERS.index(server) if self.port_base else 0


class PlantClock:
    """Plant time from monotonic time, at a speed factor, with the right to wait."""

    def __init__(self, speed: float, start_mono_s: float) -> None:
        self._speed = speed
        self._start_mono_s = start_mono_s

    def mono_s(self, plant_s: float) -> float:
        """When, on the monotonic clock, a plant time is due."""
        return self._start_mono_s + plant_s / self._speed

    def plant_s(self, mono_s: float) -> float:
        """The plant time now."""
        return max(0.0, (mono_s - self._start_mono_s) * self._speed)

    def played(self, plant_s: float, mono_s: float) -> None:
        """An event due at `plant_s` is being played; if that is too late, the clock has waited for it."""
        late_s = mono_s - self.mono_s(plant_s)
        if late_s > LATE_S_MAX:
            self._start_mono_s += late_s


class Simulation:
    """A running plant. `say` gets every event as a value: refusals, faults, the end of the scenario."""

    def __init__(self, options: Options, say: Say) -> None:
        """Raises `ScenarioError` when there is no such scenario, or it is wrong."""
        scenario = options.scenario
        self.options = options
        self.finished = asyncio.Event()
        """Set when the scenario has ended and every machine rests. The servers go on."""
        self._say = say
        self._play = Play(
            load(scenario) if isinstance(scenario, str) else scenario, options.seed, options.speed
        )
        self._opcua = {
            name: OpcuaServer(name, options.host, options.port(name), groups, *self._ears(name))
            for name, groups in OPCUA.items()
        }
        self._modbus = {
            name: ModbusServer(name, options.host, options.port(name), map_, UNIT, *self._ears(name))
            for name, map_ in MODBUS.items()
        }
        servers: dict[str, ModbusServer | OpcuaServer] = {**self._opcua, **self._modbus}
        self._servers = {name: servers[name] for name in SERVERS}
        self._faults = FaultDesk(self._servers, say)
        self._orders: asyncio.Queue[Order] = asyncio.Queue(_ORDERS_MAX)
        self._ledger: Ledger | None = None
        self._writes: WriteLedger | None = None
        self._clock: PlantClock | None = None
        self._driver: asyncio.Task[None] | None = None

    @property
    def endpoints(self) -> dict[str, str]:
        """Where each server listens."""
        return {name: server.endpoint for name, server in self._servers.items()}

    async def __aenter__(self) -> Self:
        """Start the servers, then the plant.

        Raises:
            OSError: a port is in use, or the ledger cannot be written.
        """
        try:
            self._ledger = Ledger(self.options.ledger)
            self._writes = WriteLedger(self.options.writes)
            for server in self._servers.values():
                server.ledger = self._writes
            for opcua in self._opcua.values():
                await opcua.load()
            await self._publish(self._play.begin().moment)
            for server in self._servers.values():
                await server.gate.open()
        except BaseException:
            await self._close()
            raise
        self._driver = asyncio.create_task(self._drive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        driver = self._driver
        if error is None and driver is not None and not driver.cancelled():
            driver.result()  # raises what made the plant stand still, if nobody was waiting for it

    async def order(self, order: Order) -> None:
        """Hand in an order; it is carried out in turn, and refusals are said."""
        await self._orders.put(order)

    async def stopped(self) -> None:
        """Wait until the plant is ordered to quit. Raises what stopped it otherwise (full disk: OSError)."""
        assert self._driver is not None
        await asyncio.shield(self._driver)

    async def _close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        await self._faults.clear()
        await asyncio.gather(*(server.close() for server in self._opcua.values()))
        for server in self._modbus.values():
            await server.gate.close()
        if self._ledger is not None:
            self._ledger.close()
        if self._writes is not None:
            self._writes.close()

    async def _drive(self) -> None:
        """Sleep until the next beat or order, carry it out, and again; until `Quit`."""
        if self.options.wait_for_go and not await self._was_told_to_go():
            return
        clock = self._clock = PlantClock(self.options.speed, time.monotonic())
        while True:
            # An order may wait for the beat that is due, never longer: beats come one at a time.
            order = await self._order_before(clock.mono_s(self._play.next_s))
            if isinstance(order, Quit):
                return
            if order is not None:
                await self._carry_out(order)
                continue
            clock.played(self._play.next_s, time.monotonic())
            beat = self._play.step()
            await self._publish(beat.moment)
            for refusal in beat.refusals:
                self._say({"event": "refused", "by": "scenario", "reason": refusal})
            for fault in beat.orders:
                await self._carry_out(fault)
            if beat.done:
                self._tell_done(beat.moment.at_s)

    async def _was_told_to_go(self) -> bool:
        while True:
            order = await self._orders.get()
            if isinstance(order, Go | Quit):
                return isinstance(order, Go)
            await self._carry_out(order)

    async def _order_before(self, due_mono_s: float) -> Order | None:
        wait_s = due_mono_s - time.monotonic()
        if wait_s <= 0:
            await asyncio.sleep(0)
            return None
        try:
            async with asyncio.timeout(wait_s):
                return await self._orders.get()
        except TimeoutError:
            return None

    async def _carry_out(self, order: Order) -> None:
        refusal: str | None = None
        if isinstance(order, Fault):
            refusal = self._faults.start(order)
        elif isinstance(order, Clear):
            await self._faults.clear(order.server)
        elif not isinstance(order, Go | Quit):
            now_s = 0.0 if self._clock is None else self._clock.plant_s(time.monotonic())
            now_s = min(now_s, self._play.next_s)
            refusal, moment = self._play.order(now_s, order)
            await self._publish(moment)
            if isinstance(order, Command):
                await self._command_taken(order.equipment)
        if refusal:
            self._say({"event": "refused", "by": "order", "reason": refusal})

    async def _publish(self, moment: Moment) -> None:
        """Ledger first, wire second: a value that can be read is already in the ledger."""
        at, mono_s = datetime.now(UTC), time.monotonic()
        assert self._ledger is not None
        self._ledger.write(moment.changes, at, mono_s)
        for modbus in self._modbus.values():
            modbus.put(moment.values)
        for opcua in self._opcua.values():
            await opcua.put(moment.values, at)
            await opcua.tell_alarms(moment.changes, at)

    async def _command_taken(self, equipment: str) -> None:
        for modbus in self._modbus.values():
            modbus.command_taken(equipment)
        for opcua in self._opcua.values():
            await opcua.command_taken(equipment, datetime.now(UTC))

    def _ears(self, server: str) -> Any:
        """What a server is to tell of: commands and set points that clients wrote."""

        def take(order: Command | Adjust) -> None:
            try:
                self._orders.put_nowait(order)
            except asyncio.QueueFull:
                reason = f"{order.equipment}: too many orders at once"
                self._say({"event": "refused", "by": server, "reason": reason})

        def on_command(equipment: str, word: str) -> None:
            take(Command(equipment, word))

        def on_adjust(equipment: str, tag: str, value: float) -> None:
            take(Adjust(equipment, tag, value))

        return on_command, on_adjust

    def _tell_done(self, plant_s: float) -> None:
        assert self._ledger is not None
        self._say(
            {
                "done": True,
                "transitions": self._ledger.transitions,
                "at": rfc3339(datetime.now(UTC)),
                "mono": round(time.monotonic(), 6),
                "plant_s": round(plant_s, 6),
            }
        )
        self.finished.set()
