"""One session's worth of reading: its subscriptions, and the tasks that keep them honest.

Resolve nodes anew, subscribe (or take up what a lost session left), and then a few tasks until one of them
fails: take publish responses (`feed`), prove that the server lives, count its silence, and look after what
the server would not serve. It knows nothing of bytes (`decode`), numbering (`sequence`) or the library
(`session`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from connectors.base import Link, Write, Written
from connectors.errors import ConnectionLost, ConnectorError
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.datatypes import learn_picked
from connectors.opcua.events import Events
from connectors.opcua.failures import SubscriptionGone
from connectors.opcua.feed import SILENT_PERIODS, Feed, Stream
from connectors.opcua.losses import Losses
from connectors.opcua.picks import Tags
from connectors.opcua.plan import (
    EVENTS_GROUP,
    Item,
    PollPlan,
    Quarantine,
    SubscriptionPlan,
    items_of,
    plan,
    poll_plans,
)
from connectors.opcua.poll import Poller
from connectors.opcua.quality import is_bad, name_of, quality_of
from connectors.opcua.ranges import learn_ranges, missing_ranges, wanting
from connectors.opcua.resolve import resolve
from connectors.opcua.resume import Memory, remember, take_up
from connectors.opcua.session import Session
from connectors.opcua.values import bad_sample
from connectors.opcua.writing import Writing
from connectors.protocol import Environment
from statemodel.types import Quality

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

#: Substatus of a tag the server will not serve.
REFUSED = "configuration_error"


class Run:
    """One session's worth of `OpcuaConnector.run`."""

    def __init__(
        self,
        settings: OpcuaConnection,
        environment: Environment,
        session: Session,
        link: Link,
        tags: Tags,
        losses: Losses,
        memory: Memory | None,
        warnings: dict[str, str],
        ranges: dict[str, tuple[float, float]],
    ) -> None:
        self._settings = settings
        self._session = session
        self._link = link
        self._clock = environment.clock
        self._losses = losses
        self._memory = memory
        self._warnings = warnings
        self.ranges = ranges
        self.taken_up = False
        """Whether all that is subscribed goes on where a lost session stopped, and nothing is polled."""
        self._polled = list(poll_plans(settings))
        self._picks = tags.picks
        self._quarantine = Quarantine()
        self._stream_of: dict[Item, Stream] = {}
        #: Refusals by tag that wait for the link to be up; None from then on.
        self._refusals: dict[str, str] | None = {}
        self._writing = Writing(session, {item.tag: item for group in items_of(settings) for item in group})
        self._keep_alive_s = settings.keep_alive.total_seconds()
        self._events = Events(settings, session, link, environment.clock, losses)
        self.feed = Feed(
            settings.name,
            settings.endpoint,
            session,
            link,
            environment.clock,
            tags,
            losses,
            source_time=settings.time == "source",
            events=self._events,
        )
        self.feed.last_seen_at = environment.clock.now()

    async def write(self, writes: Sequence[Write]) -> list[Written]:
        """See `connectors.base.Writer.write`."""
        return await self._writing.write(writes)

    def remember(self, failure: ConnectionLost) -> Memory | None:
        """What the next session can take up, once this one has failed."""
        now_s = self._clock.monotonic()
        return remember(failure, self._session, self.feed, self._quarantine, self._stream_of, now_s)

    async def serve(self) -> None:
        """Subscribe, or go on where the lost session stopped, and keep at it; ends by raising."""
        for key in [key for key in self._warnings if key.startswith("subscription_")]:
            del self._warnings[key]
        plans = plan(self._settings, self._session.limits)
        taken_up = [] if self._memory is None else await self._take_up(self._memory, plans)
        there = {stream.plan for stream in taken_up}
        self.taken_up = bool(plans) and all(one in there for one in plans) and not self._polled
        for one in plans:
            if one not in there:
                await self._subscribe(one)
        in_percent = wanting(self._settings)
        self.ranges.update(await learn_ranges(self._session, in_percent))
        self._warnings.pop("range_unknown", None)
        if text := missing_ranges(in_percent, self.ranges):
            self._warnings["range_unknown"] = text
        await self._link.up()
        self.feed.up()
        refusals, self._refusals = self._refusals, None
        for tag, reason in (refusals or {}).items():
            self._link.refused(tag, reason)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.feed.run())
                tasks.create_task(self._prove_life())
                tasks.create_task(self._count_silence())
                tasks.create_task(self._look_after_refused())
                tasks.create_task(self._first_words(max((p.publishing_s for p in plans), default=0.0)))
                tasks.create_task(self._renew())
                for polled in self._polled:
                    tasks.create_task(self._poller(polled).run())
                for stream in self.feed.streams():
                    if stream.group == EVENTS_GROUP:
                        tasks.create_task(self._events.keep(stream.subscription))
                    elif stream in taken_up:
                        tasks.create_task(self._say_again(stream))
        except* ConnectorError as failed:
            failure = failed.exceptions[0]
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
        raise failure

    async def _take_up(self, memory: Memory, plans: Sequence[SubscriptionPlan]) -> list[Stream]:
        """Go on with the subscriptions of the lost session, and say what has become of the others."""
        found, reason = await take_up(memory, self._session, plans)
        if found:
            self.feed.take_up(found, memory.acknowledge)
            ids = {one.subscription for one in found}
            self._stream_of = {item: one for item, one in memory.stream_of.items() if one.subscription in ids}
            self._quarantine = memory.quarantine.only(self._stream_of)
            self._refuse(self._quarantine.reasons())
            self._losses.resumed += 1
            _log.info(
                "subscriptions taken up again", connection=self._settings.name, subscriptions=len(found)
            )
        if reason:
            self._losses.outage(memory.lost_at, self._clock.now(), reason)
        return found

    async def _say_again(self, stream: Stream) -> None:
        """Give each tag that did not change while the connection was lost its word again.

        A queued change is published within an interval of a request for it, so whatever still says nothing
        two intervals after it was read has not changed before it was. Rare groups are not waited for that
        long: what they queued may then come after the value it led to.
        """
        await self.feed.caught_up.wait()
        items = list(stream.nodes.items())
        data = await self._session.read([node for _, node in items])
        now = self._clock.now()
        samples = tuple(
            self._picks.sample(item.handle, item.tag, value, now)
            for (item, _), value in zip(items, data, strict=True)
        )
        await self._clock.sleep(min(2 * stream.publishing_s, self._keep_alive_s))
        # What was on its way before this answer has then arrived.
        await self._session.server_state()
        self.feed.put_unseen(samples)

    async def _subscribe(self, wanted: SubscriptionPlan) -> None:
        made = await self._session.subscribe(wanted)
        if isinstance(made, str):
            self._poll_instead(wanted, made)
            return
        subscription, publishing_s, keep_alive_count = made
        if publishing_s > wanted.publishing_s:
            _log.warning(
                "server publishes less often than asked",
                connection=self._settings.name,
                group=wanted.group,
                asked_s=wanted.publishing_s,
                granted_s=publishing_s,
            )
        stream = Stream(subscription, wanted, publishing_s, publishing_s * keep_alive_count)
        self.feed.add(stream)
        self.feed.ask()
        await self._monitor(stream, wanted.items, read_first=publishing_s >= _READ_FIRST_S)

    def _poll_instead(self, wanted: SubscriptionPlan, why: str) -> None:
        """Better read now and then than not at all; said aloud, because short pulses are missed that way."""
        where = f'the server has no subscription for group "{wanted.group}" ({why})'
        if wanted.group == EVENTS_GROUP:
            self._warnings[f"subscription_{wanted.group}"] = f"{where}; its events are not recorded"
            return
        text = f"{where}; it is polled instead, so that pulses shorter than its interval are missed"
        self._warnings[f"subscription_{wanted.group}"] = text
        self._polled.append(PollPlan(wanted.group, wanted.publishing_s, wanted.items))

    def _poller(self, plan: PollPlan) -> Poller:
        return Poller(
            plan,
            self._session,
            self.feed,
            self._link,
            self._clock,
            self._losses,
            self._picks,
            self._refuse_tags,
        )

    def _refuse_tags(self, reasons: Mapping[str, str]) -> None:
        for tag, reason in reasons.items():
            self._link.refused(tag, reason)

    async def _monitor(self, stream: Stream, items: Sequence[Item], *, read_first: bool = False) -> None:
        """Create monitored items, and set aside those the server will not serve."""
        resolved = await resolve(self._session, items)
        found = [(one.item, one.node) for one in resolved if one.node is not None]
        refused = [(one.item, one.reason) for one in resolved if one.node is None]
        await learn_picked(self._session, self._picks, ((item.handle, node) for item, node in found))
        if read_first:
            # Before the items exist: what they report later is then never older than what was read.
            data = await self._session.read([node for _, node in found])
            now = self._clock.now()
            read = (
                self._picks.sample(item.handle, item.tag, value, now)
                for (item, _), value in zip(found, data, strict=True)
            )
            self.feed.put(tuple(sample for sample in read if sample.quality is not Quality.BAD))
        codes = await self._session.monitor(stream.subscription, found)
        for (item, node), code in zip(found, codes, strict=True):
            if is_bad(code):
                refused.append(
                    (item, f"{quality_of(code)[1].replace('_', ' ')} ({name_of(code)}) at {node.to_string()}")
                )
                continue
            stream.nodes[item] = node
            stream.queues[item.tag] = self._session.queue_of.get(item, item.queue_size)
            if self._quarantine.accepted(item):
                self._link.refused(item.tag, "")
                if item.events is not None:
                    self._events.wish()
        now_s = self._clock.monotonic()
        self._stream_of.update((item, stream) for item, _ in refused)
        self._refuse({item: why for item, why in refused if self._quarantine.refused(item, why, now_s)})

    def _refuse(self, reasons: Mapping[Item, str]) -> None:
        """Tell of items the server will not serve."""
        now = self._clock.now()
        for item, reason in reasons.items():
            if self._refusals is None:
                self._link.refused(item.tag, reason)
            else:
                self._refusals[item.tag] = reason
        self.feed.put(tuple(bad_sample(item.tag, REFUSED, now) for item in reasons if item.events is None))

    async def _look_after_refused(self) -> None:
        """Ask again, ever more rarely, for what was refused: a PLC download may have brought it."""
        while True:
            await self._clock.sleep(max(1.0, self._quarantine.pause_s(self._clock.monotonic())))
            due = self._quarantine.due(self._clock.monotonic())
            for stream in self.feed.streams():
                if items := [item for item in due if self._stream_of[item] is stream]:
                    await self._monitor(stream, items)

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
                    raise SubscriptionGone(
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
