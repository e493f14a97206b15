"""How a server of a test closes its door without losing who is just coming in.

asyncio's server that is closed in the same turn of the loop in which it has accepted a connection never hands
that connection to anybody: it stays open, and is complained of in whatever test runs when it is collected.
"""

from __future__ import annotations

import asyncio


async def shut(server: asyncio.Server) -> None:
    """Stop listening; who had been accepted by then has been handed over when this returns."""
    loop = asyncio.get_running_loop()
    for door in server.sockets:
        loop.remove_reader(door.fileno())
    for _ in range(3):  # accepted, made a connection of, handed over
        await asyncio.sleep(0)
    server.close()
