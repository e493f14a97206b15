"""Administration of users, keys and sessions while the gateway runs: the half of the port that changes who
exists.

Each change is judged, written and recorded, or refused with a reason. Who may ask for it was judged before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from api.access import (
    AddedKey,
    Conflict,
    KeyView,
    NewKey,
    NewUser,
    Principal,
    SessionView,
    UserChange,
    UserView,
)
from api.auditing import AuditEntry
from connectors.base import Clock
from gateway.access import book
from gateway.access.book import Said, judge_password
from gateway.access.entries import StoredKey, StoredUser
from gateway.access.hashing import Hashing, TooManyAtOnce
from gateway.access.keeper import Keeper, detail_of
from gateway.access.sessions import Now, Sessions
from gateway.access.tokens import new_key
from gateway.access.trail import Trail


class Office:
    """Lists, adds, changes, removes."""

    def __init__(
        self, keeper: Keeper, sessions: Sessions, hashing: Hashing, trail: Trail, clock: Clock
    ) -> None:
        self.keeper = keeper
        self.open_sessions = sessions
        self.hashing = hashing
        self.trail = trail
        self.clock = clock
        #: When each key was used last, by id.
        self.used: dict[str, datetime] = {}

    def now(self) -> Now:
        """This instant."""
        return Now(self.clock.monotonic(), self.clock.now())

    async def users(self) -> Sequence[UserView]:
        """All users, by name."""
        return [user.view() for user in self.keeper.users.values()]

    async def user(self, name: str) -> UserView:
        """One user; `unknown_user`."""
        return self._user(name).view()

    async def add_user(self, wanted: NewUser, by: Principal) -> UserView:
        """Add a user; `already_exists`, `weak_password`, `access_unavailable`."""
        judge_password(wanted.password, wanted.name)
        step = book.add_user(
            wanted.name,
            await self.hash(wanted.password),
            wanted.roles,
            Said(by.name, self.clock.now()),
            areas=wanted.areas,
            must_change=wanted.must_change_password,
        )
        user = await self.keeper.change_users(step, lambda user: told(by, "user.add", user))
        return user.view()

    async def change_user(self, name: str, change: UserChange, version: str, by: Principal) -> UserView:
        """Change a user; `unknown_user`, `changed_meanwhile`, `weak_password`, `last_admin`,
        `access_unavailable`."""
        self._user(name)
        hash_: str | None = None
        if not isinstance(change.password, msgspec.UnsetType):
            judge_password(change.password, name)
            hash_ = await self.hash(change.password)
        step = book.change_user(name, change, hash_, Said(by.name, self.clock.now()), version=version)
        user = await self.keeper.change_users(
            step, lambda user: told(by, "user.change", user, password_changed=hash_ is not None)
        )
        return user.view()

    async def remove_user(self, name: str, version: str, by: Principal) -> None:
        """Remove a user; `unknown_user`, `changed_meanwhile`, `last_admin`, `access_unavailable`."""
        step = book.remove_user(name, version=version)
        await self.keeper.change_users(step, lambda user: told(by, "user.remove", user))

    async def keys(self) -> Sequence[KeyView]:
        """All keys, by name."""
        return [key.view(self.used.get(key.id)) for key in self.keeper.keys.values()]

    async def add_key(self, wanted: NewKey, by: Principal) -> AddedKey:
        """Add a key; `already_exists`, `access_unavailable`."""
        minted = new_key()
        step = book.add_key(wanted, minted, Said(by.name, self.clock.now()))
        key = await self.keeper.change_keys(step, lambda key: told(by, "key.add", key))
        return AddedKey(key.view(), minted.secret)

    async def remove_key(self, id_: str, version: str, by: Principal) -> None:
        """Revoke a key; `unknown_key`, `changed_meanwhile`, `access_unavailable`."""
        step = book.remove_key(id_, version=version)
        await self.keeper.change_keys(step, lambda key: told(by, "key.remove", key))
        self.used.pop(id_, None)

    async def sessions(self) -> Sequence[SessionView]:
        """The sessions that are open, oldest first."""
        return list(self.open_sessions.views(self.now()))

    async def end_session(self, id_: str, by: Principal) -> None:
        """End a session; `unknown_session`. It ends whether that can be recorded or not."""
        ended = self.open_sessions.end(id_)
        if ended is None:
            raise Conflict("unknown_session", f'there is no session "{id_}"', "it may have ended by itself")
        await self.trail.tell(
            AuditEntry(
                action="session.end",
                actor=by.name,
                kind=by.kind,
                via=via(by),
                target=ended.user,
                result="ok",
                detail={"session": ended.id},
            )
        )

    async def hash(self, password: str) -> str:
        """The hash of a password; `access_unavailable` while too many are made."""
        try:
            return await self.hashing.hash(password)
        except TooManyAtOnce:
            raise Conflict(
                "access_unavailable", "too many passwords are judged just now", "try again in a few seconds"
            ) from None

    def _user(self, name: str) -> StoredUser:
        user = self.keeper.users.get(name)
        if user is None:
            raise book.unknown_user(name)
        return user


def via(by: Principal) -> str:
    """The way a change came: who has the local key is at the command line of this machine."""
    return "cli" if by.kind == "local" else "rest"


def told(
    by: Principal, action: str, entry: StoredUser | StoredKey, *, password_changed: bool = False
) -> AuditEntry:
    """A change as it stands in the audit trail."""
    detail = detail_of(entry)
    if password_changed:
        detail["new_password"] = True
    target = entry.name if isinstance(entry, StoredUser) else entry.id
    return AuditEntry(
        action=action, actor=by.name, kind=by.kind, via=via(by), target=target, result="ok", detail=detail
    )
