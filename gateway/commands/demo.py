"""`andon demo`: everything on one machine, to see and to touch, gone without a trace when it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import uvloop
from rich.console import Group, RenderableType
from rich.live import Live as LiveDisplay
from rich.text import Text

from gateway import log
from gateway.app import Gateway
from gateway.commands.run import run_until
from gateway.commands.show import err, event_line, out, state_table
from gateway.config.load import Loaded, load
from gateway.demo.plant import PlantProcess
from gateway.demo.site import MAIN, choose_port_base, kept_port_base, port_or_any, write_site
from gateway.errors import GatewayError, StartFailed
from statemodel.durations import parse_duration
from statemodel.types import UNKNOWN

REFRESH_S = 0.25


class WrongArgument(GatewayError):
    """An option has a value that cannot be used."""

    exit_code = 2


def run_demo(*, for_text: str | None, json: bool, keep: Path | None, seed: int, speed: float) -> None:
    """Run the demo until its time is over or somebody stops it."""
    try:
        length = parse_duration(for_text) if for_text is not None else None
    except ValueError as error:
        raise WrongArgument(f"--for: {error}") from None
    began_s = time.monotonic()
    with ExitStack() as stack:
        if keep is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="andon-demo-")))
        else:
            directory = keep.resolve()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            logs = stack.enter_context((directory / "andon.log").open("a", encoding="utf-8"))
        except OSError as error:
            hint = "choose a folder that can be written, or leave --keep out"
            raise WrongArgument(f"--keep {keep}: {error.strerror}", hint=hint) from None
        log.configure("info", json=True, file=logs)
        demo = _Demo(
            directory, length, json=json, kept=keep is not None, seed=seed, speed=speed, began_s=began_s
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(demo.run())


class _Demo:
    def __init__(
        self,
        directory: Path,
        length: timedelta | None,
        *,
        json: bool,
        kept: bool,
        seed: int,
        speed: float,
        began_s: float,
    ) -> None:
        self.directory = directory
        self.length = length
        self.json = json
        self.kept = kept
        self.seed = seed
        self.speed = speed
        self.began_s = began_s
        self.all_known_after_s: float | None = None
        self.port_base: int | None = None

    async def run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            self._say("starting the plant: six machines on two OPC UA and two Modbus servers")
            path = self.directory / MAIN
            old = path.exists()
            self.port_base = self._port_base(path if old else None)
            plant = await PlantProcess.start(
                scenario="demo",
                seed=self.seed,
                speed=self.speed,
                ledger=self.directory / "ledger.jsonl",
                port_base=self.port_base,
            )
            stack.push_async_callback(plant.stop)
            loaded = load(path if old else self._write(plant))
            self._say("starting database, broker and gateway")
            started = asyncio.Event()
            gateway = Gateway(loaded, started=lambda _: started.set())
            running = asyncio.create_task(run_until(gateway, stop))
            showing = asyncio.create_task(self._show(gateway, started))
            if self.length is not None:
                loop.call_later(self.length.total_seconds(), stop.set)
            try:
                await asyncio.wait({running, showing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.set()
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
            await running
        if not self.json:
            self._say_goodbye()

    def _port_base(self, kept: Path | None) -> int | None:
        """Where the plant is to listen; a configuration that was kept is not touched again."""
        try:
            return kept_port_base(kept) if kept is not None else choose_port_base()
        except ValueError as error:
            hint = f"run it with `andon run {kept}`, or choose another folder"
            raise WrongArgument(f"{kept} is there already, and {error}", hint=hint) from None
        except OSError as error:
            raise StartFailed(str(error)) from None

    def _write(self, plant: PlantProcess) -> Path:
        mqtt_port, api_port = port_or_any(1883), port_or_any(8420)
        values = {
            **plant.servers,
            "historian": "env:ANDON_DATABASE" if os.environ.get("ANDON_DATABASE") else "embedded",
            "broker": "env:ANDON_MQTT" if os.environ.get("ANDON_MQTT") else "embedded",
            "mqtt_port": str(mqtt_port),
            "listen": f"127.0.0.1:{api_port}",
        }
        return write_site(self.directory, values)

    async def _show(self, gateway: Gateway, started: asyncio.Event) -> None:
        await started.wait()
        if self.json:
            err.print(self._addresses(gateway))
            await self._print_events(gateway, as_json=True)
        elif sys.stdout.isatty():
            await self._live_table(gateway)
        else:
            out.print(self._addresses(gateway))
            await self._until_all_known(gateway)
            out.print(self._table(gateway))
            await self._print_events(gateway, as_json=False)

    async def _print_events(self, gateway: Gateway, *, as_json: bool) -> None:
        colours = _colours(gateway.loaded)
        async for events in gateway.live.events(0 if as_json else None):
            for event in events:
                if as_json:
                    sys.stdout.write(event.json.decode() + "\n")
                else:
                    out.print(event_line(msgspec.json.decode(event.json), colours))
            sys.stdout.flush()

    async def _until_all_known(self, gateway: Gateway) -> None:
        async for _ in gateway.live.events(0):
            if self._all_known(gateway):
                return

    async def _live_table(self, gateway: Gateway) -> None:
        # Addresses stand above the live part, whole, so that they can be copied from a narrow window.
        out.print(self._addresses(gateway))
        with LiveDisplay(console=out, auto_refresh=False, vertical_overflow="crop") as display:
            while True:
                display.update(self._table(gateway), refresh=True)
                await asyncio.sleep(REFRESH_S)

    def _all_known(self, gateway: Gateway) -> bool:
        known = all(state.state != UNKNOWN for state in gateway.live.states())
        if known and self.all_known_after_s is None:
            self.all_known_after_s = time.monotonic() - self.began_s
        return known

    def _table(self, gateway: Gateway) -> RenderableType:
        self._all_known(gateway)
        states = gateway.live.states()
        table = state_table(
            [msgspec.to_builtins(state) for state in states],
            _colours(gateway.loaded),
            {state.equipment: gateway.live.why(state.equipment) for state in states},
            datetime.now(UTC),
        )
        position = gateway.live.position()
        foot = f"{position.last_seq} events recorded"
        if self.all_known_after_s is not None:
            foot += f" · all {len(states)} states known {self.all_known_after_s:.1f} s after the start"
        if sys.stdout.isatty():
            foot += " · Ctrl-C stops everything"
        return Group(table, Text(""), Text(foot, style="dim"))

    def _addresses(self, gateway: Gateway) -> RenderableType:
        where = gateway.addresses
        _, _, broker_port = where.broker.rpartition(":")
        broker_host = where.broker.partition("://")[2].rpartition("@")[2].rpartition(":")[0]
        lines = [
            ("REST and docs", f"{where.api}/docs"),
            ("states", f"curl {where.api}/api/v1/equipment"),
            ("events", f"curl -N {where.api}/api/v1/events?after=0"),
            ("MQTT", f"mosquitto_sub -h {broker_host} -p {broker_port} -v -t 'acme/berlin/#' -t 'andon/#'"),
            ("database", where.psql or 'psql "$ANDON_DATABASE" -c "select * from andon.current_state"'),
        ]
        text = Text()
        for name, command in lines:
            text.append(f"{name:<14}", style="dim").append(f"{command}\n")
        return text

    def _say(self, words: str) -> None:
        if not self.json:
            out.print(words, style="dim")

    def _say_goodbye(self) -> None:
        if self.kept:
            andon = _how_to_call()
            base = f" --port-base {self.port_base}" if self.port_base is not None else ""
            out.print("stopped. To go on, in two terminals:")
            out.print(f"  {andon} simulate{base} --seed {self.seed} --speed {self.speed:g}")
            out.print(f"  {andon} run {self.directory / MAIN}")
        else:
            out.print("stopped; nothing is left behind (--keep DIR keeps the data and the configuration)")


def _how_to_call() -> str:
    """The command as this person can type it: its name, or its path when it is not on the search path."""
    if shutil.which("andon") is not None:
        return "andon"
    return os.path.relpath(Path(sys.executable).with_name("andon"))


def _colours(loaded: Loaded) -> dict[tuple[str, str], str]:
    return {
        (model.name, state.name): state.colour for model in loaded.models.values() for state in model.states
    }
