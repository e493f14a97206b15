"""What devices put into texts keeps nobody from comparing the events that quote them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from statemodel.types import Cause, CauseInput, Quality
from tests.gateway.historian.databases import Database, drained
from tests.gateway.journal.builders import START, transition
from tests.gateway.reconcile.plants import kinds, site

pytestmark = pytest.mark.timeout(90)


async def test_a_nul_in_a_cause_does_not_end_the_comparison(database: Database, tmp_path: Path) -> None:
    seen = CauseInput("plc/recipe", "cola\x00\x00", Quality.GOOD, START, START)
    odd = replace(transition(1), cause=Cause("code", (seen,)))
    async with site(database, tmp_path) as at:
        await at.journal.append([odd, transition(2)])
        await drained(at.historian, at.journal)
        report = await at.reconcile(full=True)
        assert {part.part: part.reason for part in report.parts}["events"] is None
        assert "columns_differ" not in dict(kinds(report))
        await database.do("UPDATE andon.transition SET to_state = 'Held' WHERE seq = 1")
        told = await at.reconcile(full=True)
        assert ("columns_differ", "event 1") in kinds(told)
