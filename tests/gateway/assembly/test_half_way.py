"""Wherever a change fails on its way, what ran before runs again, with every part and without leftovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.assembly import switching
from gateway.assembly.brokers import Brokers
from gateway.assembly.servers import Servers
from gateway.changing.exchanging import ExchangeFailed
from gateway.errors import StartFailed
from gateway.journal.journal import Journal
from tests.gateway.assembly.living_site import Machine, Site, running
from tests.support.small_plc import SmallPlc, closed_port, small_plcs


@pytest.fixture
async def plcs() -> AsyncIterator[list[SmallPlc]]:
    async with small_plcs(3) as found:
        yield found


def once(original: Callable[..., Any]) -> Callable[..., Any]:
    """Fails the first time, and then does what it did."""
    failed = False

    def call(*given: Any, **named: Any) -> Any:
        nonlocal failed
        if not failed:
            failed = True
            raise StartFailed("there is no more room", hint="make some")
        return original(*given, **named)

    return call


PASSING = ("beginning", " connects")
#: What parts begin themselves, some moments after they were begun.
LAST_BEGUN = frozenset(
    ("access files", "access issuer", "configuration watch", "historian-upkeep", "mqtt-hall", "reconciler")
) | {"twin-watch", "journal-house"}
PLACES: list[tuple[Any, str]] = [
    (Journal, "last_transitions"),
    (switching, "turned"),
    (switching, "build_historian"),
    (Brokers, "exchange"),
    (Servers, "settle"),
]


def tasks_of() -> list[str]:
    """What runs by name, but for what ends by itself soon: the start, and each try to connect to a broker."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return sorted(name for name in names if not name.startswith("Task-") and not name.endswith(PASSING))


async def answer(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=45) as http:
        return (await http.get(f"{url}/api/v1/equipment")).status_code


@pytest.mark.parametrize(("where", "name"), PLACES, ids=[name for _, name in PLACES])
async def test_every_part_of_before_runs_again(
    tmp_path: Path, plcs: list[SmallPlc], monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    with closed_port() as nobody, closed_port() as nobody_else:
        site = Site(
            links={"left": (plcs[0].port, 4, 20), "right": (plcs[1].port, 4, 20)},
            machines={"press": Machine("left/r0"), "saw": Machine("right/r0")},
            mqtt={"hall": f"mqtt://127.0.0.1:{nobody}"},
            historian=f"postgresql://andon@127.0.0.1:{nobody}/andon",
            listen="127.0.0.1:0",
        )
        other = site.copy()
        other.links["right"] = (plcs[2].port, 4, 20)
        other.machines["lathe"] = Machine("left/r1")
        del other.machines["press"]
        other.mqtt["office"] = f"mqtt://127.0.0.1:{nobody_else}"
        other.historian = f"postgresql://andon@127.0.0.1:{nobody_else}/andon"
        other.of_api = 'anonymous = "none"'
        async with running(tmp_path, site) as gateway:
            await gateway.until_up()
            await gateway.until(lambda: set(tasks_of()) >= LAST_BEGUN)
            url, tasks = gateway.gateway.addresses.api, tasks_of()
            with monkeypatch.context() as broken:
                broken.setattr(where, name, once(getattr(where, name)))
                with pytest.raises(ExchangeFailed, match="no more room; the configuration of before"):
                    await gateway.apply(other)

            await gateway.until_up()
            assert gateway.gateway.addresses.api == url
            assert await answer(url) == 200
            assert list(gateway.gateway.health.sinks) == ["historian", "mqtt-hall"]
            await gateway.until(lambda: tasks_of() == tasks)
            plcs[0].registers[0], plcs[1].registers[0] = 1, 2
            await gateway.until_state("press", "Idle")
            await gateway.until_state("saw", "Busy")
            assert plcs[0].connections == 1
            assert plcs[2].connections == (name == "settle"), "all that was new ran already then"
            for machine in ("press", "saw"):
                numbers = [
                    one.event.sequence  # type: ignore[union-attr]
                    for one in await gateway.events()
                    if one.type == "transition" and one.equipment == machine
                ]
                assert numbers == list(range(1, len(numbers) + 1))

            await gateway.apply(other)  # and nothing stands in the way of the next
            await gateway.until_state("lathe", "Off")
            assert await answer(url) == 401
