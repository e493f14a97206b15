"""The files of users and keys: followed while others change them, never trusted when damaged, on record."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from api.access import Conflict, Denied, NewKey, NewUser, Role, UserChange
from gateway.access import book
from gateway.access.entries import (
    Damaged,
    KeyFile,
    StoredKey,
    StoredUser,
    UserFile,
    decode_keys,
    decode_users,
    encode,
)
from gateway.access.keeper import LOOK_S
from gateway.access.offline import Offline
from gateway.access.shelf import Changing, Shelf
from gateway.errors import StartFailed
from gateway.snapshots.failures import NotWritten
from tests.gateway.access.house import ADMIN, GOOD, OTHER, PATIENCE_S, PEER, House, Remembering, cheap, opened
from tests.support.manual_clock import START, ManualClock

SAID = book.Said("root", START)


def edit(house: House, change: Callable[[dict[str, Any]], None], name: str = "users.json") -> None:
    """Change a file by hand, as an editor does: another file in the place of the one that was."""
    path = house.folder / name
    data = json.loads(path.read_text())
    change(data)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(data))
    draft.chmod(0o600)
    draft.replace(path)


def the(data: dict[str, Any], name: str) -> dict[str, Any]:
    """A user in the file."""
    found: dict[str, Any] = next(user for user in data["users"] if user["name"] == name)
    return found


async def test_what_others_change_counts_within_a_second(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session = await house.log_in()
        key = await house.desk.who(await house.key(), "")
        running = asyncio.create_task(house.desk.run())
        while LOOK_S not in house.clock.pauses:
            await asyncio.sleep(0)

        edit(house, lambda data: the(data, "ada").update(disabled=True))
        edit(house, lambda data: data["keys"].clear(), "keys.json")
        assert LOOK_S <= 1.0
        house.clock.advance(LOOK_S)
        async with asyncio.timeout(PATIENCE_S):
            while len(house.audit.entries) < 6:
                await asyncio.sleep(0.001)

        assert not house.desk.still(session.principal)
        assert not house.desk.still(key)
        with pytest.raises(Denied):
            await house.log_in()
        assert house.audit.told()[4:6] == [
            ("key.remove", "unknown", key.credential.removeprefix("key:"), "ok"),
            ("user.change", "chief", "ada", "ok"),
        ]
        assert {entry.via for entry in house.audit.entries[4:6]} == {"file"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_file_that_is_gone_means_nobody_and_a_new_one_who_is_in_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session = await house.log_in()
        saved = (house.folder / "users.json").read_bytes()
        (house.folder / "users.json").unlink()
        await house.desk.keeper.look()
        assert not house.desk.still(session.principal)
        assert await house.desk.users() == []

        (house.folder / "users.json").write_bytes(saved)
        await house.desk.keeper.look()
        await house.log_in()


DAMAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "unknown field": lambda data: the(data, "ada").update(is_admin=True),
    "unknown field of the file": lambda data: data.update(default="admin"),
    "unknown role": lambda data: the(data, "ada").update(roles=["root"]),
    "no role": lambda data: the(data, "ada").update(roles=[]),
    "no areas, which is not everything": lambda data: the(data, "ada").update(areas=[]),
    "no hash": lambda data: the(data, "ada").update(password=GOOD),
    "no password": lambda data: the(data, "ada").update(password=None),
    "a name twice": lambda data: data["users"].append(the(data, "ada")),
    "a name no system writes alike": lambda data: the(data, "ada").update(name="Ada"),
    "a version that was never made": lambda data: the(data, "ada").update(version=99),
    "another format": lambda data: data.update(format=2),
    "a time without zone": lambda data: the(data, "ada").update(changed_at="2026-01-01T00:00:00"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_lets_nobody_in_and_says_why(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session = await house.log_in()
        edit(house, DAMAGES[damage])
        with structlog.testing.capture_logs() as logs:
            await house.desk.keeper.look()
            await house.desk.keeper.look()

        assert [line["event"] for line in logs] == [
            "a file of users or keys is damaged: nobody new is let in by it"
        ]
        assert GOOD not in repr(logs)
        with pytest.raises(Conflict) as caught:
            await house.log_in()
        assert caught.value.code == "access_unavailable"
        with pytest.raises(Conflict):
            await house.add("bob")
        assert house.desk.still(session.principal), "who was let in stays"
        assert [text for text in house.desk.troubles() if "users" in text]
        before = (house.folder / "users.json").read_bytes()

    async with opened(tmp_path) as house:
        with pytest.raises(Conflict):
            await house.log_in()
        assert (house.folder / "users.json").read_bytes() == before, "a start makes no way around it"
        assert (await house.desk.who(house.desk.local.secret, "")).roles


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_no_bytes_make_an_opening(junk: bytes, place: int) -> None:
    users, _ = book.add_user("ada", cheap().hash_now(GOOD), frozenset((Role.ADMIN,)), SAID)(
        decode_users(b"{}")
    )
    whole = encode(users)
    for data in (junk, whole[: place % len(whole)], whole[: place % len(whole)] + junk):
        for read in (decode_users, decode_keys):
            with suppress(Damaged):
                assert all(entry.roles for entry in entries_of(read(data)))


def entries_of(file: UserFile | KeyFile) -> tuple[StoredUser, ...] | tuple[StoredKey, ...]:
    """Those who are let in by a file."""
    return file.users if isinstance(file, UserFile) else file.keys


async def test_a_file_that_is_a_link_or_a_pipe_is_damaged(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        path = house.folder / "users.json"
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        await house.desk.keeper.look()
        assert house.desk.keeper.users_damaged is not None
        path.unlink()
        os.mkfifo(path)
        await house.desk.keeper.look()
        assert house.desk.keeper.users_damaged == "it is no plain file"


# The audit trail ----------------------------------------------------------------------------------------


async def test_each_thing_done_is_recorded_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        assert house.audit.told() == [("user.add", "gateway", "admin", "ok")]
        house.audit.entries.clear()
        await house.add("ada")
        view = await house.desk.user("ada")
        await house.desk.change_user("ada", UserChange(password=OTHER), view.version, ADMIN)
        session = await house.log_in("ada", OTHER)
        for _ in range(7):
            with pytest.raises(Denied):
                await house.log_in("ada", GOOD)
        await house.desk.keeper.look()
        await house.desk.log_out(session.principal)
        wanted = NewKey(name="mes", roles=frozenset((Role.VIEWER,)))
        key = (await house.desk.add_key(wanted, house.desk.local.principal)).key
        await house.desk.remove_key(key.id, key.version, ADMIN)
        view = await house.desk.user("ada")
        await house.desk.remove_user("ada", view.version, ADMIN)
        for _ in range(3):
            await house.desk.keeper.look()

        assert house.audit.told() == [
            ("user.add", "chief", "ada", "ok"),
            ("user.change", "chief", "ada", "ok"),
            ("login", "ada", "ada", "ok"),
            *[("login", "ada", "ada", "refused")] * 5,
            ("login", "ada", "ada", "refused"),
            ("logout", "ada", "ada", "ok"),
            ("key.add", "local", key.id, "ok"),
            ("key.remove", "chief", key.id, "ok"),
            ("user.remove", "chief", "ada", "ok"),
        ]
        assert [entry.code for entry in house.audit.entries[3:9]] == ["invalid_credentials"] * 5 + [
            "locked_out"
        ]
        assert house.audit.entries[10].via == "cli"
        assert house.audit.entries[1].detail["new_password"] is True


async def test_a_password_in_the_field_of_the_name_is_not_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        with pytest.raises(Denied):
            await house.log_in(GOOD, "")

        assert GOOD not in repr(house.audit.entries)
        assert house.audit.told()[-1] == ("login", "(no such user)", "(no such user)", "refused")


@pytest.mark.parametrize("late", [False, True], ids=["known before", "known at the record"])
async def test_without_a_record_nothing_is_changed(tmp_path: Path, late: bool) -> None:
    audit = Remembering()
    async with opened(tmp_path, audit=audit) as house:
        await house.add("ada")
        await house.key()
        files = {name: (house.folder / name).read_bytes() for name in ("users.json", "keys.json")}
        view, key = await house.desk.user("ada"), (await house.desk.keys())[0]
        await house.desk.keeper.look()
        count = len(audit.entries)
        audit.refuses, audit.fails_late = "the disk is full", late
        for work in (
            house.add("bob"),
            house.key("probe"),
            house.desk.change_user("ada", UserChange(disabled=True), view.version, ADMIN),
            house.desk.remove_user("ada", view.version, ADMIN),
            house.desk.remove_key(key.id, key.version, ADMIN),
        ):
            with pytest.raises(Conflict) as caught:
                await work
            assert caught.value.code == "access_unavailable"
            assert "the disk is full" in caught.value.reason

        session = await house.log_in()
        assert house.desk.still(session.principal)
        assert house.desk.trail.missed == 1
        assert {name: (house.folder / name).read_bytes() for name in files} == files
        assert (await house.desk.user("ada"), len(await house.desk.users())) == (view, 2)

        await house.desk.keeper.look()  # in vain
        audit.refuses = None
        await house.desk.keeper.look()
        assert len(audit.entries) - count == (5 if late else 0), "said as soon as it can be, without a change"
        await house.add("bob")
        undone = ["user.add", "key.add", "user.change", "user.remove", "key.remove"] if late else []
        told = [(entry.action, entry.result) for entry in audit.entries[count:]]
        assert told == [*((action, "failed") for action in undone), ("user.add", "ok")]


async def test_what_was_changed_in_files_is_recorded_when_that_can_be_done_again(tmp_path: Path) -> None:
    audit = Remembering()
    async with opened(tmp_path, audit=audit) as house:
        await house.add("ada")
        session = await house.log_in()
        audit.refuses = "the disk is full"
        edit(house, lambda data: the(data, "ada").update(roles=["viewer"]))
        await house.desk.keeper.look()
        assert not house.desk.still(session.principal), "a revocation does not wait for its record"
    count = len(audit.entries)
    audit.refuses = None
    async with opened(tmp_path, audit=audit) as house:
        assert audit.told()[count:] == [("user.change", "chief", "ada", "ok")]
        assert audit.entries[-1].detail["roles"] == "viewer"
        await house.desk.keeper.look()
        assert len(audit.entries) == count + 1


async def test_what_was_changed_while_the_gateway_was_away_is_recorded_at_the_start(tmp_path: Path) -> None:
    audit = Remembering()
    async with opened(tmp_path, audit=audit) as house:
        await house.add("ada")
    shelf = Shelf(tmp_path)
    with Changing(shelf):
        users, _ = book.remove_user("ada", version=None)(shelf.users())
        users, _ = book.add_user("eve", cheap().hash_now(GOOD), frozenset((Role.VIEWER,)), SAID)(users)
        shelf.write(users)
    audit.entries.clear()
    async with opened(tmp_path, audit=audit):
        assert audit.told() == [("user.remove", "unknown", "ada", "ok"), ("user.add", "root", "eve", "ok")]


async def test_a_change_goes_on_when_nobody_waits_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        adding = asyncio.create_task(house.add("ada"))
        while not house.desk.keeper._tasks:
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        await house.desk.keeper.close()

        assert [view.name for view in await house.desk.users()] == ["ada", "admin"]
        assert house.audit.told()[-1] == ("user.add", "chief", "ada", "ok")


async def test_two_processes_do_not_undo_what_the_other_did(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        shelf = Shelf(tmp_path)
        lock = Changing(shelf)
        assert lock.take(wait=False)
        adding = asyncio.create_task(house.add("ada"))
        while not house.clock.pauses:
            await asyncio.sleep(0.001)
        users, _ = book.add_user("eve", cheap().hash_now(GOOD), frozenset((Role.VIEWER,)), SAID)(
            shelf.users()
        )
        shelf.write(users)
        lock.release()
        house.clock.advance(0.1)
        await adding

        assert [view.name for view in await house.desk.users()] == ["ada", "admin", "eve"]
        assert [user.name for user in shelf.users().users] == ["ada", "admin", "eve"]


async def test_a_process_that_hangs_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        lock = Changing(Shelf(tmp_path))
        assert lock.take(wait=False)
        adding = asyncio.create_task(house.add("ada"))
        while not adding.done():
            await asyncio.sleep(0.001)
            house.clock.advance(1)
        lock.release()
        with pytest.raises(Conflict, match="another process"):
            await adding


# The start ----------------------------------------------------------------------------------------------


async def test_the_first_start_makes_an_admin_whose_secret_lies_in_a_file(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with opened(tmp_path) as house:
            secret = (house.folder / "first-admin").read_text().strip()
            assert len(secret) == 27
            said = next(line for line in logs if "first admin" in line["event"])
            assert said["password_in"] == str(house.folder / "first-admin")
            assert secret not in repr(logs)
            session = await house.log_in("admin", secret)
            assert session.principal.limited
            for known in ("admin", "password", "andon", "changeme", ""):
                with pytest.raises(Denied):
                    await house.log_in("admin", known, "198.51.100.1")
            await house.desk.change_password(session.principal, secret, OTHER, PEER)
            assert not (house.folder / "first-admin").exists()


async def test_each_start_says_where_it_lies_until_somebody_has_logged_in(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with structlog.testing.capture_logs() as logs:
        async with opened(tmp_path) as house:
            place = house.folder / "first-admin"
            secret = place.read_text().strip()
            assert [line["password_in"] for line in logs if "first admin" in line["event"]] == [str(place)]
            assert secret not in repr(logs)
            session = await house.log_in("admin", secret)
            await house.desk.change_password(session.principal, secret, OTHER, PEER)
    logs.clear()
    with structlog.testing.capture_logs() as logs:
        async with opened(tmp_path):
            assert [line for line in logs if "first admin" in line["event"]] == []


async def test_each_gateway_has_secrets_of_its_own_and_keeps_its_admin(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        for name in ("first-admin", "local.key"):
            assert (one.folder / name).read_text() != (other.folder / name).read_text()
        first = (one.folder / "first-admin").read_text()
    async with opened(tmp_path / "a") as one:
        assert (one.folder / "first-admin").read_text() == first
        await one.log_in("admin", first.strip())


async def test_with_an_issuer_there_is_no_first_admin(tmp_path: Path) -> None:
    issuer = {
        "issuer": "https://id.acme.example",
        "audience": "andon",
        "jwks": "keys.json",
        "roles": {"a": "admin"},
    }
    async with opened(tmp_path, oidc=issuer) as house:
        assert await house.desk.users() == []
        assert not (house.folder / "first-admin").exists()


async def test_what_others_can_read_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        (house.folder / "users.json").chmod(0o644)
        house.folder.chmod(0o750)
    with structlog.testing.capture_logs() as logs:
        async with opened(tmp_path) as house:
            pass
    said = {line["file"]: line["mode"] for line in logs if "mode" in line}
    assert said == {str(house.folder): "0750", str(house.folder / "users.json"): "0644"}


async def test_a_folder_that_cannot_be_used_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "access").write_text("no folder")
    with pytest.raises(StartFailed, match="cannot be used"):
        async with opened(tmp_path):
            pass


async def test_a_write_that_is_cut_off_leaves_what_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        before = (house.folder / "users.json").read_bytes()
        (house.folder / ".users.json.part").mkdir()
        with pytest.raises(Conflict) as caught:
            await house.add("bob")
        assert caught.value.code == "access_unavailable"
        assert (house.folder / "users.json").read_bytes() == before
        assert [view.name for view in await house.desk.users()] == ["ada", "admin"]
        assert ("user.add", "chief", "bob", "ok") not in house.audit.told()
    shelf = Shelf(tmp_path)
    with pytest.raises(NotWritten):
        shelf.put("users.json", b"")


async def test_the_use_of_keys_is_noted_now_and_then(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as house:
        key = await house.key()
        await house.desk.who(key, "")
        assert not (house.folder / "used.json").exists()
        await house.desk.note_use()
        noted = json.loads((house.folder / "used.json").read_text())
        assert list(noted.values()) == [START.isoformat()]
        clock.advance(10)
        assert (await house.desk.keys())[0].last_used_at == START
        assert clock.now() - START == timedelta(seconds=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that another user cannot read")
def test_what_root_changes_still_belongs_to_the_user_of_the_gateway(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    wanted = NewUser(name="ada", password=GOOD, roles=frozenset((Role.VIEWER,)))
    Offline(tmp_path, ManualClock(), "root", cheap()).add_user(wanted)

    made = [tmp_path / "access", *(tmp_path / "access").iterdir()]
    assert {path.name for path in made} == {"access", "users.json", "lock"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 12346)}
