"""What is kept of users and keys, and its bytes: judged as read, so that no typing error lets anybody in.

Pure. Knows no file, no password rule and no session. There is no secret here in the clear: of a password its
argon2id hash, of a key its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from api.access import AccountName, Areas, KeyView, Role, Roles, UserView

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^\$argon2id\$[^\s]{20,500}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")]
_Version = Annotated[int, msgspec.Meta(ge=1)]

#: A file with more is no list of people any more.
ENTRIES_MAX = 10_000


class Damaged(Exception):
    """A file is not what this gateway writes. Nobody is let in by it; `reason` says what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoredUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user. `version` is that of the file when the user was changed last; `changed_by` is who said so."""

    name: AccountName
    password: _Hash
    roles: Roles
    areas: Areas | None = None
    disabled: bool = False
    must_change_password: bool = False
    created_at: _Time
    password_changed_at: _Time
    changed_at: _Time
    changed_by: str
    version: _Version

    def view(self) -> UserView:
        """The user without anything secret."""
        return UserView(
            self.name,
            in_order(self.roles),
            self.areas,
            self.disabled,
            self.must_change_password,
            self.created_at,
            version_of(self),
        )


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key of a program. `secret_sha256` is that of the whole key as it is sent."""

    id: _Id
    name: AccountName
    secret_sha256: _Digest
    roles: Roles
    areas: Areas | None = None
    expires_at: _Time | None = None
    created_at: _Time
    created_by: str
    version: _Version

    def view(self, last_used_at: datetime | None = None) -> KeyView:
        """The key without its secret."""
        return KeyView(
            self.id,
            self.name,
            in_order(self.roles),
            self.areas,
            self.created_at,
            self.created_by,
            self.expires_at,
            last_used_at,
            version_of(self),
        )


class UserFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All users. `changes` counts the changes ever made, so that no version comes twice."""

    format: Literal[1] = 1
    changes: Annotated[int, msgspec.Meta(ge=0)] = 0
    users: Annotated[tuple[StoredUser, ...], msgspec.Meta(max_length=ENTRIES_MAX)] = ()

    def find(self, name: str) -> StoredUser | None:
        """The user of a name."""
        return next((user for user in self.users if user.name == name), None)


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All keys. `changes` counts the changes ever made."""

    format: Literal[1] = 1
    changes: Annotated[int, msgspec.Meta(ge=0)] = 0
    keys: Annotated[tuple[StoredKey, ...], msgspec.Meta(max_length=ENTRIES_MAX)] = ()

    def find(self, id_: str) -> StoredKey | None:
        """The key of an id."""
        return next((key for key in self.keys if key.id == id_), None)


def in_order(roles: Iterable[Role]) -> tuple[Role, ...]:
    """Roles as they are told: always in the same order."""
    return tuple(role for role in Role if role in roles)


def digest_of(entry: StoredUser | StoredKey) -> str:
    """What an entry was, in 64 hexadecimal digits: tells two of them apart without telling what is in
    them."""
    return hashlib.sha256(msgspec.json.encode(entry, order="deterministic")).hexdigest()


def version_of(entry: StoredUser | StoredKey) -> str:
    """The version as it is told: it also differs where somebody edited the file and left the number."""
    return f"{entry.version}-{digest_of(entry)[:8]}"


def encode(file: UserFile | KeyFile) -> bytes:
    """The bytes of a file, laid out for people."""
    return msgspec.json.format(msgspec.json.encode(file, order="deterministic"), indent=2) + b"\n"


def decode_users(data: bytes) -> UserFile:
    """The users in a file.

    Raises:
        Damaged: it is not such a file.
    """
    try:
        file = msgspec.json.decode(data, type=UserFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from error
    _judge(file.changes, file.users, [user.name for user in file.users])
    return file


def decode_keys(data: bytes) -> KeyFile:
    """The keys in a file.

    Raises:
        Damaged: it is not such a file.
    """
    try:
        file = msgspec.json.decode(data, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from error
    _judge(file.changes, file.keys, [key.id for key in file.keys])
    _judge(file.changes, file.keys, [key.name for key in file.keys])
    return file


def _judge(changes: int, entries: Sequence[StoredUser | StoredKey], names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Damaged(f'"{twice[0]}" is there twice')
    late = [entry for entry in entries if entry.version > changes]
    if late:
        raise Damaged(f'"{late[0].name}" has version {late[0].version}, and only {changes} changes were made')
