"""Users, keys and sessions in memory: the port of `api.access` as values, without hashes and clocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from api.access import (
    NOBODY,
    AddedKey,
    Conflict,
    Denied,
    KeyView,
    NewKey,
    NewUser,
    Principal,
    Role,
    Session,
    SessionView,
    UserChange,
    UserView,
)

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
#: Everybody there is, by token. The scoped one sees `filling/line-1/oven-1` alone.
SCOPE = ("filling/line-1/oven-1",)
PASSWORD = "correct horse battery staple"


def principal(*roles: Role, name: str = "", areas: tuple[str, ...] | None = None) -> Principal:
    """Somebody with these roles, known by a key."""
    called = name or "-".join(sorted(roles))
    return Principal(called, "key", frozenset(roles), areas, f"key:{called}")


EVERYTHING = principal(*Role, name="test")


class AccessTwin:
    """Tokens are `ak_` and the name of a role; `revoked`, `expired` and `limited` are tokens too."""

    def __init__(self, *, anonymous: Principal = NOBODY) -> None:
        self.anonymous = anonymous
        self.by_token = {f"ak_{role}": principal(role) for role in Role}
        self.by_token |= {
            f"ak_{role}_scoped": principal(role, name=f"{role}-scoped", areas=SCOPE) for role in Role
        }
        self.by_token["ak_all"] = EVERYTHING
        self.by_token["as_limited"] = Principal(
            "new", "user", frozenset(Role), None, "session:new", limited=True
        )
        self.ended = {"as_revoked", "as_expired"}
        self.gone: set[str] = set()
        self.peers: list[str] = []
        self.logged_out_by: list[str] = []
        self.people: dict[str, UserView] = {}
        self.held: dict[str, KeyView] = {}
        self.count = 0
        self.broken = ""

    def _version(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def _check(self) -> None:
        if self.broken:
            raise Conflict("access_unavailable", self.broken)

    async def who(self, bearer: str | None, peer: str) -> Principal:
        self.peers.append(peer)
        if bearer is None:
            if self.anonymous is NOBODY:
                raise Denied("unauthenticated", "The request does not say who sends it.")
            return self.anonymous
        if bearer in self.ended:
            raise Denied("session_ended", "The session is over.")
        found = self.by_token.get(bearer)
        if found is None or found.credential in self.gone:
            raise Denied("invalid_credentials", "The token is not known.")
        return found

    async def log_in(self, user: str, password: str, peer: str) -> Session:
        if user == "locked":
            raise Denied("locked_out", "Too many logins have failed.", 30)
        if user != "anna" or password != PASSWORD:
            raise Denied("invalid_credentials", "The name or the password is not right.")
        self.count += 1
        who = Principal("anna", "user", frozenset((Role.ADMIN,)), None, f"session:{self.count}")
        token, refresh = f"as_{self.count}", f"ar_{self.count}"
        self.by_token[token] = who
        return Session(token, NOW + timedelta(hours=3), refresh, NOW + timedelta(hours=12), who)

    async def renew(self, refresh: str, peer: str) -> Session:
        if f"as_{refresh.removeprefix('ar_')}" not in self.by_token:
            raise Denied("session_ended", "The session is over.")
        return await self.log_in("anna", PASSWORD, peer)

    async def log_out(self, principal: Principal) -> None:
        self.gone.add(principal.credential)

    async def log_out_by(self, token: str) -> None:
        self.logged_out_by.append(token)

    def still(self, principal: Principal) -> bool:
        return principal.credential not in self.gone

    async def change_password(self, principal: Principal, old: str, new: str, peer: str) -> None:
        if principal.kind != "user":
            raise Conflict("not_allowed_here", "Only users have a password.")
        if old != PASSWORD:
            raise Denied("invalid_credentials", "The password is not right.")
        if len(new) < 12:
            raise Conflict("weak_password", "It is too short.")
        self.gone.add(principal.credential)

    async def users(self) -> Sequence[UserView]:
        self._check()
        return [self.people[name] for name in sorted(self.people)]

    async def user(self, name: str) -> UserView:
        if name not in self.people:
            raise Conflict("unknown_user", f'There is no user "{name}".')
        return self.people[name]

    async def add_user(self, wanted: NewUser, by: Principal) -> UserView:
        self._check()
        if wanted.name in self.people:
            raise Conflict("already_exists", f'There is a user "{wanted.name}".')
        if len(wanted.password) < 12:
            raise Conflict("weak_password", "It is too short.")
        self.people[wanted.name] = UserView(
            wanted.name,
            tuple(sorted(wanted.roles)),
            wanted.areas,
            False,
            wanted.must_change_password,
            NOW,
            self._version(),
        )
        return self.people[wanted.name]

    async def _checked(self, name: str, version: str) -> UserView:
        found = await self.user(name)
        if found.version != version:
            raise Conflict("changed_meanwhile", "It was changed meanwhile.")
        return found

    async def change_user(self, name: str, change: UserChange, version: str, by: Principal) -> UserView:
        found = await self._checked(name, version)
        told = {
            field: getattr(change, field) for field in ("roles", "areas", "disabled", "must_change_password")
        }
        told = {field: value for field, value in told.items() if value is not msgspec.UNSET}
        if "roles" in told:
            told["roles"] = tuple(sorted(told["roles"]))
        self.people[name] = msgspec.structs.replace(found, version=self._version(), **told)
        return self.people[name]

    async def remove_user(self, name: str, version: str, by: Principal) -> None:
        found = await self._checked(name, version)
        if Role.ADMIN in found.roles:
            raise Conflict("last_admin", "Nobody would be left.")
        del self.people[name]

    async def keys(self) -> Sequence[KeyView]:
        return list(self.held.values())

    async def add_key(self, wanted: NewKey, by: Principal) -> AddedKey:
        if any(key.name == wanted.name for key in self.held.values()):
            raise Conflict("already_exists", f'There is a key "{wanted.name}".')
        version = self._version()
        id_ = f"k{self.count}"
        self.held[id_] = KeyView(
            id_,
            wanted.name,
            tuple(sorted(wanted.roles)),
            wanted.areas,
            NOW,
            by.name,
            wanted.expires_at,
            None,
            version,
        )
        return AddedKey(self.held[id_], f"ak_{id_}_secret")

    async def remove_key(self, id_: str, version: str, by: Principal) -> None:
        if id_ not in self.held:
            raise Conflict("unknown_key", f'There is no key "{id_}".')
        if self.held[id_].version != version:
            raise Conflict("changed_meanwhile", "It was changed meanwhile.")
        del self.held[id_]

    async def sessions(self) -> Sequence[SessionView]:
        return [
            SessionView(who.credential, who.name, "127.0.0.1", NOW, NOW, NOW)
            for who in self.by_token.values()
            if who.kind == "user" and who.credential not in self.gone
        ]

    async def end_session(self, id_: str, by: Principal) -> None:
        if id_ not in {session.id for session in await self.sessions()}:
            raise Conflict("unknown_session", "No such session is open.")
        self.gone.add(id_)
