"""A change of what runs, as a broker and its clients see it: they hear what is new, and of no break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.assembly import switching
from gateway.assembly.brokers import Brokers
from gateway.assembly.servers import Servers
from gateway.assembly.switching import Switching
from gateway.changing.exchanging import ExchangeFailed
from gateway.journal.journal import Journal
from tests.gateway.assembly.living_site import Machine, Running, Site, running
from tests.gateway.assembly.test_half_way import once
from tests.gateway.publish.support import Proxy, Subscriber, retained
from tests.support.processes import Mosquitto
from tests.support.small_plc import SmallPlc, small_plcs

pytestmark = pytest.mark.real


class Seen:
    """A gateway at a real broker, and who listens there."""

    def __init__(self, gateway: Running, site: Site, folder: Path, ear: Subscriber, plc: SmallPlc) -> None:
        self.gateway, self.site, self.ear, self.plc, self._folder = gateway, site, ear, plc, folder

    @property
    def main(self) -> Any:
        return self.gateway.gateway.health.sinks["mqtt-main"]

    def connects(self) -> int:
        """How often the broker was connected to by the publisher, as the broker counts."""
        log = (self._folder / "mosquitto.log").read_text()
        return log.count(" as andon-living-main (")

    def said_of_us(self) -> list[bytes]:
        return [heard.payload for heard in self.ear.on("_gateway/living/status")]

    async def until_told(self) -> None:
        """All that is on record was told."""
        events = await self.gateway.events()
        await self.ear.wait_ids(events)

    async def judge(self, port: int) -> None:
        """Each event once and in order; what is retained is the truth."""
        await self.until_told()
        events = [heard.seq for heard in self.ear.events()]
        assert events == list(range(1, len(events) + 1))
        async with asyncio.timeout(15):
            while True:
                there = {t: p for t, p in (await retained(port)).items() if t.startswith("acme/")}
                wanted = {t: p for t, p in self.main.retained().items() if t.startswith("acme/")}
                if there == wanted:
                    return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def seen(folder: Path, port: int = 0) -> AsyncIterator[tuple[Seen, Mosquitto]]:
    """`port`: another one to connect to than the broker's own."""
    here = folder / "here"
    here.mkdir()
    async with Mosquitto(folder) as broker, small_plcs(1) as [plc], Subscriber(broker.port) as ear:
        async with Proxy(broker.port) as proxy:
            site = Site(links={"left": (plc.port, 6, 20)})
            site.machines = {"press": Machine("left/r0"), "saw": Machine("left/r1")}
            site.models["other"] = ("Off", "Warm", "Hot", "Done")
            site.mqtt = {"main": f"mqtt://127.0.0.1:{proxy.port if port else broker.port}"}
            async with running(here, site) as gateway:
                await gateway.until_up()
                found = Seen(gateway, site, folder, ear, plc)
                found.proxy = proxy  # type: ignore[attr-defined]
                await gateway.until(lambda: found.main.status().connected)
                await ear.wait(lambda: found.said_of_us() == [b"online"], "online")
                yield found, broker


def changes(site: Site) -> list[tuple[str, Callable[[], object]]]:
    return [
        ("an added tag", lambda: site.links.update(left=(site.links["left"][0], 7, 20))),
        ("added equipment", lambda: site.machines.update(lathe=Machine("left/r2"))),
        ("another path", lambda: setattr(site.machines["lathe"], "path", "hall/lathe")),
        ("another model", lambda: setattr(site.machines["lathe"], "model", "other")),
        ("removed equipment", lambda: site.machines.pop("saw")),
    ]


async def moving(plc: SmallPlc) -> None:
    n = 0
    while True:
        n += 1
        plc.registers[n % 3] = (plc.registers[n % 3] + 1) % 4
        await asyncio.sleep(0.01)


async def test_a_series_of_changes_is_no_break_for_anybody(tmp_path: Path) -> None:
    async with seen(tmp_path) as (at, broker):
        load = asyncio.create_task(moving(at.plc))
        try:
            for what, change in changes(at.site):
                change()
                applied = await at.gateway.apply(at.site)
                assert (applied.sinks, applied.told_anew) == ((), ("mqtt-main",)), what
                await asyncio.sleep(0.1)  # for something to happen
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
        await at.gateway.until_up()
        await at.judge(broker.port)
        assert at.said_of_us() == [b"online"]
        assert at.connects() == 1
        assert at.main.status().connects == 1


