"""Log lines that nobody reads, or cannot read any more, hold nobody up."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import structlog

from gateway import log


class Broken(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_lines_are_written_in_order() -> None:
    stream = io.StringIO()
    writer = log.Writer(stream)

    for number in range(3):
        writer.msg(str(number))
    writer.close()

    assert stream.getvalue() == "0\n1\n2\n"


def test_a_stream_that_is_gone_is_ignored() -> None:
    for stream in (Broken(), None):
        writer = log.Writer(stream)
        writer.msg("hello")
        writer.close()


def test_a_reader_that_is_stuck_costs_lines_and_nothing_else() -> None:
    """A pipe nobody reads holds some 64 kB; many times that is logged at once, and the program ends."""
    program = (
        "from gateway import log; import structlog; log.configure('info', json=True)\n"
        "logger = structlog.get_logger()\n"
        "for number in range(20000): logger.info('x' * 200, number=number)\n"
        "print('done')\n"
    )
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=writing,
            timeout=110,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)

    assert done.stdout == b"done\n"
    assert done.returncode == 0


def test_dropped_lines_are_counted_and_said() -> None:
    stream = io.StringIO()
    writer = log.Writer(stream)
    writer.dropped = 7

    writer.msg("and now this")
    writer.close()

    assert stream.getvalue().splitlines() == ["(7 log lines were dropped: nobody read them)", "and now this"]


def test_a_line_for_machines_begins_with_what_matters() -> None:
    stream = io.StringIO()
    log.configure("info", json=True, file=stream)
    try:
        logger = structlog.get_logger()
        logger.info("connected", connection="plc", nothing=None)
        logger.debug("not wanted")
        writer = structlog.get_config()["logger_factory"]()
        writer.close()
    finally:
        structlog.reset_defaults()

    [line] = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert list(fields)[:3] == ["timestamp", "level", "message"]
    assert (fields["message"], fields["connection"]) == ("connected", "plc")
    assert "nothing" not in fields
