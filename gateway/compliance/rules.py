"""The rules, over values: what is violated by these intervals, corrections, records and accounts. Pure.

Every violation has an id that depends only on what it is about, so that it is the same one in every
evaluation. Knows no store and no clock: `now` is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta

import msgspec

from api.auditing import AuditHead, AuditRecord
from api.compliance import Violation
from api.params import earlier
from api.ports import Interval
from gateway.config.compliance import ComplianceSettings
from statemodel.corrected import LATE_SAMPLES
from statemodel.durations import format_duration
from statemodel.records import Recorded
from statemodel.types import UNKNOWN, Conformance, Correction, Transition

#: Results of a command that may have been carried out and is not known to have been.
_UNVERIFIED = frozenset(("mismatch", "unknown", "written"))


class Past(msgspec.Struct, frozen=True):
    """An equipment and what is known of its past: the states in order without holes, and its corrections."""

    equipment: str
    path: str
    intervals: Sequence[Interval]
    corrections: Sequence[Recorded] = ()


class Downtime(msgspec.Struct, frozen=True):
    """Neighbouring intervals of the categories of a rule, as one. `to` is None while it lasts."""

    begin: datetime
    to: datetime | None
    states: tuple[str, ...]
    seq: int


class Account(msgspec.Struct, frozen=True):
    """A key or a user's password, and when it was last used or changed."""

    name: str
    since: datetime


def reason_within(rule: ComplianceSettings, past: Past, now: datetime) -> Iterator[Violation]:
    """Downtimes longer than so much that had no reason in time.

    A reason is a correction by a person that tells of the time of the downtime, whatever state it names.
    """
    reasons = _reasons(past.corrections)
    for down in downtimes(past.intervals, rule.downtimes):
        lasted = (down.to or now) - down.begin
        due = down.begin + rule.within
        if lasted <= rule.longer_than or now <= due:
            continue
        end = down.to or now
        given = [
            one.recorded_at
            for one in reasons
            if isinstance(one.event, Correction) and one.event.at < end and one.event.until > down.begin
        ]
        first = min(given, default=None)
        if first is not None and first <= due:
            continue
        states = " and ".join(down.states[:3])
        late = "" if first is None else f"; it was given {_length(first - down.begin)} after it began"
        yield _violation(
            rule,
            past,
            key=down.begin.isoformat(),
            from_=down.begin,
            to=down.to,
            settled_at=first,
            reason=f"{states} for {_length(lasted)} without a reason within {_length(rule.within)}{late}",
            recommendation=(
                f"say why: andon reason {past.equipment} {down.seq} --reason TEXT"
                if first is None
                else "give reasons sooner, or allow more time for them"
            ),
        )


def unknown_at_most(
    rule: ComplianceSettings, past: Past, from_: datetime, to: datetime
) -> Iterator[Violation]:
    """Shifts that are over and were Unknown for more than their share."""
    for begin, end in shifts(rule, from_, to):
        unknown = timedelta()
        for one in past.intervals:
            if one.state == UNKNOWN:
                unknown += max(timedelta(), min(one.to or end, end) - max(one.from_, begin))
        share = unknown / (end - begin)
        if share > rule.share:
            yield _violation(
                rule,
                past,
                key=begin.isoformat(),
                from_=begin,
                to=end,
                reason=(
                    f"Unknown for {share:.1%} of the shift from {begin:%Y-%m-%d %H:%M} UTC; "
                    f"{rule.share:.1%} are allowed"
                ),
                recommendation="find out what was lost: andon state --connections, andon tail",
            )


def illegal_moves(rule: ComplianceSettings, past: Past, moves: Iterable[Recorded]) -> Iterator[Violation]:
    """Transitions the model does not allow."""
    for one in moves:
        event = one.event
        if isinstance(event, Transition) and event.conformance is Conformance.ILLEGAL:
            yield _violation(
                rule,
                past,
                key=one.id,
                from_=event.at,
                to=event.at,
                reason=f"went from {event.from_state} to {event.to_state}, which the model does not allow",
                recommendation=(
                    f"see why: andon explain {past.equipment} --seq {one.seq}; mend the PLC's program, "
                    "or the model if the machine is right"
                ),
            )


def command_verified(rule: ComplianceSettings, records: Iterable[AuditRecord]) -> Iterator[Violation]:
    """Commands that were sent and not found carried out."""
    for record in records:
        wanted = not rule.targets or record.target.startswith(rule.targets)
        if record.action == "command" and wanted and record.result in _UNVERIFIED:
            yield _violation(
                rule,
                None,
                key=str(record.detail.get("id") or record.n),
                from_=record.at,
                to=record.at,
                reason=f"the command of {record.actor} to {record.target} ended as {record.result}",
                recommendation=(
                    "look at the machine; then make the read-back of this command fit: its tag, its time, "
                    "its tolerance"
                ),
            )


