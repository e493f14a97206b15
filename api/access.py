"""Who a caller is, what a role may do, and the port that knows users, keys and sessions.

Everything about permission is in the one table `GRANTS`; everything about areas is in `Principal.sees`. Pure
values, besides the port. Knows no route and no store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

import msgspec


class Role(StrEnum):
    """What somebody is trusted with. Nobody has a permission but by a role."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Permission(StrEnum):
    """What an operation needs. Each has exactly one."""

    PUBLIC = "public"
    READ = "read"
    CORRECT = "correct"
    COMMAND = "command"
    APPROVE = "approve"
    REPAIR = "repair"
    CONFIGURE = "configure"
    USERS = "users"
    AUDIT = "audit"


_EVERYBODY = frozenset(Role)
_SHOP_FLOOR = frozenset((Role.OPERATOR, Role.ENGINEER))
_KEEPERS = frozenset((Role.ENGINEER, Role.ADMIN))

#: Which roles have a permission. `PUBLIC` needs none: callers without any role have it too.
GRANTS: Mapping[Permission, frozenset[Role]] = {
    Permission.PUBLIC: _EVERYBODY,
    Permission.READ: _EVERYBODY,
    Permission.CORRECT: _SHOP_FLOOR,
    Permission.COMMAND: _SHOP_FLOOR,
    Permission.APPROVE: _SHOP_FLOOR,
    Permission.REPAIR: _KEEPERS,
    Permission.CONFIGURE: _KEEPERS,
    Permission.USERS: frozenset((Role.ADMIN,)),
    Permission.AUDIT: frozenset((Role.AUDITOR, Role.ADMIN)),
}

Kind = Literal["user", "key", "token", "local", "anonymous"]


class Principal(msgspec.Struct, frozen=True):
    """Who sends a request.

    `areas` are beginnings of paths of equipment (`filling`, `filling/line-1`), cut at levels; None is
    everything. `credential` names the session, key or token it came by, for revocation; it is no secret.
    `limited` is a user who has to change the password first and may do nothing else. `made_by` is who made a
    key: what it asks for, that person does not approve.
    """

    name: str
    kind: Kind
    roles: frozenset[Role]
    areas: tuple[str, ...] | None = None
    credential: str = ""
    limited: bool = False
    made_by: str = ""

    def may(self, permission: Permission) -> bool:
        """Whether one of the roles has a permission."""
        if permission is Permission.PUBLIC:
            return True
        return not self.limited and not self.roles.isdisjoint(GRANTS[permission])

    def sees(self, path: str) -> bool:
        """Whether a path of equipment lies in the areas. What has no path (`""`) only those without areas
        see."""
        if self.areas is None:
            return True
        return any(path == area or path.startswith(area + "/") for area in self.areas)


#: A caller of whom nothing is known and who may see nothing but what is public.
NOBODY = Principal("anonymous", "anonymous", frozenset(), ())


class Session(msgspec.Struct, frozen=True):
    """What a login gives. Both tokens are secrets."""

    token: str
    expires_at: datetime
    refresh: str
    refresh_expires_at: datetime
    principal: Principal


DenialCode = Literal[
    "unauthenticated", "invalid_credentials", "locked_out", "session_ended", "too_many_requests"
]


class Denied(Exception):
    """The caller is not let in. `reason` is for the caller: it tells no more than everybody may know."""

    def __init__(self, code: DenialCode, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.code: DenialCode = code
        self.reason = reason
        self.retry_after_s = retry_after_s


ConflictCode = Literal[
    "already_exists",
    "changed_meanwhile",
    "unknown_user",
    "unknown_key",
    "unknown_session",
    "last_admin",
    "weak_password",
    "not_allowed_here",
    "access_unavailable",
]


class Conflict(Exception):
    """What was asked for cannot be done; `code` is the code of the problem it is answered with."""

    def __init__(self, code: ConflictCode, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.code: ConflictCode = code
        self.reason = reason
        self.hint = hint


# Administration ---------------------------------------------------------------------------------------------

#: Name of a user or a key: what every system writes alike.
AccountName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}\Z")]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Area = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z")]
Areas = Annotated[tuple[Area, ...], msgspec.Meta(min_length=1, max_length=100)]
Roles = Annotated[frozenset[Role], msgspec.Meta(min_length=1)]


class UserView(msgspec.Struct, frozen=True):
    """A user without anything secret. `version` changes with every change of it, also of the password."""

    name: str
    roles: tuple[Role, ...]
    areas: tuple[str, ...] | None
    disabled: bool
    must_change_password: bool
    created_at: datetime
    version: str


