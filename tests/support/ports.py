"""Ports that stay free until somebody listens on them, and while what listened is killed and started again.

A port the system chooses and that is closed again is anybody's: the next connection of any process may go out
from it, and one that is tried to a closed port of that range may even come to be connected with itself. So
each process that runs tests has ports of its own, below those the system gives to connections.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

_FIRST, _EACH = 10_240, 160


def _first_of_connections() -> int:
    """The lowest port that a connection may go out from."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return _FIRST


def _ours() -> tuple[Iterator[int], int]:
    """Ports no other test process has, over and over, and what keeps the others away: open while we live."""
    for first in range(_FIRST, _first_of_connections() - _EACH, _EACH):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0andon-tests-ports-{first}")
        except OSError:
            claim.close()
            continue
        return itertools.cycle(range(first, first + _EACH)), claim.detach()
    return itertools.repeat(0), -1


_ports, _claim = _ours()


def free_port() -> int:
    """A loopback port nobody listens on; the next call gives another one."""
    for port in itertools.islice(_ports, _EACH):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("no port is free")


def ports_in_a_row(count: int) -> int:
    """The first of some ports that follow each other, all as `free_port` gives them."""
    for _ in range(_EACH):
        ports = [free_port() for _ in range(count)]
        if ports == list(range(ports[0], ports[0] + count)):
            return ports[0]
    raise AssertionError("no ports in a row are free")
