"""Who exists, in memory: read at the start, read again when somebody else changed the files, written on a
change.

Every change leaves a record in the audit trail or is not made. What others changed in the files is in force
within a second whether it can be recorded or not (a revocation must not wait); it is recorded as soon as it
can be, also after a restart. Knows no password, no session and no request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import structlog

from api.access import Conflict
from api.auditing import AuditEntry, AuditUnavailable, Scalar
from connectors.base import Clock
from gateway.access.book import KeyStep, UserStep
from gateway.access.entries import (
    Damaged,
    KeyFile,
    StoredKey,
    StoredUser,
    UserFile,
    digest_of,
    in_order,
)
from gateway.access.shelf import RECORDED, Changing, Shelf
from gateway.access.trail import Records
from gateway.snapshots.failures import NotWritten

#: How often the files are looked at: twice in the second within which a revocation counts.
LOOK_S = 0.5
#: How long a change waits for another process that is changing the files.
BUSY_S = 5.0
#: Changes taken back for want of a record that are remembered until that can be said.
UNDONE_MAX = 100
_T = TypeVar("_T")

_log = structlog.get_logger("andon.access")

#: Told the users whose sessions must end: name -> why.
Listener = Callable[[Mapping[str, str]], None]


class Keeper:
    """The users and keys of one gateway. `listener` is told whose sessions no longer count."""

    def __init__(self, shelf: Shelf, clock: Clock, audit: Records | None, listener: Listener) -> None:
        self.shelf = shelf
        self._clock = clock
        self._audit = audit
        self._listener = listener
        self.users: Mapping[str, StoredUser] = {}
        self.keys: Mapping[str, StoredKey] = {}
        #: Why nobody may log in, or no key is taken; None when the file is sound.
        self.users_damaged: str | None = None
        self.keys_damaged: str | None = None
        #: Raised by one whenever who exists has changed.
        self.generation = 0
        self._files: tuple[UserFile, KeyFile] = (UserFile(), KeyFile())
        self._stamps = shelf.stamps()
        self._recorded: dict[str, str] = {}
        #: The generation up to which everything is in the audit trail.
        self._told = -1
        #: Records of changes that were taken back, still to be made.
        self._undone: deque[AuditEntry] = deque(maxlen=UNDONE_MAX)
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Read the files; a damaged one is said and lets nobody in."""
        self._recorded = self.shelf.table(RECORDED)
        self._read()

    # What others change --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Take over what another process changed, and record what is not recorded yet."""
        if self.shelf.stamps() == self._stamps and (self._audit is None or self._told == self.generation):
            return
        async with self._changing:
            self._read()
            await self._tell_of_files()

    def _read(self) -> None:
        """From the files into memory. A damaged file changes nothing for who is let in already; those who
        come anew are refused."""
        self._stamps = self.shelf.stamps()
        users, keys = self._files
        try:
            users, self.users_damaged = self.shelf.users(), None
        except Damaged as damage:
            self.users_damaged = self._say_damage("users.json", damage, self.users_damaged)
        try:
            keys, self.keys_damaged = self.shelf.keys(), None
        except Damaged as damage:
            self.keys_damaged = self._say_damage("keys.json", damage, self.keys_damaged)
        self._adopt(users, keys)

    def _say_damage(self, name: str, damage: Damaged, before: str | None) -> str:
        if before != damage.reason:
            _log.error(
                "a file of users or keys is damaged: nobody new is let in by it",
                file=str(self.shelf.directory / name),
                reason=damage.reason,
                hint="put it back from a backup, or remove it and begin anew",
            )
        return damage.reason

    def _adopt(self, users: UserFile, keys: KeyFile, rehashed: str = "") -> None:
        before = self.users
        if (users, keys) != self._files:
            self.generation += 1
        self._files = (users, keys)
        self.users = {user.name: user for user in users.users}
        self.keys = {key.id: key for key in keys.keys}
        ends = {
            name: why
            for name, user in before.items()
            if (why := _why_ended(user, self.users.get(name), password=name != rehashed)) is not None
        }
        if ends:
            self._listener(ends)

    async def _tell_of_files(self) -> None:
        """Record what stands in the files and in no record: changed by hand, or by the command line."""
        if self._audit is None or self._audit.available() is not None:
            return
        generation = self.generation
        while self._undone:
            try:
                await self._audit.record(self._undone[0])
            except AuditUnavailable:
                return
            self._undone.popleft()
        for place, entry in self._unrecorded():
            try:
                await self._audit.record(entry)
            except AuditUnavailable:
                return  # the next look tries again
            await self._note_recorded(place)
        self._told = generation

    def _unrecorded(self) -> list[tuple[str, AuditEntry]]:
        there: dict[str, StoredUser | StoredKey] = {
            **{f"user {name}": user for name, user in self.users.items()},
            **{f"key {id_}": key for id_, key in self.keys.items()},
        }
        found: list[tuple[str, AuditEntry]] = []
        for place in sorted(there.keys() | self._recorded.keys()):
            now = there.get(place)
            digest = None if now is None else digest_of(now)
            before = self._recorded.get(place)
            if digest == before:
                continue
            kind, _, target = place.partition(" ")
            verb = "add" if before is None else "remove" if now is None else "change"
            by = now.changed_by if isinstance(now, StoredUser) else now.created_by if now else ""
            detail = {} if now is None else detail_of(now)
            own = by == "gateway"  # the first admin, at the first start
            entry = AuditEntry(
                action=f"{kind}.{verb}",
                actor=by or "unknown",
                kind="gateway" if own else "local",
                via="gateway" if own else "file",
                target=target,
                result="ok",
                detail=detail,
            )
            found.append((place, entry))
        return found

    async def _note_recorded(self, *places: str) -> None:
        for place in places:
            kind, _, name = place.partition(" ")
            entry = self.users.get(name) if kind == "user" else self.keys.get(name)
            if entry is None:
                self._recorded.pop(place, None)
            else:
                self._recorded[place] = digest_of(entry)
        try:
            await asyncio.to_thread(self.shelf.put_table, RECORDED, dict(self._recorded))
        except NotWritten as failure:
            _log.warning("what is recorded of users is not noted", reason=failure.reason)

    # What is changed here ------------------------------------------------------------------------------

    async def change_users(self, step: UserStep, tell: Callable[[StoredUser], AuditEntry]) -> StoredUser:
        """Make a change and record what `tell` says of it: whole or not at all, even if nobody waits for it
        any more.

        Raises:
            Conflict: of the step; `access_unavailable` where file or audit trail cannot be written.
        """
        return await self._to_the_end(self._change_users(step, tell))

    async def change_keys(self, step: KeyStep, tell: Callable[[StoredKey], AuditEntry]) -> StoredKey:
        """The same for keys."""
        return await self._to_the_end(self._change_keys(step, tell))

    async def rehash(self, step: UserStep, name: str) -> None:
        """Write a hash of today's cost. Nobody changed anything, so nothing is recorded and no session
        ends."""
        await self._to_the_end(self._rehash(step, name))

    async def _change_users(self, step: UserStep, tell: Callable[[StoredUser], AuditEntry]) -> StoredUser:
        async with self._alone(lambda: self.users_damaged):
            before, keys = self._files
            after, user = step(before)
            await self._write(after, before, tell(user))
            self._adopt(after, keys)
            if self._audit is not None:
                await self._note_recorded(f"user {user.name}")
            return user

    async def _change_keys(self, step: KeyStep, tell: Callable[[StoredKey], AuditEntry]) -> StoredKey:
        async with self._alone(lambda: self.keys_damaged):
            users, before = self._files
            after, key = step(before)
            await self._write(after, before, tell(key))
            self._adopt(users, after)
            if self._audit is not None:
                await self._note_recorded(f"key {key.id}")
            return key

    async def _rehash(self, step: UserStep, name: str) -> None:
        async with self._alone(lambda: self.users_damaged):
            before, keys = self._files
            after, _ = step(before)
            if after is before:
                return
            await self._put(after)
            self._adopt(after, keys, rehashed=name)
            if self._audit is not None:
                await self._note_recorded(f"user {name}")

    @asynccontextmanager
    async def _alone(self, damage: Callable[[], str | None]) -> AsyncIterator[None]:
        """Hold the files, with what others did to them taken over and recorded first."""
        async with self._changing:
            lock = Changing(self.shelf)
            try:
                await self._take(lock)
                if self.shelf.stamps() != self._stamps:
                    self._read()
                await self._tell_of_files()
                if (damaged := damage()) is not None:
                    raise Conflict("access_unavailable", f"the file is damaged: {damaged}", "mend it first")
                yield  # what is written now is read once more at the next look: nothing can slip in between
            finally:
                lock.release()

    async def _take(self, lock: Changing) -> None:
        until = self._clock.monotonic() + BUSY_S
        try:
            while not lock.take(wait=False):
                if self._clock.monotonic() >= until:
                    raise Conflict(
                        "access_unavailable",
                        "another process is changing users or keys and does not end",
                        "see whether an `andon user` or `andon key` hangs",
                    )
                await self._clock.sleep(0.05)
        except NotWritten as failure:
            raise Conflict("access_unavailable", failure.reason, failure.hint) from failure

    async def _write(self, after: UserFile | KeyFile, before: UserFile | KeyFile, entry: AuditEntry) -> None:
        audit = self._audit
        if audit is not None and (reason := audit.available()) is not None:
            raise _unrecordable(reason)
        await self._put(after)
        if audit is None:
            return
        try:
            await audit.record(entry)
        except AuditUnavailable as failure:
            await self._put(before)  # nothing has been told of it yet, and nobody was let in by it
            # Its record may be there all the same, only nobody knows: then it must not stand as it is.
            self._undone.append(msgspec.structs.replace(entry, result="failed", code="access_unavailable"))
            self._told = -1
            raise _unrecordable(failure.reason) from failure

    async def _put(self, file: UserFile | KeyFile) -> None:
        try:
            await asyncio.to_thread(self.shelf.write, file)
        except NotWritten as failure:
            raise Conflict("access_unavailable", failure.reason, failure.hint) from failure

    async def _to_the_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something whole, even when whoever asked goes away in the middle."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked was told, or does not wait any more

    async def close(self) -> None:
        """Wait for the changes that are under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)


def _why_ended(before: StoredUser, after: StoredUser | None, *, password: bool) -> str | None:
    """Why sessions of a user no longer count, None when they do."""
    if after is None:
        return "the user was removed"
    if after.disabled and not before.disabled:
        return "the user was disabled"
    if password and after.password != before.password:
        return "the password was changed"
    if (after.roles, after.areas) != (before.roles, before.areas):
        return "roles or areas were changed"
    if after.must_change_password and not before.must_change_password:
        return "the password has to be changed"
    return None


def detail_of(entry: StoredUser | StoredKey) -> dict[str, Scalar]:
    """What of an entry stands in the audit trail."""
    detail: dict[str, Scalar] = {
        "roles": " ".join(in_order(entry.roles)),
        "areas": "everything" if entry.areas is None else " ".join(entry.areas),
    }
    if isinstance(entry, StoredKey):
        ends = "never" if entry.expires_at is None else entry.expires_at.isoformat()
        return {"name": entry.name, **detail, "expires_at": ends}
    return {**detail, "disabled": entry.disabled}


def _unrecordable(reason: str) -> Conflict:
    return Conflict(
        "access_unavailable",
        f"the audit trail cannot be written, and nothing is changed without a record: {reason}",
        "mend that first; the health of the gateway says what it is",
    )
