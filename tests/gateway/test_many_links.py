"""Many devices, some of them dead in every way devices are: the living are read in time all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config.load import load
from tests.support.small_plc import Acceptor, SmallPlc, closed_port, full_backlog, small_plcs

#: A connection is given up after this; a device that does not answer takes as long.
PATIENCE_S = 5.0
INTERVAL_S = 0.2


def configuration(endpoints: Iterable[tuple[str, str]]) -> str:
    """A gateway with these connections, in this order: names and endpoints."""
    head = '[gateway]\nid = "g"\nenterprise = "e"\nsite = "s"\n'
    return head + "".join(
        f'[[connections]]\nname = "{name}"\nprotocol = "modbus"\nendpoint = "{address}"\n'
        f'[[connections.groups]]\nname = "all"\ninterval = "{INTERVAL_S * 1000:.0f}ms"\n'
        'tags = [{ name = "x", address = "holding:0", type = "uint16" }]\n'
        for name, address in endpoints
    )


@asynccontextmanager
async def running(path: Path, endpoints: Iterable[tuple[str, str]]) -> AsyncIterator[Gateway]:
    """A gateway in this process; it is ready when the body begins."""
    config = path / "andon.toml"
    config.write_text(configuration(endpoints), encoding="utf-8")
    stop, ready = asyncio.Event(), asyncio.Event()
    gateway = Gateway(load(config), started=lambda _: ready.set())
    task = asyncio.create_task(gateway.run(stop))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
        assert gateway.health.report()["ready"]
        yield gateway
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


def links(gateway: Gateway) -> dict[str, str]:
    return {view.name: view.link for view in gateway.live.connections()}


def keeps_its_period(plc: SmallPlc, since_s: float) -> None:
    """To within a fifth, on the mean; and no single reading is missing for long."""
    asked = [at for at in plc.asked_s if at >= since_s]
    pauses = [after - before for before, after in pairwise(asked)]
    assert mean(pauses) == pytest.approx(INTERVAL_S, rel=0.2)
    assert max(pauses) < 5 * INTERVAL_S


def addresses(plcs: Sequence[SmallPlc]) -> list[tuple[str, str]]:
    return [(f"living-{number}", f"tcp://127.0.0.1:{plc.port}") for number, plc in enumerate(plcs)]


async def test_two_hundred_dead_devices_at_the_start_do_not_slow_the_living(tmp_path: Path) -> None:
    """Those that live come last in the file, and each dead one takes five seconds to be given up."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        dead = [stack.enter_context(closed_port()) for _ in range(60)]
        dead += [stack.enter_context(full_backlog()) for _ in range(70)]
        async with (
            small_plcs(10) as plcs,
            Acceptor(60, hangs_up=False) as silent,
            Acceptor(10, hangs_up=True) as kicks,
        ):
            dead += silent.ports + kicks.ports
            endpoints = [(f"dead-{number}", f"tcp://127.0.0.1:{port}") for number, port in enumerate(dead)]
            began_s = loop.time()
            async with running(tmp_path, [*endpoints, *addresses(plcs)]) as gateway:
                await until(lambda: list(links(gateway).values()).count("up") >= 10, PATIENCE_S)
                up_s = loop.time() - began_s
                since_s = loop.time()
                await asyncio.sleep(6)
                assert up_s < 3, "well within the time-out of a single dead one"
                for plc in plcs:
                    keeps_its_period(plc, since_s)
                    assert plc.connections == 1, "it was never lost"
                up = [name for name, link in links(gateway).items() if link == "up"]
                assert len(up) == 10
                assert kicks.connections < 10 * 8, "whoever hangs up at once is not hammered"


async def test_ten_dead_devices_of_a_hundred_cost_the_others_no_period(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with small_plcs(100) as plcs, running(tmp_path, addresses(plcs)) as gateway:
        await until(lambda: set(links(gateway).values()) == {"up"}, PATIENCE_S)
        for plc in plcs[::10]:
            await plc.stop()
        since_s = loop.time()
        await asyncio.sleep(4)

        for number, plc in enumerate(plcs):
            if number % 10:
                keeps_its_period(plc, since_s)
        assert list(links(gateway).values()).count("up") == 90


async def test_names_that_nobody_resolves_and_devices_that_fall_silent_hold_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that does not answer holds a thread for half a minute; a TLS handshake may never end."""
    released = threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".plant"):
            released.wait(30)
            raise socket.gaierror("name server away")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    loop = asyncio.get_running_loop()
    try:
        async with small_plcs(5) as plcs, Acceptor(10, hangs_up=False) as silent:
            dead = [(f"named-{number}", f"tcp://press-{number}.plant:502") for number in range(20)]
            dead += [(f"silent-{port}", f"tcp://127.0.0.1:{port}") for port in silent.ports[:5]]
            dead += [(f"mute-{port}", f"tls://127.0.0.1:{port}") for port in silent.ports[5:]]
            async with running(tmp_path, [*dead, *addresses(plcs)]) as gateway:
                await until(lambda: list(links(gateway).values()).count("up") == 5, PATIENCE_S)
                since_s = loop.time()
                await until(lambda: "connecting" not in links(gateway).values(), 2 * PATIENCE_S)
                for plc in plcs:
                    keeps_its_period(plc, since_s)
                view = next(view for view in gateway.live.connections() if view.name == "named-0")
                assert view.link == "down"
                assert "did not take the connection within 5 s" in str(view.last_error)
                mute = [link for name, link in links(gateway).items() if name.startswith("mute")]
                assert mute == ["down"] * 5
    finally:
        released.set()