def stale_keys(rule: ComplianceSettings, keys: Iterable[Account], now: datetime) -> Iterator[Violation]:
    """API keys nobody has used for long."""
    for key in keys:
        if now - key.since > rule.older_than:
            yield _violation(
                rule,
                None,
                key=f"{key.name} {key.since.isoformat()}",
                from_=key.since + rule.older_than,
                to=None,
                reason=f'the API key "{key.name}" was not used since {key.since:%Y-%m-%d}',
                recommendation=f"remove it: andon key remove {key.name}",
            )


def password_age(rule: ComplianceSettings, users: Iterable[Account], now: datetime) -> Iterator[Violation]:
    """Passwords that were not changed for long."""
    for user in users:
        if now - user.since > rule.older_than:
            yield _violation(
                rule,
                None,
                key=f"{user.name} {user.since.isoformat()}",
                from_=user.since + rule.older_than,
                to=None,
                reason=f'the password of "{user.name}" is that of {user.since:%Y-%m-%d}',
                recommendation=f"have it changed: andon user password {user.name}",
            )


def audit_anchored(
    rule: ComplianceSettings, head: AuditHead, anchored_n: int, since: datetime, now: datetime
) -> Iterator[Violation]:
    """The head of the trail has moved and was not anchored since."""
    if head.n > max(0, anchored_n) and now - max(since, head.at) > rule.within:
        yield _violation(
            rule,
            None,
            key=str(max(0, anchored_n)),
            from_=since,
            to=None,
            reason=f"audit records {max(0, anchored_n) + 1} to {head.n} are anchored nowhere",
            recommendation="the journal takes no events, or not in time: see /readyz",
        )


# -- parts of rules --------------------------------------------------------------------------------


def downtimes(intervals: Sequence[Interval], categories: Sequence[str]) -> Iterator[Downtime]:
    """Intervals of these categories, neighbours joined."""
    found: list[Interval] = []
    for one in intervals:
        if one.category in categories and one.state != UNKNOWN:
            found.append(one)
        elif found:
            yield _joined(found)
            found = []
    if found:
        yield _joined(found)


def _joined(intervals: Sequence[Interval]) -> Downtime:
    states = tuple(dict.fromkeys(one.state for one in intervals))
    told = next((one.seq for one in intervals if not one.corrected), intervals[0].seq)
    return Downtime(intervals[0].from_, intervals[-1].to, states, told)


def _reasons(corrections: Sequence[Recorded]) -> Sequence[Recorded]:
    """Corrections by people that still count."""
    events = [one for one in corrections if isinstance(one.event, Correction)]
    withdrawn = {one.event.withdraws for one in events if isinstance(one.event, Correction)}
    return [
        one
        for one in events
        if isinstance(one.event, Correction)
        and one.event.author != LATE_SAMPLES
        and one.event.withdraws is None
        and one.id not in withdrawn
    ]


def shifts(rule: ComplianceSettings, from_: datetime, to: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The shifts that lie wholly between two instants."""
    hour, minute = map(int, rule.begins.split(":"))
    begin = earlier(
        datetime.combine(from_.astimezone(UTC).date(), time(hour, minute), UTC), timedelta(days=1)
    )
    while begin + rule.per <= to:
        if begin >= from_:
            yield begin, begin + rule.per
        begin += rule.per


def _violation(
    rule: ComplianceSettings,
    past: Past | None,
    *,
    key: str,
    from_: datetime,
    to: datetime | None,
    reason: str,
    recommendation: str,
    settled_at: datetime | None = None,
) -> Violation:
    equipment = "" if past is None else past.equipment
    words = "\n".join((rule.name, rule.kind, equipment, key))
    return Violation(
        id=hashlib.sha256(words.encode()).hexdigest()[:16],
        rule=rule.name,
        kind=rule.kind,
        equipment=equipment,
        path="" if past is None else past.path,
        from_=from_,
        to=to,
        settled_at=settled_at,
        reason=reason,
        recommendation=recommendation,
    )


def _length(length: timedelta) -> str:
    """A length of time as people say it: whole seconds, or whole minutes from an hour on."""
    unit = timedelta(minutes=1) if length >= timedelta(hours=1) else timedelta(seconds=1)
    return format_duration(length // unit * unit)


def says(rule: ComplianceSettings) -> str:
    """A rule as a sentence."""
    match rule.kind:
        case "reason_within":
            kinds = ", ".join(rule.downtimes)
            return (
                f"{kinds} longer than {format_duration(rule.longer_than)} has a reason within "
                f"{format_duration(rule.within)}"
            )
        case "unknown_at_most":
            return (
                f"Unknown for at most {rule.share:.1%} of {format_duration(rule.per)} from {rule.begins} UTC"
            )
        case "illegal_moves":
            return "no move the model does not allow"
        case "command_verified":
            what = ", ".join(rule.targets) or "anything"
            return f"every command to {what} that was sent is verified"
        case "stale_keys":
            return f"every API key is used within {format_duration(rule.older_than)}"
        case "password_age":
            return f"every password is changed within {format_duration(rule.older_than)}"
        case "audit_anchored":
            return f"the audit trail is anchored within {format_duration(rule.within)}"
