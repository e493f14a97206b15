"""The port as a whole: who is let in by what, what ends it, and what is said to those who are wrong."""

from __future__ import annotations

import asyncio
import cProfile
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from api.access import (
    NOBODY,
    Conflict,
    Denied,
    NewUser,
    Permission,
    Role,
    UserChange,
)
from api.auditing import AuditEntry
from gateway.access.hashing import Cost, Hashing, Match
from gateway.config.access import AccessSettings
from tests.gateway.access.house import ADMIN, GOOD, OTHER, PATIENCE_S, PEER, THIRD, House, opened
from tests.support.manual_clock import START, ManualClock


async def denied(house: House, name: str = "ada", password: str = GOOD, peer: str = PEER) -> Denied:
    """The refusal of a login."""
    with pytest.raises(Denied) as caught:
        await house.log_in(name, password, peer)
    return caught.value


async def refused(house: House, bearer: str | None) -> str:
    """The code with which a token is refused."""
    with pytest.raises(Denied) as caught:
        await house.desk.who(bearer, PEER)
    return caught.value.code


async def test_a_user_logs_in_and_is_known_by_the_token(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada", Role.OPERATOR, areas=("filling",))
        session = await house.log_in("Ada ")

        principal = await house.desk.who(session.token, PEER)
        assert (principal.name, principal.kind, principal.areas) == ("ada", "user", ("filling",))
        assert principal.may(Permission.COMMAND)
        assert principal.sees("filling/line-1/filler-1")
        assert not principal.sees("filling-2/x")
        assert house.desk.still(principal)
        assert session.expires_at == START + timedelta(minutes=15)


async def test_everybody_who_is_wrong_is_told_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        await house.add("bob")
        view = await house.desk.user("bob")
        await house.desk.change_user("bob", UserChange(disabled=True), view.version, ADMIN)

        answers = [
            await denied(house, "ada", OTHER),
            await denied(house, "bob", GOOD),
            await denied(house, "nobody", GOOD),
            await denied(house, "nobody", "nobody has this password"),
        ]
        assert {(answer.code, answer.reason, answer.retry_after_s) for answer in answers} == {
            ("invalid_credentials", "the credentials are not right", None)
        }


async def test_unknown_and_disabled_users_cost_the_same_work(tmp_path: Path) -> None:
    class Counting(Hashing):
        compared = 0

        def _compare(self, password: str, hash_: str | None) -> object:  # type: ignore[override]
            self.compared += 1
            return super()._compare(password, hash_)

    hashing = Counting(Cost(memory_kib=8, passes=1))
    async with opened(tmp_path, hashing=lambda: hashing) as house:
        await house.add("ada")
        for count, name in enumerate(("ada", "nobody", "admin"), start=1):
            await denied(house, name, OTHER)
            assert hashing.compared == count


async def test_unknown_users_are_answered_in_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by what is hashed, which takes as long: the time itself is the machine's as well."""
    costs: list[str] = []
    verify = PasswordHasher.verify

    def noted(hasher: PasswordHasher, hash_: str | bytes, password: str | bytes) -> bool:
        costs.append(str(hash_).rsplit("$", 2)[0])
        return verify(hasher, hash_, password)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    async with opened(tmp_path, hashing=Hashing, lock_after=100) as house:
        await house.add("ada")
        for name in ("ada", "nobody"):
            await denied(house, name, OTHER)
    known, unknown = costs
    assert known == unknown
    assert known.startswith("$argon2id$")


async def test_a_hundred_guesses_are_delayed_for_known_and_unknown_names_alike(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        for name, peer in (("ada", PEER), ("nobody", "198.51.100.1")):
            codes = [(await denied(house, name, OTHER, peer)).code for _ in range(100)]
            assert codes == ["invalid_credentials"] * 5 + ["locked_out"] * 95

        right = await denied(house, "ada", GOOD)
        assert (right.code, right.retry_after_s) == ("locked_out", 1)
        house.clock.advance(1)
        await house.log_in("ada", GOOD)


async def test_guesses_lock_neither_keys_nor_the_local_key_nor_open_sessions(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session, key = await house.log_in(), await house.key()
        for name in ("ada", "admin", "local", "mes"):
            for _ in range(50):
                await denied(house, name, OTHER)

        for bearer in (session.token, key, house.desk.local.secret):
            assert (await house.desk.who(bearer, PEER)).roles


async def test_a_flood_of_logins_is_turned_away_and_counts_against_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_after=100) as house:
        await house.add("ada")
        flood = [house.log_in("ada", OTHER, f"198.51.100.{number}") for number in range(60)]
        results = await asyncio.gather(*flood, return_exceptions=True)

        codes = [result.code for result in results if isinstance(result, Denied)]
        assert codes.count("too_many_requests") == 60 - 18
        assert codes.count("invalid_credentials") == 18
        await house.log_in()


async def test_one_address_has_few_logins_under_way(tmp_path: Path) -> None:
    async with opened(tmp_path, lock_after=100) as house:
        await house.add("ada")
        results = await asyncio.gather(*[house.log_in() for _ in range(12)], return_exceptions=True)

        assert [isinstance(result, Denied) for result in results].count(True) == 8
        await house.log_in()


async def test_anonymous_callers_read_or_are_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path, anonymous=True) as house:
        principal = await house.desk.who(None, PEER)
        assert [permission for permission in Permission if principal.may(permission)] == [
            Permission.PUBLIC,
            Permission.READ,
        ]
        assert house.desk.still(principal)
        assert house.desk.still(NOBODY)
        house.desk.use(AccessSettings(), anonymous=False)
        assert not house.desk.still(principal)
        assert await refused(house, None) == "unauthenticated"


@pytest.mark.parametrize(
    ("bearer", "code"),
    [
        ("", "invalid_credentials"),
        ("nonsense", "invalid_credentials"),
        ("as_" + "A" * 43, "session_ended"),
        ("ak_0123456789ab_" + "A" * 43, "invalid_credentials"),
        ("ak_", "invalid_credentials"),
        ("al_" + "A" * 43, "invalid_credentials"),
        ("eyJhbGciOiJub25lIn0.e30.", "invalid_credentials"),
        ("\udcff\u0000", "invalid_credentials"),
        ("as_" + "é" * 9000, "session_ended"),
    ],
)
async def test_what_is_no_credential_is_refused(tmp_path: Path, bearer: str, code: str) -> None:
    async with opened(tmp_path, anonymous=True) as house:
        assert await refused(house, bearer) == code


async def test_a_key_is_good_until_it_expires_or_is_revoked(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        lasting = await house.key("mes")
        short = await house.key("probe", expires_at=START + timedelta(hours=1), areas=("filling",))

        principal = await house.desk.who(short, PEER)
        assert (principal.name, principal.kind, principal.areas) == ("probe", "key", ("filling",))
        assert principal.made_by == ADMIN.name
        for wrong in (lasting[:-1] + "-", lasting[:16] + short[16:], lasting.upper(), lasting + "A"):
            assert await refused(house, wrong) == "invalid_credentials"

        house.clock.advance(3600)
        assert await refused(house, short) == "invalid_credentials"
        assert not house.desk.still(principal)

        own = await house.desk.who(lasting, PEER)
        view = next(key for key in await house.desk.keys() if key.name == "mes")
        assert view.last_used_at == house.clock.now()
        await house.desk.remove_key(view.id, view.version, ADMIN)
        assert not house.desk.still(own)
        assert await refused(house, lasting) == "invalid_credentials"


@pytest.mark.parametrize(
    "change",
    [
        UserChange(disabled=True),
        UserChange(password=OTHER),
        UserChange(roles=frozenset((Role.VIEWER,))),
        UserChange(areas=("filling",)),
        UserChange(must_change_password=True),
        None,
    ],
    ids=["disabled", "password", "roles", "areas", "must change", "removed"],
)
async def test_what_changes_a_user_ends_the_sessions_at_once(
    tmp_path: Path, change: UserChange | None
) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        await house.add("bob")
        session, other = await house.log_in(), await house.log_in("bob")
        view = await house.desk.user("ada")
        if change is None:
            await house.desk.remove_user("ada", view.version, ADMIN)
        else:
            await house.desk.change_user("ada", change, view.version, ADMIN)

        assert not house.desk.still(session.principal)
        assert await refused(house, session.token) == "session_ended"
        with pytest.raises(Denied):
            await house.desk.renew(session.refresh, PEER)
        assert house.desk.still(other.principal)


async def test_ones_own_new_password_ends_the_other_sessions(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        here, there = await house.log_in(), await house.log_in()

        with pytest.raises(Denied, match="not right"):
            await house.desk.change_password(here.principal, OTHER, OTHER, PEER)
        for weak in ("short", "password1234", GOOD):
            with pytest.raises(Conflict) as caught:
                await house.desk.change_password(here.principal, GOOD, weak, PEER)
            assert caught.value.code == "weak_password"
        await house.desk.change_password(here.principal, GOOD, OTHER, PEER)

        assert [house.desk.still(session.principal) for session in (here, there)] == [True, False]
        assert (await denied(house, "ada", GOOD)).code == "invalid_credentials"
        await house.log_in("ada", OTHER)
        with pytest.raises(Conflict):
            await house.desk.change_password(house.desk.local.principal, "", OTHER, PEER)


async def test_guessing_the_old_password_is_paused_like_a_login(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session = await house.log_in()
        codes = []
        for _ in range(8):
            with pytest.raises(Denied) as caught:
                await house.desk.change_password(session.principal, OTHER, "x", PEER)
            codes.append(caught.value.code)

        assert codes == ["invalid_credentials"] * 5 + ["locked_out"] * 3


async def test_who_has_to_change_the_password_may_do_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        wanted = NewUser(name="ada", password=GOOD, roles=frozenset((Role.ADMIN,)))
        await house.desk.add_user(wanted, ADMIN)
        session = await house.log_in()

        assert [permission for permission in Permission if session.principal.may(permission)] == [
            Permission.PUBLIC
        ]
        await house.desk.change_password(session.principal, GOOD, OTHER, PEER)
        assert (await house.desk.who(session.token, PEER)).may(Permission.USERS)


async def test_a_refresh_token_used_twice_ends_the_session_and_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session = await house.log_in()
        renewed = await house.desk.renew(session.refresh, PEER)
        with pytest.raises(Denied) as caught:
            await house.desk.renew(session.refresh, PEER)

        assert caught.value.code == "session_ended"
        assert not house.desk.still(renewed.principal)
        assert house.audit.told()[-1] == ("session.end", "gateway", "ada", "ok")


async def test_logging_out_ends_one_session(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        here, there = await house.log_in(), await house.log_in()
        await house.desk.log_out(here.principal)

        assert [house.desk.still(session.principal) for session in (here, there)] == [False, True]
        listed = await house.desk.sessions()
        assert [(view.user, view.peer) for view in listed] == [("ada", PEER)]
        await house.desk.end_session(listed[0].id, ADMIN)
        assert not house.desk.still(there.principal)
        with pytest.raises(Conflict, match="no session"):
            await house.desk.end_session(listed[0].id, ADMIN)


async def test_logging_out_with_a_token_that_has_ended_ends_its_session(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        here, there = await house.log_in(), await house.log_in()
        house.clock.advance(15 * 60)  # both tokens are over, their sessions are not
        assert await refused(house, here.token) == "session_ended"
        await house.desk.log_out_by(here.token)

        assert [house.desk.still(session.principal) for session in (here, there)] == [False, True]
        assert house.audit.told()[-1] == ("logout", "ada", "ada", "ok")
        with pytest.raises(Denied):
            await house.desk.renew(here.refresh, PEER)
        renewed = await house.desk.renew(there.refresh, PEER)
        count = len(house.audit.entries)
        for nobodys in (here.token, "as_", "as_x", await house.key(), renewed.refresh, "", "a.b.c"):
            await house.desk.log_out_by(nobodys)
        assert house.desk.still(renewed.principal)
        assert [entry.action for entry in house.audit.entries[count:]] == ["key.add"]


async def test_of_a_key_that_is_gone_nothing_is_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        for name in ("mes", "scada"):
            await house.desk.who(await house.key(name), PEER)
        mes, scada = await house.desk.keys()
        assert house.desk.used.keys() == {mes.id, scada.id}
        await house.desk.remove_key(mes.id, mes.version, ADMIN)
        assert house.desk.used.keys() == {scada.id}
        path = house.folder / "keys.json"
        file = json.loads(path.read_text())
        path.write_text(json.dumps({**file, "keys": []}))  # somebody else's change
        await house.desk.keeper.look()
        await house.desk.note_use()
        assert not house.desk.used


async def test_a_change_of_what_was_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        seen = await house.desk.user("ada")
        await house.desk.change_user("ada", UserChange(areas=("filling",)), seen.version, ADMIN)
        for late in (
            house.desk.change_user("ada", UserChange(roles=frozenset((Role.ADMIN,))), seen.version, ADMIN),
            house.desk.remove_user("ada", seen.version, ADMIN),
        ):
            with pytest.raises(Conflict) as caught:
                await late
            assert caught.value.code == "changed_meanwhile"

        now = await house.desk.user("ada")
        assert (now.roles, now.areas) == ((Role.OPERATOR,), ("filling",))
        await house.desk.remove_user("ada", now.version, ADMIN)
        await house.add("ada")
        with pytest.raises(Conflict):
            await house.desk.remove_user("ada", now.version, ADMIN)


async def test_the_last_admin_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        admin = await house.desk.user("admin")
        for change in (UserChange(disabled=True), UserChange(roles=frozenset((Role.VIEWER,)))):
            with pytest.raises(Conflict, match="nobody would be left"):
                await house.desk.change_user("admin", change, admin.version, ADMIN)
        with pytest.raises(Conflict, match="nobody would be left"):
            await house.desk.remove_user("admin", admin.version, ADMIN)
        await house.add("chief", Role.ADMIN)
        await house.desk.remove_user("admin", admin.version, ADMIN)


@pytest.mark.parametrize("name", ["ada", "local", "anonymous"])
async def test_names_are_unique_and_not_those_of_the_gateway(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        with pytest.raises(Conflict) as caught:
            await house.add(name)
        assert caught.value.code == "already_exists"


async def test_many_changes_at_once_all_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await asyncio.gather(*[house.add(f"user-{number}") for number in range(15)])

        assert len(await house.desk.users()) == 16
        versions = [view.version.partition("-")[0] for view in await house.desk.users()]
        assert len(set(versions)) == 16


async def test_a_hash_of_another_cost_is_made_anew_and_ends_no_session(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
    dear = Hashing(Cost(memory_kib=16, passes=1))
    async with opened(tmp_path, hashing=lambda: dear) as house:
        before = house.desk.keeper.users["ada"]
        first = await house.log_in()
        after = house.desk.keeper.users["ada"]
        assert "m=8," in before.password
        assert "m=16," in after.password
        await house.desk.keeper.look()
        second = await house.log_in()
        assert house.desk.still(first.principal)
        assert house.desk.still(second.principal)


async def test_a_restart_ends_sessions_and_keeps_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session, key, local = await house.log_in(), await house.key(), house.desk.local.secret
        await house.desk.who(key, PEER)
    clock = ManualClock(START + timedelta(days=1))
    async with opened(tmp_path, clock=clock) as house:
        assert await refused(house, session.token) == "session_ended"
        assert await refused(house, local) == "invalid_credentials"
        assert (await house.desk.keys())[0].last_used_at == START
        assert (await house.desk.who(key, PEER)).name == "mes"


async def test_no_secret_lies_in_any_file_but_those_two(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        session, key = await house.log_in(), await house.key()
        await house.desk.who(key, PEER)
        first = (house.folder / "first-admin").read_text().strip()
    secrets = [GOOD, session.token, session.refresh, key, key[16:]]
    for path in house.folder.iterdir():
        text = path.read_text()
        assert not [secret for secret in secrets if secret in text], path.name
        assert (first in text) == (path.name == "first-admin")
        assert path.stat().st_mode & 0o777 == 0o600
    assert house.folder.stat().st_mode & 0o777 == 0o700
    kept = json.loads((house.folder / "keys.json").read_text())["keys"][0]
    assert kept["secret_sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert not [secret for secret in (*secrets, first) if secret in repr(house.audit.entries)]


async def test_key_lookups_are_cheap(tmp_path: Path) -> None:
    """What every request pays, counted in calls: the same on a fast machine and a busy one."""
    async with opened(tmp_path) as house:
        await house.add("ada")
        session, key = await house.log_in(), await house.key()
        for bearer in (session.token, key):
            await house.desk.who(bearer, PEER)
            profile = cProfile.Profile()
            with profile:
                for _ in range(100):
                    await house.desk.who(bearer, PEER)
            found = profile.getstats()
            assert sum(entry.callcount for entry in found) / 100 < 60
            called = " ".join(entry.code for entry in found if isinstance(entry.code, str))
            assert not any(word in called for word in ("argon2", ".open>", "posix."))


class Gate:
    """Holds up the making of a hash of one password, until it is let through."""

    def __init__(self, house: House, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        make = house.desk.hashing.hash

        async def held(wanted: str) -> str:
            if wanted == password:
                self.reached.set()
                await self.opened.wait()
            return await make(wanted)

        monkeypatch.setattr(house.desk.hashing, "hash", held)


async def test_ones_own_new_password_undoes_nothing_an_admin_changed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        stolen = await house.log_in()
        gate = Gate(house, OTHER, monkeypatch)
        changing = asyncio.create_task(house.desk.change_password(stolen.principal, GOOD, OTHER, PEER))
        async with asyncio.timeout(PATIENCE_S):
            await gate.reached.wait()
        version = (await house.desk.user("ada")).version
        await house.desk.change_user("ada", UserChange(password=THIRD), version, ADMIN)
        gate.opened.set()
        with pytest.raises(Denied) as caught:
            await changing
        assert caught.value.code == "invalid_credentials"
        assert not house.desk.still(stolen.principal)
        assert (await denied(house, "ada", OTHER)).code == "invalid_credentials"
        await house.log_in("ada", THIRD)


async def test_ones_own_new_password_keeps_no_session_of_who_is_being_shut_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
        stolen = await house.log_in()
        version = (await house.desk.user("ada")).version
        recording, kept = asyncio.Event(), asyncio.Event()
        record = house.audit.record

        async def held(entry: AuditEntry) -> int:
            if entry.action == "user.change":
                recording.set()
                await kept.wait()
            return await record(entry)

        monkeypatch.setattr(house.audit, "record", held)
        shutting_out = asyncio.create_task(
            house.desk.change_user("ada", UserChange(disabled=True), version, ADMIN)
        )
        async with asyncio.timeout(PATIENCE_S):
            await recording.wait()
            gate = Gate(house, OTHER, monkeypatch)
            gate.opened.set()
            changing = asyncio.create_task(house.desk.change_password(stolen.principal, GOOD, OTHER, PEER))
            await gate.reached.wait()
            while house.desk.hashing._pending or len(house.desk.keeper._tasks) < 2:
                await asyncio.sleep(0)  # until it waits for its turn with the files
            kept.set()
            await shutting_out
            with pytest.raises(Denied):
                await changing
        assert not house.desk.still(stolen.principal)
        assert await refused(house, stolen.token) == "session_ended"


async def test_who_is_shut_out_while_the_hash_is_made_anew_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada")
    dear = Hashing(Cost(memory_kib=16, passes=1))
    async with opened(tmp_path, hashing=lambda: dear) as house:
        gate = Gate(house, GOOD, monkeypatch)
        coming = asyncio.create_task(house.log_in())
        async with asyncio.timeout(PATIENCE_S):
            await gate.reached.wait()
        version = (await house.desk.user("ada")).version
        await house.desk.change_user("ada", UserChange(disabled=True), version, ADMIN)
        gate.opened.set()
        session = await coming
        assert not house.desk.still(session.principal)
        assert await refused(house, session.token) == "session_ended"


@pytest.mark.parametrize(
    "change",
    [UserChange(disabled=True), UserChange(password=THIRD), UserChange(roles=frozenset((Role.VIEWER,)))],
)
async def test_what_is_changed_while_a_password_is_judged_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: UserChange
) -> None:
    async with opened(tmp_path) as house:
        await house.add("ada", Role.ENGINEER)
        reached, going_on = asyncio.Event(), asyncio.Event()
        compare = house.desk.hashing.compare

        async def held(password: str, hash_: str | None, *, known: bool) -> Match:
            match = await compare(password, hash_, known=known)
            reached.set()
            await going_on.wait()
            return match

        monkeypatch.setattr(house.desk.hashing, "compare", held)
        coming = asyncio.create_task(house.log_in())
        async with asyncio.timeout(PATIENCE_S):
            await reached.wait()
        await house.desk.change_user("ada", change, (await house.desk.user("ada")).version, ADMIN)
        going_on.set()
        if isinstance(change.roles, frozenset):
            assert (await coming).principal.roles == change.roles
        else:
            with pytest.raises(Denied, match="not right"):
                await coming
            assert not await house.desk.sessions()
