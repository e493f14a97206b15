"""Of the API, the brokers and the smaller parts, too, only what differs is exchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.assembly.telling import connected_anew, told_otherwise
from gateway.health import SinkOf
from tests.gateway.assembly.living_site import Machine, Running, Site, running
from tests.support.processes import free_port
from tests.support.small_plc import SmallPlc, closed_port, small_plcs


@pytest.fixture
async def plc() -> AsyncIterator[SmallPlc]:
    async with small_plcs(1) as [found]:
        yield found


def one_line(plc: SmallPlc) -> Site:
    return Site(links={"left": (plc.port, 4, 20)}, machines={"press": Machine("left/r0")})


def sink(gateway: Running, name: str) -> SinkOf:
    return gateway.gateway.health.sinks[name]


async def test_settings_of_the_api_change_where_it_listens_and_nobody_is_turned_away(
    tmp_path: Path, plc: SmallPlc
) -> None:
    site = one_line(plc)
    site.listen = "127.0.0.1:0"
    async with running(tmp_path, site) as gateway, httpx.AsyncClient(trust_env=False, timeout=45) as http:
        url = gateway.gateway.addresses.api
        other = site.copy()
        other.of_api = 'anonymous = "none"'
        assert (await http.get(f"{url}/api/v1/equipment")).status_code == 200

        applied = await gateway.apply(other)

        assert applied.api
        assert gateway.gateway.addresses.api == url, "the very same, though the system chose its port"
        assert (await http.get(f"{url}/api/v1/equipment")).status_code == 401
        await gateway.apply(site)
        assert (await http.get(f"{url}/api/v1/equipment")).status_code == 200


async def test_the_api_can_be_taken_out_and_put_back(tmp_path: Path, plc: SmallPlc) -> None:
    site = one_line(plc)
    site.listen = f"127.0.0.1:{free_port()}"
    without = site.copy()
    without.listen = ""
    async with running(tmp_path, site) as gateway, httpx.AsyncClient(trust_env=False, timeout=45) as http:
        url = gateway.gateway.addresses.api
        await gateway.apply(without)
        assert gateway.gateway.addresses.api == ""
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{url}/healthz")
        await gateway.apply(site)
        assert (await http.get(f"{gateway.gateway.addresses.api}/healthz")).status_code == 200
        assert plc.connections <= 1


async def test_a_broker_is_connected_anew_only_where_it_is_told_other_things(
    tmp_path: Path, plc: SmallPlc
) -> None:
    with closed_port() as nobody, closed_port() as other_port:
        site = one_line(plc)
        site.mqtt = {"hall": f"mqtt://127.0.0.1:{nobody}"}
        async with running(tmp_path, site) as gateway:
            await gateway.until_up()
            hall = sink(gateway, "mqtt-hall")
            more = site.copy()
            more.mqtt["office"] = f"mqtt://127.0.0.1:{other_port}"
            more.links["left"] = (plc.port, 4, 30)  # read otherwise, and told as before
            more.of_gateway = 'late = "keep"'

            before = gateway.gateway.exchange.loaded
            applied = await gateway.apply(more)

            assert applied.sinks == ("mqtt-office",)
            assert sink(gateway, "mqtt-hall") is hall
            assert list(gateway.gateway.health.sinks) == ["mqtt-hall", "mqtt-office"]
            assert told_otherwise(before, gateway.gateway.exchange.loaded) == []

            named = more.copy()
            named.machines["lathe"] = Machine("left/r2")
            before = gateway.gateway.exchange.loaded
            applied = await gateway.apply(named)

            after = gateway.gateway.exchange.loaded
            assert (applied.sinks, sorted(applied.told_anew)) == ((), ["mqtt-hall", "mqtt-office"])
            assert sorted(told_otherwise(before, after)) == sorted(applied.told_anew)
            assert connected_anew(before, after) == []
            assert sink(gateway, "mqtt-hall") is not hall


async def test_snapshots_are_switched_off_and_on(tmp_path: Path, plc: SmallPlc) -> None:
    site = one_line(plc)
    off = site.copy()
    off.of_gateway = "snapshots = { enabled = false }"
    folder = tmp_path / "data" / "snapshots"
    async with running(tmp_path, off) as gateway:
        await gateway.until_up()
    assert not list(folder.glob("*-full*"))
    async with running(tmp_path, off) as gateway:
        await gateway.until_up()
        await gateway.apply(site)
    assert list(folder.glob("*-full*")), "the last one, of the end"
