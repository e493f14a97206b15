"""The OPC UA connector: one session, its subscriptions, and the tasks that keep them honest.

A run is a session: open, resolve nodes anew, subscribe, and then four tasks until one of them fails: take
publish responses (`feed`), prove that the server lives, count its silence, and look after what the server
would not serve. It knows nothing of bytes (`decode`), numbering (`sequence`) or the library (`session`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from asyncua import ua

from connectors.base import Link
from connectors.errors import ConnectionLost, ConnectorError
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.feed import SILENT_PERIODS, Feed, Stream
from connectors.opcua.losses import Losses
from connectors.opcua.nodes import NodeName, NodeUnresolved, node_id, relative_path
from connectors.opcua.opening import open_session
from connectors.opcua.plan import Item, Quarantine, SubscriptionPlan, items_of, plan, tag_ids
from connectors.opcua.quality import is_bad, name_of, quality_of
from connectors.opcua.session import Session
from connectors.opcua.values import bad_sample, sample_of
from connectors.protocol import Environment
from statemodel.types import Quality, TagSample

_log = structlog.get_logger("connectors.opcua")

#: A renewal at this part of the channel's lifetime (OPC 10000-4 section 5.6.2).
_RENEW_AT = 0.75
#: A tag of which the server says nothing for this many publishing intervals is told to be waiting.
_FIRST_WORD_PERIODS = 5
_FIRST_WORD_MIN_S = 2.0
#: Groups that publish this rarely are read once at the start, so as not to be unknown for a whole interval.
_READ_FIRST_S = 1.0

#: ServerState (OPC 10000-5 section 12.6) in which a server serves no data.
_NOT_SERVING = {1: "has failed", 2: "has no configuration", 3: "is suspended", 4: "is shutting down"}
_RUNNING = 0

_SUBSTATUS_OF_REFUSAL = "configuration_error"


@dataclass(frozen=True)
class _Resolved:
    item: Item
    node: ua.NodeId | None
    reason: str = ""


class OpcuaConnector:
    """One OPC UA server. `losses` counts what is known to be lost, over all sessions."""

    def __init__(self, settings: OpcuaConnection, environment: Environment) -> None:
        self._settings = settings
        self._environment = environment
        self._clock = environment.clock
        self._tags = tag_ids(settings)
        self.losses = Losses(settings.name, environment.clock)

    async def run(self, link: Link) -> None:
        """See `connectors.base.Connector.run`."""
        session = await open_session(self._settings, self._environment)
        self.losses.tell = link.gap
        run = _Run(self._settings, self._environment, session, link, self._tags, self.losses)
        polite = True
        try:
            await run.serve()
        except ConnectionLost as lost:
            polite = run.feed.silent_s <= self._settings.keep_alive.total_seconds()
            if lost.last_seen_at is None:
                lost.last_seen_at = run.feed.last_seen_at
            raise
        finally:
            run.feed.end()
            await session.close(polite=polite)

    async def read_once(self) -> Sequence[TagSample]:
        """See `connectors.base.Connector.read_once`."""
        session = await open_session(self._settings, self._environment)
        try:
            items = [item for group in items_of(self._settings) for item in group]
            resolved = await _resolve(session, items)
            nodes = [one.node for one in resolved if one.node is not None]
            data = iter(await session.read(nodes))
            now = self._clock.now()
            return [
                bad_sample(one.item.tag, _SUBSTATUS_OF_REFUSAL, now)
                if one.node is None
                else sample_of(one.item.tag, next(data), now)
                for one in resolved
            ]
        finally:
            await session.close(polite=True)


class _Run:
    """One session's worth of `OpcuaConnector.run`."""

    def __init__(
        self,
        settings: OpcuaConnection,
        environment: Environment,
        session: Session,
        link: Link,
        tags: Sequence[str],
        losses: Losses,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._session = session
        self._link = link
        self._clock = environment.clock
        self._quarantine = Quarantine()
        self._subscription_of: dict[Item, int] = {}
        self._keep_alive_s = settings.keep_alive.total_seconds()
        self.feed = Feed(
            settings.name,
            settings.endpoint,
            session,
            link,
            environment.clock,
            tags,
            losses,
            source_time=settings.time == "source",
        )
        self.feed.last_seen_at = environment.clock.now()

    async def serve(self) -> None:
        """Subscribe to everything and keep at it; ends by raising."""
        plans = plan(self._settings, self._session.limits)
        for one in plans:
            await self._subscribe(one)
        await self._link.up()
        self.feed.up()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.feed.run())
                tasks.create_task(self._prove_life())
                tasks.create_task(self._count_silence())
                tasks.create_task(self._look_after_refused())
                tasks.create_task(self._first_words(max((p.publishing_s for p in plans), default=0.0)))
                tasks.create_task(self._renew())
        except* ConnectorError as failed:
            failure = failed.exceptions[0]
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
        raise failure

    async def _subscribe(self, wanted: SubscriptionPlan) -> None:
        subscription, publishing_s, keep_alive_count = await self._session.subscribe(wanted)
        if publishing_s > wanted.publishing_s:
            _log.warning(
                "server publishes less often than asked",
                connection=self._settings.name,
                group=wanted.group,
                asked_s=wanted.publishing_s,
                granted_s=publishing_s,
            )
        self.feed.add(Stream(subscription, wanted.group, publishing_s * keep_alive_count))
        self.feed.ask()
        await self._monitor(subscription, wanted.items, read_first=publishing_s >= _READ_FIRST_S)

    async def _monitor(self, subscription: int, items: Sequence[Item], *, read_first: bool = False) -> None:
        """Create monitored items, and set aside those the server will not serve."""
        resolved = await _resolve(self._session, items)
        found = [(one.item, one.node) for one in resolved if one.node is not None]
        refused = [(one.item, one.reason) for one in resolved if one.node is None]
        if read_first:
            # Before the items exist: what they report later is then never older than what was read.
            data = await self._session.read([node for _, node in found])
            now = self._clock.now()
            read = (sample_of(item.tag, value, now) for (item, _), value in zip(found, data, strict=True))
            self.feed.put(tuple(sample for sample in read if sample.quality is not Quality.BAD))
        codes = await self._session.monitor(subscription, found)
        for (item, node), code in zip(found, codes, strict=True):
            if is_bad(code):
                refused.append(
                    (item, f"{quality_of(code)[1].replace('_', ' ')} ({name_of(code)}) at {node.to_string()}")
                )
            elif self._quarantine.accepted(item):
                self._link.refused(item.tag, "")
        now = self._clock.now()
        told: list[TagSample] = []
        for item, reason in refused:
            self._subscription_of[item] = subscription
            if self._quarantine.refused(item, reason, self._clock.monotonic()):
                self._link.refused(item.tag, reason)
                told.append(bad_sample(item.tag, _SUBSTATUS_OF_REFUSAL, now))
        self.feed.put(tuple(told))

    async def _look_after_refused(self) -> None:
        """Ask again, ever more rarely, for what was refused: a PLC download may have brought it."""
        while True:
            await self._clock.sleep(max(1.0, self._quarantine.pause_s(self._clock.monotonic())))
            by_subscription: dict[int, list[Item]] = {}
            for item in self._quarantine.due(self._clock.monotonic()):
                by_subscription.setdefault(self._subscription_of[item], []).append(item)
            for subscription, items in by_subscription.items():
                await self._monitor(subscription, items)

    async def _first_words(self, publishing_s: float) -> None:
        """Servers owe every item a first notification; say so of those that never come."""
        await self._clock.sleep(max(_FIRST_WORD_MIN_S, _FIRST_WORD_PERIODS * publishing_s))
        now = self._clock.now()
        self.feed.put(
            tuple(bad_sample(tag, "waiting_for_initial_data", now) for tag in sorted(self.feed.unseen()))
        )

    async def _prove_life(self) -> None:
        """Ask the server how it is, once per keep-alive period, whatever the subscriptions bring."""
        told_state = _RUNNING
        while True:
            try:
                state = await self._session.server_state()
            except ConnectionLost as lost:
                # One late answer is no loss yet: silence is counted elsewhere, in one place.
                if not isinstance(lost.__cause__, TimeoutError):
                    raise
            else:
                self.feed.heard(self._clock.now())
                if state in _NOT_SERVING:
                    raise ConnectionLost(
                        f"{self._settings.endpoint}: the server says it {_NOT_SERVING[state]}"
                    )
                if state != told_state:
                    _log.warning("server state", connection=self._settings.name, state=state)
                    told_state = state
            await self._clock.sleep(self._keep_alive_s)

    async def _count_silence(self) -> None:
        tick_s = self._keep_alive_s / 2
        while True:
            await self._clock.sleep(tick_s)
            self.feed.tick(tick_s)
            if self.feed.silent_s > SILENT_PERIODS * self._keep_alive_s:
                raise ConnectionLost(
                    f"{self._settings.endpoint}: the server has been silent for {self.feed.silent_s:.1f} s",
                    hint="check the network; the server may have stopped",
                )

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._session.channel_lifetime_s * _RENEW_AT)
            await self._session.renew()


async def _resolve(session: Session, items: Sequence[Item]) -> list[_Resolved]:
    """The node of each item in this session, or why there is none; in the same order."""
    found: dict[Item, _Resolved] = {}
    paths: list[tuple[Item, ua.RelativePath]] = []
    for item in items:
        try:
            if isinstance(item.node, NodeName):
                found[item] = _Resolved(item, node_id(item.node, session.namespaces))
            else:
                paths.append((item, relative_path(item.node, session.namespaces)))
        except NodeUnresolved as error:
            found[item] = _Resolved(item, None, str(error))
    targets = await session.translate([path for _, path in paths]) if paths else []
    for (item, _), target in zip(paths, targets, strict=True):
        if isinstance(target, int):
            found[item] = _Resolved(item, None, f"no node at the end of the browse path ({name_of(target)})")
        elif len(target) != 1:
            found[item] = _Resolved(
                item, None, f"the browse path leads to {len(target)} nodes; use a node id"
            )
        else:
            found[item] = _Resolved(item, target[0])
    return [found[item] for item in items]
