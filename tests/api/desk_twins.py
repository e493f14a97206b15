"""Twins of the ports behind which something is changed or judged: audit, configuration, commands, rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import msgspec

from api.access import Access, Principal
from api.auditing import AuditEntry, AuditHead, AuditRecord, ExportDiffers, Verdict
from api.commanding import (
    Approval,
    Armed,
    CommandRefused,
    CommandRequest,
    CommandView,
    UnknownCommand,
    WantedArm,
)
from api.compliance import Found, RuleView, Violation
from api.configuring import (
    Change,
    Difference,
    Edit,
    FileProblem,
    NotDone,
    Outcome,
    Refused,
    Revision,
    RevisionInfo,
    Running,
    Wish,
)
from api.ports import Ports
from statemodel.types import CommandStatus
from tests.api.access_twin import NOW
from tests.api.twins import Plant, make_ports

ZEROS = "0" * 64
FILES = {"andon.toml": '[gateway]\nid = "line-1"\n'}
DIFFERENCE = Difference((Change("tag", "filler-plc/speed", "change", (Edit("unit", "1/min", "1/h"),)),))


class AuditTwin:
    """Keeps entries in a list, without hashes."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def record(self, entry: AuditEntry) -> int:
        self.entries.append(entry)
        return len(self.entries)

    def available(self) -> str | None:
        return None

    def _records(self) -> list[AuditRecord]:
        return [
            AuditRecord(n=n, previous=ZEROS, at=NOW, hash=ZEROS, **msgspec.structs.asdict(entry))
            for n, entry in enumerate(self.entries, 1)
        ]

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
        return [
            record
            for record in self._records()[after:]
            if action in (None, record.action)
            and actor in (None, record.actor)
            and (from_ is None or from_ <= record.at)
            and (to is None or record.at < to)
        ][:limit]

    async def verify(self) -> Verdict:
        count = len(self.entries)
        return Verdict(True, count, min(count, 1), count, 1, 0, 0, 0.1, ZEROS)

    def head(self) -> AuditHead:
        return AuditHead(len(self.entries), ZEROS, NOW, ZEROS * 2, ZEROS)

    async def export(self, after: int, through: int) -> AsyncIterator[bytes]:
        yield b"".join(msgspec.json.encode(record) + b"\n" for record in self._records()[after:through])

    async def remove(self, through: int, sha256: str, by: AuditEntry) -> int:
        raise ExportDiffers


class ConfiguringTwin:
    """One configuration; a new one counts up the revision."""

    def __init__(self) -> None:
        self.kept = [Revision(RevisionInfo(1, NOW, "admin", "the first", "h1", "start"), FILES)]

    def running(self) -> Running:
        newest = self.kept[-1]
        return Running(newest.info.hash, newest.files, newest.info)

    async def apply(self, wish: Wish, by: Principal, peer: str = "") -> Outcome:
        if wish.expected != self.running().hash:
            raise NotDone("changed_meanwhile", "Another one runs by now.", running=self.kept[-1].info)
        if "andon.toml" not in wish.files:
            raise Refused([FileProblem("andon.toml", None, "", "missing", "it is not there", "Send it.")])
        return self._done(wish.files, wish.reason, by, dry_run=wish.dry_run)

    def _done(self, files: object, reason: str, by: Principal, *, dry_run: bool) -> Outcome:
        if files == self.kept[-1].files:
            return Outcome("unchanged", self.running().hash, self.kept[-1].info, Difference())
        if dry_run:
            return Outcome("planned", self.running().hash, None, DIFFERENCE)
        number = len(self.kept) + 1
        info = RevisionInfo(number, NOW, by.name, reason, f"h{number}", "rest")
        self.kept.append(Revision(info, FILES))
        return Outcome("applied", info.hash, info, DIFFERENCE)

    async def restore(
        self, number: int, reason: str, expected: str, by: Principal, peer: str = "", *, dry_run: bool = False
    ) -> Outcome:
        if expected != self.running().hash:
            raise NotDone("changed_meanwhile", "Another one runs by now.", running=self.kept[-1].info)
        if await self.revision(number) is None:
            raise NotDone("unknown_revision", f"There is no revision {number}.")
        return self._done({}, reason, by, dry_run=dry_run)

    async def revisions(self) -> Sequence[RevisionInfo]:
        return [one.info for one in reversed(self.kept)]

    async def revision(self, number: int) -> Revision | None:
        return next((one for one in self.kept if one.info.number == number), None)

    async def compare(self, old: int, new: int | None) -> Difference:
        for number in (old, new):
            if number is not None and await self.revision(number) is None:
                raise NotDone("unknown_revision", f"There is no revision {number}.")
        return DIFFERENCE


