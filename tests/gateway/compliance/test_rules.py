"""Each rule over values: what violates it, what does not, and at which instant it begins to."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auditing import AuditHead, AuditRecord
from api.compliance import Violation
from api.ports import Interval
from gateway.compliance import rules
from gateway.compliance.rules import Account, Past
from gateway.config.compliance import ComplianceSettings
from statemodel.corrected import LATE_SAMPLES
from statemodel.records import Recorded, tell
from statemodel.types import Cause, Conformance, CorrectedState, Correction, Transition

AT = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CATEGORIES = {"Execute": "productive", "Aborted": "unscheduled-down", "Aborting": "unscheduled-down"}


def rule(kind: str, **settings: Any) -> ComplianceSettings:
    return ComplianceSettings.model_validate({"name": "r", "kind": kind, **settings})


def timeline(*parts: tuple[str, float]) -> list[Interval]:
    """States with their minutes; the last one lasts."""
    found: list[Interval] = []
    begin = AT
    for number, (state, minutes) in enumerate(parts, 1):
        end = None if number == len(parts) else begin + minutes * MINUTE
        length = None if end is None else (end - begin).total_seconds()
        found.append(Interval(state, None, CATEGORIES.get(state), begin, end, length, number))
        begin = end or begin
    return found


def correction(
    begin: float, end: float, *, told: float, seq: int = 90, author: str = "ada", withdraws: str | None = None
) -> Recorded:
    at, until = AT + begin * MINUTE, AT + end * MINUTE
    states = () if withdraws else (CorrectedState("Aborted", 9, "unscheduled-down", at, until),)
    event = Correction(
        "filler-1", "f/filler-1", "packml", at, until, states, "why", author, withdraws=withdraws
    )
    return tell(event, gateway="g", stream="s", seq=seq, recorded_at=AT + told * MINUTE)


def past(intervals: list[Interval], *corrections: Recorded) -> Past:
    return Past("filler-1", "f/filler-1", intervals, corrections)


def reasons(of: Past, now: float, **settings: Any) -> list[Violation]:
    return list(rules.reason_within(rule("reason_within", **settings), of, AT + now * MINUTE))


DOWN = timeline(("Execute", 10), ("Aborting", 1), ("Aborted", 19), ("Execute", 0))


def test_a_long_downtime_without_a_reason_is_one_violation() -> None:
    [found] = reasons(past(DOWN), 41)
    assert (found.from_, found.to, found.settled_at) == (AT + 10 * MINUTE, AT + 30 * MINUTE, None)
    assert found.reason == "Aborting and Aborted for 20m without a reason within 30m"
    assert found.recommendation == "say why: andon reason filler-1 2 --reason TEXT"


@pytest.mark.parametrize(("now", "violated"), [(39.9, False), (40, False), (40.1, True)])
def test_it_is_violated_from_when_the_time_is_up(now: float, violated: bool) -> None:
    assert bool(reasons(past(DOWN), now)) is violated


@pytest.mark.parametrize(("minutes", "violated"), [(4.9, False), (5, False), (5.1, True)])
def test_short_downtimes_need_no_reason(minutes: float, violated: bool) -> None:
    assert bool(reasons(past(timeline(("Aborted", minutes), ("Execute", 0))), 60)) is violated


def test_one_that_lasts_is_violated_too() -> None:
    [found] = reasons(past(timeline(("Execute", 10), ("Aborted", 0))), 45)
    assert (found.to, found.reason) == (None, "Aborted for 35m without a reason within 30m")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([correction(10, 30, told=35)], "kept"),
        ([correction(12, 13, told=40)], "kept"),
        ([correction(10, 30, told=41)], "late"),
        ([correction(0, 10, told=35)], "violated"),
        ([correction(30, 40, told=35)], "violated"),
        ([correction(10, 30, told=35, author=LATE_SAMPLES)], "violated"),
        (
            [correction(10, 30, told=35, seq=7), correction(10, 30, told=36, withdraws="s-7")],
            "violated",
        ),
    ],
    ids=["in time", "about a part", "late", "about before", "about after", "by the gateway", "withdrawn"],
)
def test_what_counts_as_a_reason(given: list[Recorded], expected: str) -> None:
    found = reasons(past(DOWN, *given), 60)
    if expected == "kept":
        assert found == []
    else:
        [one] = found
        assert (one.settled_at is not None) is (expected == "late")
        assert ("given 31m after it began" in one.reason) is (expected == "late")


def test_the_id_is_the_same_however_late_it_is_judged() -> None:
    assert len({reasons(past(DOWN), now)[0].id for now in (41, 50, 1000)}) == 1
    other = reasons(Past("filler-2", "f/filler-2", DOWN), 41)[0]
    assert other.id != reasons(past(DOWN), 41)[0].id


@given(st.lists(st.tuples(st.sampled_from(sorted(CATEGORIES)), st.integers(1, 50)), min_size=1, max_size=12))
def test_downtimes_cover_exactly_the_time_of_their_categories(parts: list[tuple[str, int]]) -> None:
    intervals = timeline(*parts, ("Execute", 0))
    found = list(rules.downtimes(intervals, ("unscheduled-down",)))
    down = sum(minutes for state, minutes in parts if CATEGORIES[state] == "unscheduled-down")
    assert sum(((one.to or AT) - one.begin for one in found), timedelta()) == down * MINUTE
    assert all(a.to is not None and a.to < b.begin for a, b in itertools.pairwise(found))


def test_a_shift_that_was_unknown_for_more_than_its_share() -> None:
    of = past(timeline(("Execute", 400), ("Unknown", 30), ("Execute", 50), ("Unknown", 10), ("Execute", 0)))
    end = AT + timedelta(hours=16)
    [found] = list(rules.unknown_at_most(rule("unknown_at_most", share=0.06), of, AT, end))
    assert (found.from_, found.to) == (AT, AT + timedelta(hours=8))
    assert found.reason == "Unknown for 6.2% of the shift from 2026-11-22 06:00 UTC; 6.0% are allowed"
    assert list(rules.unknown_at_most(rule("unknown_at_most", share=0.0625), of, AT, end)) == []
    both = list(rules.unknown_at_most(rule("unknown_at_most", share=0.0), of, AT, end))
    assert [one.from_.hour for one in both] == [6, 14]


def test_a_shift_that_is_not_over_is_not_judged() -> None:
    of = past(timeline(("Unknown", 600), ("Execute", 0)))
    assert list(rules.unknown_at_most(rule("unknown_at_most"), of, AT, AT + timedelta(hours=7))) == []


@given(begin=st.integers(0, 3000), hours=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
def test_shifts_lie_side_by_side_within_the_range(begin: int, hours: int) -> None:
    from_ = AT + begin * MINUTE
    to = from_ + timedelta(days=3)
    found = list(rules.shifts(rule("unknown_at_most", per=f"{hours}h", begins="05:30"), from_, to))
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    assert all(b - a == timedelta(hours=hours) for a, b in found)
    assert from_ <= found[0][0] < from_ + timedelta(hours=hours)
    assert found[-1][1] <= to < found[-1][1] + timedelta(hours=hours)
    assert ((found[0][0] - AT) / MINUTE - 30 + 60) % (60 * hours) in {
        (60 * h) % (60 * hours) for h in range(24)
    }


def test_illegal_moves_and_no_others() -> None:
    def move(conformance: Conformance, seq: int) -> Recorded:
        event = Transition(
            equipment="filler-1",
            path="f/filler-1",
            model="packml",
            sequence=seq,
            from_state="Idle",
            to_state="Complete",
            code=17,
            category=None,
            at=AT,
            duration_s=1.0,
            conformance=conformance,
            skipped=(),
            cause=Cause("code", ()),
        )
        return tell(event, gateway="g", stream="s", seq=seq, recorded_at=AT)

    moves = [move(conformance, n) for n, conformance in enumerate(Conformance, 1)]
    [found] = list(rules.illegal_moves(rule("illegal_moves"), past([]), moves))
    assert "from Idle to Complete" in found.reason
    assert "--seq 3" in found.recommendation


def record(n: int, result: str, target: str = "plc/speed", action: str = "command") -> AuditRecord:
    return AuditRecord(
        n=n,
        previous="",
        at=AT,
        action=action,
        actor="ada",
        kind="user",
        via="rest",
        target=target,
        result=result,
        code="",
        detail={"id": f"c-{n}"},
        peer="",
        hash="",
    )


def test_commands_that_were_sent_and_not_verified() -> None:
    results = ("verified", "mismatch", "unknown", "refused", "expired", "accepted")
    records = [record(n, result) for n, result in enumerate(results)]
    records.append(record(90, "mismatch", action="command.arm"))
    found = list(rules.command_verified(rule("command_verified"), records))
    assert [one.reason.rpartition(" ")[2] for one in found] == ["mismatch", "unknown"]
    only = rule("command_verified", targets=["oven/"])
    assert list(rules.command_verified(only, [*records, record(91, "unknown", "oven/temp_sp")])) != []
    assert len(list(rules.command_verified(only, [*records, record(91, "unknown", "oven/temp_sp")]))) == 1


def test_keys_and_passwords_that_are_old() -> None:
    accounts = [Account("old", AT - timedelta(days=91)), Account("new", AT - timedelta(days=89))]
    [key] = list(rules.stale_keys(rule("stale_keys"), accounts, AT))
    assert (key.from_, "andon key" in key.recommendation) == (AT - timedelta(days=1), True)
    assert '"old"' in key.reason
    [password] = list(rules.password_age(rule("password_age", older_than="90d"), accounts, AT))
    assert 'of "old" is that of 2026-08-23' in password.reason


@pytest.mark.parametrize(
    ("anchored_n", "since_m", "moved_m", "violated"),
    [
        (7, -60, -60, False),
        (5, -60, -40, True),
        (5, -10, -40, False),
        (5, -60, -10, False),
        (-1, -40, -40, True),
    ],
)
def test_a_head_that_is_not_anchored(anchored_n: int, since_m: int, moved_m: int, violated: bool) -> None:
    head = AuditHead(7, "ab", AT + moved_m * MINUTE, "", "")
    found = list(rules.audit_anchored(rule("audit_anchored"), head, anchored_n, AT + since_m * MINUTE, AT))
    assert bool(found) is violated


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "illegal_moves", "within": "1h"}, 'kind "illegal_moves" does not take within'),
        ({"kind": "illegal_moves", "equipment": "a", "area": "b"}, "not both"),
        ({"kind": "reason_within", "categories": ["lunch"]}, '"lunch" is no category'),
        ({"kind": "reason_within", "longer_than": "1h"}, "at least longer_than"),
        ({"kind": "unknown_at_most", "per": "7h"}, "a whole number of it"),
        ({"kind": "unknown_at_most", "begins": "6:00"}, "begins"),
        ({"kind": "stale_keys", "older_than": "1s"}, "shorter than"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as refused:
        ComplianceSettings.model_validate({"name": "r", **settings})
    assert words in str(refused.value)
