"""Carries a judged change out: the trace first, then the parts, then the revision and its files.

Holds what runs. Knows nothing of who may want what (`reach`) nor where a wish comes from (`desk`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from api.auditing import Audit, AuditEntry, AuditUnavailable
from api.configuring import Difference, FileProblem, NotDone, Outcome, Revision, RevisionInfo, Source
from connectors.base import Clock
from gateway.changing.canonical import hash_of, texts
from gateway.changing.difference import difference
from gateway.changing.exchanging import Exchange, ExchangeFailed
from gateway.changing.placing import NotPlaced, Placing
from gateway.changing.revisions import Revisions
from gateway.changing.sent import told
from gateway.config.load import Loaded
from gateway.snapshots.failures import NotWritten

_log = structlog.get_logger("andon.configuration")

#: Author of what was changed in the files themselves, where nobody says who he is.
BY_HAND = "edited by hand"


@dataclass(frozen=True)
class Plan:
    """A configuration that could run, its files and their hash, and how it differs from what runs."""

    loaded: Loaded
    files: Mapping[str, str]
    hash: str
    difference: Difference

    def warnings(self) -> tuple[FileProblem, ...]:
        """What is odd about it."""
        return tuple(told(self.loaded.warnings))


@dataclass(frozen=True)
class Who:
    """Who changes it, for the revision and the audit trail."""

    name: str
    kind: str
    via: str
    source: Source
    reason: str
    peer: str = ""
    action: str = "config.apply"
    restored: int | None = None


@dataclass
class Carrier:
    """What runs, and the way to something else. One change at a time; the caller sees to that.

    `main` is the configuration file as the process was started with it. `audit` is None where there is none.
    """

    exchange: Exchange
    kept: Revisions
    clock: Clock
    main: Path
    audit: Audit | None = None
    loaded: Loaded = field(init=False)
    files: Mapping[str, str] = field(init=False)
    hash: str = field(init=False)
    #: Why something else runs than the files say, where that could not be helped.
    trouble: str = ""

    def __post_init__(self) -> None:
        self.loaded = self.exchange.loaded
        self.files = texts(self.loaded.files, self.main.name)
        self.hash = hash_of(self.files)

    def plan(self, loaded: Loaded) -> Plan:
        """What it would mean to run a configuration."""
        files = texts(loaded.files, self.main.name)
        return Plan(loaded, files, hash_of(files), difference(self.loaded, loaded))

    def runs(self, plan: Plan) -> bool:
        """Whether there is nothing to do."""
        return plan.hash == self.hash and not plan.difference

    async def carry_out(self, plan: Plan, placing: Placing | None, who: Who) -> Outcome:
        """Make a plan what runs. `placing` has its files staged; None where they are in place already.

        Raises:
            NotDone: what ran runs.
        """
        same_files = plan.hash == self.hash
        number = None if same_files else self.kept.next_number()
        detail = {"hash": plan.hash, "revision": number, "reason": who.reason}
        try:
            await self.record(who, "begun", "", detail)
        except AuditUnavailable as failed:
            raise NotDone(
                "audit_unavailable",
                f"the audit trail cannot be written: {failed.reason}",
                "nothing is changed without a trace; see to the disk it is on",
            ) from failed
        info = self.kept.newest()
        try:
            if plan.difference:
                await self._exchanged(plan)
            if not same_files:
                info = self._info(plan, who)
                await self._keep(plan, Revision(info, plan.files), placing)
        except NotDone as failed:
            with suppress(AuditUnavailable):
                await self.record(who, "failed", failed.code, {**detail, "why": failed.reason[:200]})
            raise
        self.loaded, self.files, self.hash = plan.loaded, plan.files, plan.hash
        self.trouble = ""
        changes = len(plan.difference.changes)
        with suppress(AuditUnavailable):  # it says already that this was begun
            await self.record(who, "ok", "", {**detail, "changes": changes})
        _log.info(
            "configuration changed",
            revision=info.number if info else None,
            author=who.name,
            source=who.source,
            changes=changes,
            hash=plan.hash[:12],
        )
        return Outcome("applied", plan.hash, info, plan.difference, plan.warnings())

    async def record(self, who: Who, result: str, code: str, detail: Mapping[str, str | int | None]) -> None:
        """Tell the audit trail.

        Raises:
            AuditUnavailable: it cannot be told.
        """
        if self.audit is None:
            return
        await self.audit.record(
            AuditEntry(
                action=who.action,
                actor=who.name,
                kind=who.kind,
                via=who.via,
                target="configuration",
                result=result,
                code=code,
                detail=detail,
                peer=who.peer,
            )
        )

    def note_start(self) -> RevisionInfo:
        """At the start: keep what runs as a revision, unless it is what ran last. What was edited behind
        the gateway's back shows up here.

        Raises:
            NotWritten: the disk refused.
        """
        newest = self.kept.newest()
        if newest is not None and newest.hash == self.hash:
            return newest
        name, reason = (
            ("", "the first start") if newest is None else (BY_HAND, "the files had changed before the start")
        )
        plan = Plan(self.loaded, self.files, self.hash, Difference())
        info = self._info(plan, Who(name, "gateway", "file", "start", reason))
        self.kept.add(Revision(info, self.files))
        if newest is not None:
            _log.warning("configuration edited while the gateway was away", revision=info.number)
        return info

    async def _exchanged(self, plan: Plan) -> None:
        try:
            await self.exchange.apply(plan.loaded, plan.difference)
        except ExchangeFailed as failed:
            raise NotDone(
                "configuration_not_exchanged",
                f"the new configuration could not be made to run, so the old one runs: {failed.reason}",
                failed.hint,
            ) from failed

    async def _keep(self, plan: Plan, revision: Revision, placing: Placing | None) -> None:
        try:
            if placing is None or placing.idle:
                await asyncio.to_thread(self.kept.add, revision)
            else:
                await asyncio.to_thread(placing.commit, self.kept, revision)
        except (NotWritten, NotPlaced) as failed:
            await self._back(plan)
            raise NotDone("configuration_not_writable", failed.reason, failed.hint) from failed

    async def _back(self, plan: Plan) -> None:
        """The files could not be kept: what runs must be what they say."""
        if not plan.difference:
            return
        try:
            await self.exchange.apply(self.loaded, difference(plan.loaded, self.loaded))
        except ExchangeFailed as failed:
            self.trouble = f"another configuration runs than the files say: {failed.reason}"
            _log.error("configuration not taken back", reason=failed.reason, hint=failed.hint)

    def _info(self, plan: Plan, who: Who) -> RevisionInfo:
        number, at = self.kept.next_number(), self.clock.now()
        return RevisionInfo(number, at, who.name, who.reason, plan.hash, who.source, who.restored)
