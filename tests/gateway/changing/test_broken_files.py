"""A configuration that is wrong is refused whole, wherever it comes from, and what ran goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.configuring import MAIN_FILE, FileProblem, Refused
from gateway.changing.beginning import begin
from gateway.changing.sent import told
from gateway.config.problems import ConfigurationRefused
from tests.gateway.changing.broken_files import BROKEN, LIST, MODEL, SOUND, Broken
from tests.gateway.changing.changing_site import ADA, Site

NAMES = [case.name for case in BROKEN]
#: What is no text cannot be sent as text: JSON has no such thing.
SENT = [case for case in BROKEN if all(isinstance(text, str) for text in case.files.values())]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that runs."""
    return Site(tmp_path)


def check(problems: list[FileProblem], case: Broken, main: str) -> None:
    """One of the problems is the one meant: file, line, code, reason and hint."""
    file = main if case.file == MAIN_FILE else case.file
    found = [one for one in problems if one.file == file and one.code == case.code]
    assert found, problems
    assert all(one.reason and one.hint and one.code for one in problems), problems
    if case.at:
        text = case.files[case.file]
        lines = (text if isinstance(text, str) else text.decode("latin-1")).split("\n")
        assert any(one.line is not None and case.at.split("\n")[0] in lines[one.line - 1] for one in found), (
            found
        )


def test_there_are_eighty() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 80


@pytest.mark.parametrize("case", SENT, ids=[case.name for case in SENT])
async def test_sent(site: Site, case: Broken) -> None:
    before, disk = site.desk.running(), site.on_disk()
    with pytest.raises(Refused) as caught:
        await site.put({name: str(text) for name, text in case.files.items()}, ADA)
    check(list(caught.value.problems), case, MAIN_FILE)
    assert (site.desk.running(), site.on_disk(), site.exchange.told) == (before, disk, [])
    assert "hush" not in repr(caught.value.problems)
    assert site.audit.results() == [("config.apply", "refused", "invalid_configuration")]


@pytest.mark.parametrize("case", BROKEN, ids=NAMES)
async def test_read_again(site: Site, case: Broken) -> None:
    hash_ = site.desk.running().hash
    for name, text in case.files.items():
        site.write(name, text)
    if MODEL not in case.files:
        site.write(MODEL, SOUND)
    assert await site.desk.read_again("sighup") is None
    assert (site.desk.running().hash, site.exchange.told) == (hash_, [])
    assert "the files on the disk are not what runs" in site.desk.running().trouble
    assert not site.desk.health()["configuration"]["ok"]


@pytest.mark.parametrize("case", BROKEN, ids=NAMES)
def test_at_the_start(site: Site, case: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    for name, text in case.files.items():
        site.write(name, text)
    with pytest.raises(ConfigurationRefused) as caught:
        begin(site.main)
    check(told(caught.value.problems), case, site.main.name)
    assert caught.value.exit_code == 2
    assert (site.folder / LIST).exists()
