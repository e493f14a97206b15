"""bdSeq: the number of a session, through restarts and journals that begin anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.config.schema import JournalSettings
from gateway.journal import anew
from gateway.journal.journal import Journal
from gateway.journal.segment import Carried
from gateway.sparkplug.numbers import following, take_bdseq
from tests.support.manual_clock import ManualClock


@pytest.mark.parametrize(
    ("kept", "number"),
    [(None, 0), (b"0", 1), (b"254", 255), (b"255", 0), (b"", 0), (b"-1", 0), (b"7x", 0), (b"\xff", 0)],
)
def test_it_follows_the_last_one_and_begins_again_after_255(kept: bytes | None, number: int) -> None:
    assert following(kept) == number


async def opened(folder: Path) -> Journal:
    return await Journal.open(folder, gateway="line-1", settings=JournalSettings(), clock=ManualClock())


async def test_it_is_durable_before_anyone_can_use_it(tmp_path: Path) -> None:
    journal = await opened(tmp_path / "live")
    await take_bdseq(journal, "sparkplug")
    shutil.copytree(tmp_path / "live", tmp_path / "after a power cut")
    await journal.close()
    journal = await opened(tmp_path / "after a power cut")
    assert await take_bdseq(journal, "sparkplug") == 1
    await journal.close()


async def test_it_goes_on_over_restarts_and_a_journal_that_begins_anew(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    assert [await take_bdseq(journal, "sparkplug") for _ in range(3)] == [0, 1, 2]
    assert await take_bdseq(journal, "sparkplug-two") == 0
    await journal.close()
    journal = await opened(tmp_path)
    assert await take_bdseq(journal, "sparkplug") == 3
    await journal.close()
    anew.begin_anew(tmp_path, gateway="line-1", clock=ManualClock(), reason="a trial", carried=Carried())
    journal = await opened(tmp_path)
    assert await take_bdseq(journal, "sparkplug") == 4
    assert await take_bdseq(journal, "sparkplug-two") == 1
    await journal.close()
