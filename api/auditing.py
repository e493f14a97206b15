"""The audit trail as those see it who must leave a trace in it: what is told, what is kept, the port.

Knows what an entry says and what a verdict names. Does not know files, hashes or keys: gateway/audit/ does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from api.kinds import Kind

#: What a detail may be worth. Structures are flattened by whoever tells them, so that every line reads alike.
Scalar = str | int | float | bool | None

#: Longest text kept of one field and most details of one entry; what is longer is cut and says so.
TEXT_CHARS_MAX = 1000
DETAILS_MAX = 40

#: Problems of these routes.
AUDIT_KINDS = (
    Kind(
        "audit_unavailable",
        503,
        "No audit trail",
        "The audit trail cannot be written or read, and what has to leave a trace is not done without.",
        "/readyz shows the state of each part.",
    ),
    Kind(
        "export_differs",
        409,
        "Export differs",
        "The checksum is not that of the records that would be removed: the export may lack some.",
        "Export them again, from the first record there is, and send the checksum of exactly these lines.",
    ),
)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did or tried to do.

    `action` is one of a small vocabulary with dots ("login", "session.end", "user.add", "key.remove",
    "command", "command.approve", "command.arm", "config.apply", "config.rollback", "correction", "export",
    "audit.verify", "access.denied"). `actor` is the name of the principal and `kind` what it is ("user",
    "key", "token", "local", "anonymous", "gateway"). `via` is the way it came ("rest", "cli", "mqtt",
    "sparkplug", "file", "gateway"), `target` what it was done to, `result` "ok", "refused", "failed" or a
    status of a command, `code` the problem code where there is one. `detail` has plain values and never
    secrets: those the configuration resolved are taken out before it is written. `peer` is the address it
    came from, "" for none.
    """

    action: str
    actor: str
    kind: str
    via: str
    target: str
    result: str
    code: str = ""
    detail: Mapping[str, Scalar] = {}
    peer: str = ""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is kept, its fields in the order of its bytes.

    `n` counts from 1 without a hole, `at` is UTC. `previous` is the hash of the record before; `hash` is
    SHA-256 over the bytes of all fields before it. Both are hexadecimal.
    """

    n: int
    previous: str
    at: datetime
    action: str
    actor: str
    kind: str
    via: str
    target: str
    result: str
    code: str
    detail: Mapping[str, Scalar]
    peer: str
    hash: str


class AuditHead(msgspec.Struct, frozen=True):
    """Where the chain stands: number and hash of its newest record, signed (Ed25519).

    `key` is the public half of the key; hash, signature and key are hexadecimal. `n` is 0 and `hash` all
    zeros while there is no record.
    """

    n: int
    hash: str
    at: datetime
    signature: str
    key: str


class AuditFault(msgspec.Struct, frozen=True):
    """One thing that does not fit.

    `n` is the first record it concerns, None for none; `place` is the file and line. `kind` is one of
    "changed", "missing", "reordered", "truncated", "rewritten", "torn", "head", "key", "checkpoint",
    "unreadable".
    """

    kind: str
    n: int | None
    place: str
    reason: str
    hint: str


class Verdict(msgspec.Struct, frozen=True):
    """What a verification found. `sound` only when there is no fault.

    Records `first_n` to `last_n` were read (0 and 0 when there is none); older ones were removed under signed
    checkpoints. `anchors` is the number of anchors compared with, held outside of the audit's own files, and
    `anchored_n` the newest record one of them vouches for. `remarks` are sentences that are no fault.
    """

    sound: bool
    records: int
    first_n: int
    last_n: int
    segments: int
    anchors: int
    anchored_n: int
    seconds: float
    key: str
    faults: Sequence[AuditFault] = ()
    remarks: Sequence[str] = ()


class AuditUnavailable(Exception):
    """The audit trail cannot be written (`read` and `verify`: not be read) now; `reason` is for people.

    Whatever needed the record must not be done.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ExportDiffers(Exception):
    """An export does not hold what would be removed."""


class Audit(Protocol):
    """The audit trail."""

    async def record(self, entry: AuditEntry) -> int:
        """Keep an entry; returns its number once it is durable.

        Raises:
            AuditUnavailable: it is not kept, or not known to be durable.
        """
        ...

    def available(self) -> str | None:
        """The reason it cannot be written now, None when it can. Memory only."""
        ...

    async def read(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        action: str | None = None,
        actor: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
    ) -> Sequence[AuditRecord]:
        """Records with `n > after` and `from_ <= at < to`, oldest first, at most `limit`.

        `action` also means those below it: "command" finds "command.approve".

        Raises:
            AuditUnavailable: the files cannot be read.
        """
        ...

    async def verify(self) -> Verdict:
        """Read the whole trail and judge it, also against the anchors that are held elsewhere.

        Raises:
            AuditUnavailable: the files cannot be read at all.
        """
        ...

    def head(self) -> AuditHead:
        """Where the chain stands, signed. Memory only."""
        ...

    def export(self, after: int, through: int) -> AsyncIterator[bytes]:
        """The records after one number and up to another as they are kept, many whole lines at a time.

        Raises:
            AuditUnavailable: the files cannot be read.
        """
        ...

    async def remove(self, through: int, sha256: str, by: AuditEntry) -> int:
        """Remove the oldest records up to a number, by whole files; returns the last one removed, 0 for none.

        A signed checkpoint keeps the rest verifiable. `sha256` is that of an export of all records up to
        `through`; `by` says who wants it.

        Raises:
            ExportDiffers: `sha256` is not that of these records.
            AuditUnavailable: it cannot be done now.
        """
        ...
