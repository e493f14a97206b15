"""One honest word about the whole."""

from __future__ import annotations

from gateway.health import STALL_S_MAX, HealthReport
from tests.support.manual_clock import ManualClock


def started() -> tuple[HealthReport, ManualClock]:
    clock = ManualClock()
    health = HealthReport(clock)
    health.started = True
    return health, clock


def test_all_is_well_when_nothing_is_wrong() -> None:
    health, _ = started()

    assert health.live()
    assert (health.report()["status"], health.report()["ready"]) == ("ok", True)


def test_a_pipeline_that_does_not_come_round_is_failing_and_not_live() -> None:
    health, clock = started()
    clock.advance(STALL_S_MAX + 1)

    assert not health.live()
    assert (health.report()["status"], health.report()["ready"]) == ("failing", False)

    health.came_round()
    assert health.live()


def test_a_full_journal_is_failing_but_a_restart_would_not_help() -> None:
    health, clock = started()
    health.journal_full = lambda: "takes nothing more: the disk is full"
    clock.advance(STALL_S_MAX + 1)

    assert health.live()
    report = health.report()
    assert (report["status"], report["ready"]) == ("failing", False)
    assert "disk is full" in report["parts"]["journal"]["reason"]


def test_damage_in_the_journal_is_shown_while_work_goes_on() -> None:
    health, clock = started()
    health.journal_damage = lambda: "3 records cannot be read"

    report = health.report()
    assert (report["status"], report["ready"]) == ("degraded", True)
    assert report["parts"]["journal"] == {"ok": False, "reason": "3 records cannot be read"}
    clock.advance(STALL_S_MAX + 1)
    assert not health.live()
