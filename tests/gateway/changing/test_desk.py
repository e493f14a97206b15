"""Changing what runs: whole or not at all, by those who may, with a trace, and never over somebody's edit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api.access import Principal
from api.configuring import MAIN_FILE, NotDone, Refused, Source
from tests.gateway.changing.changing_site import ADA, ANNA, CSV, LOCAL, MAIN, SECRET, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with two files, running."""
    return Site(tmp_path)


async def refused(site: Site, files: dict[str, str], by: Principal = ANNA) -> NotDone:
    """The refusal of a sound wish; nothing has changed by it."""
    before, running = site.on_disk(), site.desk.running()
    with pytest.raises(NotDone) as caught:
        await site.put(files, by)
    assert site.on_disk() == before
    assert site.desk.running() == running
    assert not site.exchange.told
    return caught.value


async def test_the_first_start_is_the_first_revision(site: Site) -> None:
    (info,) = await site.desk.revisions()
    assert (info.number, info.source, info.hash) == (1, "start", site.desk.running().hash)
    site.start()
    assert len(await site.desk.revisions()) == 1


async def test_a_change_runs_and_is_kept_and_written(site: Site) -> None:
    files = site.edited('interval = "1s"', 'interval = "2s"')
    outcome = await site.put(files)
    assert outcome.status == "applied"
    assert [change.name for change in site.exchange.told[0].changes] == ["filler-plc"]
    assert site.on_disk() == files
    assert outcome.revision is not None
    assert (outcome.revision.number, outcome.revision.author, outcome.revision.source) == (2, "anna", "rest")
    assert site.desk.running().hash == outcome.hash == outcome.revision.hash
    kept = await site.desk.revision(2)
    assert kept is not None
    assert dict(kept.files) == files
    assert site.audit.results() == [("config.apply", "begun", ""), ("config.apply", "ok", "")]
    entry = site.audit.entries[-1]
    assert (entry.actor, entry.via, entry.peer, entry.detail["revision"]) == ("anna", "rest", "10.0.0.7", 2)
    site.start()
    assert len(await site.desk.revisions()) == 2
    assert site.desk.running().hash == outcome.hash


async def test_the_same_again_does_nothing(site: Site) -> None:
    same = {name: "\ufeff" + text.replace("\n", "\r\n") for name, text in site.files.items()}
    outcome = await site.put(dict(reversed(same.items())))
    assert (outcome.status, bool(outcome.difference)) == ("unchanged", False)
    assert len(await site.desk.revisions()) == 1
    assert (site.exchange.told, site.audit.entries) == ([], [])


async def test_a_comment_is_kept_and_disturbs_nobody(site: Site) -> None:
    outcome = await site.put(site.edited("# the line in hall 3", "# the line in hall 4"))
    assert (outcome.status, bool(outcome.difference)) == ("applied", False)
    assert site.exchange.told == []
    assert "hall 4" in site.main.read_text()
    assert len(await site.desk.revisions()) == 2


async def test_a_dry_run_changes_nothing_and_leaves_no_trace(site: Site) -> None:
    before = site.desk.running()
    outcome = await site.put(site.edited('"1s"', '"2s"'), dry_run=True)
    assert outcome.status == "planned"
    assert outcome.difference.touches() == ("filler-plc reconnects; filler-1 is Unknown meanwhile",)
    assert site.desk.running() == before
    assert (site.exchange.told, site.audit.entries) == ([], [])


async def test_of_two_that_replace_the_same_one_wins(site: Site) -> None:
    hash_ = site.desk.running().hash
    results = await asyncio.gather(
        site.put(site.edited('"1s"', '"2s"'), ANNA, expected=hash_),
        site.put(site.edited('"1s"', '"3s"'), ADA, expected=hash_),
        return_exceptions=True,
    )
    (lost,) = [result for result in results if isinstance(result, NotDone)]
    assert lost.code == "changed_meanwhile"
    assert lost.running is not None
    assert (lost.running.number, lost.running.author) == (2, "anna")
    assert "by anna at 2026-11-21 22:07:00 UTC" in lost.reason
    assert '"2s"' in site.main.read_text()


