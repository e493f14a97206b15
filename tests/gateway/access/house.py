"""A gateway's access on a clock of the test's own, with hashes that cost nothing and an audit trail that
remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from api.access import NewKey, NewUser, Principal, Role, Session
from api.auditing import AuditEntry, AuditUnavailable
from gateway.access.desk import AccessDesk
from gateway.access.hashing import Cost, Hashing
from gateway.access.opening import open_access
from gateway.config.access import AccessSettings
from tests.support.manual_clock import ManualClock

#: Passwords that are taken.
GOOD, OTHER, THIRD = "correct horse battery", "seven lame turtles", "green ladder at noon"
ADMIN = Principal("chief", "user", frozenset((Role.ADMIN,)))
PEER = "192.0.2.7"
#: How long anything may take that has to come some day: well beyond what a busy machine stands still.
PATIENCE_S = 45.0


class Remembering:
    """An audit trail in memory, which can be made to refuse."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.refuses: str | None = None
        #: What `available` says when it does not know yet that a record will fail.
        self.fails_late = False

    async def record(self, entry: AuditEntry) -> int:
        if self.refuses is not None:
            raise AuditUnavailable(self.refuses)
        self.entries.append(entry)
        return len(self.entries)

    def available(self) -> str | None:
        return None if self.fails_late else self.refuses

    def told(self) -> list[tuple[str, str, str, str]]:
        """(action, actor, target, result) of every record, oldest first."""
        return [(entry.action, entry.actor, entry.target, entry.result) for entry in self.entries]


def cheap() -> Hashing:
    """Hashes of the least cost there is."""
    return Hashing(Cost(memory_kib=8, passes=1))


class House:
    """An open access, and what it stands on."""

    def __init__(self, desk: AccessDesk, clock: ManualClock, audit: Remembering, data_dir: Path) -> None:
        self.desk, self.clock, self.audit, self.data_dir = desk, clock, audit, data_dir

    @property
    def folder(self) -> Path:
        return self.data_dir / "access"

    async def add(self, name: str, *roles: Role, areas: tuple[str, ...] | None = None) -> None:
        """A user with the password GOOD, who need not change it."""
        wanted = NewUser(
            name=name,
            password=GOOD,
            roles=frozenset(roles or (Role.OPERATOR,)),
            areas=areas,
            must_change_password=False,
        )
        await self.desk.add_user(wanted, ADMIN)

    async def log_in(self, name: str = "ada", password: str = GOOD, peer: str = PEER) -> Session:
        return await self.desk.log_in(name, password, peer)

    async def key(self, name: str = "mes", **more: Any) -> str:
        """The secret of a new key."""
        wanted = NewKey(name=name, roles=frozenset((Role.VIEWER,)), **more)
        return (await self.desk.add_key(wanted, ADMIN)).secret


@asynccontextmanager
async def opened(
    data_dir: Path,
    *,
    clock: ManualClock | None = None,
    audit: Remembering | None = None,
    anonymous: bool = False,
    hashing: Callable[[], Hashing] = cheap,
    **settings: Any,
) -> AsyncIterator[House]:
    """An access that is open in the block."""
    clock, audit = clock or ManualClock(), audit or Remembering()
    desk = open_access(
        data_dir,
        AccessSettings.model_validate(settings),
        clock,
        anonymous=anonymous,
        audit=audit,
        hashing=hashing(),
    )
    await desk.keeper.look()
    try:
        yield House(desk, clock, audit, data_dir)
    finally:
        await desk.close()
