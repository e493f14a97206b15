"""How a gateway begins to tell others, and how it ends. Every wait here is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from connectors.base import Clock
from gateway.assembly.record import Record
from gateway.health import SinkOf
from gateway.historian.historian import Historian
from gateway.journal import words
from gateway.pipeline import Pipeline
from statemodel.types import Gap, SourceLost

_log = structlog.get_logger("andon")

#: Longest wait for the sinks to hand on what was recorded last, when stopping.
FAREWELL_S_MAX = 5.0
#: How long the broker waits at the start for the database to confirm the journal.
MEETING_S_MAX = 5.0
#: How long it waits for what happened between the last end and this start to be on record.
KNOWN_S_MAX = 5.0


async def publish_when_known(
    publish: Callable[[], Awaitable[None]], known: asyncio.Event, historian: Historian | None
) -> None:
    """Tell the broker once what a restart has to admit is on record: nothing of before is said as new.

    A full journal takes no such record: it waits for the broker, not the broker for it.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KNOWN_S_MAX):
            await known.wait()
    await publish_when_met(publish, historian)


async def publish_when_met(publish: Callable[[], Awaitable[None]], historian: Historian | None) -> None:
    """Tell the broker, once the database has been asked whether it knows this journal otherwise.

    An older copy of the journal numbers anew what others have heard of already. Where the database can say
    so, nobody hears it; where it cannot be asked, or takes long, the broker does not wait for it.
    """
    if historian is not None:
        try:
            async with asyncio.timeout(MEETING_S_MAX):
                await historian.met()
        except TimeoutError:
            _log.warning("the broker is told before the database has answered", waited_s=MEETING_S_MAX)
    await publish()


async def say_farewell(
    last_words: Sequence[Gap | SourceLost], pipeline: Pipeline, work: asyncio.Task[None], record: Record
) -> None:
    """Record what ends with the process; not for ever, since a full journal would never take it."""
    try:
        async with asyncio.timeout(FAREWELL_S_MAX):
            await pipeline.finish(last_words)
            await work
    except TimeoutError:
        work.cancel()
        # The next start will say it: since the last proof of life nobody looked.
        _log.error("stopped without recording it", reason=words.full(record.journal.stats()))
    else:
        await record.snapshots.keeper.finish()


async def hand_on(sinks: Mapping[str, SinkOf], clock: Clock) -> None:
    """Wait a little while the sinks that are connected hand on what was recorded last."""
    deadline_s = clock.monotonic() + FAREWELL_S_MAX
    while clock.monotonic() < deadline_s:
        if not any((status := sink.status()).connected and status.lag_events for sink in sinks.values()):
            return
        await clock.sleep(0.02)