class KeyView(msgspec.Struct, frozen=True):
    """An API key without its secret."""

    id: str
    name: str
    roles: tuple[Role, ...]
    areas: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    version: str


class SessionView(msgspec.Struct, frozen=True):
    """A session that is open. `id` is no secret."""

    id: str
    user: str
    peer: str
    begun_at: datetime
    last_used_at: datetime
    expires_at: datetime


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user to add. `areas` null is everything. The user has to change the password unless it is said."""

    name: AccountName
    password: Password
    roles: Roles
    areas: Areas | None = None
    must_change_password: bool = True


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change of a user; what is left out stays. A new password ends the user's sessions."""

    password: Password | msgspec.UnsetType = msgspec.UNSET
    roles: Roles | msgspec.UnsetType = msgspec.UNSET
    areas: Areas | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    must_change_password: bool | msgspec.UnsetType = msgspec.UNSET


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key to add, for a program. `expires_at` null: never."""

    name: AccountName
    roles: Roles
    areas: Areas | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class AddedKey(msgspec.Struct, frozen=True):
    """A key just added, with its secret: it is shown this once."""

    key: KeyView
    secret: str


class Access(Protocol):
    """Users, keys and sessions. `peer` is the address a request comes from, as text."""

    async def who(self, bearer: str | None, peer: str) -> Principal:
        """Who sends this token: of a session (`as_...`), a key (`ak_...`), the local key, or a JWT. None:
        the anonymous principal, where anonymous callers are let in. Cheap for sessions and keys.

        Raises:
            Denied: `unauthenticated`, `invalid_credentials`, `session_ended` or `too_many_requests`.
        """
        ...

    async def log_in(self, user: str, password: str, peer: str) -> Session:
        """Begin a session.

        Raises:
            Denied: `invalid_credentials`, alike for unknown users; `locked_out`; `too_many_requests`.
            Conflict: `access_unavailable`: the list of users cannot be read.
        """
        ...

    async def renew(self, refresh: str, peer: str) -> Session:
        """Go on with a session, with new tokens; a refresh token used twice ends it.

        Raises:
            Denied: `session_ended`.
        """
        ...

    async def log_out(self, principal: Principal) -> None:
        """End the session a principal came by."""
        ...

    async def log_out_by(self, token: str) -> None:
        """End the session a token is of, though the token may have ended before it; nothing when there is
        none."""
        ...

    def still(self, principal: Principal) -> bool:
        """Whether it would be let in again: memory only. Open streams ask at least every two seconds."""
        ...

    async def change_password(self, principal: Principal, old: str, new: str, peer: str) -> None:
        """A user's own password; ends the user's other sessions.

        Raises:
            Denied: the old one is wrong, or too many were.
            Conflict: `weak_password`; `not_allowed_here` for what is no user; `access_unavailable`.
        """
        ...

    async def users(self) -> Sequence[UserView]:
        """All users, by name."""
        ...

    async def user(self, name: str) -> UserView:
        """One user.

        Raises:
            Conflict: `unknown_user`.
        """
        ...

    async def add_user(self, wanted: NewUser, by: Principal) -> UserView:
        """Add a user.

        Raises:
            Conflict: `already_exists`, `weak_password`, `access_unavailable`.
        """
        ...

    async def change_user(self, name: str, change: UserChange, version: str, by: Principal) -> UserView:
        """Change a user of this version.

        Raises:
            Conflict: `unknown_user`, `changed_meanwhile`, `weak_password`, `last_admin`,
                `access_unavailable`.
        """
        ...

    async def remove_user(self, name: str, version: str, by: Principal) -> None:
        """Remove a user and end the user's sessions.

        Raises:
            Conflict: `unknown_user`, `changed_meanwhile`, `last_admin`, `access_unavailable`.
        """
        ...

    async def keys(self) -> Sequence[KeyView]:
        """All keys, by name."""
        ...

    async def add_key(self, wanted: NewKey, by: Principal) -> AddedKey:
        """Add a key.

        Raises:
            Conflict: `already_exists`, `access_unavailable`.
        """
        ...

    async def remove_key(self, id_: str, version: str, by: Principal) -> None:
        """Revoke a key of this version.

        Raises:
            Conflict: `unknown_key`, `changed_meanwhile`, `access_unavailable`.
        """
        ...

    async def sessions(self) -> Sequence[SessionView]:
        """The sessions that are open."""
        ...

    async def end_session(self, id_: str, by: Principal) -> None:
        """End a session.

        Raises:
            Conflict: `unknown_session`.
        """
        ...