class CommandsTwin:
    """Writes nowhere, and says that it did; `secret/...` is not on its list."""

    def __init__(self) -> None:
        self.views: dict[str, CommandView] = {}
        self.by_key: dict[str, tuple[CommandRequest, CommandView]] = {}

    async def submit(self, request: CommandRequest, by: Principal, via: str) -> CommandView:
        if not request.tag.startswith("filler-plc/") and request.equipment != "filler-1":
            raise CommandRefused("not_allowed", "It is not on the list.")
        if not by.sees("filling/line-1/filler-1"):
            raise CommandRefused("not_allowed", "It is not on the list.")
        if request.key in self.by_key:
            first, view = self.by_key[request.key]
            if msgspec.structs.replace(request, peer=first.peer) != first:
                raise CommandRefused("key_reused", "The key came with another request before.")
            return view
        view = CommandView(
            id=f"c{len(self.views) + 1}",
            key=request.key,
            status=CommandStatus.VERIFIED,
            tag=request.tag,
            value=request.value,
            equipment=request.equipment,
            path="filling/line-1/filler-1",
            command=request.command,
            requested_by=by.name,
            requested_at=NOW,
            via=via,
            expires_at=NOW + timedelta(seconds=10),
        )
        self.views[view.id] = view
        self.by_key[request.key] = (request, view)
        return view

    async def approve(self, id_: str, approval: Approval, by: Principal, peer: str = "") -> CommandView:
        if id_ not in self.views:
            raise UnknownCommand
        raise CommandRefused("approval_not_needed", "It waits for nobody.")

    async def arm(self, wanted: WantedArm, by: Principal, via: str, peer: str = "") -> Armed:
        if wanted.tag is not None and not wanted.tag.startswith("filler-plc/"):
            raise CommandRefused("not_allowed", "It is not on the list.")
        return Armed("arm-1", NOW + timedelta(seconds=60))

    async def find(self, id_: str) -> CommandView | None:
        return self.views.get(id_)

    async def list(self, after: int, limit: int) -> tuple[Sequence[CommandView], int]:
        found = list(self.views.values())[after : after + limit]
        return found, after + len(found)


class ComplianceTwin:
    """Two rules, of which each is broken once."""

    async def rules(self) -> Sequence[RuleView]:
        return [
            RuleView(
                name=name,
                kind="reason_within",
                scope=scope,
                says="Unscheduled downtime of more than 5 min has a reason within 30 min.",
                state="violated",
                violations=1,
                judged_at=NOW,
                reason=None,
            )
            for name, scope in (("downtime", ""), ("oven", "oven-1"))
        ]

    async def violations(self, from_: datetime, to: datetime) -> Found:
        return Found([self._violation(name) for name in ("filler-1", "oven-1")], [])

    def _violation(self, equipment: str) -> Violation:
        return Violation(
            id=f"v-{equipment}",
            rule="downtime",
            kind="reason_within",
            equipment=equipment,
            path=f"filling/line-1/{equipment}",
            from_=NOW,
            to=None,
            settled_at=None,
            reason=f"{equipment} stood for 12 min without a reason.",
            recommendation="Say why.",
        )


def whole_ports(plant: Plant, access: Access) -> Ports:
    """All ports there can be."""
    return msgspec.structs.replace(
        make_ports(plant),
        access=access,
        audit=AuditTwin(),
        configuring=ConfiguringTwin(),
        commands=CommandsTwin(),
        compliance=ComplianceTwin(),
    )
