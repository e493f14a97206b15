"""The way of samples since the start: what an earlier process left out is not in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from gateway.accounts.keeper import Accounts
from gateway.accounts.report import AccountsReport
from gateway.waiting import Counts
from tests.gateway.journal.builders import ManualClock, batch, kept_house, opened, transition


async def test_what_was_shed_before_a_crash_is_not_shed_since_the_start(tmp_path: Path) -> None:
    live, crashed, clock = tmp_path / "live", tmp_path / "crashed", ManualClock()
    async with opened(live, clock=clock, bytes_max=1_500_000) as journal:
        await Accounts.open(journal, clock)
        journal.require("database", events=True, batches=True)
        n = 0
        while not journal.stats().shedding:
            n += 1
            await journal.append([transition(n)], [batch(n, 800)])
            assert n < 1000
        await kept_house(journal, clock, lambda: bool(journal.stats().shed))
        await journal.append([transition(n + 1)])
        shutil.copytree(live, crashed)  # the books were kept before, and know of nothing that was shed
    async with opened(crashed, bytes_max=1_500_000) as journal:
        accounts = await Accounts.open(journal, clock)
        view = AccountsReport(accounts, Counts(), {}).view()
        assert (view.shed, view.flow.shed, view.flow.in_hand) == (800, 0, 0)
        accounts.books.shed(journal.stats().shed)  # as is done every second
        view = AccountsReport(accounts, Counts(), {}).view()
        assert (view.shed, view.flow.shed, view.flow.in_hand) == (800, 0, 0)