async def test_what_needs_a_restart_is_refused_whole(site: Site) -> None:
    failed = await refused(site, site.edited('id = "line-1"', 'id = "line-2"'), ADA)
    assert (failed.code, failed.keys) == ("configuration_needs_restart", ("gateway.id",))


async def test_an_exchange_that_fails_leaves_everything(site: Site) -> None:
    site.exchange.fails = "the address is in use"
    failed = await refused(site, site.edited('"1s"', '"2s"'))
    assert failed.code == "configuration_not_exchanged"
    assert "the address is in use" in failed.reason
    assert [result for _, result, _ in site.audit.results()] == ["begun", "failed"]
    assert len(await site.desk.revisions()) == 1


async def test_without_a_trace_nothing_changes(site: Site) -> None:
    site.audit.full = "no room on the disk"
    assert (await refused(site, site.edited('"1s"', '"2s"'))).code == "audit_unavailable"


async def test_files_that_cannot_be_written_are_known_before_anything_changes(site: Site) -> None:
    (site.folder / "new").write_text("a file where a folder is wanted")
    csv = {"new/list.csv": CSV}
    files = {MAIN_FILE: MAIN.replace("lists/slow.csv", "new/list.csv"), **csv}
    failed = await refused(site, files)
    assert failed.code == "configuration_not_writable"
    assert not list(site.folder.rglob("*.part"))


