"""A gateway whose configuration is changed all the time, until it is killed: the child of a test.

`python changing_gateway.py FOLDER SEED PORTS...`; it begins with what the folder says, prints `ready` when it
works, and a line for each change it has made.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway import log
from gateway.app import Gateway
from gateway.changing.difference import difference
from tests.durability.changing_site import Changer, Device, beginning


async def change_for_ever(gateway: Gateway, directory: Path, changer: Changer) -> None:
    while True:
        new = changer.another().load(directory)
        await gateway.exchange.apply(new, difference(gateway.exchange.loaded, new))
        print("changed", flush=True)


async def main(directory: Path, seed: int, ports: list[int]) -> None:
    log.configure("warning", json=True)
    plcs = [Device(port) for port in ports]
    changer = Changer(beginning(plcs), plcs, random.Random(seed))
    ready = asyncio.Event()
    gateway = Gateway(changer.site.load(directory), started=lambda _: ready.set())
    running = asyncio.create_task(gateway.run(asyncio.Event()))
    await ready.wait()
    print("ready", flush=True)
    await asyncio.gather(running, change_for_ever(gateway, directory, changer))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
