"""What goes by the configuration without being exchanged itself follows each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from api.auditing import AuditEntry
from gateway.assembly.running import Running as Parts
from gateway.snapshots.wiring import identity_of
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


async def test_the_audit_trail_hides_the_secrets_of_what_runs_and_of_what_ran(
    tmp_path: Path, plc: SmallPlc
) -> None:
    (tmp_path / "old").write_text("hush-4711-old")
    (tmp_path / "new").write_text("hush-4711-new")
    with closed_port() as nobody:
        broker = f'[[mqtt]]\nname = "hall"\nbroker = "mqtt://127.0.0.1:{nobody}"\nuser = "andon"\n'
        site = one_line(plc)
        site.extra = f'{broker}password = "file:old"\n'
        other = site.copy()
        other.extra = f'{broker}password = "file:new"\n'
        async with running(tmp_path, site) as gateway:
            await gateway.apply(other)
            audit = parts_of(gateway).audit
            said = {"typed": "it was hush-4711-new, before that hush-4711-old"}
            entry = AuditEntry(
                action="login",
                actor="jane",
                kind="user",
                via="rest",
                target="hush-4711-new",
                result="refused",
                detail=said,
            )
            n = await audit.record(entry)
            [kept] = await audit.read(after=n - 1)
    assert (kept.target, kept.detail) == ("***", {"typed": "it was ***, before that ***"})


async def test_snapshots_name_the_configuration_they_were_taken_under(tmp_path: Path, plc: SmallPlc) -> None:
    site = one_line(plc)
    other = site.copy()
    other.machines["lathe"] = Machine("left/r1", model="other")
    other.models["other"] = ("Off", "Idle")
    async with running(tmp_path, site) as gateway:
        await gateway.until_up()
        parts = parts_of(gateway)
        before = identity_of(parts.loaded, "")
        await gateway.apply(other)
        after = identity_of(parts.loaded, "")
    assert after.configuration != before.configuration
    newest, _ = parts.record.snapshots.keeper.folder.newest(gateway="living")
    assert newest is not None
    assert newest.header.configuration == after.configuration
    assert set(newest.header.models) == set(after.models) == {"ring", "other"}


class Unrecorded(Site):
    """A site whose second tag goes to no history."""

    def text(self) -> str:
        tag = 'name = "r1", '
        assert tag in super().text()
        return super().text().replace(tag, f"{tag}record = false, ")


async def test_a_tag_that_is_recorded_no_more_is_left_out_of_its_history(
    tmp_path: Path, plc: SmallPlc
) -> None:
    site = one_line(plc)
    begin = datetime.now(UTC) - timedelta(hours=1)
    async with running(tmp_path, site) as gateway:

        async def known(tag: str) -> bool:
            found = await parts_of(gateway).tag_history.samples(
                tag, begin, begin + timedelta(hours=2), limit=9
            )
            return bool(found.items)

        await gateway.until_up()
        async with asyncio.timeout(45):
            while not (await known("left/r1") and await known("left/r2")):
                await asyncio.sleep(0.01)
        await gateway.apply(Unrecorded(**vars(site)))
        assert not await known("left/r1")
        assert await known("left/r2")


async def test_compliance_is_judged_by_the_rules_and_equipment_of_what_runs(
    tmp_path: Path, plc: SmallPlc
) -> None:
    site = one_line(plc)
    site.extra = '[[compliance]]\nname = "first"\nkind = "audit_anchored"\n'
    other = site.copy()
    other.machines["lathe"] = Machine("left/r1")
    other.extra = '[[compliance]]\nname = "second"\nkind = "audit_anchored"\nwithin = "1d"\n'
    async with running(tmp_path, site) as gateway:
        compliance = parts_of(gateway).watch.compliance
        assert [view.name for view in await compliance.rules()] == ["first"]
        await gateway.apply(other)
        assert [view.name for view in await compliance.rules()] == ["second"]
        assert set(compliance.counts()) == {"second"}
        assert [item.name for item in compliance._equipment] == ["press", "lathe"]
