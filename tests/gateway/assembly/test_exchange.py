"""A gateway goes on with another configuration: what differs is exchanged, everything else is not touched."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from gateway.assembly import switching
from gateway.changing.exchanging import ExchangeFailed
from statemodel.records import Recorded
from statemodel.types import SourceLost, Transition
from tests.gateway.assembly.living_site import PATIENCE_S, Machine, Running, Site, running
from tests.support.processes import free_port
from tests.support.small_plc import SmallPlc, small_plcs


@pytest.fixture
async def plcs() -> AsyncIterator[list[SmallPlc]]:
    async with small_plcs(3) as found:
        yield found


def two_lines(plcs: Sequence[SmallPlc]) -> Site:
    return Site(
        links={"left": (plcs[0].port, 4, 20), "right": (plcs[1].port, 4, 20)},
        machines={"press": Machine("left/r0"), "saw": Machine("right/r0")},
    )


def moves(events: Sequence[Recorded], name: str) -> list[Transition]:
    return [one.event for one in events if one.equipment == name and isinstance(one.event, Transition)]


def losses(events: Sequence[Recorded]) -> list[tuple[str, str]]:
    return [(one.event.connection, one.event.reason) for one in events if isinstance(one.event, SourceLost)]


async def sound(site: Running) -> list[Recorded]:
    """Everything on record: no number is missing, of the stream nor of any equipment, and states follow."""
    events = await site.events()
    assert [one.seq for one in events] == list(range(1, len(events) + 1))
    for name in {one.equipment for one in events if isinstance(one.event, Transition)}:
        found = moves(events, name)
        assert [move.sequence for move in found] == list(range(1, len(found) + 1)), name
        assert all(a.to_state == b.from_state for a, b in pairwise(found)), name
    return events


async def test_another_connection_comes_and_goes_and_the_others_keep_their_sessions(
    tmp_path: Path, plcs: list[SmallPlc]
) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        kept = gateway.gateway.live.supervised["left"]
        more = site.copy()
        more.links["third"] = (plcs[2].port, 4, 20)
        more.machines["drill"] = Machine("third/r1")
        plcs[2].registers[1] = 2

        applied = await gateway.apply(more)
        await gateway.until_state("drill", "Busy")
        assert applied.connections == ("third",)
        assert plcs[2].connections == 1

        await gateway.apply(site)
        plcs[0].registers[0] = 3
        await gateway.until_state("press", "Done")

        assert gateway.gateway.live.supervised["left"] is kept
        assert [plc.connections for plc in plcs] == [1, 1, 1]
        assert gateway.gateway.live.equipment_named("drill") is None
        assert "third" not in {view.name for view in gateway.gateway.live.connections()}
        events = await sound(gateway)
        assert losses(events) == [("third", "taken out of the configuration")]
        assert moves(events, "drill")[-1].to_state == "Unknown"
        assert [move.to_state for move in moves(events, "press")] == ["Off", "Done"]


async def test_a_connection_that_is_read_otherwise_connects_anew_by_itself(
    tmp_path: Path, plcs: list[SmallPlc]
) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        await gateway.until_state("saw", "Off")
        changed = site.copy()
        changed.links["right"] = (plcs[2].port, 4, 20)
        plcs[2].registers[0] = 1

        applied = await gateway.apply(changed)
        await gateway.until_state("saw", "Idle")

        assert applied.connections == ("right",)
        assert [plc.connections for plc in plcs] == [1, 1, 1]
        events = await sound(gateway)
        assert losses(events) == [("right", "the configuration was changed")]
        assert [move.to_state for move in moves(events, "saw")] == ["Off", "Unknown", "Idle"]
        assert [move.to_state for move in moves(events, "press")] == ["Off"]


async def test_new_equipment_on_tags_that_stand_still_knows_its_state_at_once(
    tmp_path: Path, plcs: list[SmallPlc]
) -> None:
    """Nothing changes on the wire, so nothing would ever be told: what is known already has to do."""
    site = two_lines(plcs)
    plcs[0].registers[1] = 2
    async with running(tmp_path, site) as gateway:
        await gateway.until(lambda: gateway.gateway.live.latest(["left/r1"]) != {})
        more = site.copy()
        more.machines["lathe"] = Machine("left/r1")

        applied = await gateway.apply(more)

        assert gateway.state("lathe") == "Busy", "at once, not with the next change"
        assert applied.connections == ()
        assert moves(await sound(gateway), "lathe")[0].sequence == 1


async def test_equipment_that_is_taken_out_ends_in_unknown_and_goes_on_when_it_comes_back(
    tmp_path: Path, plcs: list[SmallPlc]
) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_state("press", "Off")
        without = site.copy()
        del without.machines["press"]

        await gateway.apply(without)
        plcs[0].registers[0] = 1  # the tag is read on, and moves nothing
        await gateway.until(lambda: gateway.gateway.live.latest(["left/r0"])["left/r0"].value == 1)
        await gateway.apply(site)
        await gateway.until_state("press", "Idle")

        found = moves(await sound(gateway), "press")
        assert [move.to_state for move in found] == ["Off", "Unknown", "Idle"]
        assert found[1].cause.rule == "taken_out"
        assert plcs[0].connections == 1


async def test_equipment_that_moves_to_other_tags_is_asked_what_they_mean(
    tmp_path: Path, plcs: list[SmallPlc]
) -> None:
    site = two_lines(plcs)
    plcs[1].registers[2] = 3
    async with running(tmp_path, site) as gateway:
        await gateway.until_state("press", "Off")
        await gateway.until(lambda: gateway.gateway.live.latest(["right/r2"]) != {})
        moved = site.copy()
        moved.machines["press"] = Machine("right/r2")

        await gateway.apply(moved)

        assert gateway.state("press") == "Done"
        assert [move.to_state for move in moves(await sound(gateway), "press")] == ["Off", "Done"]


async def test_a_changed_model_is_taken_over_where_the_machine_stands(
    tmp_path: Path, plcs: list[SmallPlc]
) -> None:
    site = two_lines(plcs)
    site.models["other"] = ("Off", "Idle", "Busy", "Done")
    site.machines["saw"].model = "other"
    plcs[1].registers[0] = 1
    async with running(tmp_path, site) as gateway:
        await gateway.until_state("saw", "Idle")
        await gateway.until_state("press", "Off")
        changed = site.copy()
        changed.models["other"] = ("Off", "Waiting", "Busy", "Done")

        await gateway.apply(changed)

        assert gateway.state("saw") == "Waiting"
        events = await sound(gateway)
        assert [move.to_state for move in moves(events, "press")] == ["Off"], "not its model"
        assert plcs[1].connections == 1


async def test_what_needs_a_restart_is_refused_whole(tmp_path: Path, plcs: list[SmallPlc]) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        other = site.copy()
        other.gateway_id = "another"
        del other.machines["press"]

        with pytest.raises(ExchangeFailed, match="restart"):
            await gateway.apply(other)

        assert gateway.gateway.live.equipment_named("press") is not None


async def test_an_address_that_is_taken_changes_nothing(tmp_path: Path, plcs: list[SmallPlc]) -> None:
    site = two_lines(plcs)
    site.listen = "127.0.0.1:0"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with running(tmp_path, site) as gateway:
            await gateway.until_up()
            url = gateway.gateway.addresses.api
            other = site.copy()
            other.listen = f"127.0.0.1:{taken.getsockname()[1]}"
            del other.links["left"], other.machines["press"]

            with pytest.raises(ExchangeFailed, match="cannot listen"):
                await gateway.apply(other)

            assert gateway.gateway.addresses.api == url
            assert gateway.link("left") == "up"
            assert plcs[0].connections == 1
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
                assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_the_api_moves_to_another_address(tmp_path: Path, plcs: list[SmallPlc]) -> None:
    site = two_lines(plcs)
    site.listen = f"127.0.0.1:{free_port()}"
    port = free_port()
    async with (
        running(tmp_path, site) as gateway,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
    ):
        before = gateway.gateway.addresses.api
        moved = site.copy()
        moved.listen = f"127.0.0.1:{port}"

        applied = await gateway.apply(moved)

        assert applied.api
        assert gateway.gateway.addresses.api == f"http://127.0.0.1:{port}"
        answer = await http.get(f"http://127.0.0.1:{port}/api/v1/equipment")
        assert [one["name"] for one in answer.json()["items"]] == ["press", "saw"]
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{before}/healthz")


async def test_what_fails_half_way_goes_back_to_what_ran(
    tmp_path: Path, plcs: list[SmallPlc], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        other = site.copy()
        other.links["right"] = (plcs[2].port, 4, 20)
        other.machines["lathe"] = Machine("left/r1")

        def fails(*_: object, **__: object) -> None:
            raise ValueError("the new engine cannot be built")

        with monkeypatch.context() as broken:
            broken.setattr(switching, "turned", fails)
            with pytest.raises(ExchangeFailed, match=r"cannot be built; the configuration of before"):
                await gateway.apply(other)

        assert gateway.gateway.live.equipment_named("lathe") is None
        await gateway.until_up()
        plcs[1].registers[0] = 2
        await gateway.until_state("saw", "Busy")
        assert plcs[0].connections == 1
        await sound(gateway)
        await gateway.apply(other)  # and nothing stands in the way of the next
        await gateway.until_state("lathe", "Off")


async def test_one_change_is_made_at_a_time(tmp_path: Path, plcs: list[SmallPlc]) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        less, other = site.copy(), site.copy()
        del less.machines["saw"]
        first = asyncio.create_task(gateway.apply(less))
        await asyncio.sleep(0)

        with pytest.raises(ExchangeFailed, match="another change"):
            await gateway.apply(other)

        await first
        assert gateway.gateway.live.equipment_named("saw") is None


async def test_a_stop_in_the_middle_of_a_change_ends_cleanly(tmp_path: Path, plcs: list[SmallPlc]) -> None:
    site = two_lines(plcs)
    for _ in range(3):
        async with running(tmp_path, site) as gateway:
            await gateway.until_up()
            other = site.copy()
            other.links["right"] = (plcs[2].port, 4, 20)
            change = asyncio.create_task(gateway.apply(other))
            await asyncio.sleep(0)
            gateway.stop.set()
            await change
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        await sound(gateway)


async def test_whoever_asked_may_go_away(tmp_path: Path, plcs: list[SmallPlc]) -> None:
    site = two_lines(plcs)
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        other = site.copy()
        other.links["right"] = (plcs[2].port, 4, 20)
        asking = asyncio.create_task(gateway.apply(other))
        await asyncio.sleep(0)
        asking.cancel()

        await gateway.until(lambda: plcs[2].connections == 1)
        await gateway.until_up()
        assert gateway.gateway.exchange.loaded.configuration.connections[1].endpoint.endswith(
            str(plcs[2].port)
        )