async def test_a_disk_that_fails_late_brings_back_what_ran(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, hash_ = site.on_disk(), site.desk.running().hash
    real = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name == ".slow.csv.part":
            raise OSError(5, "the disk does not answer")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    files = site.edited('"1s"', '"2s"', **{"lists/slow.csv": CSV + "more,holding:12,uint32\n"})
    with pytest.raises(NotDone) as caught:
        await site.put(files)
    assert caught.value.code == "configuration_not_writable"
    assert [len(one.changes) for one in site.exchange.told] == [2, 2]
    assert (site.on_disk(), site.desk.running().hash) == (before, hash_)
    assert not site.exchange.loaded.configuration.connections[0].groups[0].interval.total_seconds() - 1
    monkeypatch.undo()
    site.start()
    assert site.desk.running().hash == hash_
    assert len(await site.desk.revisions()) == 1


async def test_an_edit_nobody_applied_is_not_overwritten(site: Site) -> None:
    site.write("lists/slow.csv", CSV + "mine,holding:20,uint32\n")
    failed = await refused(site, site.edited('"1s"', '"2s"'))
    assert failed.code == "configuration_edited_on_disk"
    assert "lists/slow.csv" in failed.reason
    assert "mine" in (site.folder / "lists/slow.csv").read_text()


async def test_the_edit_itself_can_be_applied(site: Site) -> None:
    files = site.edited('"1s"', '"2s"')
    site.write(MAIN_FILE, files[MAIN_FILE])
    assert (await site.put(files, LOCAL)).status == "applied"
    newest = (await site.desk.revisions())[0]
    assert (newest.number, newest.author, newest.source) == (2, "local", "cli")


async def test_a_file_of_somebody_else_is_not_overwritten(site: Site) -> None:
    (site.folder / "environment.txt").write_text("ANDON_DATABASE=...")
    files = {MAIN_FILE: MAIN.replace("lists/slow.csv", "environment.txt"), "environment.txt": CSV}
    with pytest.raises(Refused) as caught:
        await site.put(files, ADA)
    assert [(one.file, one.code) for one in caught.value.problems] == [("environment.txt", "file_exists")]


async def test_a_file_that_was_ours_once_is_ours_again(site: Site) -> None:
    hash_ = site.desk.running().hash
    inner = {MAIN_FILE: MAIN.replace('tags_csv = "lists/slow.csv"', "")}
    await site.put(inner)
    assert (site.folder / "lists/slow.csv").exists()
    outcome = await site.desk.restore(1, "the counter is missing", site.desk.running().hash, ANNA)
    assert (outcome.status, outcome.hash) == ("applied", hash_)
    newest = (await site.desk.revisions())[0]
    assert (newest.number, newest.source, newest.restored, newest.author) == (3, "rollback", 1, "anna")
    assert site.audit.entries[-1].action == "config.rollback"
    assert site.on_disk() == dict(site.files)


async def test_a_revision_that_is_not_there(site: Site) -> None:
    with pytest.raises(NotDone) as caught:
        await site.desk.restore(9, "back", site.desk.running().hash, ANNA)
    assert caught.value.code == "unknown_revision"


async def test_revisions_are_compared(site: Site) -> None:
    await site.put(site.edited('"1s"', '"2s"'))
    await site.put(site.edited('"1s"', '"4s"'))
    found = await site.desk.compare(1, 2)
    assert [(edit.key, edit.old, edit.new) for edit in found.changes[0].what] == [
        ("groups.fast.interval", "1s", "2s")
    ]
    assert (await site.desk.compare(2, None)).changes[0].what[0].new == "4s"
    assert not await site.desk.compare(3, None)


# -- the files on the disk -----------------------------------------------------------------------


@pytest.mark.parametrize("source", ["sighup", "watch"])
async def test_an_edit_by_hand_is_taken_up(site: Site, source: Source) -> None:
    site.write(MAIN_FILE, MAIN.replace('"1s"', '"2s"'))
    outcome = await site.desk.read_again(source)
    assert outcome is not None
    assert outcome.status == "applied"
    newest = (await site.desk.revisions())[0]
    assert (newest.author, newest.source, newest.number) == ("edited by hand", source, 2)
    assert len(site.exchange.told) == 1


async def test_a_broken_edit_is_refused_whole_until_it_is_mended(site: Site) -> None:
    hash_ = site.desk.running().hash
    site.write(MAIN_FILE, MAIN.replace('"1s"', '"soon"'))
    for _ in range(3):
        assert await site.desk.read_again("watch") is None
    running = site.desk.running()
    assert (running.hash, site.exchange.told) == (hash_, [])
    assert ": line-1.toml:19: connections[0].groups[0].interval: " in running.trouble
    assert site.desk.health()["configuration"]["ok"] is False
    assert site.audit.results() == [("config.apply", "refused", "invalid_configuration")]
    site.write(MAIN_FILE, MAIN)
    assert await site.desk.read_again("watch") is not None
    assert (site.desk.running().trouble, site.desk.health()) == ("", {})


async def test_an_edit_that_needs_a_restart_waits_for_one(site: Site) -> None:
    site.write(MAIN_FILE, MAIN.replace('id = "line-1"', 'id = "line-2"'))
    assert await site.desk.read_again("sighup") is None
    assert "gateway.id" in site.desk.running().trouble


async def test_another_secret_under_the_same_name_takes_effect_without_a_revision(site: Site) -> None:
    (site.folder / "secret/mqtt").write_text("hush-rotated")
    outcome = await site.desk.read_again("sighup")
    assert outcome is not None
    assert outcome.status == "applied"
    (change,) = site.exchange.told[0].changes
    assert (change.kind, [edit.key for edit in change.what]) == ("mqtt", ["password"])
    assert len(await site.desk.revisions()) == 1
    assert "hush" not in repr((outcome, site.audit.entries))


async def test_an_edit_while_it_was_away_is_a_revision(site: Site) -> None:
    site.write(MAIN_FILE, MAIN.replace('"1s"', '"2s"'))
    site.start()
    newest = (await site.desk.revisions())[0]
    assert (newest.number, newest.author, newest.source) == (2, "edited by hand", "start")


async def test_no_secret_is_told_kept_or_written(site: Site) -> None:
    outcome = await site.put(site.edited('user = "andon"', 'user = "line"'), ADA)
    with pytest.raises(Refused) as caught:
        await site.put(site.edited('"file:secret/mqtt"', f'"{SECRET}"'), ADA)
    assert [one.code for one in caught.value.problems] == ["secret_in_clear"]
    said = repr((outcome, site.desk.running(), site.audit.entries, caught.value.problems))
    assert "hush" not in said
    for path in site.folder.rglob("*"):
        if path.is_file() and path.parent.name != "secret":
            assert b"hush" not in path.read_bytes(), path


async def test_what_is_kept_is_for_the_gateway_alone(site: Site) -> None:
    await site.put(site.edited('"1s"', '"2s"'))
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in site.kept.folder.iterdir()}
    assert modes == {"000001.json": "0o600", "000002.json": "0o600"}
    assert oct(site.kept.folder.stat().st_mode & 0o777) == "0o700"


