"""Log lines: words and fields, coloured for a person at a terminal, JSON for a machine; on stderr."""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
from contextlib import suppress
from typing import TextIO

import structlog

#: Lines that wait to be written; beyond it they are dropped and counted.
LINES_MAX = 10_000
#: Longest wait for them when the process ends.
CLOSE_S_MAX = 1.0
#: Libraries that say at info or warning what the gateway says itself, in its own words, once.
_CHATTY = ("asyncua", "pymodbus", "amqtt", "transitions", "uvicorn.error", "uvicorn.access", "asyncio")


def configure(level: str, *, json: bool | None = None, file: TextIO | None = None) -> None:
    """Set up logging for the process. `json` None: JSON unless stderr is a terminal."""
    target = file or sys.stderr
    # A service may have been started without a stderr at all.
    as_json = (target is None or not target.isatty()) if json is None else json
    writer = Writer(target)
    processors: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_empty,
    ]
    if as_json:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            _first_things_first,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        processors += [structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _first_things_first(
    _logger: object, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    first = ("timestamp", "level", "message")
    return {name: fields[name] for name in first if name in fields} | dict(fields)


def _without_empty(
    _logger: object, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {key: value for key, value in fields.items() if value is not None}


class Writer:
    """Takes log lines and never holds anybody up.

    Whoever reads our stderr may be slow, stuck or gone; the gateway must not be. Lines are written by a
    thread of their own; when too many wait they are dropped, and the next line that gets through says how
    many. A stream that is gone is ignored.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_MAX)
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def msg(self, line: str) -> None:
        """Take one line."""
        try:
            if self.dropped:
                self._lines.put_nowait(f"({self.dropped} log lines were dropped: nobody read them)")
                self.dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    log = debug = info = warn = warning = error = critical = fatal = failure = exception = msg

    def close(self) -> None:
        """Let what waits be written, but not for longer than a moment."""
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_S_MAX)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._stream is not None:
                with suppress(OSError, ValueError):
                    self._stream.write(line + "\n")
                    self._stream.flush()
