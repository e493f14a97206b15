"""A command that comes before the ledger is read waits for it, a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.control.desk import CommandDesk
from gateway.control.ledger import SqliteLedger
from gateway.control.tags import TagCarrier
from tests.gateway.control.bench import ANNA, Bench, FakePlant, request, rules


async def test_a_command_in_the_first_moments_waits_for_the_ledger(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rules())
    file = await SqliteLedger.open(tmp_path / "first.sqlite")
    desk = CommandDesk(
        bench.settings,
        plant=FakePlant(bench.machine),
        ledger=file,
        audit=bench.audit,
        record=bench.record,
        carriers={"tag": TagCarrier(bench.machine.write, bench.machine.readings, bench.clock)},
        clock=bench.clock,
    )
    early = asyncio.create_task(desk.submit(request(), ANNA, "rest"))
    try:
        await asyncio.sleep(0)  # it has come, and finds nothing read
        assert not early.done()
        await desk.begin()
        assert (await early).status == "verified"
        assert len(bench.machine.received) == 1
    finally:
        early.cancel()
        await desk.stop()
        await file.close()
