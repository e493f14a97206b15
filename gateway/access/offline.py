"""Users and keys changed in their files, whether the gateway runs or not; a running one notices within a
second.

What the command line does with `--config`. The gateway records such changes as made in the files, also those
made while it was away. Blocks while another process changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from api.access import AddedKey, KeyView, NewKey, NewUser, UserChange, UserView
from connectors.base import Clock
from gateway.access import book
from gateway.access.book import KeyStep, Said, UserStep, judge_password
from gateway.access.entries import Damaged, StoredKey, StoredUser
from gateway.access.hashing import Hashing
from gateway.access.shelf import FIRST, FIRST_ADMIN, USED, Changing, Shelf
from gateway.access.tokens import new_key
from gateway.errors import GatewayError


class FileDamaged(GatewayError):
    """A file of users or keys cannot be read, and is not written over. A person has to act."""


class Offline:
    """The files of a gateway, changed by `who`."""

    def __init__(self, data_dir: Path, clock: Clock, who: str, hashing: Hashing | None = None) -> None:
        self._shelf = Shelf(data_dir)
        self._clock = clock
        self._who = who
        self._hashing = hashing

    def users(self) -> Sequence[UserView]:
        """All users, by name."""
        return [user.view() for user in self._users()]

    def user(self, name: str) -> UserView:
        """One user; `Conflict` `unknown_user`."""
        for user in self._users():
            if user.name == name:
                return user.view()
        raise book.unknown_user(name)

    def add_user(self, wanted: NewUser) -> UserView:
        """Add a user."""
        judge_password(wanted.password, wanted.name)
        hash_ = self._hash(wanted.password)
        must_change = wanted.must_change_password
        return self._change_users(
            book.add_user(
                wanted.name, hash_, wanted.roles, self._said(), areas=wanted.areas, must_change=must_change
            )
        ).view()

    def change_user(self, name: str, change: UserChange, version: str | None) -> UserView:
        """Change a user of this version; None: of any."""
        hash_ = None
        if not isinstance(change.password, msgspec.UnsetType):
            judge_password(change.password, name)
            hash_ = self._hash(change.password)
        user = self._change_users(book.change_user(name, change, hash_, self._said(), version=version))
        if name == FIRST and hash_ is not None:
            self._shelf.drop(FIRST_ADMIN)
        return user.view()

    def remove_user(self, name: str, version: str | None) -> None:
        """Remove a user of this version; None: of any."""
        self._change_users(book.remove_user(name, version=version))
        if name == FIRST:
            self._shelf.drop(FIRST_ADMIN)

    def keys(self) -> Sequence[KeyView]:
        """All keys, by name, with their last use as the gateway noted it."""
        used = self._shelf.table(USED)
        views = []
        for key in self._keys():
            at = used.get(key.id)
            views.append(key.view(None if at is None else datetime.fromisoformat(at)))
        return views

    def add_key(self, wanted: NewKey) -> AddedKey:
        """Add a key."""
        minted = new_key()
        key = self._change_keys(book.add_key(wanted, minted, self._said()))
        return AddedKey(key.view(), minted.secret)

    def remove_key(self, id_: str, version: str | None) -> None:
        """Revoke a key of this version; None: of any."""
        self._change_keys(book.remove_key(id_, version=version))

    def _said(self) -> Said:
        return Said(self._who, self._clock.now())

    def _hash(self, password: str) -> str:
        hashing = self._hashing or Hashing()
        try:
            return hashing.hash_now(password)
        finally:
            if self._hashing is None:
                hashing.close()

    def _users(self) -> Sequence[StoredUser]:
        try:
            return self._shelf.users().users
        except Damaged as damage:
            raise self._damaged("users.json", damage) from damage

    def _keys(self) -> Sequence[StoredKey]:
        try:
            return self._shelf.keys().keys
        except Damaged as damage:
            raise self._damaged("keys.json", damage) from damage

    def _change_users(self, step: UserStep) -> StoredUser:
        self._shelf.prepare()
        with Changing(self._shelf):
            try:
                file, user = step(self._shelf.users())
            except Damaged as damage:
                raise self._damaged("users.json", damage) from damage
            self._shelf.write(file)
            return user

    def _change_keys(self, step: KeyStep) -> StoredKey:
        self._shelf.prepare()
        with Changing(self._shelf):
            try:
                file, key = step(self._shelf.keys())
            except Damaged as damage:
                raise self._damaged("keys.json", damage) from damage
            self._shelf.write(file)
            return key

    def _damaged(self, name: str, damage: Damaged) -> FileDamaged:
        return FileDamaged(
            f"{self._shelf.directory / name} is damaged: {damage.reason}",
            hint="put it back from a backup, or remove it and begin anew",
        )