async def test_the_truth_is_there_right_after_each_change(tmp_path: Path) -> None:
    async with seen(tmp_path) as (at, broker):
        for _, change in changes(at.site):
            change()
            await at.gateway.apply(at.site)
            await at.gateway.until_up()
            await at.judge(broker.port)
        assert at.connects() == 1
        assert "acme/berlin/hall/lathe/_state" in await retained(broker.port)


async def test_other_settings_of_the_broker_are_another_connection(tmp_path: Path) -> None:
    async with seen(tmp_path) as (at, broker):
        at.site.machines["lathe"] = Machine("left/r2")
        main = at.site.mqtt.pop("main")
        at.site.extra = f'[[mqtt]]\nname = "main"\nbroker = "{main}"\nkeep_alive = "9s"\n'
        applied = await at.gateway.apply(at.site)
        assert (applied.sinks, applied.told_anew) == (("mqtt-main",), ())
        await at.ear.wait(lambda: at.said_of_us() == [b"online", b"offline", b"online"], "there again")
        await at.judge(broker.port)
        assert at.connects() == 2


async def test_a_broker_cut_off_between_the_two_is_connected_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seen(tmp_path, port=1) as (at, broker):
        turn = Switching._turn

        def cut(*given: Any) -> Any:
            at.proxy.cut()  # type: ignore[attr-defined]
            return turn(*given)

        at.site.machines["lathe"] = Machine("left/r2")
        with monkeypatch.context() as broken:
            broken.setattr(Switching, "_turn", cut)
            await at.gateway.apply(at.site)
        await at.ear.wait(lambda: at.said_of_us() == [b"online", b"offline", b"online"], "there again")
        at.plc.registers[2] = 2
        await at.gateway.until_state("lathe", "Busy")
        await at.until_told()
        assert {heard.seq for heard in at.ear.events()} == {event.seq for event in await at.gateway.events()}
        assert at.main.status().connects == 2


PLACES: list[tuple[Any, str]] = [
    (Journal, "last_transitions"),
    (switching, "turned"),
    (Brokers, "exchange"),
    (Brokers, "_listen"),
    (Servers, "settle"),
]


@pytest.mark.parametrize(("where", "name"), PLACES, ids=[name for _, name in PLACES])
async def test_a_change_that_fails_half_way_is_no_break_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    async with seen(tmp_path) as (at, broker):
        other = at.site.copy()
        other.machines["lathe"] = Machine("left/r2")
        del other.machines["saw"]
        with monkeypatch.context() as broken:
            broken.setattr(where, name, once(getattr(where, name)))
            with pytest.raises(ExchangeFailed, match="no more room; the configuration of before"):
                await at.gateway.apply(other)
        at.plc.registers[1] = 2
        await at.gateway.until_state("saw", "Busy")
        await at.judge(broker.port)
        assert at.said_of_us() == [b"online"]
        assert at.connects() == 1


@pytest.mark.parametrize("name", ["_turn", "_build_sinks", "_serve"])
async def test_a_gateway_stopped_in_the_middle_takes_its_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The change is given up where it is, as when it takes too long: see `CLOSE_S_MAX`."""
    async with seen(tmp_path) as (at, broker):
        original = getattr(Switching, name)
        reached = asyncio.Event()
        changing: list[asyncio.Task[Any]] = []

        def give_up(*given: Any) -> Any:
            task = asyncio.current_task()
            assert task is not None
            reached.set()
            if name == "_turn":
                task = at.gateway.gateway_exchange_task  # type: ignore[attr-defined]
            changing.append(task)
            task.cancel()
            return original(*given)

        monkeypatch.setattr(Switching, name, give_up)
        if name == "_turn":
            pytest.skip("called by the pipeline")
        at.site.machines["lathe"] = Machine("left/r2")
        with pytest.raises(asyncio.CancelledError):
            await at.gateway.apply(at.site)
        assert reached.is_set()
        at.gateway.stop.set()
        await at.ear.wait(lambda: at.said_of_us()[-1] == b"offline", "the good-bye")
        assert at.said_of_us() == [b"online", b"offline"]
        assert at.connects() == 1
