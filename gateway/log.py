"""Log lines: words and fields, coloured for a person at a terminal, JSON for a machine; on stderr.

Whatever fails, and however often, the log stays bounded: lines that repeat themselves are counted (`quiet`).
"""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO

import structlog

from gateway.clock import SystemClock
from gateway.quiet import Line, Quiet

#: Lines that wait to be written; beyond it they are dropped and counted.
LINES_MAX = 10_000
#: Longest wait for them when the process ends.
CLOSE_S_MAX = 1.0
#: How often it is looked whether lines held back are due to be told.
LOOK_S = 1.0
#: Libraries that say at info or warning what the gateway says itself, in its own words, once.
_CHATTY = ("asyncua", "pymodbus", "amqtt", "transitions", "uvicorn.error", "uvicorn.access", "asyncio")


def configure(level: str, *, json: bool | None = None, file: TextIO | None = None) -> None:
    """Set up logging for the process. `json` None: JSON unless stderr is a terminal."""
    target = file or sys.stderr
    # A service may have been started without a stderr at all.
    as_json = (target is None or not target.isatty()) if json is None else json
    writer = Writer(target)
    rendering: list[structlog.typing.Processor]
    if as_json:
        rendering = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            _first_things_first,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        rendering = [structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)]
    limit = Limit(rendering, writer.msg, SystemClock().monotonic)
    writer.idle = limit.look
    writer.last_words = limit.end
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_empty,
            limit,
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def set_level(level: str) -> None:
    """Write only lines at least this severe, from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())))


def _first_things_first(
    _logger: object, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    first = ("timestamp", "level", "message")
    return {name: fields[name] for name in first if name in fields} | dict(fields)


def _without_empty(
    _logger: object, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {key: value for key, value in fields.items() if value is not None}


class Limit:
    """The step of the logging chain that holds back what repeats itself, and tells how much that was."""

    def __init__(
        self,
        rendering: Sequence[structlog.typing.Processor],
        write: Callable[[str], None],
        now_s: Callable[[], float],
    ) -> None:
        """`rendering` makes a line of fields into text, for the lines that stand for others."""
        self._rendering = rendering
        self._write = write
        self._now_s = now_s
        self._quiet = Quiet()
        self._lock = threading.Lock()  # loggers are called from several threads

    def __call__(
        self, _logger: object, _method: str, fields: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        now_s = self._now_s()
        with self._lock:
            due = list(self._quiet.overdue(now_s))
            # What it was raised with must not live on until the line is told.
            tells = self._quiet.tells({**fields, "exc_info": None}, now_s)
        self._tell(due)
        if not tells:
            raise structlog.DropEvent
        return fields

    def look(self) -> None:
        """Tell what is due although nobody logs."""
        with self._lock:
            due = list(self._quiet.overdue(self._now_s()))
        self._tell(due)

    def end(self) -> None:
        """Tell all that was held back."""
        with self._lock:
            due = list(self._quiet.rest(self._now_s()))
        self._tell(due)

    def _tell(self, lines: Sequence[Line]) -> None:
        for line in lines:
            told: structlog.typing.EventDict = {
                key: value for key, value in line.items() if value is not None
            }
            text: object = told
            for step in self._rendering:
                text = step(None, str(line.get("level", "info")), told)
                if isinstance(text, dict):
                    told = text
            self._write(str(text))


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
        #: Called about every `LOOK_S` while nothing is written, and once when the writing ends.
        self.idle: Callable[[], None] = lambda: None
        self.last_words: Callable[[], None] = lambda: None
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
        self.last_words()
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_S_MAX)

    def _write(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=LOOK_S)
            except queue.Empty:
                self.idle()
                continue
            if line is None:
                return
            if self._stream is not None:
                with suppress(OSError, ValueError):
                    self._stream.write(line + "\n")
                    self._stream.flush()
