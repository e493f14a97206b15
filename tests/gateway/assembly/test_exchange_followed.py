"""What goes by the configuration without being exchanged itself follows each change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.assembly.running import Running as Parts
from tests.gateway.assembly.living_site import Machine, Running, Site, running
from tests.support.small_plc import SmallPlc, closed_port, small_plcs


@pytest.fixture
async def plc() -> AsyncIterator[SmallPlc]:
    async with small_plcs(1) as [found]:
        yield found


def one_line(plc: SmallPlc) -> Site:
    return Site(links={"left": (plc.port, 4, 20)}, machines={"press": Machine("left/r0")})


def parts_of(gateway: Running) -> Parts:
    return cast(Any, gateway.gateway.exchange)._parts._run  # type: ignore[no-any-return]


async def test_the_journal_keeps_nothing_for_a_sink_that_is_gone(tmp_path: Path, plc: SmallPlc) -> None:
    with closed_port() as nobody:
        site = one_line(plc)
        more = site.copy()
        more.mqtt["hall"] = f"mqtt://127.0.0.1:{nobody}"
        more.historian = f"postgresql://andon@127.0.0.1:{nobody}/andon"
        async with running(tmp_path, site) as gateway:
            required = parts_of(gateway).record.journal._store.required
            await gateway.apply(more)
            await gateway.until(lambda: set(required) == {"mqtt-hall", "historian"})
            await gateway.apply(site)
            await gateway.until(lambda: not required)


async def test_corrections_models_and_the_database_go_by_what_runs(tmp_path: Path, plc: SmallPlc) -> None:
    with closed_port() as nobody:
        site = one_line(plc)
        site.historian = f"postgresql://andon@127.0.0.1:{nobody}/andon"
        other = site.copy()
        other.machines["lathe"] = Machine("left/r1", model="other")
        other.models["other"] = ("Off", "Idle")
        async with running(tmp_path, site) as gateway:
            parts = parts_of(gateway)
            assert parts.historian is not None
            await gateway.apply(other)
            assert set(parts.desk._specs) == {"press", "lathe"}
            assert parts.models.model("other") is not None
            _, described = parts.historian.described
            assert set(described) == {"press", "lathe"}
