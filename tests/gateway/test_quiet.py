"""A log stays bounded and honest: the first lines are told, the rest counted, and the counts add up."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import log
from gateway.quiet import ALIKE_MAX, KINDS_MAX, SAME_MAX, Quiet


def line(connection: str = "press-plc", message: str = "tag refused", **fields: Any) -> dict[str, Any]:
    return {"level": "warning", "event": message, "connection": connection, **fields}


class Reader:
    """What stands in the log, and for how many lines it stands."""

    def __init__(self) -> None:
        self.quiet = Quiet()
        self.lines: list[Any] = []

    def log(self, fields: dict[str, Any], now_s: float) -> None:
        self.lines += self.quiet.overdue(now_s)
        if self.quiet.tells(fields, now_s):
            self.lines.append(fields)

    def count(self) -> int:
        return sum(int(item.get("held_back", 1)) for item in self.lines)


def test_a_device_that_errs_a_thousand_times_a_second_takes_few_lines_a_minute() -> None:
    reader = Reader()
    for number in range(180_000):
        reader.log(line(reason=f"transaction {number} was not expected"), number / 1000)
    reader.lines += reader.quiet.rest(180.0)

    assert len(reader.lines) == 3 * (SAME_MAX + 1)
    assert reader.count() == 180_000
    summary = reader.lines[SAME_MAX]
    assert summary["event"] == f"tag refused (and {60_000 - SAME_MAX:,} more like it in the last minute)"
    assert (summary["connection"], summary["level"]) == ("press-plc", "warning")


def test_one_noisy_device_does_not_silence_the_others() -> None:
    reader = Reader()
    for number in range(1_000):
        reader.log(line(reason=str(number)), 0.0)
    reader.log(line("oven-plc"), 0.0)
    reader.log(line(message="connection lost"), 0.0)

    assert [item["connection"] for item in reader.lines[-2:]] == ["oven-plc", "press-plc"]


def test_many_tags_at_once_are_told_in_part_and_counted() -> None:
    reader = Reader()
    for number in range(50_000):
        reader.log(line(tag=f"press-plc/t{number}"), 1.0)
    reader.lines += reader.quiet.overdue(70.0)

    assert len(reader.lines) == ALIKE_MAX + 1
    assert reader.count() == 50_000
    assert "tag" not in reader.lines[-1], "it stands for many tags"


def test_memory_is_bounded_when_every_message_is_another() -> None:
    reader = Reader()
    for number in range(3 * KINDS_MAX):
        reader.log(line(message=f"strange thing {number}"), 1.0)
    reader.lines += reader.quiet.rest(2.0)

    assert len(reader.lines) <= KINDS_MAX + SAME_MAX + 1
    assert reader.count() == 3 * KINDS_MAX


@given(
    st.lists(
        st.tuples(
            st.floats(0, 40), st.sampled_from(["a", "b"]), st.sampled_from(["lost", "found"]), st.booleans()
        ),
        max_size=200,
    )
)
def test_every_line_is_told_or_counted(lines: list[tuple[float, str, str, bool]]) -> None:
    reader, now_s, total = Reader(), 0.0, 0
    for pause_s, connection, message, many in lines:
        now_s += pause_s / 10
        for _ in range(20 if many else 1):
            total += 1
            reader.log(line(connection, message), now_s)
    reader.lines += reader.quiet.rest(now_s)

    assert reader.count() == total


@contextmanager
def logging(stream: io.StringIO) -> Iterator[Callable[[], None]]:
    log.configure("info", json=True, file=stream)
    try:
        yield structlog.get_config()["logger_factory"]().close
    finally:
        structlog.reset_defaults()


def test_the_log_of_a_process_is_limited_and_its_last_line_tells_the_rest() -> None:
    stream = io.StringIO()
    with logging(stream) as close:
        logger = structlog.get_logger()
        for number in range(2_000):
            try:
                raise ZeroDivisionError(str(number))
            except ZeroDivisionError:
                logger.exception("connector failed unexpectedly", connection="press-plc")
        close()

    told = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert len(told) == SAME_MAX + 1
    assert "ZeroDivisionError: 0" in told[0]["exception"]
    assert re.search(r"and 1,995 more like it in the last \d+ s", told[-1]["message"])
    assert told[-1]["held_back"] == 2_000 - SAME_MAX
    assert "timestamp" in told[-1]


def test_what_was_held_back_is_told_although_nobody_logs_any_more() -> None:
    now_s = 0.0
    written: list[str] = []
    limit = log.Limit([structlog.processors.JSONRenderer()], written.append, lambda: now_s)
    for _ in range(100):
        try:
            limit(None, "warning", line())
        except structlog.DropEvent:
            continue
    now_s = 61.0

    limit.look()

    [text] = written
    assert json.loads(text)["held_back"] == 100 - SAME_MAX