async def test_the_rights_of_a_file_stay(site: Site) -> None:
    site.main.chmod(0o604)
    await site.put(site.edited('"1s"', '"2s"'))
    assert oct(site.main.stat().st_mode & 0o777) == "0o604"


async def test_a_link_stays_a_link(tmp_path: Path) -> None:
    site = Site(tmp_path)
    real = tmp_path / "real.toml"
    site.main.rename(real)
    site.main.symlink_to(real)
    site.start()
    assert len(await site.desk.revisions()) == 1
    await site.put(site.edited('"1s"', '"2s"'))
    assert site.main.is_symlink()
    assert '"2s"' in real.read_text()


async def test_a_caller_that_goes_away_leaves_nothing_half_done(site: Site) -> None:
    reached = asyncio.Event()
    site.exchange.before = reached.set
    asking = asyncio.create_task(site.put(site.edited('"1s"', '"2s"')))
    await reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await site.desk.close()
    assert '"2s"' in site.main.read_text()
    assert len(await site.desk.revisions()) == 2


async def test_files_nobody_foresaw_do_not_end_the_gateway(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("nobody thought of it")

    site.write(MAIN_FILE, MAIN.replace('"1s"', '"2s"'))
    with monkeypatch.context() as seeded:
        seeded.setattr(site.carrier, "plan", fail)
        assert await site.desk.read_again("watch") is None
    assert "AttributeError: nobody thought of it" in site.desk.trouble
    assert site.audit.results() == [("config.apply", "refused", "internal_error")]
    assert not site.desk.health()["configuration"]["ok"]
    outcome = await site.desk.read_again("watch")
    assert outcome is not None
    assert (outcome.status, site.desk.trouble) == ("applied", "")


async def test_a_stop_waits_for_files_that_are_being_taken_up(site: Site) -> None:
    """Whoever asked for it, and gave up: it comes to its end, and none is begun any more."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    real = site.exchange.apply

    async def slow(*asked: Any) -> None:
        begun.set()
        await go_on.wait()
        await real(*asked)

    site.exchange.apply = slow  # type: ignore[method-assign, assignment]
    text = MAIN.replace('"1s"', '"2s"')
    site.write(MAIN_FILE, text)
    asked = asyncio.create_task(site.desk.read_again("sighup"))
    await begun.wait()
    asked.cancel()
    closing = asyncio.create_task(site.desk.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await closing
    newest = site.kept.newest()
    assert newest is not None
    assert (newest.number, newest.hash) == (2, site.desk.running().hash)
    assert site.exchange.loaded is site.carrier.loaded
    assert site.audit.results()[-1] == ("config.apply", "ok", "")
    site.write(MAIN_FILE, MAIN)
    assert await site.desk.read_again("watch") is None
    assert site.carrier.hash == newest.hash
