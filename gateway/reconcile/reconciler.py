"""Compares, looks again, mends, looks once more, and reports: by the clock and on demand.

A difference counts only when it is still there after a settling time, and a repair only when another look
says that it helped. Nothing here ends the gateway: a part that cannot be compared says so in the report.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from api.reconciliation import AlreadyRunning, ComparedPart, Difference, Reconciliation
from connectors.base import Clock
from gateway.config.schema import ReconcileSettings
from gateway.errors import GatewayError
from gateway.reconcile.broker import BrokerPart
from gateway.reconcile.kinds import KINDS, Finding
from gateway.reconcile.parts import Look, Part

log = structlog.get_logger(__name__)

#: Reports kept, differences in one of them, and differences told in the log at once.
REPORTS_MAX = 20
DIFFERENCES_MAX = 200
_LOGGED_MAX = 10
#: Longest look of one part.
LOOK_S_MAX, FULL_LOOK_S_MAX = 60.0, 1800.0
#: The first one waits until things run.
FIRST_AFTER_S = 30.0


class Reconciler:
    """Owns the schedule and the reports. Implements `api.reconciliation.Reconciler`."""

    def __init__(self, parts: Sequence[Part], settings: ReconcileSettings, clock: Clock) -> None:
        self._parts, self._settings, self._clock = parts, settings, clock
        self._reports: deque[Reconciliation] = deque(maxlen=REPORTS_MAX)
        self._since: dict[tuple[str, str, str], datetime] = {}
        self._turn = asyncio.Lock()
        self.gentle = False
        self.runs = self.repaired = self.unrepaired = 0

    def exchange(self, parts: Sequence[Part], settings: ReconcileSettings) -> None:
        """Compare these parts from now on; what was reported stays. While it does not run."""
        self._parts, self._settings = parts, settings

    # -- for others

    async def reconcile(self, *, repair: bool, full: bool) -> Reconciliation:
        """Compare now, as somebody asks for it.

        Raises:
            AlreadyRunning: one is at work.
        """
        if self._turn.locked():
            raise AlreadyRunning
        async with self._turn:
            return await self._reconcile("request", repair=repair, full=full)

    def reports(self) -> Sequence[Reconciliation]:
        """The newest reports, newest first."""
        return tuple(reversed(self._reports))

    def trouble(self) -> str | None:
        """What the newest report found and could not mend, in words; None when all agree.

        What only waits to be cleared is no trouble.
        """
        if not self._reports or self._reports[-1].agree:
            return None
        report = self._reports[-1]
        left = [found for found in report.differences if found.outcome != "repaired"]
        kinds = Counter(found.kind for found in left if not KINDS[found.kind].asked)
        if not kinds and not report.left_out:
            return None
        words = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
        told = ", ".join([*words, f"{report.left_out} more"] if report.left_out else words)
        return f"{told}; `andon reconcile` tells more"

    # -- by the clock

    async def run(self) -> None:
        """Reconcile as often as the settings say, until cancelled."""
        settings = self._settings
        full_at_s = self._clock.monotonic() + settings.full_every.total_seconds()
        await self._clock.sleep(min(FIRST_AFTER_S, settings.every.total_seconds()))
        while True:
            if full := self._clock.monotonic() >= full_at_s:
                full_at_s = self._clock.monotonic() + settings.full_every.total_seconds()
            async with self._turn:
                self.gentle = True
                try:
                    await self._reconcile("schedule", repair=settings.repair, full=full)
                finally:
                    self.gentle = False
            await self._clock.sleep(settings.every.total_seconds())

    # -- one reconciliation

    async def _reconcile(self, trigger: str, *, repair: bool, full: bool) -> Reconciliation:
        started_at = self._clock.now()
        looks = {part.name: await self._look(part, full=full, focus=None) for part in self._parts}
        suspected = {name: look.findings for name, look in looks.items() if look.findings}
        certain, lost = await self._look_again(suspected, full=full)
        looks |= lost
        self._note_since(certain)
        outcomes: dict[tuple[str, str, str], str] = {}
        if repair:
            outcomes = await self._repair(certain, full=full, asked=trigger == "request")
        differences = [
            self._told(finding, outcomes.get(finding.key, "told")) for finding in _without_echoes(certain)
        ]
        left_out = sum(look.left_out for name, look in looks.items() if certain.get(name))
        left_out += max(0, len(differences) - DIFFERENCES_MAX)
        report = Reconciliation(
            started_at=started_at,
            ended_at=self._clock.now(),
            trigger=trigger,
            full=full,
            repair=repair,
            agree=not left_out and all(found.outcome == "repaired" for found in differences),
            parts=[ComparedPart(name, look.compared, look.reason) for name, look in looks.items()],
            differences=differences[:DIFFERENCES_MAX],
            left_out=left_out,
        )
        self.runs += 1
        self._reports.append(report)
        self._log(report)
        return report

    async def _look(self, part: Part, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        try:
            async with asyncio.timeout(FULL_LOOK_S_MAX if full else LOOK_S_MAX):
                return await part.look(full=full, focus=focus)
        except GatewayError as error:
            return Look((), 0, f"not compared: {error.reason}", failed=True)
        except TimeoutError:
            return Look((), 0, "not compared: it took too long", failed=True)

    async def _look_again(
        self, suspected: Mapping[str, Sequence[Finding]], *, full: bool
    ) -> tuple[dict[str, Sequence[Finding]], dict[str, Look]]:
        """Those differences that are still the same after the settling time, and the parts that could not be
        looked at any more."""
        if not suspected:
            return {}, {}
        await self._clock.sleep(self._settings.settle.total_seconds())
        still: dict[str, Sequence[Finding]] = {}
        lost: dict[str, Look] = {}
        for part in self._parts:
            if before := suspected.get(part.name):
                keys = {finding.key for finding in before}
                look = await self._look(part, full=full, focus=before)
                if look.failed:
                    lost[part.name] = look
                still[part.name] = [finding for finding in look.findings if finding.key in keys]
        return {name: findings for name, findings in still.items() if findings}, lost

    async def _repair(
        self, certain: Mapping[str, Sequence[Finding]], *, full: bool, asked: bool
    ) -> dict[tuple[str, str, str], str]:
        """Mend what may be mended; by key, whether another look says that it helped."""
        tried: dict[str, Sequence[Finding]] = {}
        for part in self._parts:
            chosen = [found for found in certain.get(part.name, ()) if _may_mend(part, found, asked=asked)]
            if not chosen:
                continue
            tried[part.name] = chosen
            try:
                await part.repair(chosen)
            except GatewayError as error:
                log.warning("differences could not be mended", part=part.name, reason=error.reason)
        # What follows from what was mended may have gone with it.
        others = {
            name: [found for found in findings if found.kind == "sequence_gap"]
            for name, findings in certain.items()
        }
        watched = {name: [*tried.get(name, ()), *(others.get(name, ()) if tried else ())] for name in certain}
        left, lost = await self._look_again({n: f for n, f in watched.items() if f}, full=full)
        outcomes: dict[tuple[str, str, str], str] = {}
        for name, findings in watched.items():
            still = {finding.key for finding in left.get(name, ())}
            for finding in findings:
                if finding.key not in still and name not in lost:
                    outcomes[finding.key] = "repaired"
                    self.repaired += 1
                elif finding in tried.get(name, ()):
                    outcomes[finding.key] = "not repaired"
                    self.unrepaired += 1
        cleared = {k[1] for k, outcome in outcomes.items() if k[0] == "left_over" and outcome == "repaired"}
        for part in self._parts:
            if isinstance(part, BrokerPart):
                await part.forget(cleared)
        return outcomes

    def _note_since(self, certain: Mapping[str, Sequence[Finding]]) -> None:
        now = self._clock.now()
        keys = {finding.key for findings in certain.values() for finding in findings}
        self._since = {key: self._since.get(key, now) for key in keys}

    def _told(self, finding: Finding, outcome: str) -> Difference:
        kind = KINDS[finding.kind]
        return Difference(
            kind=finding.kind,
            equipment=finding.equipment,
            place=finding.place,
            expected=finding.expected,
            found=finding.found,
            since=self._since[finding.key],
            remedy=kind.remedy,
            harmless=kind.harmless,
            outcome=outcome,
        )

    def _log(self, report: Reconciliation) -> None:
        took_s = round((report.ended_at - report.started_at).total_seconds(), 2)
        if not report.differences and not report.left_out:
            log.info("reconciled: all agree", trigger=report.trigger, full=report.full, took_s=took_s)
            return
        told = log.error if self.trouble() else log.warning
        kinds = Counter(found.kind for found in report.differences)
        told(
            "reconciled: differences" + (", all mended" if report.agree else ""),
            trigger=report.trigger,
            took_s=took_s,
            left_out=report.left_out,
            **kinds,
        )
        # Once, not at every reconciliation.
        new = [found for found in report.differences if found.since >= report.started_at]
        for found in new[:_LOGGED_MAX]:
            told(
                "a difference",
                kind=found.kind,
                place=found.place,
                expected=found.expected,
                found=found.found,
                outcome=found.outcome,
                remedy=found.remedy,
            )


def _may_mend(part: Part, finding: Finding, *, asked: bool) -> bool:
    """What does no harm, what somebody asked for, and what a broker's settings let go by itself."""
    kind = KINDS[finding.kind]
    clears = isinstance(part, BrokerPart) and part.clear_removed and finding.certain
    return kind.harmless or (kind.asked and (asked or clears))


def _without_echoes(certain: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """All findings, but for a missing state whose event is told as missing already."""
    found = [finding for findings in certain.values() for finding in findings]
    missing = {finding.seq for finding in found if finding.kind == "event_missing"}
    return [item for item in found if item.kind != "state_missing" or item.seq not in missing]
