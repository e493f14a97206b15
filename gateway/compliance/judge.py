"""Gathers what the rules need, and judges them on demand and every ten minutes.

Implements `api.compliance.Compliance`.

A rule whose evidence cannot be had is not judged, and said so: it is neither kept nor violated. The same goes
for a failure nobody foresaw: who only watches must not end what is watched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from api.access import Access
from api.auditing import Audit, AuditRecord, AuditUnavailable
from api.compliance import Found, RuleView, Standing, Violation
from api.params import earlier
from api.ports import History, HistoryUnavailable, Interval
from connectors.base import Clock
from gateway.compliance import rules
from gateway.compliance.rules import Account, Past
from gateway.config.compliance import ComplianceSettings
from gateway.config.schema import EquipmentSettings
from statemodel.records import Recorded

log = structlog.get_logger(__name__)

#: How often all rules are judged without being asked, and over how long.
EVERY_S: Final = 600.0
LAST: Final = timedelta(days=1)
#: A downtime that began this long before what is asked for is seen from its beginning.
_BEFORE: Final = timedelta(days=1)
#: Read at once, and most read for one equipment or of the trail; beyond it a rule is not judged.
_PAGE: Final = 2_000
_PAGES_MAX: Final = 100


class _NotJudged(Exception):
    """The evidence cannot be had; the message says why."""


class Evidence(msgspec.Struct, frozen=True):
    """Where evidence comes from. `anchored`: the newest anchored record, and since when that is known."""

    history: History
    audit: Audit
    access: Callable[[], Access | None]
    anchored: Callable[[], tuple[int, datetime]]


_Judging = Callable[[ComplianceSettings, datetime, datetime], Awaitable[list[Violation]]]


class ComplianceJudge:
    """Judges the rules of one configuration. `run` is its one task."""

    def __init__(
        self,
        settings: Sequence[ComplianceSettings],
        equipment: Sequence[EquipmentSettings],
        evidence: Evidence,
        clock: Clock,
    ) -> None:
        self._settings, self._equipment = tuple(settings), tuple(equipment)
        self._evidence, self._clock = evidence, clock
        #: How the rules stood when they were last judged.
        self.views: Sequence[RuleView] = ()
        #: How often judging a rule failed in a way nobody foresaw.
        self.surprises = 0
        self._judging: Mapping[str, _Judging] = {
            "reason_within": self._reasons,
            "unknown_at_most": self._unknown,
            "illegal_moves": self._moves,
            "command_verified": self._commands,
            "stale_keys": self._keys,
            "password_age": self._passwords,
            "audit_anchored": self._anchors,
        }

    def follow(self, settings: Sequence[ComplianceSettings], equipment: Sequence[EquipmentSettings]) -> None:
        """Judge by another configuration from now on."""
        self._settings, self._equipment, self.views = tuple(settings), tuple(equipment), ()

    async def run(self) -> None:
        """Judge by the clock, for ever."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self.rules()

    async def rules(self) -> Sequence[RuleView]:
        """See `api.compliance.Compliance.rules`."""
        now = self._clock.now()
        settings, views = self._settings, []
        for rule in settings:
            try:
                found = await self._judge(rule, now - LAST, now)
            except _NotJudged as error:
                views.append(_view(rule, "unknown", 0, now, str(error)))
                continue
            open_ = sum(1 for one in found if one.settled_at is None)
            views.append(_view(rule, "violated" if open_ else "kept", open_, now, None))
        if settings is self._settings:
            self._tell(views)
            self.views = views
        return views

    async def violations(self, from_: datetime, to: datetime) -> Found:
        """See `api.compliance.Compliance.violations`."""
        found: list[Violation] = []
        incomplete = []
        for rule in self._settings:
            try:
                found += await self._judge(rule, from_, to)
            except _NotJudged as error:
                incomplete.append(f"{rule.name}: {error}")
        return Found(sorted(found, key=lambda one: (one.from_, one.id)), incomplete)

    def counts(self) -> Mapping[str, int]:
        """Violations of the last day that are not settled, by rule, as last judged."""
        return {view.name: view.violations for view in self.views}

    def part_of_health(self) -> Mapping[str, object] | None:
        """How the rules stand, in a sentence; people broke them, so the gateway is well all the same."""
        broken = [f"{view.name} ({view.violations})" for view in self.views if view.state == "violated"]
        unknown = [view.name for view in self.views if view.state == "unknown"]
        if not self.views or not (broken or unknown):
            return None
        words = [f"violated within a day: {', '.join(broken)}"] if broken else []
        words += [f"not judged: {', '.join(unknown)}"] if unknown else []
        return {"ok": True, "reason": "; ".join(words), "violations": sum(self.counts().values())}

    # -- inside

    async def _judge(self, rule: ComplianceSettings, from_: datetime, to: datetime) -> list[Violation]:
        try:
            found = await self._judging[rule.kind](rule, from_, to)
            return [one for one in found if one.from_ < to and (one.to is None or one.to >= from_)]
        except _NotJudged:
            raise
        except HistoryUnavailable as error:
            raise _NotJudged(f"the database does not answer: {error.reason}") from error
        except AuditUnavailable as error:
            raise _NotJudged(f"the audit trail is not available: {error.reason}") from error
        except Exception as error:  # see the head of this file
            self.surprises += 1
            log.exception("a compliance rule cannot be judged", rule=rule.name)
            what = f"{type(error).__name__}: {error}"
            raise _NotJudged(f"it cannot be judged, which is a fault of the program: {what}") from error

    def _of(self, rule: ComplianceSettings) -> Sequence[EquipmentSettings]:
        """The equipment a rule is about."""
        return [
            item
            for item in self._equipment
            if rule.equipment in (None, item.name)
            and (rule.area is None or f"{item.path}/".startswith(f"{rule.area}/"))
        ]

    async def _reasons(self, rule: ComplianceSettings, from_: datetime, to: datetime) -> list[Violation]:
        now = self._clock.now()
        found: list[Violation] = []
        for item in self._of(rule):
            begin, end = earlier(from_, _BEFORE), min(to, now)
            intervals = await self._timeline(item.name, begin, end)
            corrections = await self._evidence.history.corrections(item.name, begin, end)
            past = Past(item.name, item.path, _whole(intervals, end, now), corrections)
            found += rules.reason_within(rule, past, now)
        return found

    async def _unknown(self, rule: ComplianceSettings, from_: datetime, to: datetime) -> list[Violation]:
        end = min(to, self._clock.now())
        found: list[Violation] = []
        for item in self._of(rule):
            begin = earlier(from_, rule.per)
            past = Past(item.name, item.path, await self._timeline(item.name, begin, end))
            found += rules.unknown_at_most(rule, past, begin, end)
        return found

    async def _moves(self, rule: ComplianceSettings, from_: datetime, to: datetime) -> list[Violation]:
        found: list[Violation] = []
        for item in self._of(rule):
            moves: list[Recorded] = []
            after = 0
            for _ in range(_PAGES_MAX):
                page = await self._evidence.history.transitions(
                    item.name, after=after, from_=from_, to=to, limit=_PAGE
                )
                moves += page
                if len(page) < _PAGE:
                    break
                after = page[-1].seq
            else:
                raise _NotJudged(f"{item.name} has more than {_PAGES_MAX * _PAGE} transitions then")
            found += rules.illegal_moves(rule, Past(item.name, item.path, ()), moves)
        return found

    async def _commands(self, rule: ComplianceSettings, from_: datetime, to: datetime) -> list[Violation]:
        return list(rules.command_verified(rule, await self._records("command", from_, to)))

    async def _keys(self, rule: ComplianceSettings, _: datetime, __: datetime) -> list[Violation]:
        keys = [Account(key.name, key.last_used_at or key.created_at) for key in await self._access().keys()]
        return list(rules.stale_keys(rule, keys, self._clock.now()))

    async def _passwords(self, rule: ComplianceSettings, _: datetime, __: datetime) -> list[Violation]:
        """By the audit trail: it says when each password was set."""
        changed: dict[str, datetime] = {}
        for record in await self._records("user", None, None):
            sets = record.action in ("user.add", "user.password") or "new_password" in record.detail
            if sets and record.result == "ok":
                changed[record.target] = record.at
        users = [
            Account(user.name, changed.get(user.name, user.created_at))
            for user in await self._access().users()
            if not user.disabled
        ]
        return list(rules.password_age(rule, users, self._clock.now()))

    async def _anchors(self, rule: ComplianceSettings, _: datetime, __: datetime) -> list[Violation]:
        anchored_n, since = self._evidence.anchored()
        head = self._evidence.audit.head()
        return list(rules.audit_anchored(rule, head, anchored_n, since, self._clock.now()))

    def _access(self) -> Access:
        access = self._evidence.access()
        if access is None:
            raise _NotJudged("there are no users and keys without [api]")
        return access

    async def _timeline(self, equipment: str, from_: datetime, to: datetime) -> Sequence[Interval]:
        """All intervals of a range; the first begins when its state did, also where that was before."""
        intervals: list[Interval] = []
        begin = from_
        for _ in range(_PAGES_MAX):
            page = await self._evidence.history.timeline(equipment, begin, to, _PAGE) if begin < to else []
            intervals += page
            if len(page) < _PAGE or page[-1].to is None:
                break
            begin = page[-1].to
        else:
            raise _NotJudged(f"{equipment} has more than {_PAGES_MAX * _PAGE} changes of state then")
        if intervals and intervals[0].from_ <= from_:
            state = await self._evidence.history.state_at(equipment, from_)
            if state is not None and state.since < intervals[0].from_:
                intervals[0] = msgspec.structs.replace(intervals[0], from_=state.since)
        return intervals

    async def _records(
        self, action: str, from_: datetime | None, to: datetime | None
    ) -> Sequence[AuditRecord]:
        found: list[AuditRecord] = []
        after = 0
        for _ in range(_PAGES_MAX):
            page = await self._evidence.audit.read(
                after=after, limit=_PAGE, action=action, from_=from_, to=to
            )
            found += page
            if len(page) < _PAGE:
                return found
            after = page[-1].n
        raise _NotJudged(f"the audit trail has more than {_PAGES_MAX * _PAGE} such records then")

    def _tell(self, views: Sequence[RuleView]) -> None:
        """Say in the log what is newly violated."""
        before = {view.name: view.violations for view in self.views}
        for view in views:
            if view.violations > before.get(view.name, 0):
                log.warning("a compliance rule is not kept", rule=view.name, violations=view.violations)


def _whole(intervals: Sequence[Interval], cut_at: datetime, now: datetime) -> Sequence[Interval]:
    """The timeline with its last interval open, when it was only cut at the present."""
    if not intervals or intervals[-1].to is None or intervals[-1].to < cut_at or cut_at < now:
        return intervals
    return [*intervals[:-1], msgspec.structs.replace(intervals[-1], to=None, duration_s=None)]


def _view(
    rule: ComplianceSettings, state: Standing, violations: int, now: datetime, reason: str | None
) -> RuleView:
    return RuleView(
        name=rule.name,
        kind=rule.kind,
        scope=rule.equipment or rule.area or "",
        says=rules.says(rule),
        state=state,
        violations=violations,
        judged_at=now,
        reason=reason,
    )
