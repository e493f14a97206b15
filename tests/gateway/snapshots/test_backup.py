"""A backup holds what a gateway needs and nothing that must not leave it, and comes back as it was."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.config.problems import ConfigurationRefused
from gateway.errors import GatewayError, JournalInUse
from gateway.journal.survey import look
from gateway.snapshots import backup
from gateway.snapshots.archive import SUFFIX, read_head
from gateway.snapshots.backup import Made
from gateway.snapshots.failures import KeyRefused, NotWritten, TargetRefused
from gateway.snapshots.restore import Restored, restore
from statemodel.types import Transition
from tests.gateway.journal.builders import ManualClock, batch, opened, transition
from tests.gateway.snapshots.sites import CONFIG, FILES, KEY, lay_out, write_journal

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SECRET = "c3" * 32


def make(config: Path, *, secret: str | None = None, with_secrets: bool = False, **more: Any) -> Made:
    to = more.pop("to", None)
    return backup.make(config, to, secret=secret, with_secrets=with_secrets, version="0.1.0", now=NOW)


def back(made: Made, to: Path, *, secret: str | None = None, force: bool = False) -> Restored:
    return restore(Path(made.file), to, secret=secret, force=force, clock=ManualClock())


def files_in(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


async def test_what_comes_back_is_what_was_there(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    stream = await write_journal(tmp_path / "site")
    before = files_in(tmp_path / "site")

    made = make(config)
    done = back(made, tmp_path / "new")

    assert (made.head.gateway, made.head.stream, made.head.seq, made.head.batch) == ("line-1", stream, 30, 30)
    found = files_in(tmp_path / "new")
    for name in ("andon.toml", "tags.csv", "models/mixer.toml", "data/opcua/trusted/certs/plc.der"):
        assert found[name] == before[name]
    segments = [name for name in before if name.startswith("data/journal/journal-")]
    assert len(segments) > 2
    for name in segments[:-1]:
        assert found[f"data/journal/set-aside/{stream}/{Path(name).name}"] == before[name]
    assert done.set_aside == str(tmp_path / "new/data/journal/set-aside" / stream)
    assert files_in(tmp_path / "site").keys() == {*before, f"backups/line-1-20261122T090000Z{SUFFIX}"}


async def test_the_restored_journal_goes_on_under_a_new_name_with_its_states(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    stream = await write_journal(tmp_path / "site")

    done = back(make(config), tmp_path / "new")

    async with opened(tmp_path / "new/data/journal") as journal:
        assert journal.stream == done.stream != stream
        assert journal.position.last_seq == 0
        last = (await journal.last_transitions())["filler-1"].event
        assert isinstance(last, Transition)
        assert last.sequence == 30
        assert set(await journal.alive()) == {"plc"}
        assert (await journal.cursor("historian")).seq == 0
        [recorded] = await journal.append([transition(31)])
        assert recorded.seq == 1


async def test_a_running_gateway_is_backed_up_up_to_a_moment(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    async with opened(tmp_path / "site/data/journal", segment_bytes=40_000) as journal:
        for n in range(1, 25):
            await journal.append([transition(n)], [batch(n, 60)])
        made = make(config)
        await journal.append([transition(25)])
    assert made.head.seq == 24
    done = back(made, tmp_path / "new")
    survey = look(Path(done.set_aside))
    assert survey is not None
    assert survey.position.last_seq == 24


def test_secrets_are_named_and_not_taken(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"))

    told = "\n".join(made.left_out)
    for part in ("ANDON_DATABASE", "secrets/database", "own/private/andon.pem", "the database"):
        assert part in told
    data = subprocess.run(["zstd", "-dc", made.file], capture_output=True, check=True).stdout
    assert b"hush" not in data
    assert KEY.encode() not in data
    assert not made.head.secrets


def test_keys_are_taken_when_it_is_encrypted_and_passwords_when_asked(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    sealed = make(config, secret=SECRET)
    assert sealed.head.secrets
    assert b"PRIVATE" not in Path(sealed.file).read_bytes()
    back(sealed, tmp_path / "sealed", secret=SECRET)
    found = files_in(tmp_path / "sealed")
    assert found["data/opcua/own/private/andon.pem"] == KEY.encode()
    assert "secrets/database" not in found
    assert (tmp_path / "sealed/data/opcua/own/private/andon.pem").stat().st_mode & 0o777 == 0o600

    back(make(config, with_secrets=True), tmp_path / "all")
    assert files_in(tmp_path / "all")["secrets/database"] == b"hush\n"


@pytest.mark.parametrize("secret", [None, "d4" * 32, "another passphrase"])
def test_without_its_key_nothing_is_restored(tmp_path: Path, secret: str | None) -> None:
    made = make(lay_out(tmp_path / "site"), secret=SECRET)
    with pytest.raises(KeyRefused):
        back(made, tmp_path / "new", secret=secret)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]
    head, manifest = backup.verify(Path(made.file), None)
    assert head.gateway == "line-1"
    assert manifest is None


def test_anyone_with_tar_can_read_one_that_is_not_encrypted(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"))
    listed = subprocess.run(["tar", "--zstd", "-tf", made.file], capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines()[0] == "config/andon.toml"
    assert listed.stdout.splitlines()[-1] == "manifest.json"


def test_files_from_elsewhere_come_along_and_are_told_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    authority = tmp_path / "elsewhere/ca.pem"
    authority.write_text("authority")
    text = CONFIG + f'[mqtt]\nbroker = "mqtts://broker:8883"\nca_file = "{authority}"\n'
    made = make(lay_out(tmp_path / "site", **{"andon.toml": text}))

    done = back(made, tmp_path / "new")

    assert (tmp_path / "new/outside/1/ca.pem").read_text() == "authority"
    assert any(str(authority) in step for step in done.next_steps)


def test_a_data_directory_elsewhere_is_told(tmp_path: Path) -> None:
    text = CONFIG.replace('site = "berlin"', f'site = "berlin"\ndata_dir = "{tmp_path}/var"')
    config = lay_out(tmp_path / "site", **{"andon.toml": text})
    (tmp_path / "var/opcua").mkdir(parents=True)
    (tmp_path / "var/opcua/x.der").write_text("x")
    done = back(make(config, to=tmp_path / "one.tar.zst"), tmp_path / "new")
    assert (tmp_path / "new/data/opcua/x.der").read_text() == "x"
    assert any("move" in step and f"{tmp_path}/var" in step for step in done.next_steps)


def test_a_target_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new/mine").write_text("mine")
    with pytest.raises(TargetRefused, match="not empty"):
        back(made, tmp_path / "new")
    assert files_in(tmp_path / "new") == {"mine": b"mine"}

    done = back(made, tmp_path / "new", force=True)

    assert files_in(Path(done.replaced)) == {"mine": b"mine"}
    assert "andon.toml" in files_in(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "new"


async def test_a_gateway_that_runs_is_not_restored_over(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    await write_journal(tmp_path / "site")
    made = make(config, to=tmp_path / f"one{SUFFIX}")
    async with opened(tmp_path / "site/data/journal"):
        before = files_in(tmp_path / "site")
        with pytest.raises(JournalInUse, match="in use"):
            back(made, tmp_path / "site", force=True)
        assert files_in(tmp_path / "site") == before


async def test_a_gateway_that_runs_there_with_a_data_directory_of_another_name_is_not_restored_over(
    tmp_path: Path,
) -> None:
    made = make(lay_out(tmp_path / "site"), to=tmp_path / f"one{SUFFIX}")
    async with opened(tmp_path / "other/var/lines/1/journal"):
        before = files_in(tmp_path / "other")
        with pytest.raises(JournalInUse, match="in use"):
            back(made, tmp_path / "other", force=True)
        assert files_in(tmp_path / "other") == before
    assert back(made, tmp_path / "other", force=True).replaced


async def test_no_path_is_told_that_is_gone_once_all_is_restored(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    await write_journal(tmp_path / "site")
    made = make(config)
    with capture_logs() as told:
        done = back(made, tmp_path / "new")
    assert ".restoring-" not in str(told)
    assert [line["event"] for line in told if line["log_level"] == "critical"] == []
    assert Path(done.set_aside).relative_to(tmp_path / "new").as_posix() in "\n".join(
        files_in(tmp_path / "new")
    )


def test_a_link_is_no_target(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"))
    (tmp_path / "real").mkdir()
    (tmp_path / "new").symlink_to(tmp_path / "real")
    with pytest.raises(TargetRefused, match="no folder"):
        back(made, tmp_path / "new", force=True)


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(lay_out(tmp_path / "site"))
    monkeypatch.setattr("gateway.snapshots.restore.free_bytes", lambda _: 1_000)
    with pytest.raises(TargetRefused, match="has 1,000 left"):
        back(made, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    config = lay_out(tmp_path, **{"andon.toml": "[gateway]\n"})
    with pytest.raises(ConfigurationRefused):
        make(config)


def test_a_target_nobody_can_write_to_leaves_nothing(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritten):
        make(config, to=tmp_path / "file/below/it")
    assert files_in(tmp_path / "site").keys() == FILES.keys()


def test_backups_are_listed_by_their_heads_also_damaged_ones(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    made = make(config)
    folder = Path(made.file).parent
    (folder / f"bad{SUFFIX}").write_bytes(b"nothing of the kind")
    found = backup.listing(folder)
    assert [item.head is None for item in found] == [True, False]
    assert "no backup" in found[0].problem
    assert read_head(Path(made.file)) == found[1].head


def test_what_a_killed_backup_left_goes_with_the_next_once_it_is_old(tmp_path: Path) -> None:
    config, folder = lay_out(tmp_path / "site"), tmp_path / "backups"
    for name in ("line-1-20261119T010203Z", "line-1-20261122T085959Z", "line-10-20261119T010203Z"):
        (folder / f".{name}{SUFFIX}.a1b2.part").mkdir(parents=True)
        (folder / f".{name}{SUFFIX}.a1b2.part" / "database.dump").write_bytes(b"much")
        (folder / f".{name}{SUFFIX}.part").write_bytes(b"half")
    for left in folder.glob(".*"):
        at_s = NOW.timestamp() - (3 * 86_400 if "20261119" in left.name else 60)
        os.utime(left, (at_s, at_s))

    make(config, to=folder)

    assert sorted(left.name for left in folder.glob(".*")) == [
        f".line-1-20261122T085959Z{SUFFIX}.a1b2.part",
        f".line-1-20261122T085959Z{SUFFIX}.part",
        f".line-10-20261119T010203Z{SUFFIX}.a1b2.part",
        f".line-10-20261119T010203Z{SUFFIX}.part",
    ]


def test_a_file_that_is_no_backup_is_never_written_over(tmp_path: Path) -> None:
    config = lay_out(tmp_path / "site")
    with pytest.raises(TargetRefused, match=r"andon\.toml.*no backup"):
        make(config, to=config)
    assert config.read_text(encoding="utf-8") == CONFIG
    named = tmp_path / f"nightly{SUFFIX}"
    make(config, to=named)
    assert make(config, to=named).file == str(named)


def test_a_folder_that_is_not_there_yet_is_made_and_not_taken_for_a_file(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"), to=tmp_path / "mnt/backups")
    assert made.file == str(tmp_path / f"mnt/backups/line-1-20261122T090000Z{SUFFIX}")


def test_backups_with_a_name_of_their_own_are_listed_too(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"), to=tmp_path / "before-upgrade.tar.zst")
    (tmp_path / "other.tar.zst").write_bytes(b"somebody else's")
    assert [item.file for item in backup.listing(tmp_path)] == [made.file]


def test_a_wrong_key_is_told_with_the_file(tmp_path: Path) -> None:
    made = make(lay_out(tmp_path / "site"), secret=SECRET)
    with pytest.raises(KeyRefused, match=re.escape(made.file)):
        backup.verify(Path(made.file), "another passphrase")


@pytest.mark.parametrize("secret", [None, SECRET])
def test_every_failure_names_the_file(tmp_path: Path, secret: str | None) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    with pytest.raises(GatewayError, match=str(path)):
        backup.verify(path, secret)


@pytest.mark.parametrize("answer", [False, OSError(5, "the disk fails")])
def test_a_file_system_that_cannot_exchange_folders_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool | OSError
) -> None:
    def swap(*_: Path) -> bool:
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("gateway.snapshots.restore.swap", swap)
    made = make(lay_out(tmp_path / "site"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new/mine").write_text("mine")
    if answer is False:
        done = back(made, tmp_path / "new", force=True)
        assert files_in(Path(done.replaced)) == {"mine": b"mine"}
        assert "andon.toml" in files_in(tmp_path / "new")
        return
    with pytest.raises(NotWritten, match="the disk fails"):
        back(made, tmp_path / "new", force=True)
    assert files_in(tmp_path / "new") == {"mine": b"mine"}
    assert not list(tmp_path.glob("new.before-*")) + list(tmp_path.glob(".new.*"))
