"""Log lines: words and fields, coloured for a person at a terminal, JSON for a machine; on stderr."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

#: Libraries that say at info or warning what the gateway says itself, in its own words, once.
_CHATTY = ("asyncua", "pymodbus", "amqtt", "transitions", "uvicorn.error", "uvicorn.access", "asyncio")


def configure(level: str, *, json: bool | None = None, file: TextIO | None = None) -> None:
    """Set up logging for the process. `json` None: JSON unless stderr is a terminal."""
    target = file or sys.stderr
    as_json = not target.isatty() if json is None else json
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
        logger_factory=structlog.PrintLoggerFactory(target),
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
