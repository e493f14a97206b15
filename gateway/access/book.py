"""Changes of users and keys, as values: from a file that was to the file that will be, or the reason why not.

Pure; the same for the command line and for a running gateway. Passwords come hashed; whether one is good
enough is judged in `passwords`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from api.access import Areas, Conflict, NewKey, Role, UserChange
from gateway.access.entries import ENTRIES_MAX, KeyFile, StoredKey, StoredUser, UserFile, version_of
from gateway.access.passwords import weakness
from gateway.access.tokens import Minted, digest

#: Names the gateway gives to those who are in no file.
RESERVED = frozenset(("anonymous", "local", "gateway", "andon", "file", "unknown"))
_E = TypeVar("_E", StoredUser, StoredKey)

#: What a change makes of a file: the file to write and the entry it was about.
UserStep = Callable[[UserFile], tuple[UserFile, StoredUser]]
KeyStep = Callable[[KeyFile], tuple[KeyFile, StoredKey]]


class Said(NamedTuple):
    """Who changes something, and when."""

    by: str
    at: datetime


def judge_password(password: str, name: str) -> None:
    """Refuse a password people try first.

    Raises:
        Conflict: `weak_password`.
    """
    reason = weakness(password, name)
    if reason is not None:
        raise Conflict(
            "weak_password",
            f"this password is not taken: {reason}",
            "four or five words that do not belong together",
        )


def add_user(
    name: str,
    hash_: str,
    roles: frozenset[Role],
    said: Said,
    *,
    areas: Areas | None = None,
    must_change: bool = True,
) -> UserStep:
    """One user more; refuses with `already_exists`."""

    def step(file: UserFile) -> tuple[UserFile, StoredUser]:
        _new_name(name, file.find(name) is not None, "user", len(file.users))
        user = StoredUser(
            name=name,
            password=hash_,
            roles=roles,
            areas=_shortest(areas),
            must_change_password=must_change,
            created_at=said.at,
            password_changed_at=said.at,
            changed_at=said.at,
            changed_by=said.by,
            version=file.changes + 1,
        )
        return _with(file, (*file.users, user)), user

    return step


def change_user(
    name: str, change: UserChange, hash_: str | None, said: Said, *, version: str | None
) -> UserStep:
    """A user of this version (None: of any) otherwise; refuses with `unknown_user`, `changed_meanwhile`,
    `last_admin`. A password is given as its hash."""

    def step(file: UserFile) -> tuple[UserFile, StoredUser]:
        before = _user_of(file, name, version)
        wanted = {
            key: value
            for key in ("roles", "areas", "disabled", "must_change_password")
            if (value := getattr(change, key)) is not msgspec.UNSET
        }
        if "areas" in wanted:
            wanted["areas"] = _shortest(wanted["areas"])
        if hash_ is not None:
            wanted |= {"password": hash_, "password_changed_at": said.at}
        after = msgspec.structs.replace(
            before, **wanted, changed_at=said.at, changed_by=said.by, version=file.changes + 1
        )
        changed = _with(file, tuple(after if user is before else user for user in file.users))
        _admins_left(file, changed)
        return changed, after

    return step


def rehashed(name: str, old_hash: str, new_hash: str) -> UserStep:
    """The same password under a hash of today's cost: no change anybody made, so the rest stays."""

    def step(file: UserFile) -> tuple[UserFile, StoredUser]:
        before = _user_of(file, name, None)
        if before.password != old_hash:
            return file, before
        after = msgspec.structs.replace(before, password=new_hash)
        return msgspec.structs.replace(
            file, users=tuple(after if user is before else user for user in file.users)
        ), after

    return step


def remove_user(name: str, *, version: str | None) -> UserStep:
    """A user less; refuses with `unknown_user`, `changed_meanwhile`, `last_admin`."""

    def step(file: UserFile) -> tuple[UserFile, StoredUser]:
        before = _user_of(file, name, version)
        changed = _with(file, tuple(user for user in file.users if user is not before))
        _admins_left(file, changed)
        return changed, before

    return step


def add_key(wanted: NewKey, minted: Minted, said: Said) -> KeyStep:
    """One key more; refuses with `already_exists`."""

    def step(file: KeyFile) -> tuple[KeyFile, StoredKey]:
        named = any(key.name == wanted.name for key in file.keys)
        _new_name(wanted.name, named, "key", len(file.keys))
        if wanted.expires_at is not None and wanted.expires_at <= said.at:
            raise Conflict(
                "not_allowed_here", "the key would have expired already", "name a later end, or none"
            )
        key = StoredKey(
            id=minted.id,
            name=wanted.name,
            secret_sha256=digest(minted.secret).hex(),
            roles=wanted.roles,
            areas=_shortest(wanted.areas),
            expires_at=wanted.expires_at,
            created_at=said.at,
            created_by=said.by,
            version=file.changes + 1,
        )
        return _with_keys(file, (*file.keys, key)), key

    return step


def remove_key(id_: str, *, version: str | None) -> KeyStep:
    """A key less; refuses with `unknown_key`, `changed_meanwhile`."""

    def step(file: KeyFile) -> tuple[KeyFile, StoredKey]:
        key = file.find(id_)
        if key is None:
            raise Conflict(
                "unknown_key", f'there is no key with the id "{id_}"', "the keys there are: andon key list"
            )
        _of_version(key, version)
        return _with_keys(file, tuple(other for other in file.keys if other is not key)), key

    return step


def _new_name(name: str, taken: bool, kind: str, count: int) -> None:
    if name in RESERVED:
        raise Conflict("already_exists", f'"{name}" is a name the gateway uses itself', "choose another")
    if taken:
        raise Conflict(
            "already_exists", f'there is a {kind} "{name}" already', "choose another name, or change that"
        )
    if count >= ENTRIES_MAX:
        raise Conflict(
            "access_unavailable", f"there are {count:,} already", "remove what nobody uses any more"
        )


def unknown_user(name: str) -> Conflict:
    """There is no user of that name."""
    return Conflict("unknown_user", f'there is no user "{name}"', "the users there are: andon user list")


def _user_of(file: UserFile, name: str, version: str | None) -> StoredUser:
    user = file.find(name)
    if user is None:
        raise unknown_user(name)
    _of_version(user, version)
    return user


def _of_version(entry: StoredUser | StoredKey, version: str | None) -> None:
    if version is not None and version != version_of(entry):
        raise Conflict(
            "changed_meanwhile",
            f'"{entry.name}" was changed by somebody else since you looked',
            "look again, and change it as it is now",
        )


def admins(file: UserFile) -> int:
    """Users who can manage users."""
    return sum(Role.ADMIN in user.roles and user.areas is None and not user.disabled for user in file.users)


def _admins_left(before: UserFile, after: UserFile) -> None:
    if admins(before) and not admins(after):
        raise Conflict(
            "last_admin",
            "nobody would be left who can manage users",
            "make somebody else an admin of everything first",
        )


def _shortest(areas: Areas | None) -> Areas | None:
    """Areas without those that lie in another."""
    if areas is None:
        return None
    unlike = sorted(set(areas))
    return tuple(
        area for area in unlike if not any(area.startswith(other + "/") for other in unlike if other != area)
    )


def _with(file: UserFile, users: tuple[StoredUser, ...]) -> UserFile:
    return UserFile(1, file.changes + 1, tuple(sorted(users, key=lambda user: user.name)))


def _with_keys(file: KeyFile, keys: tuple[StoredKey, ...]) -> KeyFile:
    return KeyFile(1, file.changes + 1, tuple(sorted(keys, key=lambda key: key.name)))
