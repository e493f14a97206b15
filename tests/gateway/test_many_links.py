"""Many devices, some of them dead in every way devices are: the living are read in time all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config.load import load
from tests.support.small_plc import Acceptor, SmallPlc, closed_port, full_backlog, small_plcs

#: Hundreds of devices in one process, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
#: How long anything may take that has to come some day: well beyond what a busy machine stands still.
PATIENCE_S = 45.0
INTERVAL_S = 0.2
#: So long a living device may not answer: longer than the machine stands still.
ANSWER_S = 30
#: A connect that nobody answers takes longer than all that must not wait for it.
CONNECT_S = 120


def configuration(endpoints: Iterable[tuple[str, str]], more: str) -> str:
    """A gateway with these connections, in this order: names and endpoints; `more` is said of each."""
    head = '[gateway]\nid = "g"\nenterprise = "e"\nsite = "s"\n'
    return head + "".join(
        f'[[connections]]\nname = "{name}"\nprotocol = "modbus"\nendpoint = "{address}"\n{more}\n'
        + (f'timeout = "{ANSWER_S}s"\n' if name.startswith("living") else "")
        + f'[[connections.groups]]\nname = "all"\ninterval = "{INTERVAL_S * 1000:.0f}ms"\n'
        'tags = [{ name = "x", address = "holding:0", type = "uint16" }]\n'
        for name, address in endpoints
    )


@asynccontextmanager
async def running(path: Path, endpoints: Iterable[tuple[str, str]], more: str = "") -> AsyncIterator[Gateway]:
    """A gateway in this process; it is ready when the body begins."""
    config = path / "andon.toml"
    config.write_text(configuration(endpoints, more), encoding="utf-8")
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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def links(gateway: Gateway) -> dict[str, str]:
    return {view.name: view.link for view in gateway.live.connections()}


class Beat:
    """What keeping a period comes to on this machine now: one who does nothing else, in the same loop; and a
    thread of its own, which knows whether it was the machine that stood still."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self._of_thread_s: list[float] = []
        self._over = threading.Event()

    async def __aenter__(self) -> Beat:
        self._beating = asyncio.create_task(self._beat())
        self._thread = threading.Thread(target=self._beat_aside)
        self._thread.start()
        return self

    async def __aexit__(self, *_failure: object) -> None:
        self._over.set()
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        await asyncio.to_thread(self._thread.join)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            self.at_s.append(loop.time())
            due_s = max(due_s + INTERVAL_S, loop.time())
            await asyncio.sleep(due_s - loop.time())

    def _beat_aside(self) -> None:
        while not self._over.wait(0.05):
            self._of_thread_s.append(monotonic())

    def kept_by(self, plcs: Iterable[SmallPlc], since_s: float) -> None:
        """Each is read as often as this beats, to within a fifth, and none is left out for much longer."""
        until_s = asyncio.get_running_loop().time()
        own = _between(self.at_s, since_s, until_s)
        aside = _between(self._of_thread_s, since_s, until_s)
        lost_s = sum(pause - 0.1 for pause in _pauses(aside) if pause > 0.1)
        assert max(_pauses(own)) < 5 * INTERVAL_S + lost_s + 2.0, "something held up the whole loop"
        for plc in plcs:
            asked = _between(plc.asked_s, since_s, until_s)
            assert 0.8 * len(own) - 2 <= len(asked) <= 1.2 * (until_s - since_s) / INTERVAL_S + 2
            assert max(_pauses(asked)) < 5 * INTERVAL_S + 2 * max(_pauses(own)) + lost_s


def _between(times_s: Iterable[float], since_s: float, until_s: float) -> list[float]:
    return [since_s, *(at for at in times_s if since_s < at < until_s), until_s]


def _pauses(times_s: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times_s)]


def addresses(plcs: Sequence[SmallPlc]) -> list[tuple[str, str]]:
    return [(f"living-{number}", f"tcp://127.0.0.1:{plc.port}") for number, plc in enumerate(plcs)]


async def test_two_hundred_dead_devices_at_the_start_do_not_slow_the_living(tmp_path: Path) -> None:
    """Those that live come last in the file, and a dead one takes two minutes to be given up."""
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
            hopeless = f'connect_timeout = "{CONNECT_S}s"'
            async with running(tmp_path, [*endpoints, *addresses(plcs)], hopeless) as gateway, Beat() as beat:
                # Well within the time-out of a single dead one.
                await until(lambda: list(links(gateway).values()).count("up") >= 10)
                since_s = loop.time()
                await asyncio.sleep(6)
                beat.kept_by(plcs, since_s)
                assert [plc.connections for plc in plcs] == [1] * 10, "none was ever lost"
                up = [name for name, link in links(gateway).items() if link == "up"]
                assert len(up) == 10
                assert kicks.connections < 10 * 20, "whoever hangs up at once is not hammered"


async def test_ten_dead_devices_of_a_hundred_cost_the_others_no_period(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with small_plcs(100) as plcs, running(tmp_path, addresses(plcs)) as gateway, Beat() as beat:
        await until(lambda: set(links(gateway).values()) == {"up"})
        for plc in plcs[::10]:
            await plc.stop()
        since_s = loop.time()
        await asyncio.sleep(4)

        beat.kept_by([plc for number, plc in enumerate(plcs) if number % 10], since_s)
        assert list(links(gateway).values()).count("up") == 90


async def test_names_that_nobody_resolves_and_devices_that_fall_silent_hold_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that does not answer holds a thread for half a minute; a TLS handshake may never end."""
    released = threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".plant"):
            released.wait(100)
            raise socket.gaierror("name server away")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    loop = asyncio.get_running_loop()
    try:
        async with small_plcs(5) as plcs, Acceptor(10, hangs_up=False) as silent:
            dead = [(f"named-{number}", f"tcp://press-{number}.plant:502") for number in range(20)]
            dead += [(f"silent-{port}", f"tcp://127.0.0.1:{port}") for port in silent.ports[:5]]
            dead += [(f"mute-{port}", f"tls://127.0.0.1:{port}") for port in silent.ports[5:]]
            async with running(tmp_path, [*dead, *addresses(plcs)]) as gateway, Beat() as beat:
                await until(lambda: list(links(gateway).values()).count("up") == 5)
                since_s = loop.time()
                await until(lambda: "connecting" not in links(gateway).values())
                beat.kept_by(plcs, since_s)
                view = next(view for view in gateway.live.connections() if view.name == "named-0")
                assert view.link == "down"
                assert "did not take the connection within 5 s" in str(view.last_error)
                mute = [link for name, link in links(gateway).items() if name.startswith("mute")]
                assert mute == ["down"] * 5
                released.set()  # before the gateway ends: it has work for these threads then
    finally:
        released.set()
