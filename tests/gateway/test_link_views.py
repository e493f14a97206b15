"""The links as people see them: what is wrong in words, what to do about it, when it is tried again."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, RenderableType

from gateway.commands.links import all_links, one_link

NOW = datetime(2026, 11, 21, 22, 7, 3, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def up(**changes: Any) -> dict[str, Any]:
    figures = {
        "interval_s": 0.1,
        "count": 600,
        "duration_mean_s": 0.0042,
        "duration_max_s": 0.031,
        "lateness_mean_s": 0.0002,
        "lateness_max_s": 0.012,
        "skipped": 7,
    }
    return {
        "name": "press-plc",
        "protocol": "modbus",
        "endpoint": "tcp://10.0.0.6:502",
        "link": "up",
        "since": ago(3_700),
        "last_seen_at": ago(0.1),
        "last_error": None,
        "last_error_hint": None,
        "last_error_at": None,
        "retry_at": None,
        "attempts": 0,
        "tags": 120,
        "cycles": {"fast": figures, "slow": {"interval_s": 10.0, "count": 0}},
        "bad_tags": {},
        "gaps": 0,
        "skipped_cycles": 7,
        "unexpected_failures": 0,
        "warnings": {},
        "figures": {"answers": 12_345.0, "bad_replies": 0.0},
    } | changes


def down(**changes: Any) -> dict[str, Any]:
    return (
        up(
            name="oven-plc",
            link="down",
            since=ago(13),
            last_seen_at=ago(13.5),
            last_error="no answer within 3 s",
            last_error_hint="is it switched on?",
            last_error_at=ago(2),
            retry_at=ago(-4.2),
            attempts=4,
            cycles={"all": {"interval_s": 1.0, "count": 0}},
        )
        | changes
    )


def text(shown: RenderableType) -> str:
    file = io.StringIO()
    Console(file=file, width=120, highlight=False).print(shown)
    return file.getvalue()


def test_the_glance_has_a_line_each_and_what_is_wrong_below() -> None:
    lines = text(all_links([up(), down()], NOW)).splitlines()

    assert lines[1].split() == [
        *("press-plc", "●", "up", "1h01m", "120", "-", "4.2", "ms", "31.0", "ms", "12.0", "ms"),
        *("7", "0.1s", "ago"),
    ]
    assert lines[2].split()[:4] == ["oven-plc", "●", "down", "13.0s"]
    below = [line.strip() for line in lines[3:] if line.strip()]
    assert below == [
        "oven-plc  tcp://10.0.0.6:502",
        "no answer within 3 s",
        "hint: is it switched on?",
        "tried 4 times, again in 4.2s",
    ]


def test_a_glance_shows_a_few_bad_tags_and_counts_the_rest() -> None:
    bad = {f"press-plc/t{number}": "no such register" for number in range(5_000)}
    shown = text(all_links([up(bad_tags=bad, warnings={"certificate": "expires in 12 days"})], NOW))

    assert shown.count("no such register") == 3
    assert "and 4,997 more bad tags: andon state press-plc --connections" in shown
    assert "warning: expires in 12 days" in shown


def test_one_link_is_shown_in_full() -> None:
    bad = {"press-plc/[force]": "bad: device failure"}
    shown = text(one_link(up(bad_tags=bad, gaps=3, last_error="reset by peer", last_error_at=ago(900)), NOW))

    assert "● up for 1h01m, last seen 0.1s ago" in shown
    assert "reset by peer  (21:52:03 UTC, 15m00s ago)" in shown
    assert "120, 1 bad" in shown
    assert "3 losses recorded" in shown
    assert "answers 12,345 · bad replies 0" in shown
    assert "press-plc/[force]  bad: device failure" in shown, "brackets in a name are no markup"
    [fast] = [line.split() for line in shown.splitlines() if line.strip().startswith("fast")]
    assert fast == ["fast", "100ms", "600", "4.2", "ms", "31.0", "ms", "0.2", "ms", "12.0", "ms", "7"]
    [slow] = [line.split() for line in shown.splitlines() if line.strip().startswith("slow")]
    assert slow[:3] == ["slow", "10s", "0"]


def test_a_link_that_is_tried_for_the_first_time_has_no_error_yet() -> None:
    view = down(link="connecting", last_error=None, last_error_hint=None, last_seen_at=None, retry_at=None)

    assert "tried 4 times, trying now" in text(one_link(view, NOW))
    assert "never seen" in text(one_link(view, NOW))


def test_a_gateway_that_says_less_is_shown_too() -> None:
    """The command may be newer than the gateway it asks."""
    known = {"last_error_hint", "gaps", "skipped_cycles", "unexpected_failures", "warnings", "figures"}
    older = {key: value for key, value in down().items() if key not in known}

    assert "no answer within 3 s" in text(one_link(older, NOW))
    assert "no answer within 3 s" in text(all_links([older], NOW))
