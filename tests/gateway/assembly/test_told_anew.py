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

    def __init__(
        self, gateway: Running, site: Site, broker: Mosquitto, ear: Subscriber, plc: SmallPlc
    ) -> None:
        self.gateway, self.site, self.broker, self.ear, self.plc = gateway, site, broker, ear, plc

    @property
    def main(self) -> Any:
        return self.gateway.gateway.health.sinks["mqtt-main"]

    def connects(self) -> int:
        """How often the publisher has connected, as the broker counts."""
        return self.broker.log.read_text().count(f" as {self.main.options.client_id} (")

    def said_of_us(self) -> list[bytes]:
        return [heard.payload for heard in self.ear.on("/status")]

    async def judge(self) -> None:
        """Each event came once and in order; what is retained is the truth."""
        await self.ear.wait_ids(await self.gateway.events())
        events = [heard.seq for heard in self.ear.events()]
        assert events == list(range(1, len(events) + 1))
        async with asyncio.timeout(15):
            while await self._there() != self.main.retained():
                await asyncio.sleep(0.1)

    async def _there(self) -> dict[str, bytes]:
        return {t: p for t, p in (await retained(self.broker.port)).items() if not t.startswith("mark/")}


@asynccontextmanager
async def seen(folder: Path, through: Proxy | None = None) -> AsyncIterator[Seen]:
    here = folder / "here"
    here.mkdir()
    async with Mosquitto(folder) as broker, small_plcs(1) as [plc], Subscriber(broker.port) as ear:
        if through is not None:
            through.target_port = broker.port
        port = broker.port if through is None else through.port
        site = Site(links={"left": (plc.port, 6, 20)}, mqtt={"main": f"mqtt://127.0.0.1:{port}"})
        site.machines = {"press": Machine("left/r0"), "saw": Machine("left/r1")}
        site.models["other"] = ("Off", "Warm", "Hot", "Done")
        async with running(here, site) as gateway:
            await gateway.until_up()
            found = Seen(gateway, site, broker, ear, plc)
            await gateway.until(lambda: found.main.status().connected)
            await ear.wait(lambda: found.said_of_us() == [b"online"], "online")
            yield found


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
    async with seen(tmp_path) as at:
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
        await at.judge()
        assert at.said_of_us() == [b"online"]
        assert at.connects() == 1
        assert at.main.status().connects == 1


async def test_the_truth_is_there_right_after_each_change(tmp_path: Path) -> None:
    async with seen(tmp_path) as at:
        for _, change in changes(at.site):
            change()
            await at.gateway.apply(at.site)
            await at.gateway.until_up()
            await at.judge()
        assert at.connects() == 1
        assert "acme/berlin/hall/lathe/_state" in await retained(at.broker.port)


async def test_other_settings_of_the_broker_are_another_connection(tmp_path: Path) -> None:
    async with seen(tmp_path) as at:
        at.site.machines["lathe"] = Machine("left/r2")
        main = at.site.mqtt.pop("main")
        at.site.extra = f'[[mqtt]]\nname = "main"\nbroker = "{main}"\nkeep_alive = "9s"\n'
        applied = await at.gateway.apply(at.site)
        assert (applied.sinks, applied.told_anew) == (("mqtt-main",), ())
        await at.ear.wait(lambda: at.said_of_us() == [b"online", b"offline", b"online"], "there again")
        await at.judge()
        assert at.connects() == 2


async def test_a_broker_cut_off_between_the_two_is_connected_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(0) as proxy, seen(tmp_path, proxy) as at:
        turn = Switching._turn

        def cut(*given: Any) -> Any:
            proxy.cut()
            return turn(*given)

        at.site.machines["lathe"] = Machine("left/r2")
        with monkeypatch.context() as broken:
            broken.setattr(Switching, "_turn", cut)
            await at.gateway.apply(at.site)
        await at.ear.wait(lambda: at.said_of_us() == [b"online", b"offline", b"online"], "there again")
        at.plc.registers[2] = 2
        await at.gateway.until_state("lathe", "Busy")
        await at.ear.wait_ids(await at.gateway.events())
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
    async with seen(tmp_path) as at:
        other = at.site.copy()
        other.machines["lathe"] = Machine("left/r2")
        del other.machines["saw"]
        with monkeypatch.context() as broken:
            broken.setattr(where, name, once(getattr(where, name)))
            with pytest.raises(ExchangeFailed, match="no more room; the configuration of before"):
                await at.gateway.apply(other)
        at.plc.registers[1] = 2
        await at.gateway.until_state("saw", "Busy")
        await at.judge()
        assert at.said_of_us() == [b"online"]
        assert at.connects() == 1


@pytest.mark.parametrize(
    ("where", "name"), [(Switching, "_end_connections"), (Brokers, "let_go"), (Switching, "_serve")]
)
async def test_a_gateway_stopped_in_the_middle_takes_its_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    """The change is given up where it is, as when it takes too long: see `CLOSE_S_MAX`."""
    async with seen(tmp_path) as at:

        async def give_up(*_: Any) -> None:
            changing = asyncio.current_task()
            assert changing is not None
            changing.cancel()
            await asyncio.sleep(0)

        at.site.machines["lathe"] = Machine("left/r2")
        with monkeypatch.context() as broken:
            broken.setattr(where, name, give_up)
            with pytest.raises(asyncio.CancelledError):
                await at.gateway.apply(at.site)
        at.gateway.stop.set()
        await at.ear.wait(lambda: at.said_of_us()[-1] == b"offline", "the good-bye")
        assert at.said_of_us() == [b"online", b"offline"]
        assert at.connects() == 1
