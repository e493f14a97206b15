"""The command `python -m simulators`: options to a running plant, orders from standard input, a clean end.

Exit codes: 0 stopped as asked, 1 failed while running, 2 the options or the scenario are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulators.control import Voice, parse_line, read_lines
from simulators.orders import OrderError, Quit
from simulators.scenario import ScenarioError, built_in, load
from simulators.simulation import Options, OptionsError, Simulation

_STDIN: Final = 0


def parser() -> argparse.ArgumentParser:
    """The command's options, for this command and for one that wraps it."""
    options = argparse.ArgumentParser(
        prog="python -m simulators",
        description="Serve a simulated plant over OPC UA and Modbus TCP, with faults and a true ledger.",
    )
    options.add_argument(
        "--scenario", default="demo", metavar="NAME|FILE", help="built in: " + ", ".join(built_in())
    )
    options.add_argument(
        "--seed", type=int, default=1, help="same seed, scenario and speed: same story (default 1)"
    )
    options.add_argument(
        "--speed", type=float, default=1.0, help="plant seconds per second, 0.1 to 100 (default 1)"
    )
    options.add_argument("--ledger", type=Path, metavar="FILE", help="write every true state change here")
    options.add_argument("--writes", type=Path, metavar="FILE", help="write what clients wrote here")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    options.add_argument(
        "--port-base",
        type=int,
        metavar="N",
        help="ports N to N+3; 0 lets the system choose (default 48400-1, 15020-1)",
    )
    options.add_argument(
        "--allow-remote", action="store_true", help="allow a --host others can reach; no security!"
    )
    options.add_argument("--wait-for-go", action="store_true", help='stand still until {"go":true} is read')
    options.add_argument("--follow-stdin", action="store_true", help="stop when standard input ends")
    options.add_argument("--exit-when-done", action="store_true", help="stop when the scenario has ended")
    options.add_argument("--verbose", action="store_true", help="show the log of the OPC UA library")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code; argparse ends the process itself for --help and bad options."""
    arguments = parser().parse_args(argv)
    if not arguments.verbose:
        # The library tells, at error level, of every client that goes without a word; here that is the normal
        # case.
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    try:
        options = Options(
            scenario=load(arguments.scenario),
            seed=arguments.seed,
            speed=arguments.speed,
            ledger=arguments.ledger,
            writes=arguments.writes,
            host=arguments.host,
            port_base=arguments.port_base,
            allow_remote=arguments.allow_remote,
            wait_for_go=arguments.wait_for_go,
        )
        return asyncio.run(
            run_plant(options, follow_stdin=arguments.follow_stdin, exit_when_done=arguments.exit_when_done)
        )
    except (OptionsError, ScenarioError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"the simulator stopped: {error}\n")
        return 1


async def run_plant(options: Options, *, follow_stdin: bool = False, exit_when_done: bool = False) -> int:
    """Run a plant until it is told to stop: by SIGINT, SIGTERM, an order, or what the switches say.

    Raises:
        ScenarioError: the scenario is wrong.
        OSError: a port is in use, or the ledger cannot be written.
    """
    started_s = time.monotonic()
    say = Voice(sys.stdout)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Simulation(options, say) as plant:
            gc.freeze()  # the address spaces stay for good: looking through them again would stall the plant
            say(
                {
                    "ready": True,
                    "servers": plant.endpoints,
                    "ledger": str(options.ledger) if options.ledger else None,
                    "pid": os.getpid(),
                    "seed": options.seed,
                    "speed": options.speed,
                    "start_s": round(time.monotonic() - started_s, 3),
                }
            )
            await _until_stopped(plant, stop, say, follow_stdin=follow_stdin, exit_when_done=exit_when_done)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return 0


async def _until_stopped(
    plant: Simulation, stop: asyncio.Event, say: Voice, *, follow_stdin: bool, exit_when_done: bool
) -> None:
    listening = asyncio.create_task(_listen(plant, say))
    waits = [asyncio.create_task(stop.wait()), asyncio.create_task(plant.stopped())]
    if follow_stdin:
        waits.append(listening)
    if exit_when_done:
        waits.append(asyncio.create_task(plant.finished.wait()))
    try:
        ended, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        tasks = {*waits, listening}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(plant: Simulation, say: Voice) -> None:
    async for line in read_lines(_STDIN):
        if not line.strip():
            continue
        try:
            order = parse_line(line)
        except OrderError as error:
            say({"error": str(error), "line": line[:200]})
            continue
        await plant.order(order)
        if isinstance(order, Quit):
            return
