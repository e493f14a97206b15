"""Where wishes for another configuration come in: over the API, and as files that were changed on the disk.

The order is the point. A wish is judged, compared and staged while nothing has changed; then `carrying` tells
the audit trail, exchanges the parts, and lets the revision and its files count. A failure on the way leaves,
or brings back, what ran; a crash leaves files that are all old or all new (`placing`). One change is made at
a time, and each says which configuration it means to replace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from api.access import Principal
from api.auditing import AuditUnavailable
from api.configuring import (
    Difference,
    NotDone,
    Outcome,
    Refused,
    Revision,
    RevisionInfo,
    Running,
    Source,
    Wish,
)
from gateway.changing import reach
from gateway.changing.canonical import meaning, on_disk
from gateway.changing.carrying import BY_HAND, Carrier, Plan, Who
from gateway.changing.difference import difference
from gateway.changing.placing import NotPlaced, Placing
from gateway.changing.sent import check_overwriting, judge, told
from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigurationRefused, Problem
from gateway.config.sources import PLAIN, Watched

_log = structlog.get_logger("andon.configuration")

T = TypeVar("T")

#: Longest wait at a stop for a change that is being made, in seconds.
CLOSE_S_MAX = 20.0
#: Problems of a file that are logged; `andon check` tells them all.
_LOGGED_MAX = 10
#: Most characters of a reason.
REASON_MAX = 1000
_WHY: Mapping[Source, str] = {
    "sighup": "the files were read again on request",
    "watch": "the files had changed",
}


async def _nobody_looks(_: Sequence[Path]) -> None:
    """Where nobody watches the files."""


@dataclass
class ChangeDesk:
    """Implements `api.configuring.Configuring`, and reads the files again when it is asked to.

    `environment` is where references to variables lead. `looked_at` is told the paths that were looked at
    whenever the files are read again.
    """

    carrier: Carrier
    environment: Mapping[str, str]
    looked_at: Callable[[Sequence[Path]], Awaitable[None]] = _nobody_looks
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closed: bool = False
    _under_way: set[asyncio.Task[Any]] = field(default_factory=set)
    _trouble: str = ""
    _told: tuple[str, ...] = ()

    @property
    def trouble(self) -> str:
        """Why the files on the disk are not what runs; empty where they are."""
        return self.carrier.trouble or self._trouble

    def health(self) -> Mapping[str, Mapping[str, object]]:
        """The part of the health report, while something is wrong."""
        return {"configuration": {"ok": False, "reason": self.trouble}} if self.trouble else {}

    # -- the port ----------------------------------------------------------------------------------

    def running(self) -> Running:
        """What runs, its files without any secret."""
        runs = self.carrier
        warnings = tuple(told(runs.loaded.warnings))
        return Running(runs.hash, runs.files, runs.kept.newest(), warnings, self.trouble)

    async def apply(self, wish: Wish, by: Principal, peer: str = "") -> Outcome:
        """Judge a configuration, and run it unless it is a dry run: whole, or not at all."""
        way: Source = "cli" if by.kind == "local" else "rest"
        return await self._in_its_own_task(
            wish, by, Who(by.name, by.kind, way, way, wish.reason[:REASON_MAX], peer)
        )

    async def restore(
        self, number: int, reason: str, expected: str, by: Principal, peer: str = "", *, dry_run: bool = False
    ) -> Outcome:
        """Run an older revision again, as `apply` would."""
        revision = await self.revision(number)
        if revision is None:
            raise _no_revision(number)
        way = "cli" if by.kind == "local" else "rest"
        who = Who(
            by.name, by.kind, way, "rollback", reason[:REASON_MAX], peer, "config.rollback", restored=number
        )
        return await self._in_its_own_task(Wish(revision.files, reason, expected, dry_run), by, who)

    async def revisions(self) -> Sequence[RevisionInfo]:
        """Those kept, the newest first."""
        return self.carrier.kept.infos()

    async def revision(self, number: int) -> Revision | None:
        """One of them with its files."""
        return await asyncio.to_thread(self.carrier.kept.read, number)

    async def compare(self, old: int, new: int | None) -> Difference:
        """What differs between two revisions; None is what runs."""
        before = await self._loaded_of(old)
        after = self.carrier.loaded if new is None else await self._loaded_of(new)
        return difference(before, after)

    # -- the files on the disk ---------------------------------------------------------------------

    async def read_again(self, source: Source) -> Outcome | None:
        """Run what the files say now. None when that cannot be run: what ran goes on, and `trouble` says why
        until it can, or when the gateway stops. What was begun comes to its end also when nobody waits.
        """
        return None if self._closed else await self._own(self._read_again(source))

    async def close(self) -> None:
        """Begin no more from files, and wait for what is being made; not for ever, since a disk can hang."""
        self._closed = True
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=CLOSE_S_MAX)
        if late:
            _log.error("a change of the configuration does not end", waited_s=CLOSE_S_MAX)

    async def _read_again(self, source: Source) -> Outcome | None:
        async with self._lock:
            watched = Watched(PLAIN, self.carrier.main)
            try:
                try:
                    loaded = await asyncio.to_thread(self._read_disk, watched)
                finally:  # what is edited while the change is made is news again
                    await self.looked_at(watched.paths)
                plan = self.carrier.plan(loaded)
                if self.carrier.runs(plan):
                    outcome = self._unchanged()
                else:
                    _refuse_restart(plan)
                    who = Who(BY_HAND, "gateway", "file", source, _WHY[source])
                    outcome = await self.carrier.carry_out(plan, None, who)
            except ConfigurationRefused as refused:
                lines = [str(problem).replace("\n    ", "; ") for problem in refused.problems]
                await self._in_trouble(source, f"{refused}: {lines[0]}", lines, "invalid_configuration")
            except NotDone as failed:
                await self._in_trouble(source, failed.reason, [failed.reason], failed.code)
            except Exception as error:  # noqa: BLE001 - nobody asked for this: it must not end what works
                _log.exception("configuration not taken up, for a reason nobody foresaw", source=source)
                reason = f"an unexpected failure: {type(error).__name__}: {error}"
                await self._in_trouble(source, reason, [reason], "internal_error")
            else:
                self._mended()
                return outcome
            finally:
                await self.looked_at(watched.paths)
        return None

    def _read_disk(self, watched: Watched) -> Loaded:
        runs = self.carrier
        try:
            return load(runs.main, environment=self.environment, registry=runs.loaded.registry, files=watched)
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Nobody has thought of such a file yet; it must not end a gateway that works.
            _log.exception("a configuration cannot be judged")
            problem = Problem(runs.main.name, None, "", f"cannot be judged: {type(error).__name__}", "")
            raise ConfigurationRefused([problem]) from error

    async def _in_trouble(self, source: Source, reason: str, lines: Sequence[str], code: str) -> None:
        """Say once, in the log, the trail and health, why the files are not what runs."""
        self._trouble = f"the files on the disk are not what runs: {reason}"
        if self._told == tuple(lines):
            return
        self._told = tuple(lines)
        for line in lines[:_LOGGED_MAX]:
            _log.error("configuration refused, the old one goes on", source=source, problem=line)
        if len(lines) > _LOGGED_MAX:
            _log.error(
                "configuration refused", further=len(lines) - _LOGGED_MAX, hint="andon check tells all"
            )
        who = Who(BY_HAND, "gateway", "file", source, _WHY[source])
        with suppress(AuditUnavailable):
            await self.carrier.record(who, "refused", code, {"reason": reason[:200]})

    def _mended(self) -> None:
        if self._told:
            _log.info("configuration files are sound again")
        self._trouble, self._told = "", ()

    # -- one wish ----------------------------------------------------------------------------------

    async def _in_its_own_task(self, wish: Wish, by: Principal, who: Who) -> Outcome:
        return await self._own(self._wish(wish, by, who))

    async def _own(self, work: Coroutine[Any, Any, T]) -> T:
        """A caller that goes away in the middle leaves nothing half done."""
        task = asyncio.create_task(work, name="change of the configuration")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _wish(self, wish: Wish, by: Principal, who: Who) -> Outcome:
        async with self._lock:
            try:
                prepared = await self._prepared(wish, by)
            except (Refused, NotDone) as refused:
                code = refused.code if isinstance(refused, NotDone) else "invalid_configuration"
                if not wish.dry_run:
                    with suppress(AuditUnavailable):
                        await self.carrier.record(who, "refused", code, {"reason": str(refused)[:200]})
                raise
            if isinstance(prepared, Outcome):
                return prepared
            plan, placing = prepared
            try:
                outcome = await self.carrier.carry_out(plan, placing, who)
            finally:
                await asyncio.to_thread(placing.drop)
            self._mended()
            return outcome

    async def _prepared(self, wish: Wish, by: Principal) -> Outcome | tuple[Plan, Placing]:
        """Everything short of a change: an outcome where there is nothing more to do."""
        runs = self.carrier
        if wish.expected != runs.hash:
            raise self._changed_meanwhile()
        plan = await asyncio.to_thread(self._plan, wish.files, by)
        if runs.runs(plan):
            return self._unchanged()
        if not reach.is_admin(by) and (keys := reach.needs_admin(plan.difference, runs.loaded, plan.loaded)):
            raise NotDone(
                "configuration_needs_admin",
                f"{', '.join(keys[:10])}: that needs an administrator",
                f"ask one to apply it, or leave {', '.join(keys[:10])} as before",
                keys=keys,
            )
        _refuse_restart(plan)
        await asyncio.to_thread(self._refuse_to_overwrite, plan)
        if wish.dry_run:
            return Outcome("planned", plan.hash, None, plan.difference, plan.warnings())
        placing = Placing(runs.main, plan.files)
        try:
            await asyncio.to_thread(placing.stage)
        except NotPlaced as failed:
            raise NotDone("configuration_not_writable", failed.reason, failed.hint) from failed
        return plan, placing

    def _plan(self, files: Mapping[str, str], by: Principal) -> Plan:
        runs = self.carrier
        return runs.plan(
            judge(
                files,
                runs.main,
                data_dir=runs.loaded.data_dir,
                registry=runs.loaded.registry,
                environment=self.environment,
                allowed=reach.references_allowed(by, runs.loaded),
            )
        )

    async def _loaded_of(self, number: int) -> Loaded:
        """A revision as a configuration. It was let in once, so its references may be followed."""
        revision = await self.revision(number)
        if revision is None:
            raise _no_revision(number)
        runs = self.carrier
        return await asyncio.to_thread(
            judge,
            revision.files,
            runs.main,
            data_dir=runs.loaded.data_dir,
            registry=runs.loaded.registry,
            environment=self.environment,
            allowed=lambda place, text: None,
        )

    def _unchanged(self) -> Outcome:
        return Outcome("unchanged", self.carrier.hash, self.carrier.kept.newest(), Difference())

    def _changed_meanwhile(self) -> NotDone:
        newest = self.carrier.kept.newest()
        by = f" by {newest.author}" if newest is not None and newest.author else ""
        at = f" at {newest.at:%Y-%m-%d %H:%M:%S} UTC" if newest is not None else ""
        return NotDone(
            "changed_meanwhile",
            f"another configuration runs than the one this is meant to replace; it was changed{by}{at}",
            "get the one that runs, look at the difference, and apply again",
            running=newest,
        )

    def _refuse_to_overwrite(self, plan: Plan) -> None:
        """Nothing somebody has written and nobody has applied may be lost."""
        runs = self.carrier
        for name, text in runs.files.items():
            found = _text_at(on_disk(name, runs.main))
            if found is None or found not in (text, plan.files.get(name)):
                raise NotDone(
                    "configuration_edited_on_disk",
                    f"{name} on the disk is not what runs: somebody has changed it and not applied it",
                    "have it read again (systemctl reload andon), or put it back, then apply again",
                    running=runs.kept.newest(),
                )
        check_overwriting(plan.files.keys() - runs.files.keys(), plan.files, runs.main, runs.kept)


def _refuse_restart(plan: Plan) -> None:
    if changes := plan.difference.needs_restart:
        keys = [f"{change.kind}.{edit.key}" for change in changes for edit in change.what]
        raise NotDone(
            "configuration_needs_restart",
            "; ".join(change.needs_restart for change in changes),
            "stop the gateway, change the file, and start it again; or leave these as they are",
            keys=keys,
        )


def _text_at(path: Path) -> str | None:
    try:
        return meaning(PLAIN.read(path))
    except OSError:
        return None


def _no_revision(number: int) -> NotDone:
    return NotDone("unknown_revision", f"there is no revision {number}", "the list of revisions has them all")
