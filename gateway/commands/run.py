"""`andon run`: the gateway as a service."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog
import uvloop

from gateway import log
from gateway.app import Gateway
from gateway.changing.beginning import begin
from gateway.errors import GatewayError
from gateway.garbage import set_aside_what_stays

#: Threads of the event loop that look up names. A name server that does not answer holds one for half a
#: minute; with the usual four, a few devices by dead names would keep all others from being found.
LOOKUP_THREADS = "64"

logger = structlog.get_logger(__name__)


def run_gateway(path: Path, *, log_json: bool | None) -> None:
    """Run until a signal; raises what made it end before."""
    loaded = begin(path)
    log.configure(loaded.configuration.gateway.log_level, json=log_json)
    for warning in loaded.warnings:  # those of `andon check`; most who run it never do that
        place = warning.file if warning.line is None else f"{warning.file}:{warning.line}"
        logger.warning(
            "odd configuration", place=place, key=warning.path, reason=warning.reason, hint=warning.hint
        )
    os.environ.setdefault("UV_THREADPOOL_SIZE", LOOKUP_THREADS)  # read when the first thread is needed
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_signal(Gateway(loaded, started=lambda _: set_aside_what_stays())))


async def until_signal(gateway: Gateway) -> None:
    """Run a gateway until a signal asks it to stop; raises as `run_until` does.

    SIGHUP has the configuration read again, except at a terminal: there it says that the terminal is gone.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, stop.set if _at_a_terminal() else gateway.read_again)
    await run_until(gateway, stop)


def _at_a_terminal() -> bool:
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


async def run_until(gateway: Gateway, stop: asyncio.Event) -> None:
    """Run a gateway until `stop` is set.

    Raises:
        GatewayError: the first reason for which it ended by itself.
    """
    try:
        await gateway.run(stop)
    except BaseExceptionGroup as group:
        named, unforeseen = group.split(GatewayError)
        if named is None or unforeseen is not None:
            raise
        raise _first_of(named) from None


def _first_of(group: BaseExceptionGroup[GatewayError]) -> GatewayError:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, GatewayError)
    return first
