"""Another configuration for a gateway that runs: whole, or not at all, and one at a time.

First everything is built that can fail. Then what differs is stopped, the pipeline turns at one place in its
queue, and what is new is started. What does not differ is not touched: its connections keep their sessions,
its equipment their sequence. A change under way is not left half done when nobody waits for it any more, nor
when the gateway is stopped meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from api.configuring import Change, Difference
from api.server import Server
from connectors.base import Connector
from connectors.errors import ConnectorError
from gateway.assembly.planning import Steps, steps
from gateway.changing.exchanging import ExchangeFailed
from gateway.config.load import Loaded
from gateway.errors import GatewayError
from gateway.snapshots.keeper import Identity

_log = structlog.get_logger("andon")

#: Longest wait for a change under way when the gateway is stopped, in seconds.
CLOSE_S_MAX = 20.0
#: What building and starting parts fails with; anything else is a fault of the program.
_FAILURES = (GatewayError, ConnectorError, OSError, ValueError, LookupError)

#: Takes a configuration that is about to run, before anything has changed; raises GatewayError where that
#: cannot be. What it gives back is called at the turn, and must not fail.
Follower = Callable[[Loaded], Callable[[], None]]


@dataclass(frozen=True)
class Applied:
    """What a change disturbed: names of connections that were stopped or started and of sinks that were.

    `told_anew` are sinks that were exchanged without giving up their connection to the broker.
    """

    connections: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()
    told_anew: tuple[str, ...] = ()
    equipment: tuple[str, ...] = ()
    api: bool = False


@dataclass
class Prepared:
    """A configuration with everything that could have failed."""

    loaded: Loaded
    steps: Steps
    connectors: dict[str, Connector] = field(default_factory=dict)
    followers: list[Callable[[], None]] = field(default_factory=list)
    identity: Identity | None = None
    server: tuple[Server, str] | None = None
    serves_anew: bool = False


class Exchange:
    """Implements `gateway.changing.exchanging.Exchange` with the parts of a run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._at_work: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def loaded(self) -> Loaded:
        """What runs."""
        return self._parts.loaded

    async def apply(self, new: Loaded, difference: Difference) -> Applied:
        """Run another configuration. It goes on to its end also when the caller stops waiting.

        Raises:
            ExchangeFailed: it could not be made to run; what ran before runs.
        """
        if unchangeable := difference.needs_restart:
            raise ExchangeFailed(
                f"this needs a restart: {'; '.join(map(_reason, unchangeable))}",
                hint="leave it as it is, or stop the gateway, change the file and start it again",
            )
        if self._closed:
            raise ExchangeFailed("the gateway is being stopped", hint="it starts with what is in its file")
        if self._at_work is not None and not self._at_work.done():
            raise ExchangeFailed("another change is being made", hint="try again when it is done")
        done: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._at_work = self._parts.begin(self._work(new, done))
        return await asyncio.shield(done)

    async def close(self) -> None:
        """No change is begun any more; one that is under way comes to its end, for a while."""
        self._closed = True
        if self._at_work is None or self._at_work.done():
            return
        _, late = await asyncio.wait({self._at_work}, timeout=CLOSE_S_MAX)
        for task in late:
            _log.error("a change of the configuration is given up half way", waited_s=CLOSE_S_MAX)
            task.cancel()
            await asyncio.wait({task})

    async def _work(self, new: Loaded, done: asyncio.Future[Applied]) -> None:
        """Make the change and tell whoever waits. Any other failure than that of the change ends the gateway:
        nobody knows what would run then."""
        try:
            applied = await self._apply(new)
        except ExchangeFailed as failed:
            if not done.done():
                done.set_exception(failed)
                done.exception()  # told also where nobody waits for it any more
        else:
            if not done.done():
                done.set_result(applied)
        finally:
            done.cancel()

    async def _apply(self, new: Loaded) -> Applied:
        parts, old = self._parts, self._parts.loaded
        prepared = Prepared(new, await asyncio.to_thread(steps, old, new))
        try:
            await parts.prepare(prepared)
        except _FAILURES as error:
            await parts.discard(prepared)
            raise _failed(error, "nothing was changed") from error
        try:
            applied = await parts.switch(prepared)
        except _FAILURES as error:
            _log.error("a change of the configuration failed half way; going back", reason=str(error))
            await parts.discard(prepared)
            back = Prepared(old, steps(parts.loaded, old))
            await parts.prepare(back)
            await parts.switch(back)
            raise _failed(error, "the configuration of before runs again") from error
        _log.info(
            "another configuration runs",
            connections=applied.connections,
            sinks=applied.sinks,
            told_anew=applied.told_anew,
            equipment=len(applied.equipment),
        )
        return applied


class Parts(Protocol):
    """The parts of a run, as far as an exchange has to do with them."""

    @property
    def loaded(self) -> Loaded:
        """What runs."""
        ...

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something as a part of the gateway: what it fails with ends the gateway."""
        ...

    async def prepare(self, prepared: Prepared) -> None:
        """Build all that can fail, beside what runs."""
        ...

    async def discard(self, prepared: Prepared) -> None:
        """Let go of what was built and is not used."""
        ...

    async def switch(self, prepared: Prepared) -> Applied:
        """Stop what differs, turn, start what is new."""
        ...


def _reason(change: Change) -> str:
    what = f"{change.kind} {change.name}".strip()
    return f"{what}: {change.needs_restart}"


def _failed(error: Exception, outcome: str) -> ExchangeFailed:
    reason = error.reason if isinstance(error, GatewayError | ConnectorError) else str(error)
    hint = error.hint if isinstance(error, GatewayError | ConnectorError) else ""
    return ExchangeFailed(f"{reason}; {outcome}", hint=hint or "")
